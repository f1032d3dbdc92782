// Question: on what do the attacks on a cluster play?
// Input:    the C programs of test/attacks, static: an image needs nothing else to run them.
// Output:   pods that run them, in the namespace of the service or in another; servers, ours and naive
//           ones, each at a socket of its own, which every pod has in /run/authproxy.
import { chmodSync, copyFileSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import type { JsonObject } from "../../server/json.ts";
import {
  digestOf,
  imageWith,
  startThief,
  type Target,
  type Thief,
  TOKEN,
} from "../attacks/arena.ts";
import { Naive } from "../attacks/naive.ts";
import type { Note } from "../attacks/table.ts";
import type { Server } from "../stage.ts";
import { ApiError } from "./api.ts";
import {
  type Cluster,
  type ContainerStatus,
  type Manifest,
  type Pod as PodStatus,
  waitUntil,
} from "./cluster.ts";
import { byCgroup, type Find, type ListedPod, podsOfKubelet } from "./naive.ts";
import { programs } from "./prepare.ts";
import { Scene } from "./scene.ts";

export const SHOP = "shop";
export const OTHER = "other";
export const LABELS = { app: "payments" };
const USER = 1001;
const PROGRAMS = [
  "trusted",
  "become",
  "worker",
  "steal",
  "orphan",
  "take",
  "below",
  "enter",
  "replace",
];

/** /mnt; beside a program, one that its user may execute and not read: the kernel makes it undumpable. */
function arrange(directory: string): void {
  mkdirSync(join(directory, "../mnt"));
  for (const name of ["become", "trusted"]) {
    copyFileSync(join(directory, name), join(directory, `unreadable-${name}`));
    chmodSync(join(directory, `unreadable-${name}`), 0o111);
  }
}

function callItTrusted(directory: string): void {
  copyFileSync(join(directory, "steal"), join(directory, "trusted"));
}

export type Part = { [member: string]: unknown; command: string[]; name?: string; image?: string };

export type Wanted = {
  /** How its name begins, or its whole name. */
  name?: string;
  fullName?: string;
  containers: [Part, ...Part[]];
  initContainers?: Part[];
  namespace?: string;
  user?: number;
  metadata?: object;
  spec?: object;
  volumes?: { name: string; [member: string]: unknown }[];
};

export class Arena {
  readonly scene: Scene;
  /** The service's, and one in which its program is a thief. */
  readonly image: string;
  readonly otherImage: string;
  readonly digest: string;
  #names = 0;
  /** What the running test has started. */
  #started: (() => Promise<unknown>)[] = [];

  private constructor(scene: Scene, image: string, otherImage: string, digest: string) {
    this.scene = scene;
    this.image = image;
    this.otherImage = otherImage;
    this.digest = digest;
  }

  static async open(): Promise<Arena> {
    const scene = await Scene.open({ runtimeClass: false });
    try {
      const { cluster } = scene;
      const image = imageWith(PROGRAMS, { arrange });
      const thief = imageWith(["steal"], { arrange: callItTrusted });
      const names = [await cluster.import(image), await cluster.import(thief)] as const;
      await Promise.all([cluster.namespace(SHOP), cluster.namespace(OTHER)]);
      return new Arena(scene, ...names, digestOf(image));
    } catch (error) {
      await scene[Symbol.asyncDispose]();
      throw error;
    }
  }

  get cluster(): Cluster {
    return this.scene.cluster;
  }

  beginTest(): void {
    this.#started = [];
  }

  /** Ends its servers and removes its pods. What was started before it goes on. */
  async endTest(): Promise<void> {
    await Promise.all(this.#started.map((end) => end()));
  }

  /** The service of most attacks. */
  get match() {
    const pod = { namespace: SHOP, container: "app", labels: LABELS };
    return { pod, container: { Image: this.digest } };
  }

  unique(name: string): string {
    this.#names += 1;
    return `${name}-${this.#names}`;
  }

  /** Its service is what has the pod's namespace and labels, unless told otherwise. */
  async naive(
    match: JsonObject = { pod: { namespace: SHOP, labels: LABELS } },
    {
      find = byCgroup,
      pods = podsOfKubelet,
      look = async (_: number) => {},
      isPatient = true,
    }: {
      find?: Find;
      pods?: (cluster: Cluster) => Promise<ListedPod[]>;
      look?: (pid: number) => Promise<unknown>;
      /** It asks for the list again where the pod is not in it. */
      isPatient?: boolean;
    } = {},
  ): Promise<NaiveArm> {
    const name = this.unique("naive");
    const socket = join(this.cluster.sockets, name);
    const findPod = async (pid: number) => {
      let found: ReturnType<Find>;
      const look = async () => {
        found = find(pid, await pods(this.cluster));
        return found !== undefined || !isPatient;
      };
      await waitUntil("it is listed", look);
      return found ?? {};
    };
    const server = await Naive.start(this.scene.stage, match, { socket, find: findPod, look });
    return { socket: inPod(name), acceptor: server.acceptor, naive: server };
  }

  /** Our server with one service, of which some checks are relaxed. */
  async ours({
    match = this.match,
    relax = [],
    under = [],
    ...changes
  }: JsonObject & {
    match?: JsonObject;
    relax?: string[];
    under?: string[];
  } = {}): Promise<OursArm> {
    const name = this.unique("ours");
    const { stage } = this.scene;
    const config = this.scene.configure({
      socket: join(this.cluster.sockets, name),
      state: join(stage.directory, `state-of-${name}`),
      services: { app: { match, token: { create: "auth/token/create/app" }, relax } },
      ...changes,
    });
    const server = stage.start(config, { under });
    this.#started.push(() => server.end("SIGKILL"));
    await server.until({ event: "ready" });
    return { socket: inPod(name), acceptor: server.helper, server };
  }

  /** What the server says that does not start with such a service. */
  async refusedAtLoad(match: JsonObject): Promise<string> {
    const token = { create: "auth/token/create/app" };
    const server = this.scene.stage.start(
      this.scene.configure({ services: { app: { match, token } } }),
    );
    expect(await server.ended).toBe(1);
    return server.stderr;
  }

  /** A pod whose first container is `app`, of the service's image, with its labels, in its namespace,
   * unless told otherwise. */
  async run(wanted: Wanted): Promise<RunningPod> {
    const {
      namespace = SHOP,
      user = USER,
      metadata,
      spec,
      volumes = [],
      initContainers = [],
    } = wanted;
    const { name: start = "pod", fullName: name = this.unique(start) } = wanted;
    const mount = { name: "sockets", mountPath: "/run/authproxy", readOnly: true };
    const complete = ({ volumeMounts = [], ...part }: Part) => ({
      name: "app",
      image: this.image,
      imagePullPolicy: "Never",
      ...part,
      volumeMounts: [mount, volumeMounts].flat(),
    });
    const sockets = { name: "sockets", hostPath: { path: "/run/authproxy", type: "Directory" } };
    const manifest: Manifest = {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, namespace, labels: LABELS, ...metadata },
      spec: {
        restartPolicy: "Never",
        terminationGracePeriodSeconds: 0,
        securityContext: { runAsUser: user, runAsGroup: user },
        containers: wanted.containers.map(complete),
        initContainers: initContainers.map(complete),
        volumes: [sockets, ...volumes],
        ...spec,
      },
    };
    await this.cluster.apply(manifest);
    this.#started.push(() => this.#remove(manifest));
    return new RunningPod(this, name, namespace);
  }

  /** The kubelet ends it when it gets to it. */
  async #remove(manifest: Manifest): Promise<void> {
    try {
      await this.cluster.api.remove(manifest, 0);
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 404)) throw error;
    }
  }

  /** A pod as it should be, served by this server. */
  async honest({ socket }: Arm, note?: Note): Promise<RunningPod> {
    const pod = await this.run({
      name: "honest",
      containers: [{ command: ["/app/trusted", socket] }],
    });
    if (!(await pod.says("trusted: end")).includes(TOKEN))
      throw new Error(`an honest pod got no token, but: ${pod.output()}`);
    note?.("honest", "served");
    return pod;
  }

  /** kubectl, whose output is read as it comes. */
  kubectl(...words: string[]): Thief {
    const kubectl = join(programs().kubernetes, "kubectl");
    const config = join(this.cluster.directory, "admin.kubeconfig");
    return startThief(this.scene.stage, kubectl, "--kubeconfig", config, ...words);
  }
}

