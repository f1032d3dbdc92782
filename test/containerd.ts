// Question: how does a test get a pod without a cluster?
// Input:    a tree with containerd and runc (scripts/debian.ts), or none for this machine's own.
// Output:   containerd with directories and a socket of its own, and what the kubelet would ask of it:
//           a sandbox, and containers in it.
// Promise:  it runs in a mount namespace of its own, and all that it has made goes with it.
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { connect } from "node:http2";
import { connect as connectSocket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

const run = promisify(execFile);

/** What a protobuf message is written from: by field number; of a list every entry. */
export type Fields = { [field: number]: Value | Value[] };
export type Value = string | number | bigint | boolean | Buffer | Fields;

function varint(value: bigint): Buffer {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, value);
  for (; rest > 127n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  return Buffer.of(...bytes, Number(rest));
}

/** The bytes of a message. */
export function message(fields: Fields): Buffer {
  const parts: Buffer[] = [];
  for (const [field, values] of Object.entries(fields)) {
    for (const value of Array.isArray(values) ? values : [values]) {
      const isNumber = ["number", "bigint", "boolean"].includes(typeof value);
      parts.push(varint((BigInt(field) << 3n) | (isNumber ? 0n : 2n)));
      if (isNumber) {
        parts.push(varint(BigInt(value as number)));
        continue;
      }
      const isMessage = typeof value === "object" && !Buffer.isBuffer(value);
      const bytes = isMessage ? message(value as Fields) : Buffer.from(value as string);
      parts.push(varint(BigInt(bytes.length)), bytes);
    }
  }
  return Buffer.concat(parts);
}

/** map<string, string> */
export function entries(map: Record<string, string>): Fields[] {
  return Object.entries(map).map(([key, value]) => ({ 1: key, 2: value }));
}

/** One call of gRPC, as a naive client makes it. */
export async function call(socket: string, method: string, request: Fields): Promise<Buffer> {
  const session = connect("http://localhost", { createConnection: () => connectSocket(socket) });
  session.on("error", () => {}); // its stream has it too
  try {
    const stream = session.request({
      ":method": "POST",
      ":path": `/runtime.v1.${method}`,
      "content-type": "application/grpc",
      te: "trailers",
    });
    const headers: Record<string, unknown> = {};
    stream.on("response", (received) => Object.assign(headers, received));
    stream.on("trailers", (received) => Object.assign(headers, received));
    const body = message(request);
    const prefix = Buffer.alloc(5);
    prefix.writeUInt32BE(body.length, 1);
    stream.end(Buffer.concat([prefix, body]));
    const answer = Buffer.concat(await stream.toArray());
    if (headers["grpc-status"] !== "0")
      throw new Error(`${method}: ${headers["grpc-status"]} ${headers["grpc-message"]}`);
    return answer.subarray(5);
  } finally {
    session.close();
  }
}

/** What the kubelet says of a Service to every container of its namespace (pkg/kubelet/envvars). */
export function serviceVariables(
  service: string,
  address: string,
  ports: Record<string, number>,
  protocol = "TCP",
): Record<string, string> {
  const host = address.includes(":") ? `[${address}]` : address;
  const url = (port: number) => `${protocol.toLowerCase()}://${host}:${port}`;
  const [first = 0] = Object.values(ports);
  const variables: Record<string, string> = {
    [`${service}_SERVICE_HOST`]: address,
    [`${service}_SERVICE_PORT`]: `${first}`,
    [`${service}_PORT`]: url(first),
  };
  for (const [name, port] of Object.entries(ports)) {
    const ofPort = `${service}_PORT_${port}_${protocol}`;
    if (name) variables[`${service}_SERVICE_PORT_${name.toUpperCase()}`] = `${port}`;
    variables[ofPort] = url(port);
    variables[`${ofPort}_PROTO`] = protocol.toLowerCase();
    variables[`${ofPort}_PORT`] = `${port}`;
    variables[`${ofPort}_ADDR`] = address;
  }
  return variables;
}

export type Pod = { uid: string; sandbox: string; config: Fields };
export type ContainerOptions = {
  name?: string;
  args: string[];
  env?: Record<string, string>;
  uid?: number;
  /** Container path, host path, read-only. */
  mounts?: [string, string, boolean?][];
  /** Of NamespaceMode: 0 the pod's, 1 its own, 2 the node's. */
  pids?: number;
  /** What the pod's creator wrote. */
  image?: string;
  security?: Fields;
};

const DEADLINE_MS = 30_000;
/** The image's name. */
export const IMAGE = "registry.example/app:1";

export class Containerd {
  readonly socket: string;
  readonly directory: string;
  /** The digest of the image's configuration, and of its manifest. */
  readonly image: string;
  manifest = "";
  readonly #child: ChildProcess;
  readonly #cgroup: string;
  readonly #sandboxes: string[] = [];

  private constructor(directory: string, child: ChildProcess, image: string) {
    this.directory = directory;
    this.socket = join(directory, "s");
    this.image = image;
    this.#child = child;
    this.#cgroup = `/${directory.split("/").at(-1)}`;
  }

  /** `program` is the only one in the image, as /program; static. `handler` is the OCI runtime of the
   * handler authproxy. */
  static async start(program: string, tree?: string, handler?: string): Promise<Containerd> {
    const directory = mkdtempSync(join(tmpdir(), "authproxy-cri-"));
    const settings = `version = 2
root = "${directory}/root"
state = "${directory}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "${directory}/s"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${IMAGE}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    conf_dir = "${directory}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
${handler ? handlerOf(handler) : ""}`;
    writeFileSync(join(directory, "config.toml"), settings);
    const image = await writeImage(directory, program);
    const log = openSync(join(directory, "log"), "a");
    const script = `mount -t tmpfs none /run
      ${tree ? `mount --bind "${tree}/usr" /usr` : ""}
      exec containerd --config "${directory}/config.toml"`;
    const words = ["--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"];
    const child = spawn("setpriv", [...words, "sh", "-ec", script], {
      stdio: ["ignore", log, log],
    });
    const containerd = new Containerd(directory, child, image);
    try {
      await containerd.#untilReady();
      await containerd.#ctr("images", "import", join(directory, "image.tar"));
      const listed = await containerd.#ctr("images", "list", `name==${IMAGE}`);
      containerd.manifest = /sha256:[0-9a-f]{64}/.exec(listed)?.[0] ?? "";
      const name = `${IMAGE.split(":")[0]}@${containerd.manifest}`;
      await containerd.#ctr("images", "tag", IMAGE, name);
      return containerd;
    } catch (error) {
      const lines = readFileSync(join(directory, "log"), "utf8").trimEnd().split("\n").slice(-4);
      await containerd.stop();
      throw new Error(`containerd: ${(error as Error).message}\n${lines.join("\n")}`);
    }
  }

  async version(): Promise<string> {
    return (await this.#ctr("version")).match(/Server:\s+Version: +(\S+)/)?.[1] ?? "";
  }

  async #untilReady(): Promise<void> {
    const deadlineMs = performance.now() + DEADLINE_MS;
    for (;;) {
      if (this.#child.exitCode !== null) throw new Error("it ended");
      try {
        await this.call("RuntimeService/Version", {});
        return;
      } catch (error) {
        if (performance.now() > deadlineMs) throw error;
        await sleep(50);
      }
    }
  }

  async #ctr(...words: string[]): Promise<string> {
    // By the tree's own program: /proc/PID/root is what that containerd sees.
    const enter = ["--target", String(this.#child.pid), "--mount"];
    const command = ["ctr", "--address", this.socket, "--namespace", "k8s.io", ...words];
    return (await run("nsenter", [...enter, "--", ...command])).stdout;
  }

  call(method: string, request: Fields): Promise<Buffer> {
    return call(this.socket, method, request);
  }

  async pod(
    labels: Record<string, string> = {},
    { name = "web", namespace = "shop", pids = 1 } = {},
  ): Promise<Pod> {
    const uid = crypto.randomUUID();
    const kubelets = {
      "io.kubernetes.pod.name": name,
      "io.kubernetes.pod.namespace": namespace,
      "io.kubernetes.pod.uid": uid,
    };
    const config: Fields = {
      1: { 1: name, 2: uid, 3: namespace },
      6: entries({ ...labels, ...kubelets }),
      7: entries({ "kubernetes.io/config.source": "api" }),
      8: {
        1: `${this.#cgroup}/kubepods/besteffort/pod${uid}`,
        2: { 1: { 1: 2, 2: pids, 3: 2 } },
      },
    };
    const answer = await this.call("RuntimeService/RunPodSandbox", { 1: config });
    const sandbox = idIn(answer);
    this.#sandboxes.push(sandbox);
    return { uid, sandbox, config };
  }

  async container(pod: Pod, options: ContainerOptions): Promise<string> {
    const { name = "app", args, env = {}, uid = 1001, mounts = [], pids = 1 } = options;
    const { image = IMAGE, security = {} } = options;
    const config: Fields = {
      1: { 1: name },
      2: { 1: this.image, 18: image },
      3: args,
      6: entries(env),
      7: mounts.map(([destination, path, isReadOnly = false]) => ({
        1: destination,
        2: path,
        3: isReadOnly,
      })),
      9: entries({ "io.kubernetes.container.name": name }),
      15: { 2: { 3: { 1: 2, 2: pids, 3: 2 }, 5: { 1: uid }, ...security } },
    };
    const request = { 1: pod.sandbox, 2: config, 3: pod.config };
    const id = idIn(await this.call("RuntimeService/CreateContainer", request));
    await this.call("RuntimeService/StartContainer", { 1: id });
    return id;
  }

  /** A container as the kubelet makes it: with volumes, a log for its last words, and the variables of
   * the API server's Service. */
  usual(pod: Pod, options: Partial<ContainerOptions> = {}): ContainerOptions {
    const kubelet = join(this.directory, "kubelet/pods", pod.uid);
    const volume = (kind: string, name: string) =>
      join(kubelet, `volumes/kubernetes.io~${kind}`, name);
    const directories = [
      volume("empty-dir", "data"),
      volume("configmap", "settings"),
      volume("projected", "kube-api-access-x7k2p"),
      join(kubelet, "containers/app"),
    ];
    for (const directory of directories) mkdirSync(directory, { recursive: true });
    const files = [join(kubelet, "etc-hosts"), join(kubelet, "containers/app/0a1b2c3d")];
    for (const file of files) writeFileSync(file, "");
    return {
      args: ["/program", "wait"],
      env: { MODE: "x", ...serviceVariables("KUBERNETES", "10.99.0.1", { https: 443 }) },
      image: `${IMAGE.split(":")[0]}@${this.manifest}`,
      mounts: [
        ["/etc/hosts", files[0] ?? ""],
        ["/dev/termination-log", files[1] ?? ""],
        ["/data", directories[0] ?? ""],
        ["/etc/app", directories[1] ?? "", true],
        ["/var/run/secrets/kubernetes.io/serviceaccount", directories[2] ?? "", true],
      ],
      ...options,
    };
  }

  async stop(): Promise<void> {
    for (const sandbox of this.#sandboxes) {
      await this.call("RuntimeService/StopPodSandbox", { 1: sandbox }).catch(() => {});
      await this.call("RuntimeService/RemovePodSandbox", { 1: sandbox }).catch(() => {});
    }
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const ended = once(this.#child, "exit");
      this.#child.kill("SIGKILL");
      await ended;
    }
    for (const hierarchy of ["", ...readdirSync("/sys/fs/cgroup")])
      await run("find", [
        join("/sys/fs/cgroup", hierarchy, this.#cgroup),
        "-depth",
        "-type",
        "d",
        "-exec",
        "rmdir",
        "{}",
        ";",
      ]).catch(() => {});
    rmSync(this.directory, { recursive: true, force: true });
  }
}

function handlerOf(program: string): string {
  return `    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.authproxy]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.authproxy.options]
        BinaryName = "${program}"
`;
}

/** Of an answer whose first field is an id. */
function idIn(answer: Buffer): string {
  return answer.toString("latin1", 2, 66);
}

/** The digest of the configuration of an image that holds this program, in image.tar. */
async function writeImage(directory: string, program: string): Promise<string> {
  const context = join(directory, "image");
  mkdirSync(join(context, "root"), { recursive: true });
  copyFileSync(program, join(context, "root/program"));
  mkdirSync(join(context, "root/run/authproxy"), { recursive: true });
  const tar = ["--create", "--numeric-owner", "--owner=0", "--group=0", "--mode=u+rw,go+rX"];
  await run("tar", [...tar, "-f", join(context, "layer.tar"), "-C", join(context, "root"), "."]);
  const sha256 = (bytes: Buffer | string) => createHash("sha256").update(bytes).digest("hex");
  const config = JSON.stringify({
    architecture: process.arch === "x64" ? "amd64" : process.arch,
    os: "linux",
    config: { Entrypoint: ["/program"], Cmd: ["wait"], Env: ["PATH=/bin"], WorkingDir: "/" },
    rootfs: {
      type: "layers",
      diff_ids: [`sha256:${sha256(readFileSync(join(context, "layer.tar")))}`],
    },
  });
  const digest = sha256(config);
  writeFileSync(join(context, `${digest}.json`), config);
  const manifest = [{ Config: `${digest}.json`, RepoTags: [IMAGE], Layers: ["layer.tar"] }];
  writeFileSync(join(context, "manifest.json"), JSON.stringify(manifest));
  const files = ["manifest.json", `${digest}.json`, "layer.tar"];
  await run("tar", ["--create", "-f", join(directory, "image.tar"), "-C", context, ...files]);
  return `sha256:${digest}`;
}
