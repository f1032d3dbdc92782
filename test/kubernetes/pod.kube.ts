// A pod gets its secrets, on a real node: kubelet, containerd, runc, our runtime as a RuntimeClass. Its
// image holds busybox alone, and nobody changed it. Siblings that are covered: variables, files, a value
// that changes; init, sidecar and static containers; each start of a container; an image that has a
// client itself, by the runtime and by a hostPath; other processes, those that the kubelet starts (a hook
// after the start, a probe) and those that the pod wishes for (a shared pid namespace, the host's).
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { client } from "../../scripts/openbao.ts";
import { type Server, image as withClient } from "../stage.ts";
import { type Pod, waitUntil } from "./cluster.ts";
import { password, REFERENCE, Scene } from "./scene.ts";

let scene: Scene;
let server: Server;

beforeAll(async () => {
  scene = await Scene.open();
  const match = { pod: { namespace: ["default", "shop"], container: ["app", "first", "beside"] } };
  const token = { create: "auth/token/create/app" };
  server = await scene.serve({ services: { app: { match, token } } });
});
afterAll(() => scene?.[Symbol.asyncDispose]());

const GOT = `got ${password}\n`;
const FOREVER = 'echo "got $PASSWORD"; exec sleep 100000';

test("a secret is in a variable, and in a file of the pod's own", async () => {
  const script = 'echo "got $PASSWORD"; cat "$KEY_FILE"';
  await scene.run("usual", { script, env: { KEY_FILE: REFERENCE } });
  expect(await scene.cluster.ended("usual")).toEqual({ app: 0 });
  expect(scene.cluster.logs("usual")).toBe(`${GOT}${password}`);
  const container = idOf(await scene.cluster.pod("usual"), "app");
  expect(await server.until({ event: "granted", container })).toMatchObject({ service: "app" });
  await server.until({ event: "revoked", container });
});

test("a value that changes is seen by a pod that watches it", async () => {
  const write = (value: string) =>
    client(scene.bao).write("secret/data/app/changing", { data: { value } });
  await write("first");
  const show = 'now=$(cat "$KEY_FILE"); [ "$now" = "$last" ] || echo "$now"; last=$now';
  const env = { KEY_FILE: "vault:secret/data/app/changing#value", AUTHPROXY_REFRESH: "1" };
  const script = `while :; do ${show}; sleep 0.2; done`;
  await scene.run("watching", { script, env: { ...env, AUTHPROXY_WATCH: "1" } });
  await scene.cluster.says("watching", "first\n");
  await write("second");
  await scene.cluster.says("watching", "second\n");
  await scene.cluster.delete("watching");
});

test("init containers, sidecars and the application have a token each", async () => {
  const initContainers = [
    scene.container("first"),
    { ...scene.container("beside", { script: FOREVER }), restartPolicy: "Always" },
  ];
  await scene.run("parts", {}, { initContainers });
  expect(await scene.cluster.ended("parts")).toEqual({ app: 0 });
  expect(scene.cluster.logs("parts")).toBe(GOT.repeat(3));
  const pod = await scene.cluster.pod("parts");
  const lines = ["first", "beside", "app"].map((name) =>
    server.find({ event: "granted", container: idOf(pod, name) }),
  );
  expect(new Set(lines.map((line) => line?.accessor ?? "none")).size).toBe(3);
});

test("a container that is no service's is refused", async () => {
  await scene.run("stranger", {}, { containers: [scene.container("other")] });
  expect(await scene.cluster.ended("stranger")).toEqual({ other: 77 });
  const container = idOf(await scene.cluster.pod("stranger"), "other");
  const refused = await server.until({ event: "refused", container });
  expect(refused).toMatchObject({ reason: "no-match", detail: { path: "pod.container" } });
});

test("each start of a container has a token of its own, and none is left", async () => {
  const script = 'echo "got $PASSWORD"; exit 3';
  await scene.run("again", { script }, { restartPolicy: "Always" });
  const restarts = ({ status }: Pod) => status.containerStatuses?.[0]?.restartCount ?? 0;
  await scene.cluster.waitFor("again", (pod) => restarts(pod) >= 2);
  expect(scene.cluster.logs("again")).toContain(GOT);
  await scene.cluster.delete("again");
  await waitUntil("no token is left", async () => (await scene.tokens()).length === 0);
});

