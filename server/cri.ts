// Question: what does the engine of a Kubernetes node say about a container?
//
// Input: a full id. The engine is trusted, but may be slow, restarting or wrong. Whoever may create
// pods in a namespace chooses what its pods are, but neither the namespace nor the digests.
// Guaranteed: an answer about exactly that id (invariant 4), under the names that Docker's inspect
// has, or a Refusal. The API server and the kubelet are never asked.
// Source: CRI, k8s.io/cri-api/pkg/apis/runtime/v1/api.proto, as containerd and CRI-O answer it.
import { isIP } from "node:net";
import { type Container, type Engine, hideValues, type ImageLabels, type Pod } from "./engine.ts";
import { AnswerTooLong, GrpcClient, type GrpcError } from "./grpc.ts";
import type { JsonObject } from "./json.ts";
import { expectPods } from "./process.ts";
import { Message, messageOf, TooManyFields } from "./protobuf.ts";
import { Refusal, unavailable } from "./refusal.ts";
import { KeptAnswers, SharedCalls, TooLarge } from "./shared.ts";

/** Codes of gRPC. */
const NOT_FOUND = 5;
const UNIMPLEMENTED = 12;
const NOT_OFFERED =
  "the engine does not offer CRI v1: containerd 1.6 with its plugin cri, or CRI-O 1.23, is the oldest that does";
/** The field 2 of ContainerStatusRequest: true. */
const VERBOSE = Buffer.of(2 * 8, 1);
/** ContainerState and NamespaceMode. */
const RUNNING = 1;
const NODE = 2;

/** Each Service has some ten of them. */
const VARIABLES_MAX = 1 << 14;
/** Names of Services, ports and hosts have at most 63, 15 and 253 characters. */
const VARIABLE_LENGTH_MAX = 300;
/** What the kubelet says of one port of a Service. */
const SERVICE_PORT = /^([A-Z0-9_]+)_PORT_(\d+)_(TCP|UDP|SCTP)=\w+:\/\/(.+):\d+$/;
const HOST_NAME = /^HOSTNAME=[A-Za-z0-9.-]+$/;
const NAMED_PORT = /_SERVICE_PORT_[A-Z0-9_]{1,15}=/;

/** A path below the pod's directory of the kubelet. */
const OF_POD = /^(?:volumes\/[^/]*~)?([^/]+)(?:\/([^/]+))?/;
/** Of the volume that every pod has for its service account. */
const RANDOM_NAME = /(?<=^kube-api-access)-[a-z0-9]{5}$/;
const KUBELETS_OWN = ["etc-hosts /etc/hosts", "containers /dev/termination-log"];

/** What the member `info` of a verbose answer holds; CRI-O's has no `config`. */
type Info = {
  pid: number;
  sandboxID: string;
  config?: {
    image?: { image?: string; user_specified_image?: string };
    linux?: { security_context?: { namespace_options?: { pid?: number } } };
  };
  /** github.com/opencontainers/runtime-spec */
  runtimeSpec: {
    process: {
      args: string[];
      env?: string[];
      cwd: string;
      user: { uid: number; gid: number };
      capabilities?: { bounding?: string[] };
    };
    root: { readonly?: boolean };
    annotations?: JsonObject;
    linux: { namespaces: { type: string; path?: string }[]; seccomp?: JsonObject };
  };
};

export class CriEngine implements Engine {
  readonly #grpc: GrpcClient;
  /** By the container's id. */
  readonly #inspects = new SharedCalls<Container>();
  readonly #tooLarge = new TooLarge();
  /** By the sandbox's id: what it was made with never changes. */
  readonly #pods = new KeptAnswers<Omit<Pod, "container">>();
  /** By an image and a digest that is one of its names. */
  readonly #confirmed = new KeptAnswers<true>();

  constructor(socketPath: string) {
    this.#grpc = new GrpcClient(socketPath);
    expectPods();
  }

  /** As DockerEngine's. */
  inspect(id: string): Promise<Container> {
    return this.#inspects.share(id, () => this.#tooLarge.remember(id, () => this.#inspectNow(id)));
  }

