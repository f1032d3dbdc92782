// Question: what does a Kubernetes node's engine know that the server never asks: its pods, its images,
// how it is set up?
// Source: CRI, api.proto of runtime.v1 (k8s.io/cri-api); of `info`, which each engine fills as it
// likes, containerd's and CRI-O's.
import { GrpcClient, GrpcError } from "../server/grpc.ts";
import type { JsonObject } from "../server/json.ts";
import { Message, messageOf } from "../server/protobuf.ts";
import { engineFailure } from "./ask-engine.ts";
import type { Image } from "./host.ts";
import type { ContainerState, ListedPod } from "./pods.ts";

const STATES: ContainerState[] = ["created", "running", "exited", "unknown"];
const SANDBOX_READY = 0;
/** The field `verbose`, true: of StatusRequest the first one, of ImageStatusRequest the second. */
const VERBOSE_STATUS = Buffer.of(1 << 3, 1);
const VERBOSE_IMAGE = Buffer.of(2 << 3, 1);
const [SYSTEMD, CGROUPFS] = [0, 1];
/** A list holds every pod's labels and annotations. */
const LIST_BYTES_MAX = 1 << 26;

/** A handler is what a RuntimeClass names; `program` is its OCI runtime, where the engine says it. */
export type Handler = { name: string; program?: string };
/** What has not become true, such as NetworkReady, and why. */
export type Condition = { name: string; reason: string };
export type NodeStatus = {
  /** Such as "containerd 1.7.24". */
  name: string;
  /** It can start containers; they may still lack a network. */
  isReady: boolean;
  notReady: Condition[];
  /** Undefined where the engine does not say. */
  handlers?: Handler[];
  cgroupDriver?: "systemd" | "cgroupfs";
};

/** A node's engine by its socket. Its functions throw the Failure "unavailable". */
export class KubernetesNode {
  readonly #socketPath: string;
  readonly #client: GrpcClient;

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
    this.#client = new GrpcClient(socketPath, LIST_BYTES_MAX);
  }

  /** All pods, also those that are ending. */
  async pods(): Promise<ListedPod[]> {
    const [sandboxes, containers] = await Promise.all([
      this.#call("RuntimeService/ListPodSandbox"),
      this.#call("RuntimeService/ListContainers"),
    ]);
    const listed = containers.messages(1);
    return sandboxes.messages(1).map((sandbox) => {
      const metadata = sandbox.message(2);
      const id = sandbox.text(1);
      return {
        sandbox: id,
        namespace: metadata.text(3),
        name: metadata.text(1),
        uid: metadata.text(2),
        isReady: sandbox.number(3) === SANDBOX_READY,
        createdNs: sandbox.number(4),
        handler: sandbox.text(7),
        containers: listed
          .filter((container) => container.text(2) === id)
          .map((container) => ({
            id: container.text(1),
            name: container.message(3).text(1),
            state: STATES[container.number(6)] ?? "unknown",
            createdNs: container.number(7),
          })),
      };
    });
  }

  /** `Id` is the digest of the configuration, as `Image` of a container. */
  async images(): Promise<Image[]> {
    const answer = await this.#call("ImageService/ListImages");
    return answer.messages(1).map((image) => ({ Id: image.text(1), RepoDigests: image.texts(3) }));
  }

  /** The environment that an image declares; empty where the image is gone. */
  async imageEnv(digest: string): Promise<string[]> {
    const request = Buffer.concat([messageOf(messageOf(digest)), VERBOSE_IMAGE]);
    const { imageSpec } = infoOf(await this.#call("ImageService/ImageStatus", request), "info");
    const { config } = (imageSpec ?? {}) as { config?: { Env?: string[] } };
    return config?.Env ?? [];
  }

  async status(): Promise<NodeStatus> {
    const version = await this.#call("RuntimeService/Version");
    const status = await this.#call("RuntimeService/Status", VERBOSE_STATUS);
    const conditions = status.message(1).messages(1);
    const isTrue = (condition: Message) => condition.number(2) === 1;
    const notReady = conditions
      .filter((condition) => !isTrue(condition))
      .map((condition) => ({ name: condition.text(1), reason: condition.text(4) }));
    const config = infoOf(status, "config");
    const handlers = handlersOf(status, config);
    const cgroupDriver = (await this.#cgroupDriver()) ?? cgroupDriverOf(config);
    return {
      name: `${version.text(2)} ${version.text(3)}`,
      isReady: conditions.some(
        (condition) => isTrue(condition) && condition.text(1) === "RuntimeReady",
      ),
      notReady,
      ...(handlers && { handlers }),
      ...(cgroupDriver && { cgroupDriver }),
    };
  }

  /** Engines have this call since Kubernetes 1.28. */
  async #cgroupDriver(): Promise<NodeStatus["cgroupDriver"]> {
    try {
      const bytes = await this.#client.call("runtime.v1.RuntimeService/RuntimeConfig", Buffer.of());
      const driver = new Message(bytes).message(1).number(1);
      return driver === SYSTEMD ? "systemd" : driver === CGROUPFS ? "cgroupfs" : undefined;
    } catch {
      return undefined;
    }
  }

  async #call(method: string, request = Buffer.of()): Promise<Message> {
    try {
      return new Message(await this.#client.call(`runtime.v1.${method}`, request));
    } catch (error) {
      throw engineFailure(this.#socketPath, problemOf(error as Error, method));
    }
  }
}

const UNIMPLEMENTED = 12;

function problemOf(error: Error, method: string): string {
  const isUnknown = error instanceof GrpcError && error.status === UNIMPLEMENTED;
  if (isUnknown) return `it has no runtime.v1 (CRI): ${error.message}`;
  return `${method}: ${error.message}`;
}

/** An answer's `info` holds JSON under names of the engine's choice. */
function infoOf(answer: Message, name: string): JsonObject {
  try {
    const value: unknown = JSON.parse(answer.map(2)[name] ?? "{}");
    return typeof value === "object" && value !== null ? (value as JsonObject) : {};
  } catch {
    return {}; // it need not be JSON
  }
}

type ContainerdConfig = {
  containerd?: {
    runtimes?: Record<
      string,
      { options?: { BinaryName?: string; SystemdCgroup?: boolean } | null }
    >;
  };
};

/** Engines list the handlers that they have loaded since Kubernetes 1.30; before containerd 2.0 they
 * stand in its configuration only, which says their programs in each version. */
function handlersOf(status: Message, config: JsonObject): Handler[] | undefined {
  const { containerd } = config as ContainerdConfig;
  const programs = new Map(
    Object.entries(containerd?.runtimes ?? {}).map(([name, { options }]) => [
      name,
      options?.BinaryName,
    ]),
  );
  const listed = status.messages(3).map((handler) => handler.text(1));
  const names = listed.length > 0 ? listed.filter((name) => name !== "") : [...programs.keys()];
  if (names.length === 0) return undefined;
  return names.map((name) => {
    const program = programs.get(name);
    return program ? { name, program } : { name };
  });
}

/** containerd's default is cgroupfs. */
function cgroupDriverOf(config: JsonObject): NodeStatus["cgroupDriver"] {
  const { containerd } = config as ContainerdConfig;
  const runc = containerd?.runtimes?.runc;
  if (!runc) return undefined;
  return runc.options?.SystemdCgroup ? "systemd" : "cgroupfs";
}
