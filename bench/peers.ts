// Question: how long does a program wait for its secret or token, how much memory does that take on
// each host, and how large is it on disk: here, with Custodia, and with OpenBao's own proxy?
// Each is asked through its UNIX socket, from the same containers, by a fresh connection each time.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { getContainerRuntimeClient } from "testcontainers";
import { client } from "../scripts/openbao.ts";
import { modulesLoadedBy } from "../scripts/size.ts";
import { type Asking, ask } from "./asking.ts";
import { custodiaConfiguration, custodiaImage } from "./custodia.ts";
import type { Round } from "./figures.ts";
import { interleave } from "./interleave.ts";
import { memoryOf, tree } from "./memory.ts";
import { Report, type Scale } from "./part.ts";
import { anyProcess, type Inside, Stage, USER } from "./stage.ts";
import { bao } from "./start.ts";
import { say } from "./terminal.ts";

/** Whom one can ask. */
type Peer = { socket: string; asking: Asking; pid: number };

const root = join(import.meta.dirname, "..");
const MB = 1 << 20;
/** Asked again until it listens. */
const starting = { againMs: 50, deadlineMs: 30_000 };

/** A container that serves on a socket of the directory that askers see too. */
async function serveIn(stage: Stage, image: string, command: string[], binds: string[]) {
  const { container: engine } = await getContainerRuntimeClient();
  const container = await engine.dockerode.createContainer({
    Image: image,
    Cmd: command,
    HostConfig: {
      NetworkMode: "host", // where this machine's OpenBao listens
      Tmpfs: { "/tmp": "" },
      Binds: [
        `${join(stage.directory, "run")}:/run/authproxy`,
        `${stage.programs}:/bench:ro`,
        ...binds,
      ],
    },
  });
  stage.defer(() => container.remove({ force: true, v: true }));
  await container.start();
  const { State } = await container.inspect();
  return State.Pid;
}

async function startCustodia(stage: Stage, asker: Inside): Promise<Peer | undefined> {
  const image = custodiaImage();
  if (!image) return undefined;
  const socket = "/run/authproxy/custodia.sock";
  writeFileSync(join(stage.programs, "custodia.conf"), custodiaConfiguration(socket, USER));
  const pid = await serveIn(stage, image, ["/usr/sbin/custodia", "/bench/custodia.conf"], []);
  const value = JSON.stringify({ type: "simple", value: "a secret" });
  const type = "Content-Type: application/json\r\n";
  const requests = [
    "POST /secrets/bench/ HTTP/1.0\r\n\r\n",
    `PUT /secrets/bench/app HTTP/1.0\r\n${type}Content-Length: ${value.length}\r\n\r\n${value}`,
  ];
  for (const request of requests) {
    writeFileSync(join(stage.programs, "prepare.http"), request);
    const asking = { request: "/bench/prepare.http", wanted: "201", ...starting };
    await ask([asker], socket, 1, asking);
  }
  writeFileSync(join(stage.programs, "custodia.http"), "GET /secrets/bench/app HTTP/1.0\r\n\r\n");
  return { socket, pid, asking: { request: "/bench/custodia.http", wanted: '"value"' } };
}

/** With a token of its own, that it adds to what it hands on. */
async function startProxy(stage: Stage, asker: Inside): Promise<Peer> {
  const socket = "/run/authproxy/proxy.sock";
  const { auth } = await client(stage.bao).tokenCreate({
    policies: ["authproxy"],
    no_parent: true,
  });
  writeFileSync(join(stage.programs, "proxy-token"), auth.client_token);
  const configuration = `
vault {
  address = "${stage.bao.address}"
  ca_cert = "/bench/ca.pem"
}
auto_auth {
  method "token_file" {
    config = { token_file_path = "/bench/proxy-token" }
  }
}
api_proxy { use_auto_auth_token = true }
listener "unix" {
  address = "${socket}"
  socket_mode = "0666"
  socket_user = "${USER}"
  socket_group = "${USER}"
  tls_disable = true
}
`;
  writeFileSync(join(stage.programs, "proxy.hcl"), configuration);
  const body = '{"display_name":"bench"}';
  const head = "POST /v1/auth/token/create/app HTTP/1.0\r\nX-Vault-Request: true\r\n";
  const whole = `${head}Content-Length: ${body.length}\r\n\r\n${body}`;
  writeFileSync(join(stage.programs, "proxy.http"), whole);
  const command = ["/usr/local/bin/bao", "proxy", "-config=/bench/proxy.hcl"];
  const pid = await serveIn(stage, stage.image, command, [`${bao}:/usr/local/bin/bao:ro`]);
  const asking = { request: "/bench/proxy.http", wanted: '"client_token"' };
  await ask([asker], socket, 1, { ...asking, ...starting });
  return { socket, pid, asking };
}