  async #inspectNow(id: string): Promise<Container> {
    try {
      return await this.#read(id);
    } catch (error) {
      if (error instanceof Refusal) throw error;
      if (error instanceof TooManyFields) throw new Refusal("too-large", { id });
      // An answer of another form. Not in the words of JSON.parse, which quotes the environment.
      throw unavailable("engine", { id, message: "its answer cannot be read" });
    }
  }

  /** Policies name no labels of images here: those of a pod are not the image's. */
  async imageLabels(): Promise<ImageLabels> {
    return { labels: {}, areOfManifest: true };
  }

  async #read(id: string): Promise<Container> {
    const request = Buffer.concat([messageOf(id), VERBOSE]);
    const answer = await this.#ask("RuntimeService/ContainerStatus", request);
    if (!answer) throw new Refusal("unknown-container", { id });
    const status = answer.message(1);
    requireSame(id, status.text(1));
    const info: Info = JSON.parse(answer.map(2).info ?? "");
    if (status.number(3) !== RUNNING || !(info.pid > 0))
      throw unavailable("starting", { "State.Pid": Number(info.pid) });

    const [Image, pod] = await Promise.all([
      this.#imageOf(status, info),
      this.#pods.get(info.sandboxID, () => this.#podOf(info.sandboxID)),
    ]);
    if (!pod) throw unavailable("engine", { sandbox: info.sandboxID, message: "it is gone" });
    return {
      Id: id,
      Image,
      State: { Pid: info.pid, StartedAt: new Date(status.number(5) / 1e6).toISOString() },
      ...settingsOf(info, await this.#nameOf(Image, info)),
      Mounts: mountsOf(status, pod.uid),
      pod: { ...pod, container: status.message(2).text(1) },
    };
  }

  /** The digest of the image's configuration, which is what it is known by; "" if the engine does not
   * say it. */
  async #imageOf(status: Message, { config }: Info): Promise<string> {
    const digest = digestOf(status.text(17)) || digestOf(config?.image?.image);
    return digest || digestOf((await this.#askForImage(status.text(9)))?.text(1));
  }

  /** The name that the pod's creator gave, if it has a digest and the image is known by that one. */
  async #nameOf(image: string, { config }: Info): Promise<string | undefined> {
    const name = config?.image?.user_specified_image ?? "";
    const [digest] = /@sha256:[0-9a-f]{64}$/.exec(name) ?? [];
    if (!digest || !image) return undefined;
    const isConfirmed = await this.#confirmed.get(`${image}${digest}`, async () => {
      const names = (await this.#askForImage(image))?.texts(3) ?? [];
      return names.some((known) => known.endsWith(digest)) || undefined;
    });
    return isConfirmed && name;
  }

  async #askForImage(image: string): Promise<Message | undefined> {
    const answer = await this.#ask("ImageService/ImageStatus", messageOf(messageOf(image)));
    return answer?.message(1);
  }

  async #podOf(sandbox: string): Promise<Omit<Pod, "container"> | undefined> {
    const answer = await this.#ask("RuntimeService/PodSandboxStatus", messageOf(sandbox));
    if (!answer) return undefined;
    const status = answer.message(1);
    requireSame(sandbox, status.text(1));
    const metadata = status.message(2);
    return {
      namespace: metadata.text(3),
      name: metadata.text(1),
      uid: metadata.text(2),
      labels: status.map(7),
      annotations: status.map(8),
    };
  }

  /** Undefined if the engine says "not found". */
  async #ask(method: string, request: Buffer): Promise<Message | undefined> {
    let answer: Buffer;
    try {
      answer = await this.#grpc.call(`runtime.v1.${method}`, request);
    } catch (error) {
      const { status = Number.NaN, message } = error as GrpcError;
      if (status === NOT_FOUND) return undefined;
      if (error instanceof AnswerTooLong) throw new Refusal("too-large", { path: method });
      const why = status === UNIMPLEMENTED ? NOT_OFFERED : message;
      throw unavailable("engine", { path: method, status, message: why });
    }
    return new Message(answer);
  }
}

function requireSame(asked: string, answered: string): void {
  if (answered !== asked) throw unavailable("engine", { asked, answered });
}

/** CRI-O leaves "sha256:" out. */
function digestOf(text = ""): string {
  const [, hash] = /^(?:sha256:)?([0-9a-f]{64})$/.exec(text) ?? [];
  return hash ? `sha256:${hash}` : "";
}

