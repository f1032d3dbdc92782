// Question: what does the server make of what a CRI says about a pod's container?
// Covered:  recorded answers of containerd 1.6, 1.7 and 2.1 (lab/containerd.lab.ts makes them), CRI-O's as
//           its source builds them; which image it is, by each of four ways to know it; volumes of
//           every kind; the variables of Services and names that resemble them; every answer that an
//           engine should not give, and an engine that ends, restarts, stalls or is too old.
// A real containerd, alone, with the real server and Vault: pods.test.ts.
import { createServer } from "node:net";
import fc from "fast-check";
import { afterEach, describe, expect, test, vi } from "vitest";
import { CriEngine } from "../server/cri.ts";
import type { Container } from "../server/engine.ts";
import { mismatchesOf } from "../server/policy.ts";
import { Message, messageOf } from "../server/protobuf.ts";
import { entries, type Fields, message, serviceVariables } from "./containerd.ts";
import { CriStandIn, framed, recordings, repliesOf, send } from "./cri-stand-in.ts";
import { anyBytesAreReadOrRefused, whatWasWrittenIsRead } from "./hardening/messages.ts";

const ID = "0123456789abcdef".repeat(4);
const SANDBOX = "fedcba9876543210".repeat(4);
const UID = "81b985f3-0c58-46cc-9bfc-43843fa73198";
const IMAGE = `sha256:${"1a".repeat(32)}`;
const MANIFEST = `sha256:${"2b".repeat(32)}`;
const STATUS = "RuntimeService/ContainerStatus";
const POD = "RuntimeService/PodSandboxStatus";
const IMAGES = "ImageService/ImageStatus";
const VOLUMES = `/var/lib/kubelet/pods/${UID}/volumes/kubernetes.io~`;

afterEach(() => void vi.useRealTimers());

/** What a container differs in from the usual one. */
type Changes = {
  status?: Fields;
  env?: string[];
  spec?: object;
  linux?: object;
  info?: object;
  mounts?: [string, string, boolean?][];
};

/** The answer of containerd about a usual container. */
function statusOf({ status, env = [], spec, linux, info, mounts = [] }: Changes = {}): Buffer {
  const runtimeSpec = {
    process: { args: ["/app", "--serve"], env, cwd: "/", user: { uid: 1001, gid: 1001 } },
    root: { readonly: true },
    linux: { namespaces: [{ type: "pid" }], ...linux },
    ...spec,
  };
  const text = JSON.stringify({
    pid: 4242,
    sandboxID: SANDBOX,
    config: { image: { image: IMAGE } },
    runtimeSpec,
    ...info,
  });
  return message({
    1: {
      1: ID,
      2: { 1: "app" },
      3: 1,
      5: 1_700_000_000_123_456_789n,
      14: mounts.map(([to, from, isReadOnly = false]) => ({ 1: to, 2: from, 3: isReadOnly })),
      ...status,
    },
    2: entries({ info: text }),
  });
}

const pod = message({
  1: { 1: SANDBOX, 2: { 1: "web", 2: UID, 3: "shop" }, 7: entries({ app: "web" }) },
});

function imageOf(fields: Fields): Buffer {
  return message({ 1: fields });
}

async function inspect(changes: Changes = {}, image: Fields = {}): Promise<Container> {
  const replies = { [STATUS]: statusOf(changes), [POD]: pod, [IMAGES]: imageOf(image) };
  await using engine = await CriStandIn.start(replies);
  return await new CriEngine(engine.socket).inspect(ID);
}

