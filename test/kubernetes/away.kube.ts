// A grant asks the node alone: containerd, the kernel, Vault. Siblings that are covered: the API server
// stopped, the kubelet killed, containerd killed, the server killed. A pod that runs keeps its token, the
// next start of its container gets another, and what it had is revoked.
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Server } from "../stage.ts";
import { waitUntil } from "./cluster.ts";
import { password, Scene } from "./scene.ts";

let scene: Scene;
let server: Server;

beforeAll(async () => {
  scene = await Scene.open();
  server = await scene.serve();
});
afterAll(() => scene?.[Symbol.asyncDispose]());

/** A pod that has its secret and goes on; its container ends when it is told to. */
async function runPod(name: string): Promise<void> {
  const script = 'echo "got $PASSWORD"; trap "exit 0" TERM; while :; do sleep 0.1; done';
  await scene.run(name, { script }, { restartPolicy: "Always" });
  await scene.cluster.says(name, `got ${password}`);
}

function startsOf(name: string): number {
  return scene.cluster.logs(name).split(`got ${password}\n`).length - 1;
}

/** The containers' ids, the last started last. */
function containersOf(server: Server): string[] {
  const granted = server.events.filter(({ event }) => event === "granted");
  return granted.map(({ container }) => String(container));
}

async function holdsToken(container: string | undefined): Promise<boolean> {
  const tokens = await scene.tokens();
  return tokens.some(({ meta }) => (meta as { container: string }).container === container);
}

/** As if its program had ended by itself. The kubelet starts it again without asking anybody. */
async function endContainer(container = ""): Promise<void> {
  await scene.cluster.ctr("tasks", "kill", "--signal", "SIGKILL", container);
}

test("with the API server stopped, the next start of a container gets its secret", async () => {
  await runPod("alone");
  const first = containersOf(server).at(-1);
  await scene.cluster.apiServer.end("SIGKILL");
  await endContainer(first);
  await waitUntil("it has started again", () => startsOf("alone") === 2);
  await server.until({ event: "revoked", container: first as string });
  expect(await holdsToken(first)).toBe(false);
  expect(await holdsToken(containersOf(server).at(-1))).toBe(true);
  await scene.cluster.startApiServerAgain();
  await scene.cluster.delete("alone");
});

test.each(["kubelet", "containerd"] as const)("%s killed and started again", async (name) => {
  await runPod(name);
  const first = containersOf(server).at(-1);
  await scene.cluster[name].end("SIGKILL");
  if (name === "containerd") await scene.cluster.startContainerdAgain();
  else scene.cluster.kubelet.startAgain();
  await scene.cluster.untilNodeReady();
  expect(await holdsToken(first)).toBe(true);
  expect(startsOf(name)).toBe(1);
  await endContainer(first);
  await waitUntil("it has started again", () => startsOf(name) === 2);
  await server.until({ event: "revoked", container: first as string });
  await scene.cluster.delete(name);
});

test("the server killed: what ended meanwhile is revoked, what runs keeps its token", async () => {
  await runPod("living");
  await runPod("dying");
  const [living, dying] = containersOf(server).slice(-2);
  await server.end("SIGKILL");
  await endContainer(dying);
  await waitUntil(
    "it has ended",
    async () => !(await scene.cluster.ctr("tasks", "list")).includes(`${dying}`),
  );
  server = await scene.serve();
  await server.until({ event: "revoked", container: dying as string });
  await waitUntil("it has started again", () => startsOf("dying") === 2);
  expect(await holdsToken(living)).toBe(true);
  expect(startsOf("living")).toBe(1);
});
