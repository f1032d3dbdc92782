// Each containerd that is served gives a pod its secret: by the same server, whose CRI answers differ,
// and by the same runtime. test/kubernetes/pod.kube.ts has all the rest, on the oldest. Only the newest
// gives a pod users of its own (`hostUsers: false`).
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Server } from "../stage.ts";
import { containerdVersions } from "./cluster.ts";
import { password, Scene } from "./scene.ts";

const GOT = `got ${password}\n`;

describe.each(containerdVersions)("containerd %s", (containerd) => {
  let scene: Scene;
  beforeAll(async () => {
    scene = await Scene.open({ containerd });
  });
  afterAll(() => scene?.[Symbol.asyncDispose]());

  /** Whose only service is of uid 1001, as the pod has it. */
  async function serve(user: object, changes = {}): Promise<Server> {
    const pod = { namespace: "default", container: "app" };
    const match = { ...user, pod, container: { Image: scene.digest } };
    const token = { create: "auth/token/create/app" };
    return await scene.serve({ ...changes, services: { app: { match, token } } });
  }

  test("a pod has its secret", async () => {
    expect(await scene.cluster.ctr("version")).toMatch(new RegExp(`Version: +v?${containerd}\\.`));
    const server = await serve({ peer: { uid: 1001 } });
    await scene.run("usual");
    expect(await scene.cluster.ended("usual")).toEqual({ app: 0 });
    expect(scene.cluster.logs("usual")).toBe(GOT);
    await server.until({ event: "revoked", service: "app" });
    await server.end("SIGTERM");
  });

  describe.runIf(containerd === "2")("a pod with `hostUsers: false`", () => {
    const apart = { hostUsers: false };
    const user = { process: { uid_inside: 1001 } };

    test("is refused: its user namespace is not the server's", async () => {
      const server = await serve(user);
      await scene.run("refused", {}, apart);
      expect(await scene.cluster.ended("refused")).toEqual({ app: 77 });
      await server.until({ event: "refused", reason: "user-namespace" });
      await server.end("SIGTERM");
    });

    test("has its secret where the configuration says so", async () => {
      const server = await serve(user, { user_namespaces: true });
      const script = 'echo "got $PASSWORD"; cat "$KEY_FILE"; cat /proc/self/uid_map';
      const env = { KEY_FILE: "vault:secret/data/app#password" };
      await scene.run("apart", { script, env }, apart);
      expect(await scene.cluster.ended("apart")).toEqual({ app: 0 });
      const said = scene.cluster.logs("apart");
      expect(said.startsWith(`${GOT}${password}`)).toBe(true);
      // Inside, outside, how many: 0 is not the host's.
      const [, inside, outside] = /(\d+) +(\d+) +65536\n$/.exec(said) ?? [];
      expect(inside).toBe("0");
      const { uid } = await server.until({ event: "granted", service: "app" });
      expect(uid).toBe(Number(outside) + 1001);
      await server.until({ event: "revoked", service: "app" });
    });

    test("has none for a process that `kubectl exec` runs", async () => {
      await scene.run("stays", { script: 'echo "got $PASSWORD"; exec sleep 1000' }, apart);
      await scene.cluster.says("stays", GOT);
      expect((await scene.cluster.exec("stays", ["env"])).stdout).toContain("PASSWORD=vault:");
      await scene.cluster.delete("stays");
    });
  });
});