describe.each(recordings)("containerd $version", (recording) => {
  test("its container is known by what a policy names", async () => {
    await using engine = await CriStandIn.start(repliesOf(recording));
    const container = await new CriEngine(engine.socket).inspect(recording.id);
    const userSpecified = `registry.example/app@${recording.manifest}`;
    expect(container).toMatchObject({
      Id: recording.id,
      Image: recording.image,
      Path: "/program",
      Args: ["wait"],
      State: { Pid: expect.any(Number), StartedAt: expect.stringMatching(/^\d{4}-.*\.\d{3}Z$/) },
      HostConfig: { ReadonlyRootfs: false, SecurityOpt: [], PidMode: "" },
      Mounts: [
        { Type: "empty-dir", Name: "data", Destination: "/data", RW: true },
        { Type: "configmap", Name: "settings", Destination: "/etc/app", RW: false },
        {
          Type: "projected",
          Name: "kube-api-access",
          Destination: "/var/run/secrets/kubernetes.io/serviceaccount",
          RW: false,
        },
      ],
      pod: {
        namespace: "shop",
        name: "web",
        uid: recording.uid,
        container: "app",
        labels: { app: "web", "io.kubernetes.pod.namespace": "shop" },
        annotations: { "kubernetes.io/config.source": "api" },
      },
    });
    expect(container.HostConfig.CapAdd).toContain("CAP_CHOWN");
    expect([...(container.Config.Env ?? [])]).toEqual(["PATH=/bin", "MODE=x"]);
    expect(container.Config.KubernetesEnv).toContain("KUBERNETES_SERVICE_HOST=10.99.0.1");
    // What the kubelet was told came with CRI 0.29.
    const isTold = !recording.version.startsWith("1.6");
    expect(container.Config.Image).toBe(isTold ? userSpecified : undefined);
    expect(JSON.stringify(container)).not.toContain("MODE=x");
  });

  test("each answer, cut anywhere, is no container", async () => {
    const replies = repliesOf(recording);
    await using engine = await CriStandIn.start(replies);
    const cri = new CriEngine(engine.socket);
    for (const method of [POD, STATUS]) {
      const whole = replies[method] as Buffer;
      for (let length = 0; length < whole.length; length += 97) {
        engine.replies.set(method, whole.subarray(0, length));
        const inspecting = cri.inspect(recording.id);
        await expect(inspecting).rejects.toMatchObject({ reason: "engine", canRetry: true });
      }
    }
  });
});

test("CRI-O's container: no `config`, an image's id without its kind", async () => {
  const bare = IMAGE.replace("sha256:", "");
  const container = await inspect({
    status: { 17: bare },
    info: { config: undefined, privileged: false },
    spec: { annotations: { "io.kubernetes.cri-o.ImageName": "registry.example/app:1" } },
  });
  expect(container).toMatchObject({ Id: ID, Image: IMAGE, pod: { namespace: "shop" } });
  expect(container.Config).not.toHaveProperty("Image");
});

describe("the image is", () => {
  const other = `sha256:${"3c".repeat(32)}`;

  test("what `image_id` says", async () => {
    expect((await inspect({ status: { 17: IMAGE, 9: other } })).Image).toBe(IMAGE);
  });

  test("without it, what the container was made of", async () => {
    expect(
      (await inspect({ status: { 8: { 1: "registry.example/app:1" }, 9: other } })).Image,
    ).toBe(IMAGE);
  });

  test("without both, as in an older CRI-O, the id of what `image_ref` names", async () => {
    const changes = {
      status: { 9: `registry.example/app@${MANIFEST}` },
      info: { config: undefined },
    };
    expect((await inspect(changes, { 1: IMAGE.slice(7) })).Image).toBe(IMAGE);
  });

  test.each([
    ["a name", { image: "registry.example/app:1" }],
    ["a name that ends as a digest", { image: `x/${IMAGE}` }],
  ])("never %s", async (_, image) => {
    expect((await inspect({ info: { config: { image } } })).Image).toBe("");
  });
});

describe("Config.Image is what the pod's creator wrote", () => {
  const info = (name: string) => ({
    info: { config: { image: { image: IMAGE, user_specified_image: name } } },
  });
  const name = `registry.example/app@${MANIFEST}`;

  test.each([name, `registry.example/app:1@${MANIFEST}`, `app@${MANIFEST}`])(
    "where its digest is one of the image's: %s",
    async (written) => {
      const image = { 3: [`docker.io/other@sha256:${"0".repeat(64)}`, name] };
      expect((await inspect(info(written), image)).Config.Image).toBe(written);
    },
  );

  test.each<[string, string, Fields]>([
    ["without a digest", "registry.example/app:1", { 3: [name] }],
    ["with another image's digest", name, { 3: [`registry.example/app@${IMAGE}`] }],
    ["where the image has lost its names", name, {}],
    ["where the digest is only part of it", `${name}0`, { 3: [name] }],
  ])("but not %s", async (_, written, image) => {
    expect((await inspect(info(written), image)).Config).not.toHaveProperty("Image");
  });

  test("the engine is asked once about the same", async () => {
    const replies = {
      [STATUS]: statusOf(info(name)),
      [POD]: pod,
      [IMAGES]: imageOf({ 3: [name] }),
    };
    await using engine = await CriStandIn.start(replies);
    const cri = new CriEngine(engine.socket);
    await cri.inspect(ID);
    await cri.inspect(ID);
    expect(engine.asked.toSorted()).toEqual([IMAGES, STATUS, STATUS, POD].toSorted());
  });
});

