// Each containerd that is served gives a pod its secret: by the same server, whose CRI answers differ,
// and by the same runtime. test/kubernetes/pod.kube.ts has all the rest, on the oldest.
import { expect, test } from "vitest";
import { containerdVersions } from "./cluster.ts";
import { password, Scene } from "./scene.ts";

test.each(containerdVersions)("a pod has its secret on containerd %s", async (containerd) => {
  await using scene = await Scene.open({ containerd });
  expect(await scene.cluster.ctr("version")).toMatch(new RegExp(`Version: +v?${containerd}\\.`));
  const Image = scene.digest;
  const pod = { namespace: "default", container: "app" };
  const match = { peer: { uid: 1001 }, pod, container: { Image } };
  const token = { create: "auth/token/create/app" };
  const server = await scene.serve({ services: { app: { match, token } } });
  await scene.run("usual");
  expect(await scene.cluster.ended("usual")).toEqual({ app: 0 });
  expect(scene.cluster.logs("usual")).toBe(`got ${password}\n`);
  await server.until({ event: "revoked", service: "app" });
});
