// Question: what does the container engine say about a container?
//
// Input: a full id. The engine is trusted, but may be slow, restarting or wrong.
// Guaranteed: an answer about exactly that id (invariant 4), or a Refusal.
// Source: Docker Engine API, GET /version, /containers/ID/json and /images/ID/json; Podman's too.
import { exchange, type HttpAnswer, HttpError } from "./http.ts";
import type { JsonObject } from "./json.ts";
import { Refusal, toRefusal, unavailable } from "./refusal.ts";
import { SharedCalls } from "./shared.ts";

// `import` would evaluate every lazy export of node:http (WebSocket too), which costs 8 MB.
const { Agent, request } = process.getBuiltinModule("node:http");

/** The API versions that this code is tested with: Docker 20.10 offers the oldest, 28.5 the newest. */
const OLDEST_MINOR = 41;
const NEWEST_MINOR = 51;
const SERVER_DEADLINE_MS = 1500;
const MESSAGE_LENGTH_MAX = 200;
const TOO_LARGE_MAX = 1000;
const IMAGES_MAX = 1000;

/** What the engine says, under its own names: the members that checks use, and all others. */
export type Container = JsonObject & {
  Id: string;
  /** The digest of the image. */
  Image: string;
  Path: string;
  Args: string[];
  State: { Pid: number; StartedAt: string };
  Config: { WorkingDir: string; Env: string[] | null; Labels: JsonObject | null };
  HostConfig: { ReadonlyRootfs: boolean };
  Mounts: { Destination: string; RW: boolean }[];
};

/** The engine's HTTP API, in the highest version that both sides know. */
export class EngineApi {
  readonly #options;
  /** Such as "/v1.44". Undefined until it is negotiated. */
  #version: Promise<string> | undefined;

  constructor(socketPath: string, deadlineMs = SERVER_DEADLINE_MS) {
    const agent = new Agent({ keepAlive: true, maxSockets: 64 });
    this.#options = { socketPath, deadlineMs, agent };
  }

  /** GET `path`, which begins with "/". Throws the refusal "engine" where there is no answer. */
  async get(path: string): Promise<HttpAnswer> {
    const version = await this.#negotiated();
    const answer = await this.#exchange(version + path);
    if (answer.status !== 400) return answer;

    // An engine of another version may have taken its place: ask it which versions it has.
    this.#version = undefined;
    const versionNow = await this.#negotiated();
    return versionNow === version ? answer : await this.#exchange(versionNow + path);
  }

  #negotiated(): Promise<string> {
    this.#version ??= this.#negotiate().catch((error) => {
      this.#version = undefined;
      throw error;
    });
    return this.#version;
  }

  async #negotiate(): Promise<string> {
    const { status, value } = await this.#exchange("/version");
    const [, minor] = /^1\.(\d+)$/.exec(String(value.ApiVersion)) ?? [];
    if (status !== 200 || !minor) throw engineError("/version", status, value);
    // Where there is no common version the engine is asked in the nearest one: its answer to that,
    // a 400, says in its own words what is wrong.
    return `/v1.${Math.min(Math.max(Number(minor), OLDEST_MINOR), NEWEST_MINOR)}`;
  }

  async #exchange(path: string): Promise<HttpAnswer> {
    try {
      return await exchange(request, { ...this.#options, path });
    } catch (error) {
      this.#version = undefined; // another engine may answer next
      if (error instanceof HttpError && error.isTooLong) throw new Refusal("too-large", { path });
      if (error instanceof HttpError) throw unavailable("engine", error.message);
      throw error;
    }
  }
}

/** The refusal for an answer of the engine that is an error, with the engine's own message. */
function engineError(path: string, status: number, { message }: JsonObject): Refusal {
  const said = typeof message === "string" ? { message: message.slice(0, MESSAGE_LENGTH_MAX) } : {};
  return unavailable("engine", { path, status, ...said });
}

export class Engine {
  readonly #api: EngineApi;
  /** By the container's id. */
  readonly #inspects = new SharedCalls<Container>();
  /** The latest paths whose answer was too long: the engine is not asked for them again. */
  readonly #tooLarge = new Set<string>();
  /** By the image's digest, which never means another image. */
  readonly #imageLabels = new Map<string, Promise<JsonObject>>();

  constructor(socketPath: string) {
    this.#api = new EngineApi(socketPath);
  }

  /** The running container with this id, as the engine knows it after this call. Throws the refusals
   * "unknown-container", "starting", "too-large" and "engine". */
  inspect(id: string): Promise<Container> {
    return this.#inspects.share(id, () => this.#inspectNow(id));
  }

  async #inspectNow(id: string): Promise<Container> {
    const container = (await this.#get(`/containers/${id}/json`)) as Container;
    if (container.Id !== id) throw unavailable("engine", { asked: id, answered: container.Id });
    if (!(container.State.Pid > 0))
      throw unavailable("starting", { "State.Pid": container.State.Pid });

    // What an engine leaves out is empty.
    container.Args ??= [];
    container.Mounts ??= [];
    // The engine's order differs from one answer to the next; a policy's list is in this one.
    container.Mounts.sort((a, b) => (a.Destination < b.Destination ? -1 : 1));
    if (container.Config.Env) hideValues(container.Config.Env);
    return container;
  }

  /** The labels that the image with this digest declares itself. Throws as `inspect`. */
  imageLabels(digest: string): Promise<JsonObject> {
    const known = this.#imageLabels.get(digest);
    if (known) return known;

    const asked = this.#askForImageLabels(digest);
    this.#imageLabels.set(digest, asked);
    asked.catch(() => this.#imageLabels.delete(digest));
    if (this.#imageLabels.size > IMAGES_MAX) this.#imageLabels.clear();
    return asked;
  }

  async #askForImageLabels(digest: string): Promise<JsonObject> {
    const image = await this.#get(`/images/${digest}/json`);
    return (image.Config as Container["Config"] | null)?.Labels ?? {};
  }

  async #get(path: string): Promise<JsonObject> {
    if (this.#tooLarge.has(path)) throw new Refusal("too-large", { path });
    const { status, value } = await this.#api.get(path).catch((error) => {
      if (toRefusal(error).reason === "too-large") this.#rememberTooLarge(path);
      throw error;
    });
    if (status === 404) throw new Refusal("unknown-container", path);
    if (status !== 200) throw engineError(path, status, value);
    return value;
  }

  #rememberTooLarge(path: string): void {
    const [oldest = ""] = this.#tooLarge;
    if (this.#tooLarge.size >= TOO_LARGE_MAX) this.#tooLarge.delete(oldest);
    this.#tooLarge.add(path);
  }
}

/** Values of `Config.Env` may be secrets, so its JSON has the names alone: whatever is made of a
 * container for the audit stream or a terminal cannot show them (invariant 8). */
export function hideValues(environment: string[]): string[] {
  const names = () => environment.map((variable) => `${variable.split("=", 1)[0]}=…`);
  return Object.defineProperty(environment, "toJSON", { value: names });
}