/** Of a process and its descendants. */
function noteMemory(report: Report, id: string, pid: number): void {
  const { rss, alone } = memoryOf(...tree(pid));
  report.note(`${id} (alone)`, "MB", [alone]);
  report.note(`${id} (Rss)`, "MB", [rss]);
}

async function sizes(report: Report): Promise<void> {
  const sources = await modulesLoadedBy(["server/main.ts"]);
  const bytes = sources.reduce((sum, path) => sum + statSync(join(root, path)).size, 0);
  const size = (path: string) => statSync(path).size / MB;
  report.note("authproxy, size: server", "MB", [bytes / MB]);
  report.note("authproxy, size: peercred", "MB", [size(join(root, "dist/peercred"))]);
  report.note("authproxy, size: client", "MB", [size(join(root, "dist/authproxy.js"))]);
  report.note("Node, size", "MB", [size(process.execPath)]);
  report.note("bao, size", "MB", [size(bao)]);
}

export async function measurePeers(scale: Scale): Promise<Report> {
  const report = new Report(
    "how long does a program wait, here and with others; and what memory?",
    scale,
  );
  await using stage = await Stage.start();
  const ours = await stage.server("peers");
  const levels = scale.quick ? [1] : [1, 16];
  const askers = await stage.containers("asker", Math.max(...levels));
  const [asker] = askers;
  if (!asker) throw new Error("no asker");
  const custodia = await startCustodia(stage, asker);
  const proxy = await startProxy(stage, asker);
  const peers: Record<string, Peer> = {
    authproxy: { socket: ours.socket, asking: {}, pid: ours.pid },
    "bao proxy": proxy,
    ...(custodia && { custodia }),
  };
  if (!custodia)
    report.notes.push("Custodia was left out: this machine has no apt, or no such package");
  for (const [name, { pid }] of Object.entries(peers))
    noteMemory(report, `${name}, memory idle`, pid);
  report.note("an idle Node process that loads https, memory (alone)", "MB", [await bareNode()]);
  for (const atOnce of levels) {
    const samples = scale.quick ? 15 : 160;
    const arms: Record<string, () => Promise<Round>> = {};
    for (const [name, { socket, asking }] of Object.entries(peers))
      arms[name] = () => ask(askers.slice(0, atOnce), socket, samples, asking);
    const measured = await interleave(`${atOnce} at once`, arms, scale.quick ? 2 : 9);
    const own = measured.authproxy ?? [];
    for (const [name, rounds] of Object.entries(measured)) {
      report.add(`${name}, ${atOnce} at once,`, rounds);
      if (rounds !== own)
        report.compareBoth(
          `authproxy over ${name}, ${atOnce} at once,`,
          ["authproxy", own],
          [name, rounds],
        );
    }
  }
  await measureMany(report, stage, peers, scale);
  await sizes(report);
  report.notes.push(
    "authproxy mints a token by a real Vault for each; `bao proxy` does too, for everybody who may open its " +
      "socket; Custodia reads a secret of its own database",
    "SPIRE, measured apart from this on a machine of this kind: an identity of its cache p50 2.0 to 2.4 ms, 16 at " +
      "once 720 to 820/s, 60 MB idle and 73 MB after load",
  );
  return report;
}

/** What the server cannot be below: a Node process that has loaded TLS, and does nothing. */
async function bareNode(): Promise<number> {
  const program = 'require("node:https"); console.log("ready"); setInterval(() => {}, 1e9)';
  const node = spawn(process.execPath, ["-e", program], { stdio: ["ignore", "pipe", "inherit"] });
  try {
    await once(node.stdout, "data");
    return memoryOf(node.pid ?? 0).alone;
  } finally {
    node.kill("SIGKILL");
  }
}

/** Memory after many grants, each to a process that has ended: nothing of it is to be left. */
async function measureMany(
  report: Report,
  stage: Stage,
  peers: Record<string, Peer>,
  { quick }: Scale,
): Promise<void> {
  const each = quick ? 20 : 500;
  const marks = quick ? [20, 40] : [500, 5000, 10_000, 20_000];
  const grants = marks.at(-1) ?? each;
  const server = await stage.server("many", { app: anyProcess });
  const askers = await stage.containers("asker", 4);
  for (let done = each; done <= grants; done += each) {
    say(`${done} of ${grants} grants to processes that end, ${each} to a container`);
    const [holder] = await stage.containers("holder", 1);
    await holder?.tell("live", server.socket, each);
    await holder?.remove();
    await server.rests();
    if (marks.includes(done))
      noteMemory(report, `authproxy, memory after ${done} grants`, server.pid);
  }
  for (const [name, { socket, asking, pid }] of Object.entries(peers)) {
    if (name === "authproxy") continue;
    const requests = quick ? 40 : 10_000;
    say(`${requests} requests to ${name}`);
    await ask(askers, socket, requests, asking);
    noteMemory(report, `${name}, memory after ${requests} requests`, pid);
  }
}
