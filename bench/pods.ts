// Question: what does a grant to a pod's container cost over the floor: one ContainerStatus of the CRI,
// with what the engine knows besides, and one call to Vault?
// Pods are started by containerd alone, as the kubelet would: it has no part in a grant.
import { execFileSync } from "node:child_process";
import { connect as connectHttp2 } from "node:http2";
import { connect } from "node:net";
import { join } from "node:path";
import type { Service } from "../server/config.ts";
import { Containerd, message } from "../test/containerd.ts";
import { ask } from "./asking.ts";
import { connectVault, repeat, roundOf } from "./floor.ts";
import { interleave } from "./interleave.ts";
import { Report, type Scale } from "./part.ts";
import { Inside, Stage, USER } from "./stage.ts";

const NAMESPACE = "bench";
const app: Service = {
  match: { peer: { uid: USER }, pod: { namespace: NAMESPACE, container: "app" } },
  token: { create: "auth/token/create/app" },
  relax: ["once"],
};

export async function measurePods({ quick }: Scale): Promise<Report> {
  const question =
    "what does a grant to a pod cost, over a bare ContainerStatus and a bare create?";
  const report = new Report(question, { quick });
  const levels = quick ? [1, 4] : [1, 4, 16, 64];
  const rounds = quick ? 2 : 9;
  const warmUp = quick ? 1 : 4; // as in grant.ts
  await using stage = await Stage.start();
  const containerd = await Containerd.start(compilePause(stage));
  stage.defer(() => containerd.stop());
  const askers: Inside[] = [];
  while (askers.length < Math.max(...levels)) askers.push(await startPod(stage, containerd));
  const vault = await connectVault(stage);
  const status = statusCall(stage, containerd.socket, askers[0]?.id ?? "");
  for (const atOnce of levels) {
    const engine = { cri: containerd.socket };
    const server = await stage.server(`pods-${atOnce}`, { app }, { engine });
    const samples = roundOf(atOnce, quick);
    const arms = {
      floor: () => repeat(async () => [await status(), await vault.create()], samples, atOnce),
      grant: () => ask(askers.slice(0, atOnce), server.socket, samples),
    };
    const id = `${atOnce} at once`;
    const measured = await interleave(id, arms, rounds, warmUp);
    report.add(`${id}, grant`, measured.grant);
    report.add(`${id}, floor`, measured.floor);
    report.compareBoth(id, ["grant", measured.grant], ["floor", measured.floor]);
    await server.end();
  }
  report.notes.push(
    `containerd ${await containerd.version()}; \`once\` is relaxed, and evaluated all the same`,
    "the sandbox of a pod never changes: the server asks for it once, and the floor does not",
  );
  return report;
}

/** The program of the image, which holds each pod's namespaces. */
function compilePause({ directory }: Stage): string {
  const program = join(directory, "pause");
  const source = join(import.meta.dirname, "../test/kubernetes/programs/pause.c");
  execFileSync(process.env.CC ?? "cc", ["-O1", "-static", "-o", program, source]);
  return program;
}

/** A pod of one container, which obeys. */
async function startPod(stage: Stage, containerd: Containerd): Promise<Inside> {
  const { name, joined } = stage.expect("asker");
  const pod = await containerd.pod({}, { name, namespace: NAMESPACE });
  const id = await containerd.container(pod, {
    args: ["/bench/asker", "/run/bench/control.sock", name],
    uid: USER,
    mounts: [
      ["/run/authproxy", join(stage.directory, "run"), true],
      ["/run/bench", join(stage.directory, "control"), true],
      ["/bench", stage.programs, true],
    ],
  });
  return new Inside(id, await joined, async () => {}); // it goes with containerd
}

/** ContainerStatus{verbose} of a container, over one connection: sent as it is, and read to its end. */
function statusCall(stage: Stage, socket: string, id: string): () => Promise<unknown> {
  const createConnection = () => connect(socket);
  const session = connectHttp2("http://localhost", { createConnection });
  stage.defer(() => session.destroy());
  const body = message({ 1: id, 2: true });
  const prefix = Buffer.alloc(5); // not compressed; the length
  prefix.writeUInt32BE(body.length, 1);
  const headers = {
    ":method": "POST",
    ":path": "/runtime.v1.RuntimeService/ContainerStatus",
    "content-type": "application/grpc",
    te: "trailers",
  };
  return async () => {
    const stream = session.request(headers);
    stream.end(Buffer.concat([prefix, body]));
    const answer = await stream.toArray();
    if (answer.length === 0) throw new Error("the floor: no answer from the CRI");
  };
}
