// Question: where do Compose and Swarm run, so that they touch nothing of this machine?
// Input:    what differs in the engine's configuration.
// Output:   an engine of the tests' own that knows the runtime `authproxy`, in a network namespace of
//           its own, with its own bridges and rules; the server, in the same; the docker command.
//           Over a cable it reaches a Vault of this machine.
// Promise:  all of it ends when the test file does.
import { execFile, execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll } from "vitest";
import { type OpenBao, provision, startOpenBao } from "../../scripts/openbao.ts";
import type { JsonObject } from "../../server/json.ts";
import { removeBridge, startDocker } from "../lab/engine.ts";
import { Stage } from "../stage.ts";

const run = promisify(execFile);
const CABLE = ["authproxy-near", "authproxy-far"];
const near = "198.19.7.1"; // RFC 2544: no one's
const far = "198.19.7.2";

export const stage = new Stage();
afterAll(async () => {
  await stage[Symbol.asyncDispose]();
  removeBridge();
});
const sockets = join(stage.directory, "run");
mkdirSync(sockets, { mode: 0o755 });

/** Its docker command's environment, and a prefix that puts a command in its network. */
export type Host = { env: NodeJS.ProcessEnv; socket: string; within: string[] };

export async function openHost(changes: JsonObject = {}): Promise<Host> {
  const path = join(import.meta.dirname, "../../dist/runtime/authproxy-runc");
  const runtimes = { authproxy: { path, runtimeArgs: [`--sockets=${sockets}`] } };
  const network = { bridge: "none", iptables: true, "userland-proxy": true };
  const apart = `exec unshare --net sh -ec 'ip link set lo up; exec "$@"' sh "$@"`;
  const machine = { path: "", versions: new Map() }; // its own /usr
  const engine = await startDocker(machine, { runtimes, ...network, ...changes }, apart);
  stage.defer(() => engine.stop());
  const within = ["nsenter", `--net=/proc/${engine.pid}/ns/net`, "--"];
  lay(engine.pid, within);
  const env = { ...process.env, DOCKER_HOST: `unix://${engine.socket}` };
  return { env, socket: engine.socket, within };
}

/** It goes with the namespace that has its other end. */
function lay(pid: number, within: string[]): void {
  const [here = "", there = ""] = CABLE;
  const ip = (text: string, prefix: string[] = []) => {
    const [program = "", ...words] = [...prefix, "ip", ...text.split(" ")];
    execFileSync(program, words);
  };
  ip(`link add ${here} type veth peer name ${there} netns ${pid}`);
  ip(`addr add ${near}/30 dev ${here}`);
  ip(`link set ${here} up`);
  ip(`addr add ${far}/30 dev ${there}`, within);
  ip(`link set ${there} up`, within);
}

/** The real server, by this configuration. */
export async function serve({ socket, within }: Host, config: JsonObject) {
  const file = join(stage.directory, "authproxy.json");
  const own = { socket: join(sockets, "authproxy.sock"), state: join(stage.directory, "state") };
  writeFileSync(file, JSON.stringify({ ...config, ...own, engine: socket }), { mode: 0o600 });
  const server = stage.start(file, { under: within });
  await server.until({ event: "ready" });
  return server;
}

/** A Vault that this host's containers reach too, with the secret of one service, `app`. */
export async function vaultNear(
  secret: Record<string, string>,
): Promise<{ bao: OpenBao; config: JsonObject }> {
  const bao = await startOpenBao({ listen: near });
  stage.defer(() => bao.stop());
  const { roleId: role_id, secretId: secret_id } = await provision(bao, {
    services: { app: secret },
  });
  const login = { path: "auth/approle/login", body: { role_id, secret_id } };
  return { bao, config: { address: bao.address, ca_file: bao.caFile, login } };
}

/** A node of its own. No network of Swarm's is used: services have the host's. */
export async function startSwarm(host: Host): Promise<void> {
  await docker(host, "swarm", "init", "--advertise-addr", far);
}

/** What the docker command prints; throws what it says where it fails. */
export async function docker({ env }: Host, ...words: string[]): Promise<string> {
  return (await run("docker", words, { env, maxBuffer: 1 << 24 })).stdout.trim();
}