function inPod(name: string): string {
  return `/run/authproxy/${name}`;
}

/** A server, whose socket has this path in a pod. */
export type Arm = Pick<Target, "acceptor"> & { socket: string };
export type NaiveArm = Arm & { naive: Naive };
export type OursArm = Arm & { server: Server };

export class RunningPod {
  readonly name: string;
  readonly namespace: string;
  readonly #arena: Arena;

  constructor(arena: Arena, name: string, namespace: string) {
    this.#arena = arena;
    this.name = name;
    this.namespace = namespace;
  }

  async says(text: string, container = "*"): Promise<string> {
    try {
      await waitUntil(`${this.name} says "${text}"`, () => this.output(container).includes(text));
    } catch (error) {
      const pod = await this.get().catch((error: unknown) => error);
      throw new Error(`${error}; it said:\n${this.output()}\n${JSON.stringify(pod, undefined, 1)}`);
    }
    return this.output(container);
  }

  output(container = "*"): string {
    return this.#arena.cluster.logs(this.name, { namespace: this.namespace, container });
  }

  get(): Promise<PodStatus> {
    return this.#arena.cluster.pod(this.name, this.namespace);
  }

  waitFor(holds: (pod: PodStatus) => boolean): Promise<PodStatus> {
    return this.#arena.cluster.waitFor(this.name, holds, this.namespace);
  }