describe("a mount is named by its volume, not by the kubelet's path: of", () => {
  test.each<[string, [string, string, boolean?], object]>([
    [
      "an emptyDir",
      ["/a", `${VOLUMES}empty-dir/cache`],
      { Type: "empty-dir", Name: "cache", RW: true },
    ],
    ["a secret", ["/a", `${VOLUMES}secret/tls`, true], { Type: "secret", Name: "tls", RW: false }],
    ["a driver", ["/a", `${VOLUMES}csi/pvc-1/mount`], { Type: "csi", Name: "pvc-1" }],
    [
      "a driver of another vendor",
      ["/a", `/k/pods/${UID}/volumes/example.com~disk/d`],
      { Type: "disk", Name: "d" },
    ],
    [
      "a part of a volume",
      ["/a", `/k/pods/${UID}/volume-subpaths/cache/app/0`],
      { Type: "volume-subpaths", Name: "cache" },
    ],
    ["the host", ["/a", "/srv/data"], { Type: "host-path", Name: "/srv/data" }],
    [
      "another pod's volume",
      ["/a", "/var/lib/kubelet/pods/other/volumes/kubernetes.io~secret/tls"],
      { Type: "host-path" },
    ],
    ["an image", ["/a", ""], { Type: "image" }],
    [
      "the kubelet's log, in an unusual place",
      ["/app/main.js", `/k/pods/${UID}/containers/app/0a1b`],
      { Type: "containers", Name: "app" },
    ],
    [
      "the kubelet's hosts, in an unusual place",
      ["/etc/passwd", `/k/pods/${UID}/etc-hosts`],
      { Type: "etc-hosts" },
    ],
    [
      "a volume named almost as the service account's",
      ["/a", `${VOLUMES}projected/kube-api-access-long1x`],
      { Name: "kube-api-access-long1x" },
    ],
  ])("%s", async (_, mount, shown) => {
    const { Mounts } = await inspect({ mounts: [mount] });
    expect(Mounts).toEqual([expect.objectContaining({ Destination: mount[0], ...shown })]);
  });

  test("all, in one order", async () => {
    const mounts: [string, string][] = [
      ["/c", "/x"],
      ["/a", "/y"],
      ["/b", "/z"],
    ];
    const { Mounts } = await inspect({ mounts });
    expect(Mounts.map(({ Destination }) => Destination)).toEqual(["/a", "/b", "/c"]);
  });
});

describe("the pid namespace is", () => {
  const node = { config: { linux: { security_context: { namespace_options: { pid: 2 } } } } };
  test.each<[string, object[], object, string]>([
    ["its own", [{ type: "pid" }], {}, ""],
    ["the pod's", [{ type: "pid", path: "/proc/7/ns/pid" }], {}, "pod"],
    ["the host's, as containerd says it", [{ type: "pid", path: "/proc/7/ns/pid" }], node, "host"],
    ["the host's, as CRI-O says it", [{ type: "mount" }], {}, "host"],
  ])("%s", async (_, namespaces, info, mode) => {
    const { HostConfig } = await inspect({ linux: { namespaces }, info });
    expect(HostConfig.PidMode).toBe(mode);
  });
});

test("seccomp's profile and capabilities are the specification's", async () => {
  const seccomp = { defaultAction: "SCMP_ACT_NOTIFY", listenerPath: "/run/agent.sock" };
  const namespaces = [{ type: "pid" }];
  const capabilities = { bounding: ["CAP_SYS_ADMIN"] };
  const args = ["/app"];
  const process = { args, cwd: "/", user: { uid: 0, gid: 0 }, capabilities };
  const { HostConfig } = await inspect({ linux: { namespaces, seccomp }, spec: { process } });
  expect(HostConfig.SecurityOpt).toEqual([`seccomp=${JSON.stringify(seccomp)}`]);
  expect(HostConfig.CapAdd).toEqual(["CAP_SYS_ADMIN"]);
});

