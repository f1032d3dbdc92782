import { expect, test } from "vitest";
import { startCluster } from "./cluster.ts";

test("a pod runs", async () => {
  await using cluster = await startCluster({
    containerd: (process.env.CTRD ?? "1.6") as "1.6",
    runtimeClass: false,
  });
  const image = await cluster.import("authproxy-pause:1");
  await cluster.apply({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "a" },
    spec: { containers: [{ name: "a", image, imagePullPolicy: "Never" }] },
  });
  const pod = await cluster.waitFor("a", ({ status }) => status.phase === "Running");
  console.log(JSON.stringify(pod.status));
  expect(pod.status.podIP).toMatch(/^198/);
});