  /** Of the container that was started last under this name. */
  async id(name = "app"): Promise<string> {
    const idIn = (pod: PodStatus) => statusOf(pod, name)?.containerID?.replace("containerd://", "");
    return idIn(await this.waitFor((pod) => idIn(pod) !== undefined)) ?? "";
  }

  /** What holds the pod's namespaces. */
  async sandbox(): Promise<string> {
    const words = ["containers", "list", "--quiet"];
    const filter = `labels."io.kubernetes.pod.name"==${this.name},labels."io.cri-containerd.kind"==sandbox`;
    return (await this.#arena.cluster.ctr(...words, filter)).trim();
  }

  /** Of its first process. */
  async pid(name = "app"): Promise<number> {
    return await this.pidOf(await this.id(name));
  }

  /** Of a container or a sandbox. */
  async pidOf(id: string): Promise<number> {
    // TASK PID STATUS
    const tasks = await this.#arena.cluster.ctr("tasks", "list");
    return Number(new RegExp(`^${id}\\s+(\\d+)`, "m").exec(tasks)?.[1]);
  }

  /** `kubectl exec`. */
  async exec(command: string[], container = "app") {
    return await this.#arena.cluster.exec(this.name, command, {
      namespace: this.namespace,
      container,
    });
  }

  /** As if the first process of this container or sandbox had ended by itself. */
  async kill(id: string): Promise<void> {
    await this.#arena.cluster.ctr("tasks", "kill", "--signal", "SIGKILL", id);
  }
}

export function statusOf({ status }: PodStatus, name: string): ContainerStatus | undefined {
  const { containerStatuses = [], ephemeralContainerStatuses = [] } = status;
  return [...containerStatuses, ...ephemeralContainerStatuses].find((one) => one.name === name);
}

/** The host's numbers of the processes that have this parent. */
export function childrenOf(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
  return text ? text.split(" ").map(Number) : [];
}

export function descriptorsOf(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}