test("a namespace may enforce Pod Security's level `restricted`", async () => {
  const enforce = { "pod-security.kubernetes.io/enforce": "restricted" };
  await scene.cluster.namespace("shop", enforce);
  const hosted = scene.pod("hosted", {}, { hostPID: true }, "shop");
  await expect(scene.cluster.apply(hosted)).rejects.toThrow(/violates PodSecurity "restricted/);
  await scene.run("limited", {}, {}, "shop");
  expect(await scene.cluster.ended("limited", "shop")).toEqual({ app: 0 });
  expect(scene.cluster.logs("limited", { namespace: "shop" })).toBe(GOT);
});

test("a probe that runs again and again does not keep a container from its token", async () => {
  const probe = (...command: string[]) => ({ exec: { command }, periodSeconds: 1 });
  const livenessProbe = probe("/bin/sleep", "0.2");
  await scene.run("probed", { script: FOREVER, startupProbe: probe("/bin/true"), livenessProbe });
  await scene.cluster.says("probed", GOT);
  const isReady = ({ status }: Pod) => status.containerStatuses?.[0]?.ready === true;
  await scene.cluster.waitFor("probed", isReady);
  await scene.cluster.delete("probed");
});

test("while a hook runs after the start there is no token, and then there is", async () => {
  // The server looks only when the hook is there.
  process.kill(server.pid, "SIGSTOP");
  const wait = "until [ -e /dev/shm/end ]; do sleep 0.1; done";
  const lifecycle = { postStart: { exec: { command: ["/bin/sh", "-c", wait] } } };
  await scene.run("hooked", { script: FOREVER, lifecycle });
  const named = ["pod.name==hooked", "container.name==app"];
  const filter = named.map((name) => `labels."io.kubernetes.${name.replace("==", '"==')}`).join();
  let container = "";
  await waitUntil("the hook runs", async () => {
    container = (await scene.cluster.ctr("containers", "list", "--quiet", filter)).trim();
    const processes = container ? await scene.cluster.processesOf(container) : [];
    return processes.length > 1;
  });
  process.kill(server.pid, "SIGCONT");
  await server.until({ container, reason: "alone" });
  expect(server.find({ container, event: "granted" })).toBeUndefined();
  await scene.cluster.exec("hooked", ["touch", "/dev/shm/end"]);
  await scene.cluster.says("hooked", GOT);
  await scene.cluster.delete("hooked");
});

test.each([
  { what: "shared by the pod's containers", spec: { shareProcessNamespace: true } },
  { what: "the host's", spec: { hostPID: true } },
])("a pid namespace that is $what: refused", async ({ spec }) => {
  const name = Object.keys(spec).join().toLowerCase();
  await scene.run(name, {}, spec);
  expect(await scene.cluster.ended(name)).toEqual({ app: 77 });
  const claimed = idOf(await scene.cluster.pod(name), "app");
  await server.until({ event: "refused", reason: "init", claimed });
});

test("a static pod has its secret", async () => {
  const pod = scene.pod("static", { script: FOREVER });
  writeFileSync(join(scene.cluster.manifests, "static.json"), JSON.stringify(pod));
  await waitUntil("it has started", () => scene.cluster.logs("static-node") === GOT);
});

test("an image that has the client itself, by the runtime: its client has nothing left to do", async () => {
  const image = await scene.cluster.import(withClient);
  const own = { image, command: undefined };
  await scene.run("client", { ...own, env: { DB_PASSWORD_FILE: REFERENCE } });
  await scene.cluster.says("client", "started with a password");
  await scene.cluster.delete("client");
});

test("an image that has the client itself, without the runtime: by a hostPath and memory", async () => {
  const image = await scene.cluster.import(withClient);
  const mounts = { "/run/authproxy": "socket", "/run/authproxy-secrets": "secrets" };
  const volumeMounts = Object.entries(mounts).map(([mountPath, name]) => ({ mountPath, name }));
  const volumes = [
    { name: "socket", hostPath: { path: "/run/authproxy", type: "Directory" } },
    { name: "secrets", emptyDir: { medium: "Memory", sizeLimit: "1Mi" } },
  ];
  const own = { image, command: undefined, volumeMounts };
  const env = { DB_PASSWORD_FILE: REFERENCE };
  await scene.run("own", { ...own, env }, { volumes, runtimeClassName: undefined });
  await scene.cluster.says("own", "started with a password");
  await scene.cluster.delete("own");
});

function idOf({ status }: Pod, name: string): string {
  const all = [...(status.initContainerStatuses ?? []), ...(status.containerStatuses ?? [])];
  const { containerID = "" } = all.find((container) => container.name === name) ?? {};
  return containerID.replace("containerd://", "");
}