describe("Config.Env is without what Kubernetes makes:", () => {
  const list = (variables: Record<string, string>) =>
    Object.entries(variables).map(([name, value]) => `${name}=${value}`);
  const left = async (env: string[]) => [...((await inspect({ env })).Config.Env ?? [])];

  test.each<[string, Record<string, string>]>([
    ["one port", serviceVariables("KUBERNETES", "10.0.0.1", { https: 443 })],
    ["a port without a name", serviceVariables("REDIS", "10.0.0.1", { "": 6379 })],
    ["several ports", serviceVariables("A_B", "10.0.0.1", { http: 80, https_admin: 8443 })],
    ["UDP", serviceVariables("DNS", "10.0.0.1", { dns: 53 }, "UDP")],
    ["SCTP", serviceVariables("S", "10.0.0.1", { s: 1 }, "SCTP")],
    ["IPv6", serviceVariables("V6", "fd00::1", { http: 80 })],
    ["a name that resembles another's", serviceVariables("A_SERVICE", "10.0.0.1", { x: 80 })],
    ["… another's port", serviceVariables("A_PORT_80_TCP", "10.0.0.1", { "": 80 })],
    [
      "… a variable of Node's, of which it is none",
      serviceVariables("NODE_OPTIONS", "10.0.0.1", { path: 80 }),
    ],
    ["the host's name", { HOSTNAME: "web-6f7c9d-abcde" }],
  ])("%s", async (_, variables) => {
    expect(await left(["MODE=x", ...list(variables)])).toEqual(["MODE=x"]);
  });

  const redis = serviceVariables("REDIS", "10.0.0.1", { "": 6379 });

  test.each<[string, string[]]>([
    ["what programs obey", ["NODE_OPTIONS=--import=data:x", "LD_PRELOAD=/x.so", "BASH_ENV=/x"]],
    ["a port alone", ["LD_PRELOAD_PORT=tcp://10.0.0.1:80", "LD_PRELOAD_SERVICE_PORT=80"]],
    ["a number that the application is told", ["MY_SERVICE_PORT=8080"]],
    [
      "an address without the rest",
      ["DB_SERVICE_HOST=10.0.0.9", "DB_SERVICE_PORT=5432", "DB_PORT=tcp://10.0.0.9:5432"],
    ],
    [
      "a Service of which one variable is another",
      [...list({ ...redis, REDIS_PORT_6379_TCP_ADDR: "10.0.0.2" })],
    ],
    ["a Service at a name", list(serviceVariables("EVIL", "evil.example", { "": 80 }))],
    ["in small letters", list(serviceVariables("redis", "10.0.0.1", { "": 80 }))],
    ["a host name that is more than a name", ["HOSTNAME=$(reboot)", "HOSTNAME="]],
    ["a name without a value", ["REDIS_PORT"]],
  ])("but has %s", async (_, env) => {
    expect(await left(env)).toEqual(env);
  });

  test.each([
    ["REDIS_PORT", "tcp://10.0.0.2:80"],
    ["REDIS_SERVICE_HOST", "evil.example"],
    ["REDIS_SERVICE_PORT", "80"],
    ["REDIS_SERVICE_PORT_HTTP", "80"],
    ["REDIS_PORT_6380_TCP", "tcp://10.0.0.1:6380"],
  ])("and has %s where it is not the Service's: %s", async (name, value) => {
    const env = list({ ...redis, [name]: value });
    expect(await left(env)).toContain(`${name}=${value}`);
  });

  test("what a policy names is never hidden: neither from a value nor from null", async () => {
    const { Config } = await inspect({ env: ["MODE=x", ...list(redis)] });
    const lacks = (Env: Fields | object) =>
      mismatchesOf({ Config: { Env } } as never, { Config } as never).map(({ path }) => path);
    expect(lacks({ MODE: "x", "*": null })).toEqual([]);
    expect(lacks({ REDIS_PORT: "tcp://10.0.0.1:6379", MODE: "x" })).toEqual([]);
    expect(lacks({ REDIS_PORT: null })).toEqual(["Config.Env.REDIS_PORT"]);
    expect(lacks(["MODE=x"])).toEqual([]);
  });

  test("what is too long for one is not looked at for long", async () => {
    const long = "_SERVICE_PORT_".repeat(9000);
    const env = [`A=${long}`, `A${long}=80`, `HOSTNAME=${"a".repeat(500)}`, `A${long}`];
    expect(await left(env)).toEqual(env);
  });

  test("nothing of an environment is in a message", async () => {
    const secret = "PASSWORD=hunter2";
    const broken = Buffer.from(String(statusOf({ env: [secret] })).replace('"env"', '"e"nv"'));
    await using engine = await CriStandIn.start({ [STATUS]: broken, [POD]: pod });
    const failed = await new CriEngine(engine.socket).inspect(ID).catch((error) => error);
    expect(failed.reason).toBe("engine");
    expect(JSON.stringify([failed.detail, failed.message])).not.toContain("hunter2");
  });
});

