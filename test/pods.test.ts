// Question: does a pod's container get its token from a real engine, without a cluster?
// Covered:  containerd alone, the real server and OpenBao. The one container of a service; what stands
//           beside it in a pod: another container, the sandbox, one of the same name in another
//           namespace, one that shares the pod's or the host's pids, a process that is run later
//           (kubectl exec, probes, postStart), one that has another process beside it, and a second
//           request; a server in a cgroup namespace of its own. In a cluster: test/kubernetes.
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CriEngine } from "../server/cri.ts";
import { Containerd, type ContainerOptions, type Pod } from "./containerd.ts";
import { block } from "./documents.ts";
import { compile } from "./programs.ts";
import { type AuditLine, lookUp, type Server, Stage, until } from "./stage.ts";

const stage = new Stage();
let containerd: Containerd;
let server: Server;

beforeAll(async () => {
  containerd = await Containerd.start(compile("pod"));
  stage.defer(() => containerd.stop());
  // The document's own policy, of this image.
  const { match } = JSON.parse(`{${block("docs/policy.md", '"pod": { "namespace": "shop"')}}`);
  const container = { Image: containerd.image, Config: { Env: ["MODE=x", "PATH=/bin"] } };
  server = await stage.server({
    engine: { cri: containerd.socket },
    services: {
      app: {
        match: { ...match, container },
        token: { create: "auth/token/create/app" },
      },
    },
  });
});
afterAll(() => stage[Symbol.asyncDispose]());

/** A container that asks, and what the server says of it. */
async function asks(pod: Pod, options: Partial<ContainerOptions> = {}) {
  const usual = containerd.usual(pod, { args: ["/program", "ask"] });
  const sockets: [string, string, boolean] = ["/run/authproxy", join(stage.directory, "run"), true];
  const mounts = [...(usual.mounts ?? []), sockets];
  const container = await containerd.container(pod, { ...usual, mounts, ...options });
  return { container, line: await answerTo(container) };
}

/** The first line of the audit stream, of these, that says what became of a container's request. */
async function answerTo(container: string, since = 0): Promise<AuditLine> {
  const isAnswer = (line: AuditLine) =>
    [line.container, line.claimed].includes(container) &&
    ["granted", "refused", "unavailable"].includes(line.event);
  const find = () => server.events.slice(since).find(isAnswer);
  await until("the request is answered", () => find() !== undefined);
  return find() as AuditLine;
}

test("a pod's container gets its token, and the audit names the pod", async () => {
  const pod = await containerd.pod({ app: "timeline" });
  const { container, line } = await asks(pod);
  expect(line).toMatchObject({
    event: "granted",
    service: "app",
    container,
    image: containerd.image,
    pod: "shop/web",
    pod_container: "app",
    uid: 1001,
  });
  expect(await lookUp(line.accessor)).toMatchObject({
    meta: { container, pod: "shop/web", pod_container: "app" },
  });
  await containerd.call("RuntimeService/StopContainer", { 1: container });
  await server.until({ event: "revoked", container });
});

test.each<[string, { name?: string; namespace?: string }, Partial<ContainerOptions>, object]>([
  ["another container of the pod", {}, { name: "sidecar" }, { reason: "no-match" }],
  ["the same in another namespace", { namespace: "bank" }, {}, { reason: "no-match" }],
  ["another user", {}, { uid: 1002 }, { reason: "no-match" }],
  [
    "one with another variable",
    {},
    { env: { MODE: "x", NODE_OPTIONS: "--require=/data/x" } },
    { reason: "no-match" },
  ],
  ["one that shares the host's pids", {}, { pids: 2 }, { reason: "init" }],
])("not so: %s", async (_, podOptions, options, refusal) => {
  const pod = await containerd.pod({ app: "timeline" }, podOptions);
  const { line } = await asks(pod, options);
  expect(line.event).not.toBe("granted");
  expect(line).toMatchObject(refusal);
});

test("not so: one that shares its pod's pids, and the sandbox of a pod", async () => {
  const pod = await containerd.pod({ app: "timeline" }, { pids: 0 });
  const { line } = await asks(pod, { pids: 0 });
  expect(line).toMatchObject({ event: "refused", reason: "init" });
  const sandbox = new CriEngine(containerd.socket).inspect(pod.sandbox);
  await expect(sandbox).rejects.toMatchObject({ reason: "unknown-container" });
});

test("not so: a program that lies on a volume", async () => {
  const pod = await containerd.pod({ app: "timeline" });
  const usual = containerd.usual(pod);
  const sockets: [string, string, boolean] = ["/run/authproxy", join(stage.directory, "run"), true];
  const program: [string, string] = ["/program", join(containerd.directory, "image/root/program")];
  const { line } = await asks(pod, { mounts: [...(usual.mounts ?? []), sockets, program] });
  expect(line).toMatchObject({
    event: "refused",
    reason: "readonly",
    detail: { mount: "/program" },
  });
});

test("what is run in it later gets nothing, and neither does a second request", async () => {
  const pod = await containerd.pod({ app: "timeline" });
  const { container, line } = await asks(pod);
  expect(line.event).toBe("granted");
  const since = server.events.length;
  const command = { 1: container, 2: ["/program", "ask"], 3: 1 };
  const executing = containerd.call("RuntimeService/ExecSync", command).catch(() => {});
  expect(await answerTo(container, since)).toMatchObject({ event: "refused", reason: "init" });
  await executing;
  expect(
    server.events.filter(
      ({ event, accessor }) => event === "revoked" && accessor === line.accessor,
    ),
  ).toEqual([]);
});

test("while another process is in it, such as a probe's, it is told to ask again", async () => {
  const pod = await containerd.pod({ app: "timeline" });
  const { line } = await asks(pod, { args: ["/program", "beside"] });
  expect(line).toMatchObject({ event: "unavailable", reason: "alone" });
});
