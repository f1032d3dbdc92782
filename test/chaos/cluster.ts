// Question: what is a Vault that loses its leader? Output: three real OpenBao nodes with integrated
// raft storage over TLS, and one address that leads to those of them that accept connections.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdirSync, openSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { client, freePort, type OpenBao } from "../../scripts/openbao.ts";
import type { JsonObject } from "../../server/json.ts";
import { type Stage, until } from "../stage.ts";
import { Authority } from "./authority.ts";

const binary = join(import.meta.dirname, "../../dist/bao");
const SIZE = 3;

type Health = { initialized: boolean; sealed: boolean; standby: boolean };

class Node {
  readonly address: string;
  readonly #directory: string;
  readonly #ca: string;
  #child: ChildProcess | undefined;

  constructor(directory: string, address: string, ca: string, config: JsonObject) {
    this.address = address;
    this.#directory = directory;
    this.#ca = ca;
    writeFileSync(join(directory, "config.json"), JSON.stringify(config));
  }

  start(): void {
    const log = openSync(join(this.#directory, "log"), "a", 0o600);
    // PR_SET_PDEATHSIG (prctl(2)): it ends with us.
    const words = ["--pdeathsig", "KILL", "--", binary, "server"];
    this.#child = spawn("setpriv", [...words, `-config=${this.#directory}/config.json`], {
      env: { HOME: this.#directory, PATH: process.env.PATH ?? "" },
      stdio: ["ignore", log, log],
    });
    closeSync(log);
  }

  async kill(): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
  }

  client(token = "") {
    return client({ address: this.address, ca: this.#ca, rootToken: token } as OpenBao);
  }

  /** Undefined: it does not answer. */
  async health(): Promise<Health | undefined> {
    return await this.client()
      .health()
      .catch(() => undefined);
  }

  /** Again and again: it has to hear of the others before it knows what it is to unseal. */
  async unseal(key: string): Promise<void> {
    await until("a node is unsealed", async () => {
      if ((await this.health())?.sealed === false) return true;
      await this.client()
        .unseal({ key })
        .catch(() => {});
      return false;
    });
  }
}

export type Cluster = {
  /** Leads to one node after the other. */
  address: string;
  /** Waits for a leader; it alone knows at once of all that was written. */
  leader(): Promise<OpenBao>;
  /** Resolves when the process has ended, and nobody else leads yet; start it again by `revive`. */
  killLeader(): Promise<{ revive(): Promise<void> }>;
};

export async function startCluster(stage: Stage): Promise<Cluster> {
  const authority = new Authority(stage);
  const ports = await Promise.all(Array.from({ length: 2 * SIZE }, freePort));
  const apis = ports.slice(0, SIZE);
  const nodes = apis.map((port, i) => {
    const directory = join(stage.directory, `node-${i}`);
    mkdirSync(join(directory, "raft"), { recursive: true });
    const [cert, key] = [join(directory, "cert.pem"), join(directory, "key.pem")];
    authority.certify(cert, key);
    const others = apis.filter((other) => other !== port);
    const retry_join = others.map((other) => ({
      leader_api_addr: `https://127.0.0.1:${other}`,
      leader_ca_cert_file: authority.caFile,
    }));
    const cluster = `127.0.0.1:${ports[SIZE + i]}`;
    const address = `127.0.0.1:${port}`;
    const raft = { path: join(directory, "raft"), node_id: `node-${i}`, retry_join };
    const tcp = { address, cluster_address: cluster, tls_cert_file: cert, tls_key_file: key };
    return new Node(directory, `https://${address}`, authority.ca, {
      storage: { raft: { ...raft, performance_multiplier: "1" } },
      listener: [{ tcp }],
      api_addr: `https://${address}`,
      cluster_addr: `https://${cluster}`,
    });
  });
  for (const node of nodes) {
    node.start();
    stage.defer(() => node.kill());
  }
  const [first] = nodes as [Node];
  await until("the first node listens", async () => (await first.health()) !== undefined);
  const { keys, root_token } = await first.client().init({ secret_shares: 1, secret_threshold: 1 });
  for (const node of nodes) await node.unseal(keys[0]);

  const leading = async () => {
    const told = await Promise.all(nodes.map((node) => node.health()));
    return nodes.find((_, i) => told[i]?.sealed === false && !told[i].standby);
  };
  const root = first.client(root_token);
  // Who has joined has no vote until it was stable for some time.
  const soon = { server_stabilization_time: "1s" };
  await root.write("sys/storage/raft/autopilot/configuration", soon);
  await until("all have a vote", async () => {
    const { data } = await root.read("sys/storage/raft/configuration");
    const servers: { voter: boolean }[] = data.config.servers;
    return servers.filter(({ voter }) => voter).length === SIZE;
  });
  // Version 1: the second takes its time before it can be used.
  await root.mount({ mount_point: "secret", type: "kv" });
  const { ca, caFile } = authority;
  const leader = async () => {
    let address = "";
    await until("a node leads", async () => {
      address = (await leading())?.address ?? "";
      return address !== "";
    });
    return { address, ca, caFile, rootToken: root_token, pid: 0, stop: async () => {} };
  };
  const killLeader = async () => {
    const { address } = await leader();
    const node = nodes.find((one) => one.address === address) as Node;
    await node.kill();
    const revive = async () => {
      node.start();
      await node.unseal(keys[0]);
    };
    return { revive };
  };
  return { address: `https://127.0.0.1:${await balance(stage, apis)}`, leader, killLeader };
}

/** A port whose connections lead to these in turn; one on which nobody listens is passed over. */
async function balance(stage: Stage, ports: number[]): Promise<number> {
  let turn = 0;
  const sockets = new Set<Socket>();
  const join = (near: Socket, tries: number): void => {
    const far = connect(ports[turn++ % ports.length] ?? 0, "127.0.0.1");
    far.once("connect", () => {
      sockets.add(near).add(far);
      near.pipe(far).pipe(near);
      for (const [one, other] of [
        [near, far],
        [far, near],
      ] as const)
        one.on("close", () => other.destroy());
    });
    far.on("error", () => (far.pending && tries > 1 ? join(near, tries - 1) : near.destroy()));
  };
  const server = createServer((near) => {
    near.on("error", () => {});
    join(near, ports.length);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  stage.defer(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}
