// Question: what does the container engine say about a container?
//
// Input: a full id. The engine is trusted, but may be slow, restarting or wrong.
// Guaranteed: an answer about exactly that id (invariant 4), or a Refusal.
// Source: Docker Engine API, GET /version, /containers/ID/json, /images/ID/json and /info; Podman's too.
import type { Config } from "./config.ts";
import { AnswerTooLong, exchange, type HttpAnswer, HttpError } from "./http.ts";
import { type JsonObject, wordsOf } from "./json.ts";
import { Refusal, unavailable } from "./refusal.ts";
import { KeptAnswers, SharedCalls, TooLarge } from "./shared.ts";

// `import` would evaluate every lazy export of node:http (WebSocket too), which costs 8 MB.
const { Agent, request } = process.getBuiltinModule("node:http");

/** The API versions that this code is tested with: Docker 20.10 offers the oldest, 28.5 the newest. Later
 * ones offer that too. */
const OLDEST_MINOR = 41;
const NEWEST_MINOR = 51;
/** A busy engine takes seconds for an answer. Clients wait 15 s for theirs, and ask again. */
const DEADLINE_MS = 10_000;
/** The first version in which an image's answer can be that of one platform. */
const PLATFORM_MINOR = 49;
/** Drivers that only the classic image store has, Docker's and Podman's. */
const CLASSIC_DRIVER = /^(overlay2?|vfs|aufs|devicemapper)$/;

/** What the engine says, under its own names: the members that checks use, and all others. What an
 * engine leaves out, or says is null, is empty. */
export type Container = JsonObject & {
  Id: string;
  /** The digest of the image. */
  Image: string;
  Path?: string | null;
  Args: string[];
  State: { Pid: number; StartedAt: string };
  Config: {
    Image?: string | null;
    User?: string | null;
    WorkingDir?: string | null;
    Env?: string[] | null;
    Labels?: JsonObject | null;
    /** Of a pod: the variables that Kubernetes makes, which `Env` is without. */
    KubernetesEnv?: string[] | null;
    Healthcheck?: { Test?: string[] | null } | null;
  };
  HostConfig: {
    ReadonlyRootfs?: boolean | null;
    Privileged?: boolean | null;
    CapAdd?: string[] | null;
    SecurityOpt?: string[] | null;
    Annotations?: JsonObject | null;
    Tmpfs?: JsonObject | null;
    /** "" is Docker's word for a namespace of its own, "private" Podman's. */
    PidMode?: string | null;
  };
  Mounts: { Type?: string | null; Destination: string; RW?: boolean | null }[];
  Driver?: string;
  /** Of the manifest that runs: API 1.48, with containerd's image store. */
  ImageManifestDescriptor?: { digest: string; platform?: JsonObject } | null;
  /** On Kubernetes only. */
  pod?: Pod;
};

/** What the engine knows of the container's pod, as it was when the pod started. Whoever may create
 * pods in the namespace chooses all but the namespace and the uid. */
export type Pod = {
  namespace: string;
  name: string;
  uid: string;
  /** The container's name in it. */
  container: string;
  labels: JsonObject;
  annotations: JsonObject;
};

/** The labels that an image declares itself. */
export type ImageLabels = {
  labels: JsonObject;
  /** False: the image has a manifest for each platform, and the engine does not say which one runs. */
  areOfManifest: boolean;
};

/** The engine's HTTP API, in the highest version that both sides know. */
export class EngineApi {
  readonly #options;
  /** The minor version, such as 44. Undefined until it is negotiated. */
  #version: Promise<number> | undefined;

  constructor(socketPath: string) {
    this.#options = {
      socketPath,
      deadlineMs: DEADLINE_MS,
      agent: new Agent({ keepAlive: true, maxSockets: 64 }),
    };
  }

  /** GET `path`, which begins with "/". Throws the refusal "engine" if there is no answer. */
  async get(path: string): Promise<HttpAnswer> {
    const version = await this.minorVersion();
    const answer = await this.#exchange(`/v1.${version}${path}`);
    if (answer.status !== 400) return answer;

    // An engine of another version may have taken its place: ask it which versions it has.
    this.#version = undefined;
    const versionNow = await this.minorVersion();
    return versionNow === version ? answer : await this.#exchange(`/v1.${versionNow}${path}`);
  }

  minorVersion(): Promise<number> {
    this.#version ??= this.#negotiate().catch((error) => {
      this.#version = undefined;
      throw error;
    });
    return this.#version;
  }

  async #negotiate(): Promise<number> {
    const { status, value } = await this.#exchange("/version");
    const [, minor] = /^1\.(\d+)$/.exec(String(value.ApiVersion)) ?? [];
    if (status !== 200 || !minor) throw engineError("/version", status, value);
    // If the two have no version in common, the engine is asked in the nearest one: it answers 400 and
    // says in its own words what is wrong.
    return Math.min(Math.max(Number(minor), OLDEST_MINOR), NEWEST_MINOR);
  }

  async #exchange(path: string): Promise<HttpAnswer> {
    try {
      return await exchange(request, { ...this.#options, path });
    } catch (error) {
      if (error instanceof AnswerTooLong) throw new Refusal("too-large", { path });
      this.#version = undefined; // another engine may answer next
      if (error instanceof HttpError) throw unavailable("engine", error.message);
      throw error;
    }
  }
}