describe("an engine that", () => {
  test.each<[string, Buffer | { status: number; message: string }, object]>([
    [
      "does not know the container",
      { status: 5, message: "not found" },
      { reason: "unknown-container", canRetry: false },
    ],
    [
      "has no CRI v1",
      { status: 12, message: "unknown service" },
      { reason: "engine", detail: { message: expect.stringContaining("containerd 1.6") } },
    ],
    [
      "fails",
      { status: 13, message: "broken: ü" },
      { reason: "engine", canRetry: true, detail: { status: 13 } },
    ],
    ["is not ready", { status: 14, message: "" }, { reason: "engine", canRetry: true }],
    ["says nothing", Buffer.of(), { reason: "engine", canRetry: true }],
    [
      "answers for another container",
      statusOf({ status: { 1: SANDBOX } }),
      { reason: "engine", detail: { asked: ID, answered: SANDBOX } },
    ],
    ["has only created it", statusOf({ status: { 3: 0 } }), { reason: "starting", canRetry: true }],
    ["has seen its end", statusOf({ status: { 3: 2 } }), { reason: "starting" }],
    ["does not know its state", statusOf({ status: { 3: 3 } }), { reason: "starting" }],
    ["knows no pid yet", statusOf({ info: { pid: 0 } }), { reason: "starting" }],
    ["tells no pid", statusOf({ info: { pid: "x" } }), { reason: "starting" }],
    ["tells no specification", statusOf({ info: { runtimeSpec: null } }), { reason: "engine" }],
    ["tells no command", statusOf({ spec: { process: {} } }), { reason: "engine" }],
    ["tells nothing in JSON", message({ 1: { 1: ID, 3: 1 } }), { reason: "engine" }],
    [
      "tells null",
      message({ 1: { 1: ID, 3: 1 }, 2: entries({ info: "null" }) }),
      { reason: "engine" },
    ],
    [
      "is no protobuf inside",
      message({ 1: Buffer.from("HTTP/1.1 200 OK") }),
      { reason: "engine", canRetry: true },
    ],
    [
      "tells a variable that is none",
      statusOf({ env: "PASSWORD=x" as never }),
      { reason: "engine", detail: { message: "its answer cannot be read" } },
    ],
    ["is no protobuf", Buffer.from("HTTP/1.1 200 OK\r\n\r\n"), { reason: "engine" }],
    [
      "has no room for the answer: not the container's doing, for good",
      { status: 8, message: "resource exhausted" },
      { reason: "engine", canRetry: true },
    ],
    [
      "tells more variables than are looked at",
      statusOf({ env: Array.from({ length: 20_000 }, (_, n) => `A${n}=`) }),
      { reason: "too-large", canRetry: false },
    ],
    ["is too long", Buffer.alloc((1 << 20) + 1), { reason: "too-large", canRetry: false }],
  ])("%s", async (_, reply, refusal) => {
    await using engine = await CriStandIn.start({ [STATUS]: reply, [POD]: pod });
    await expect(new CriEngine(engine.socket).inspect(ID)).rejects.toMatchObject(refusal);
  });

  test.each<[string, Buffer | { status: number; message: string }]>([
    ["has lost the sandbox", { status: 5, message: "not found" }],
    ["answers for another sandbox", message({ 1: { 1: ID, 2: { 3: "kube-system" } } })],
  ])("%s", async (_, reply) => {
    await using engine = await CriStandIn.start({ [STATUS]: statusOf(), [POD]: reply });
    const inspecting = new CriEngine(engine.socket).inspect(ID);
    await expect(inspecting).rejects.toMatchObject({ reason: "engine", canRetry: true });
  });

  test.each<[string, (stream: Parameters<typeof send>[0]) => void]>([
    [
      "sends no status",
      (stream) => {
        stream.respond();
        stream.end(framed(statusOf()));
      },
    ],
    ["sends no message", (stream) => send(stream, Buffer.of())],
    ["cuts its message", (stream) => send(stream, framed(statusOf()).subarray(0, -1))],
    ["cuts the message's prefix", (stream) => send(stream, Buffer.of(0, 0))],
    [
      "sends two messages",
      (stream) => send(stream, Buffer.concat([framed(statusOf()), framed(pod)])),
    ],
    [
      "compresses",
      (stream) => send(stream, Buffer.concat([Buffer.of(1), framed(statusOf()).subarray(1)])),
    ],
    ["fails after its message", (stream) => send(stream, framed(statusOf()), "13")],
    ["ends the call", (stream) => stream.close(8)],
    [
      "ends the call without an error",
      (stream) => {
        stream.respond();
        stream.write("x");
        stream.close(0);
      },
    ],
    ["ends the connection", (stream) => stream.session?.destroy()],
    [
      "ends the connection in its message",
      (stream) => {
        stream.respond();
        stream.write("x", () => stream.session?.destroy());
      },
    ],
    ["says GOAWAY with an error", (stream) => stream.session?.goaway(2)],
    [
      "answers as another server",
      (stream) => {
        stream.respond({ ":status": 404 });
        stream.end("no");
      },
    ],
  ])("%s: ask again", async (_, reply) => {
    await using engine = await CriStandIn.start({ [STATUS]: reply, [POD]: pod });
    const cri = new CriEngine(engine.socket);
    await expect(cri.inspect(ID)).rejects.toMatchObject({ reason: "engine", canRetry: true });
    engine.replies.set(STATUS, statusOf());
    expect((await cri.inspect(ID)).Id).toBe(ID);
  });

  test("says GOAWAY while it answers: the answer counts, and the next has a connection of its own", async () => {
    await using engine = await CriStandIn.start({ [POD]: pod });
    engine.replies.set(STATUS, (stream) => {
      stream.session?.goaway(0);
      send(stream, framed(statusOf()));
    });
    const cri = new CriEngine(engine.socket);
    for (let i = 0; i < 3; i++)
      expect((await cri.inspect(ID).catch(() => cri.inspect(ID))).Id).toBe(ID);
  });

  test("stalls is given up, and others of it are not", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const called = Promise.withResolvers<void>();
    await using engine = await CriStandIn.start({ [STATUS]: () => called.resolve(), [POD]: pod });
    const cri = new CriEngine(engine.socket);
    const stalled = expect(cri.inspect(ID)).rejects.toMatchObject({
      reason: "engine",
      detail: { message: "no answer in time" },
    });
    await called.promise;
    engine.replies.set(STATUS, statusOf({ status: { 1: SANDBOX } }));
    expect((await cri.inspect(SANDBOX)).Id).toBe(SANDBOX);
    await vi.advanceTimersByTimeAsync(10_000);
    await stalled;
  });

  test("restarts is asked again", async () => {
    await using engine = await CriStandIn.start({ [STATUS]: statusOf(), [POD]: pod });
    const cri = new CriEngine(engine.socket);
    await cri.inspect(ID);
    await engine.stop();
    await expect(cri.inspect(ID)).rejects.toMatchObject({
      reason: "engine",
      canRetry: true,
      detail: { message: expect.stringContaining(engine.socket) },
    });
    await engine.listen();
    expect((await cri.inspect(ID)).Id).toBe(ID);
  });

  test("does not speak HTTP/2, as Docker's: ask again, and say why", async () => {
    await using engine = await CriStandIn.start();
    await engine.stop();
    const other = createServer((socket) => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"));
    await new Promise<void>((resolve) => other.listen(engine.socket, resolve));
    await expect(new CriEngine(engine.socket).inspect(ID)).rejects.toMatchObject({
      reason: "engine",
    });
    other.close();
  });

  test("answers too long is not asked again about the same container", async () => {
    await using engine = await CriStandIn.start({ [STATUS]: Buffer.alloc(1 << 21), [POD]: pod });
    const cri = new CriEngine(engine.socket);
    for (let i = 0; i < 3; i++)
      await expect(cri.inspect(ID)).rejects.toMatchObject({ reason: "too-large" });
    expect(engine.asked).toEqual([STATUS]);
  });

  test("tells a pod with more annotations than are read: it is not asked again", async () => {
    const many = Array.from({ length: 5000 }, (_, n) => ({ 1: `a${n}`, 2: "" }));
    const large = message({ 1: { 1: SANDBOX, 2: { 3: "shop" }, 8: many } });
    await using engine = await CriStandIn.start({ [STATUS]: statusOf(), [POD]: large });
    const cri = new CriEngine(engine.socket);
    for (let i = 0; i < 3; i++)
      await expect(cri.inspect(ID)).rejects.toMatchObject({ reason: "too-large" });
    expect(engine.asked).toEqual([STATUS, POD]);
  });

  test("is asked by many at once about one container twice", async () => {
    await using engine = await CriStandIn.start({ [STATUS]: statusOf(), [POD]: pod });
    const cri = new CriEngine(engine.socket);
    await Promise.all(Array.from({ length: 50 }, () => cri.inspect(ID)));
    expect(engine.asked.toSorted()).toEqual([STATUS, STATUS, POD].toSorted());
  });
});