function settingsOf(
  { runtimeSpec, config }: Info,
  name: string | undefined,
): Pick<Container, "Path" | "Args" | "Config" | "HostConfig"> {
  const { args, env = [], cwd, user, capabilities } = runtimeSpec.process;
  const { namespaces, seccomp } = runtimeSpec.linux;
  const [Path = "", ...Args] = args;
  if (env.length > VARIABLES_MAX) throw new Refusal("too-large", { variables: env.length });
  const byKubernetes = env.filter(variablesByKubernetes(env));
  const ofKubernetes = new Set(byKubernetes);
  const pidNamespace = namespaces.find(({ type }) => type === "pid");
  const isHosts = !pidNamespace || config?.linux?.security_context?.namespace_options?.pid === NODE;
  const sharedPids = isHosts ? "host" : "pod";
  return {
    Path,
    Args,
    Config: {
      ...(name && { Image: name }),
      User: `${user.uid}:${user.gid}`,
      WorkingDir: cwd,
      Env: hideValues(env.filter((variable) => !ofKubernetes.has(variable))),
      KubernetesEnv: byKubernetes,
    },
    HostConfig: {
      ReadonlyRootfs: runtimeSpec.root.readonly ?? false,
      CapAdd: capabilities?.bounding ?? [],
      SecurityOpt: seccomp ? [`seccomp=${JSON.stringify(seccomp)}`] : [],
      PidMode: pidNamespace && !pidNamespace.path ? "" : sharedPids,
      Annotations: runtimeSpec.annotations ?? {},
    },
  };
}

/** Tells the variables that differ from one pod to the next, so that no policy can list them: the host's
 * name, and what the kubelet makes of each Service in the namespace (pkg/kubelet/envvars). Whoever
 * creates the pod can write them too. So a Service's count as such only where all of a port's belong
 * together, and each has the one value that the kubelet would give it. */
function variablesByKubernetes(env: string[]): (variable: string) => boolean {
  const all = new Set(env.filter(({ length }) => length <= VARIABLE_LENGTH_MAX));
  const made = new Set<string>();
  for (const variable of all) {
    const [, service, port, protocol = "", address = ""] = SERVICE_PORT.exec(variable) ?? [];
    const host = address.replace(/^\[(.*)\]$/, "$1");
    const scheme = protocol.toLowerCase();
    const url = `${scheme}://${address}:${port}`;
    const ofPort = `${service}_PORT_${port}_${protocol}`;
    const always = [
      `${service}_SERVICE_HOST=${host}`,
      `${ofPort}=${url}`,
      `${ofPort}_PROTO=${scheme}`,
      `${ofPort}_PORT=${port}`,
      `${ofPort}_ADDR=${host}`,
    ];
    if (!isIP(host) || !always.every((one) => all.has(one))) continue;
    for (const one of always) made.add(one);
    made.add(`${service}_PORT=${url}`).add(`${service}_SERVICE_PORT=${port}`); // of the first port
  }
  // A port with a name has one more variable.
  const withoutName = (variable: string) => variable.replace(NAMED_PORT, "_SERVICE_PORT=");
  return (variable) =>
    all.has(variable) &&
    (HOST_NAME.test(variable) || made.has(variable) || made.has(withoutName(variable)));
}

/** By kind and name, because the kubelet's paths differ from one pod to the next. What it mounts into
 * every container is left out where it is in its usual place. */
function mountsOf(status: Message, podUid: string): Container["Mounts"] {
  const mounts = status.messages(14).map((mount) => {
    const [Destination, path] = [mount.text(1), mount.text(2)];
    // "volumes/kubernetes.io~configmap/NAME", "volume-subpaths/NAME/…", "containers/NAME/…"
    const [, ofPod = ""] = path.split(`/pods/${podUid}/`);
    const [, kind, name = ""] = OF_POD.exec(ofPod) ?? [];
    // An image's volume has no path.
    const other = path
      ? { Type: "host-path", Name: path }
      : { Type: "image", Name: mount.message(9).text(1) };
    const named = kind ? { Type: kind, Name: name.replace(RANDOM_NAME, "") } : other;
    return { ...named, Destination, RW: mount.number(3) === 0 };
  });
  return mounts
    .filter(({ Type, Destination }) => !KUBELETS_OWN.includes(`${Type} ${Destination}`))
    .sort((a, b) => (a.Destination < b.Destination ? -1 : 1));
}