/** The refusal for an answer of the engine that is an error, with the engine's own message. */
function engineError(path: string, status: number, { message = "" }: JsonObject): Refusal {
  return unavailable("engine", { path, status, message: String(message) });
}

/** What a grant needs of an engine, whichever it is. */
export type Engine = Pick<DockerEngine, "inspect" | "imageLabels">;

/** The engine that is configured. */
export async function openEngine(engine: Config["engine"]): Promise<Engine> {
  if (typeof engine === "string") return new DockerEngine(engine);
  const { CriEngine } = await import("./cri.ts");
  return new CriEngine(engine.cri);
}

export class DockerEngine {
  readonly #api: EngineApi;
  /** By the container's id. */
  readonly #inspects = new SharedCalls<Container>();
  /** By path. */
  readonly #tooLarge = new TooLarge();
  /** By the digest of the manifest that runs, or of the image: a digest never means another one. */
  readonly #imageLabels = new KeptAnswers<ImageLabels>();

  constructor(socketPath: string) {
    this.#api = new EngineApi(socketPath);
  }

  /** The running container with this id, as the engine knows it after this call. Throws the refusals
   * "unknown-container", "starting", "too-large" and "engine". */
  inspect(id: string): Promise<Container> {
    return this.#inspects.share(id, () => this.#inspectNow(id));
  }

  async #inspectNow(id: string): Promise<Container> {
    const path = `/containers/${id}/json`;
    const container = (await this.#get(path)) as Container | undefined;
    if (!container) throw new Refusal("unknown-container", path);
    if (container.Id !== id)
      throw unavailable("engine", { asked: id, answered: String(container.Id) });
    if (!(container.State?.Pid > 0))
      throw unavailable("starting", { "State.Pid": Number(container.State?.Pid) });

    delete container.pod; // no engine of this API has one
    // What an engine leaves out is empty.
    container.Config ??= {};
    container.HostConfig ??= {};
    container.Args = wordsOf(container.Args);
    const mounts = [container.Mounts ?? []].flat().filter((mount) => mount?.Destination);
    // The engine's order differs from one answer to the next; a policy's list is in this one.
    container.Mounts = mounts.sort((a, b) => (a.Destination < b.Destination ? -1 : 1));
    const { Env } = container.Config;
    if (Env) container.Config.Env = hideValues(wordsOf(Env));
    return container;
  }

  /** Undefined if the image is gone: it may be removed while its containers exist. Throws the refusals
   * "too-large" and "engine". */
  imageLabels(container: Container): Promise<ImageLabels | undefined> {
    const key = container.ImageManifestDescriptor?.digest ?? container.Image;
    return this.#imageLabels.get(key, () => this.#askForImageLabels(container));
  }

  async #askForImageLabels(container: Container): Promise<ImageLabels | undefined> {
    const { Image, ImageManifestDescriptor: manifest } = container;
    const canAskPlatform = (await this.#api.minorVersion()) >= PLATFORM_MINOR;
    const platform = canAskPlatform ? manifest?.platform : undefined;
    const query = platform ? `?platform=${encodeURIComponent(JSON.stringify(platform))}` : "";
    const image = await this.#get(`/images/${encodeURI(Image)}/json${query}`);
    if (!image) return undefined;

    // In the classic store a digest is one image's; in containerd's it may be an index of many.
    const isNamed = query !== "" || manifest?.digest === Image;
    const areOfManifest =
      isNamed || CLASSIC_DRIVER.test(container.Driver ?? "") || (await this.#isClassic());
    const config = image.Config as Container["Config"] | null;
    return { labels: config?.Labels ?? {}, areOfManifest };
  }

  /** The engine takes up to half a second to answer, so it is asked only if both stores have a driver of
   * that name. */
  async #isClassic(): Promise<boolean> {
    const info = await this.#get("/info");
    return !JSON.stringify(info?.DriverStatus ?? null).includes("io.containerd.snapshotter.v1");
  }

  /** Undefined if the engine says 404. */
  async #get(path: string): Promise<JsonObject | undefined> {
    const { status, value } = await this.#tooLarge.remember(path, () => this.#api.get(path));
    if (status === 404) return undefined;
    if (status !== 200) throw engineError(path, status, value);
    return value;
  }
}

/** Values of `Config.Env` may be secrets, so its JSON has the names alone: whatever is made of a
 * container for the audit stream or a terminal cannot show them (invariant 8). */
export function hideValues(environment: string[]): string[] {
  const names = () => environment.map((variable) => `${variable.split("=", 1)[0]}=…`);
  return Object.defineProperty(environment, "toJSON", { value: names });
}
