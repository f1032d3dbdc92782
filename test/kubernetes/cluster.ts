// Question: on what do the tests of Kubernetes play?
// Input:    programs that prepare.ts has made; which containerd; images of this machine's Docker.
// Output:   a real cluster of one node: etcd, the API server, containerd, the kubelet. No scheduler and
//           no controller: `apply` names a pod's node, and `namespace` makes what controllers would.
// Promise:  everything is in one directory, on loopback and on a bridge of its own, and ends with
//           `stop`, or before the next cluster starts: `await using cluster = await startCluster()`.
import { execFile, execFileSync } from "node:child_process";
import { globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { freePort } from "../../scripts/openbao.ts";
import { Api, ApiError, type Manifest } from "./api.ts";
import { type ContainerdVersion, programs } from "./prepare.ts";
import { makeBridge, Node, type Program, waitUntil } from "./processes.ts";
import * as settings from "./settings.ts";

export type { Manifest } from "./api.ts";
export { type ContainerdVersion, containerdVersions } from "./prepare.ts";
export { waitUntil } from "./processes.ts";

const run = promisify(execFile);
const wrapper = join(import.meta.dirname, "../../dist/runtime/authproxy-runc");

export type ClusterOptions = {
  containerd?: ContainerdVersion;
  /** False: neither containerd nor the API server knows `authproxy`, as on a node as it comes. */
  runtimeClass?: boolean;
};

export type ContainerStatus = {
  name: string;
  image: string;
  imageID: string;
  /** containerd://ID */
  containerID?: string;
  restartCount: number;
  ready: boolean;
  state: {
    running?: { startedAt: string };
    waiting?: { reason: string; message?: string };
    terminated?: Terminated;
  };
  lastState?: { terminated?: Terminated };
};

type Terminated = { exitCode: number; reason: string; message?: string };

export type Pod = {
  metadata: { name: string; namespace: string; uid: string };
  status: {
    phase: string;
    podIP?: string;
    reason?: string;
    message?: string;
    containerStatuses?: ContainerStatus[];
    initContainerStatuses?: ContainerStatus[];
    ephemeralContainerStatuses?: ContainerStatus[];
  };
};

export type Ran = { status: number; stdout: string; stderr: string };

/** What a node is made of; each can be ended and started again. */
type Programs = { etcd: Program; apiServer: Program; containerd: Program; kubelet: Program };

export async function startCluster(options: ClusterOptions = {}): Promise<Cluster> {
  const node = await Node.open();
  try {
    return await start(node, options);
  } catch (error) {
    await node.stop();
    throw error;
  }
}

async function start(node: Node, options: ClusterOptions): Promise<Cluster> {
  const { containerd: version = "1.6", runtimeClass = true } = options;
  const { kubernetes, etcd, cni, containerd } = programs();
  const { directory } = node;
  const at = (name: string) => join(directory, name);
  const bridge = makeBridge(directory);
  const [apiPort, etcdPort, peerPort, kubeletPort] = await freePorts(bridge.address);
  const place = { directory, ...bridge, apiPort, etcdPort, peerPort, kubeletPort };
  writeSettings(place, node.cgroup, cni, runtimeClass ? wrapper : undefined);

  const path = [containerd[version], kubernetes, etcd];
  const begin = (name: string, command: string[]) => node.start(name, path, command);
  const started = {
    etcd: begin("etcd", settings.etcdCommand(place)),
    apiServer: begin("apiserver", settings.apiServerCommand(place)),
    containerd: begin("containerd", ["containerd", "--config", at("containerd.toml")]),
  };
  const api = new Api(apiPort, settings.ADMIN_TOKEN, at("api/apiserver.crt"));
  const waitForContainerd = started.containerd.untilReady(() => answers(at("containerd.sock")));
  await Promise.all([waitForContainerd, started.apiServer.untilReady(() => api.isReady())]);
  const ctr = async (...words: string[]) => {
    const socket = ["--address", at("containerd.sock"), "--namespace", "k8s.io"];
    const { stdout } = await run(join(containerd[version], "ctr"), [...socket, ...words]);
    return stdout;
  };
  await importImage(ctr, at("pause.tar"), pauseImage(directory));
  const kubelet = begin("kubelet", settings.kubeletCommand(place));
  const cluster = new Cluster(node, place, version, { ...started, kubelet }, api, ctr);
  await cluster.namespace("default");
  if (runtimeClass) await cluster.apply(settings.RUNTIME_CLASS);
  await cluster.untilNodeReady();
  return cluster;
}

async function freePorts(address: string): Promise<[number, number, number, number]> {
  const loopback = await Promise.all([freePort(), freePort(), freePort()]);
  return [...loopback, await freePort(address)];
}

function writeSettings(place: settings.Place, cgroup: string, cni: string, handler?: string): void {
  const at = (name: string) => join(place.directory, name);
  const json = (value: object) => JSON.stringify(value, undefined, 2);
  for (const name of ["api", "cni", "manifests", "pods"]) mkdirSync(at(name));
  writeFileSync(at("containerd.toml"), settings.containerdSettings(place, cni, handler));
  writeFileSync(at("cni/pods.conflist"), json(settings.network(place)));
  writeFileSync(at("kubelet.json"), json(settings.kubeletSettings(place, cgroup)));
  writeFileSync(at("kubelet.kubeconfig"), json(settings.kubeletKubeconfig(place)));
  writeFileSync(at("admin.kubeconfig"), json(settings.adminKubeconfig(place)));
  writeFileSync(at("tokens.csv"), settings.TOKENS, { mode: 0o600 });
  execFileSync("openssl", ["genrsa", "-out", at("accounts.key"), "2048"], { stdio: "pipe" });
  const files = ["-keyout", at("to-kubelet.key"), "-out", at("to-kubelet.crt")];
  const subject = ["-subj", "/O=system:masters/CN=apiserver", "-days", "1", "-nodes"];
  execFileSync("openssl", ["req", "-x509", "-newkey", "rsa:2048", ...subject, ...files], {
    stdio: "pipe",
  });
}

/** Whether anything listens there. */
async function answers(socket: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const connection = connect(socket);
  connection.on("connect", () => resolve(true)).on("error", () => resolve(false));
  const answered = await promise;
  connection.destroy();
  return answered;
}

/** By this machine's Docker: its name there. */
function pauseImage(directory: string): string {
  const tar = [
    "--create",
    "--numeric-owner",
    "--owner=0",
    "--group=0",
    "-C",
    programs().kubernetes,
  ];
  const archive = join(directory, "pause-root.tar");
  execFileSync("tar", [...tar, "-f", archive, "pause"]);
  const name = settings.PAUSE_IMAGE.replace("docker.io/library/", "");
  const change = ["--change", 'ENTRYPOINT ["/pause"]'];
  execFileSync("docker", ["import", ...change, archive, name], { stdio: "pipe" });
  return name;
}

type Ctr = (...words: string[]) => Promise<string>;

async function importImage(ctr: Ctr, archive: string, image: string): Promise<void> {
  await run("docker", ["save", "--output", archive, image]);
  await ctr("images", "import", archive);
  rmSync(archive);
}

export class Cluster implements Programs {
  readonly etcd: Program;
  readonly apiServer: Program;
  readonly containerd: Program;
  readonly kubelet: Program;
  readonly api: Api;
  readonly containerdVersion: ContainerdVersion;
  /** ctr(8), in the namespace of the kubelet's containers. */
  readonly ctr: Ctr;
  readonly #node: Node;
  readonly #place: settings.Place;
  readonly #imported = new Set<string>();
  readonly #undo: (() => unknown)[] = [];

  constructor(
    node: Node,
    place: settings.Place,
    containerdVersion: ContainerdVersion,
    { etcd, apiServer, containerd, kubelet }: Programs,
    api: Api,
    ctr: Ctr,
  ) {
    this.#node = node;
    this.#place = place;
    this.containerdVersion = containerdVersion;
    this.etcd = etcd;
    this.apiServer = apiServer;
    this.containerd = containerd;
    this.kubelet = kubelet;
    this.api = api;
    this.ctr = ctr;
  }

  /** Of this cluster alone. */
  get directory(): string {
    return this.#node.directory;
  }

  /** What the node has for /run/authproxy: the server's socket belongs here. */
  get sockets(): string {
    return join(this.directory, "run");
  }

  get containerdSocket(): string {
    return join(this.directory, "containerd.sock");
  }

  get containerdConfig(): string {
    return join(this.directory, "containerd.toml");
  }

  /** Where the kubelet looks for static pods. */
  get manifests(): string {
    return join(this.directory, "manifests");
  }

  /** The node's address, as pods reach it: their Vault has to listen on it. */
  get address(): string {
    return this.#place.address;
  }

  /** To be done before the cluster stops, the last first. */
  defer(undo: () => unknown): void {
    this.#undo.push(undo);
  }

  /** Creates any object; a pod is bound to the node. */
  async apply(manifest: Manifest): Promise<void> {
    const { kind, spec } = manifest;
    const bound = { nodeName: settings.NODE, ...(spec as object) };
    await this.api.create(kind === "Pod" ? { ...manifest, spec: bound } : manifest);
  }

  /** A namespace with what controllers would put into it. */
  async namespace(name: string, labels: Record<string, string> = {}): Promise<void> {
    const metadata = { name, labels };
    const made = this.apply({ apiVersion: "v1", kind: "Namespace", metadata });
    await made.catch((error: unknown) => {
      if (!(error instanceof ApiError && error.status === 409)) throw error;
    });
    const inside = (kind: string, name: string, more: object = {}) =>
      this.apply({ apiVersion: "v1", kind, metadata: { name, namespace: metadata.name }, ...more });
    await inside("ServiceAccount", "default");
    const data = { "ca.crt": readFileSync(join(this.directory, "api/apiserver.crt"), "utf8") };
    await inside("ConfigMap", "kube-root-ca.crt", { data });
  }

  /** A pod that is there. */
  async pod(name: string, namespace = "default"): Promise<Pod> {
    const metadata = { name, namespace };
    return (await this.api.get({ apiVersion: "v1", kind: "Pod", metadata })) as unknown as Pod;
  }

  /** Waits until this holds for a pod; says what the pod was like if it never does. */
  async waitFor(
    name: string,
    holds: (pod: Pod) => boolean,
    namespace = "default",
    deadlineMs?: number,
  ): Promise<Pod> {
    let pod: Pod | undefined;
    const look = async () => {
      pod = await this.pod(name, namespace);
      return holds(pod);
    };
    try {
      await waitUntil(`${namespace}/${name}`, look, deadlineMs);
    } catch (error) {
      throw new Error(`${error}; it is\n${await this.#describe(name, namespace, pod)}`);
    }
    if (!pod) throw new Error("unreachable: waitUntil has looked");
    return pod;
  }

  /** For a person: what the API server and the kubelet say of a pod, and what it said itself. */
  async #describe(name: string, namespace: string, pod?: Pod): Promise<string> {
    const events = await this.api
      .ask("GET", `/api/v1/namespaces/${namespace}/events`)
      .then(({ items }) => items as { involvedObject: { name: string }; message: string }[])
      .catch(() => []);
    const own = events.filter(({ involvedObject }) => involvedObject.name === name);
    const status = JSON.stringify(pod?.status.containerStatuses, undefined, 1);
    const lines = [status, ...own.map(({ message }) => message), this.logs(name, { namespace })];
    return lines.join("\n");
  }

  /** Waits until it has ended, and returns the exit codes of its containers by name. */
  async ended(name: string, namespace = "default"): Promise<Record<string, number>> {
    const isOver = ({ status }: Pod) => /^(Succeeded|Failed)$/.test(status.phase);
    const { status } = await this.waitFor(name, isOver, namespace);
    const codes = (status.containerStatuses ?? []).map(
      ({ name, state }) => [name, state.terminated?.exitCode ?? -1] as const,
    );
    return Object.fromEntries(codes);
  }

  /** All that a pod's containers have written, in the order of their starts; the API server is not asked. */
  logs(name: string, { namespace = "default", container = "*" } = {}): string {
    const places = globSync(`pods/${namespace}_${name}_*/${container}/*.log`, {
      cwd: this.directory,
    });
    const files = places.sort().map((place) => readFileSync(join(this.directory, place), "utf8"));
    // Each line: time, stream, F for a whole line or P for a part, text.
    const lines = files.join("").matchAll(/^\S+ \S+ ([FP]) (.*)$/gm);
    return [...lines].map(([, whole, text]) => `${text}${whole === "F" ? "\n" : ""}`).join("");
  }

  async says(name: string, text: string, namespace = "default"): Promise<string> {
    const logs = () => this.logs(name, { namespace });
    try {
      await waitUntil(`${name} says "${text}"`, () => logs().includes(text));
    } catch (error) {
      const pod = await this.pod(name, namespace).catch((error: unknown) => error);
      throw new Error(`${error}; it said:\n${logs()}\n${JSON.stringify(pod, undefined, 1)}`);
    }
    return logs();
  }

  async kubectl(words: string[], input?: string): Promise<Ran> {
    const argv = ["--kubeconfig", join(this.directory, "admin.kubeconfig"), ...words];
    const { promise, resolve } = Promise.withResolvers<Ran>();
    const child = execFile(
      join(programs().kubernetes, "kubectl"),
      argv,
      { encoding: "utf8", timeout: 60_000 },
      (error, stdout, stderr) =>
        resolve({ status: error ? Number(error.code) : 0, stdout, stderr }),
    );
    child.stdin?.end(input);
    return await promise;
  }

  /** `kubectl exec`. */
  async exec(pod: string, command: string[], { namespace = "default", container = "" } = {}) {
    const which = container ? ["--container", container] : [];
    return await this.kubectl(["exec", "--namespace", namespace, pod, ...which, "--", ...command]);
  }

  /** The pids of a container that runs. */
  async processesOf(container: string): Promise<number[]> {
    const listed = await this.ctr("tasks", "ps", container).catch(() => "");
    return [...listed.matchAll(/^\d+/gm)].map(Number);
  }

  /** Waits until the pod is gone. */
  async delete(name: string, namespace = "default", graceSeconds = 0): Promise<void> {
    const manifest = { apiVersion: "v1", kind: "Pod", metadata: { name, namespace } };
    await this.api.remove(manifest, graceSeconds);
    await waitUntil(`${namespace}/${name} is gone`, async () => {
      const found = await this.api.get(manifest).catch((error: unknown) => error);
      return found instanceof ApiError && found.status === 404;
    });
  }

  /** An image of this machine's Docker: its name in the cluster. */
  async import(image: string): Promise<string> {
    const archive = join(this.directory, `image-${this.#imported.size}.tar`);
    if (!this.#imported.has(image)) await importImage(this.ctr, archive, image);
    this.#imported.add(image);
    return `docker.io/library/${image}`;
  }

  async untilNodeReady(): Promise<void> {
    const node = { apiVersion: "v1", kind: "Node", metadata: { name: settings.NODE } };
    await this.kubelet.untilReady(async () => {
      const found = await this.api.get(node).catch(() => undefined);
      const status = found?.status as { conditions?: { type: string; status: string }[] };
      return !!status?.conditions?.some((one) => one.type === "Ready" && one.status === "True");
    });
  }

  /** After `containerd.end()`: what it ran goes on. */
  async startContainerdAgain(): Promise<void> {
    this.containerd.startAgain();
    await this.containerd.untilReady(() => answers(this.containerdSocket));
  }

  async startApiServerAgain(): Promise<void> {
    this.apiServer.startAgain();
    await this.apiServer.untilReady(() => this.api.isReady());
  }

  async stop(): Promise<void> {
    for (const undo of this.#undo.reverse()) await undo();
    this.api.close();
    await this.#node.stop();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
