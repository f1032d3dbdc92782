// Server, containerd and kubelet are killed, in turn, under a stream of pods. Afterwards no secret is
// lost: every pod has had it. And no token is leaked: one that lives is that of a process that lives, at
// the latest when a token's TTL has passed, which bounds what a server that was killed between Vault's
// answer and its own note of it knows nothing about. STORM_PODS and STORM_KILLS choose how many.
import { expect, test } from "vitest";
import { client } from "../../scripts/openbao.ts";
import { type Cluster, type Pod, waitUntil } from "./cluster.ts";
import { password, Scene } from "./scene.ts";

const pods = Number(process.env.STORM_PODS ?? 24);
const kills = Number(process.env.STORM_KILLS ?? 9);
const LANES = 3;
const TTL_SECONDS = 30;
const STREAM_DEADLINE_MS = 240_000;
const GOT = `got ${password}\n`;
/** A pod says by its end that it has its secret: what it writes while containerd is away is lost. */
const HAS_SECRET = 'case "$PASSWORD" in password-*) ;; *) exit 3 ;; esac';

test(`${kills} times killed under ${pods} pods: none without its secret, no token without its process`, async () => {
  await using scene = await Scene.open();
  const { cluster } = scene;
  await shortenTokens(scene);
  let server = await scene.serve();
  await scene.run("lasting", { script: 'echo "got $PASSWORD"; exec sleep 100000' });
  await cluster.says("lasting", GOT);

  let finished = 0;
  const waiting = Array.from({ length: pods }, (_, i) => `pod-${i}`);
  const lane = async () => {
    for (let name = waiting.shift(); name; name = waiting.shift()) {
      await scene.run(name, { script: HAS_SECRET }, { restartPolicy: "OnFailure" });
      const succeeded = ({ status }: Pod) => status.phase === "Succeeded";
      await cluster.waitFor(name, succeeded, "default", STREAM_DEADLINE_MS);
      finished++;
    }
  };
  const stream = Promise.all(Array.from({ length: LANES }, lane));
  const victims = {
    server: async () => {
      await server.end("SIGKILL");
      server = await scene.serve();
    },
    containerd: async () => {
      await cluster.containerd.end("SIGKILL");
      await cluster.startContainerdAgain();
    },
    kubelet: async () => {
      await cluster.kubelet.end("SIGKILL");
      cluster.kubelet.startAgain();
    },
  };
  const order = Object.values(victims);
  for (let kill = 0; kill < kills; kill++) {
    const due = Math.floor((kill * pods) / kills);
    await Promise.race([stream, waitUntil("more pods", () => finished >= due, STREAM_DEADLINE_MS)]);
    await order[kill % order.length]?.();
  }
  await stream;

  const all = await Promise.all(Array.from({ length: pods }, (_, i) => cluster.pod(`pod-${i}`)));
  const containers = all.flatMap(({ status }) => status.containerStatuses ?? []);
  const failed = containers.flatMap(({ lastState }) => lastState?.terminated ?? []);
  const reasons = failed.map(({ exitCode, reason }) => `${exitCode} ${reason}`);
  console.log(
    `${pods} pods, ${kills} kills; what had to be started again: ${reasons.join() || "-"}`,
  );
  expect(finished).toBe(pods);
  expect(cluster.logs("lasting")).toBe(GOT); // and was not started again
  await waitUntil(
    "each token is that of a running container",
    async () => (await holders(scene)).join() === (await running(cluster)).join(),
    2 * TTL_SECONDS * 1000,
  );
  expect(await holders(scene)).toHaveLength(1);
});

/** The containers that have a token, each as often as it has one. */
async function holders(scene: Scene): Promise<string[]> {
  const tokens = await scene.tokens();
  return tokens.map(({ meta }) => (meta as { container: string }).container).sort();
}

/** The containers that run, without those that hold a pod's namespaces. */
async function running(cluster: Cluster): Promise<string[]> {
  const filter = 'labels."io.cri-containerd.kind"==container';
  const listed = await cluster.ctr("containers", "list", "--quiet", filter);
  const tasks = await cluster.ctr("tasks", "list");
  const runs = (id: string) => new RegExp(`^${id} +\\d+ +RUNNING`, "m").test(tasks);
  return listed.split("\n").filter(Boolean).filter(runs).sort();
}

/** A token lives for so long unless the server renews it. */
async function shortenTokens({ bao }: Scene): Promise<void> {
  const change = { allowed_policies: ["app"], orphan: true, renewable: true };
  const period = { token_period: `${TTL_SECONDS}s`, token_type: "service" };
  await client(bao).write("auth/token/roles/app", { ...change, ...period });
}
