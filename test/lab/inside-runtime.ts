// Question: what happens inside a guest whose engine has the runtime `authproxy`? Usage:
// inside-runtime.ts FILE, of a Guest as JSON. Output: as of inside.ts, and what became of containers of
// images that nobody changed, which the runtime gave the client.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Api } from "./api.ts";
import { type Guest, provide } from "./inside.ts";
import { type AuditLine, type Findings, play, type Scene, Server } from "./scene.ts";

const CONFIGURATION = "/run/authproxy.json";

/** `program`: what runs in the image; the client comes first, and becomes it. */
export type Wrapped = { program: string; said: string; exitCode: number };
export type RuntimeResults = {
  findings: Findings;
  /** The one that runs, how it was judged, and what became of its token when it had ended. */
  served: Wrapped & { granted: AuditLine; ended: AuditLine };
  /** Of a program that this processor does not run. */
  foreign: Wrapped;
};

/** A server where the runtime looks for it. Its service is the client as the runtime starts it. */
function configure({ engine, reference, vault }: Scene): void {
  mkdirSync("/run/authproxy", { mode: 0o755 });
  const match = {
    peer: { uid: 1001 },
    process: { exe: "/.authproxy/ld.so", dumpable: false },
    container: { Config: { Image: reference, Labels: { app: "app" } } },
  };
  const services = { app: { match, token: { create: "auth/token/create/app" } } };
  writeFileSync(CONFIGURATION, JSON.stringify({ engine, vault, services }), { mode: 0o600 });
}

async function run(
  { engine, reference }: Scene,
  program: string,
): Promise<Wrapped & { id: string }> {
  const api = new Api(engine);
  const { Id: id } = await api.run({
    Image: reference,
    Cmd: [program, "SECRET"],
    Env: ["SECRET=vault:secret/data/app#password"],
    Labels: { app: "app" },
    User: "1001:1001",
    HostConfig: {
      Runtime: "authproxy",
      ReadonlyRootfs: true,
      NetworkMode: "host", // where Vault is
      CapDrop: ["ALL"],
      GroupAdd: ["2002"],
    },
  });
  let { State } = await api.inspect(id);
  while (State.Pid > 0) {
    await sleep(200); // the engine's API has events, and no need of them here
    ({ State } = await api.inspect(id));
  }
  const { ExitCode: exitCode } = State as typeof State & { ExitCode: number };
  return { id, program, said: await api.output(id), exitCode };
}

if (import.meta.main) {
  const { lacks, scene }: Guest = JSON.parse(readFileSync(process.argv[2] ?? "", "utf8"));
  if (lacks) await provide(lacks);
  const findings = await play(scene);
  configure(scene);
  const server = new Server(CONFIGURATION);
  await server.until(({ event }) => event === "ready");
  await new Api(scene.engine).pull(scene.reference);
  const served = await run(scene, "/app/printenv");
  const isItsOwn = ({ container }: AuditLine) => container === served.id;
  const granted = await server.until((line) => line.event !== "ready" && isItsOwn(line));
  const ended = await server.until(
    ({ event, accessor }) => event === "revoked" && accessor === granted.accessor,
  );
  const foreign = await run(scene, "/app/foreign");
  await server.end();
  const results: RuntimeResults = { findings, served: { ...served, granted, ended }, foreign };
  await new Promise((written) => process.stdout.write(`${JSON.stringify(results)}\n`, written));
  process.exit(0); // the registry and the relay still listen
}