test("the pods of a thousand containers are not all remembered, and each is right", async () => {
  await using engine = await CriStandIn.start();
  const cri = new CriEngine(engine.socket);
  const hex = (n: number) => n.toString(16).padStart(64, "0");
  for (let n = 1; n <= 600; n++) {
    engine.replies.set(STATUS, statusOf({ status: { 1: hex(n) }, info: { sandboxID: hex(n) } }));
    engine.replies.set(POD, message({ 1: { 1: hex(n), 2: { 1: `pod-${n}`, 3: "shop" } } }));
    expect((await cri.inspect(hex(n))).pod?.name).toBe(`pod-${n}`);
  }
});

describe("a protobuf message", () => {
  test("is read as it was written, whatever else is in it", () => {
    fc.assert(whatWasWrittenIsRead);
  });

  test("of any bytes is read, or refused as none", () => {
    fc.assert(anyBytesAreReadOrRefused, { numRuns: 1000 });
  });

  test("of fixed lengths is passed over", () => {
    const fixed = Buffer.of(9, 1, 2, 3, 4, 5, 6, 7, 8, 21, 1, 2, 3, 4);
    expect(new Message(Buffer.concat([fixed, message({ 3: "x" })])).text(3)).toBe("x");
  });

  test("is empty where it is absent, and its last value counts", () => {
    const read = new Message(message({ 1: ["a", "b"], 2: [1, 2] }));
    expect([read.text(1), read.number(2)]).toEqual(["b", 2]);
    expect([read.text(7), read.number(7), read.texts(7), read.map(7)]).toEqual(["", 0, [], {}]);
    expect(read.message(7).text(1)).toBe("");
    // Of another type than asked for: absent.
    expect([read.number(1), read.text(2)]).toEqual([0, ""]);
  });

  test.each<[string, number[]]>([
    ["a length beyond its end", [10, 5, 1]],
    ["a length of 2^63", [10, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1]],
    ["a varint without an end", [8, 0x80]],
    ["a varint of eleven bytes", [8, ...Array(10).fill(0x80), 0]],
    ["a group", [11, 12]],
    ["a wire type that does not exist", [14]],
    ["the field 0", [0, 0]],
    ["a field beyond 2^29", [0x80, 0x80, 0x80, 0x80, 0x10, 0]],
    ["half of a fixed number", [9, 1, 2]],
  ])("with %s is refused", (_, bytes) => {
    expect(() => new Message(Buffer.from(bytes))).toThrow("not a protobuf");
  });

  test("that is asked with is written, whatever its length", () => {
    for (const length of [0, 1, 64, 127, 128, 300, 16_383]) {
      const text = "a".repeat(length);
      expect(new Message(messageOf(text)).text(1)).toBe(text);
    }
  });
});
