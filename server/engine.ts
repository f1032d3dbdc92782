// Question: what does the container engine say about a container? Input: a full id. The engine is
// trusted, but may be slow, restarting or wrong. Guaranteed: an answer about exactly that id
// (invariant 4).
// Source: Docker Engine API, GET /version, /containers/ID/json and /images/ID/json; Podman's too.
import type { Container, JsonObject } from "../types.ts";
import { exchange } from "./http.ts";
import { Refusal, Unavailable } from "./refusal.ts";

// `import` would evaluate every lazy export of node:http (WebSocket too), which costs 8 MB.
const { Agent, request } = process.getBuiltinModule("node:http");

/** The API versions that this code is tested with: Docker 20.10 offers the oldest, 28.5 the newest. */
const OLDEST_MINOR = 41;
const NEWEST_MINOR = 51;

type Answer = { status: number; value: JsonObject };

/** The engine's HTTP API, in the highest version that both sides know. */
export class EngineApi {
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 64 });
  readonly #socketPath: string;
  readonly #deadlineMs: number;
  /** As in "/v1.44". Undefined: to be negotiated before the next request. */
  #version: Promise<string> | undefined;

  constructor(socketPath: string, deadlineMs: number) {
    this.#socketPath = socketPath;
    this.#deadlineMs = deadlineMs;
  }

  /** GET `path`, which begins with "/". Throws Unavailable where there is no answer. An engine that
   * was replaced by another version closes its connections, or answers 400: ask it again which
   * versions it has. */
  async get(path: string): Promise<Answer> {
    const version = await this.#negotiated();
    const answer = await this.#exchange(version + path);
    if (answer.status !== 400) return answer;
    this.#version = undefined;
    const versionNow = await this.#negotiated();
    return versionNow === version ? answer : await this.#exchange(versionNow + path);
  }

  #negotiated(): Promise<string> {
    this.#version ??= this.#negotiate();
    return this.#version;
  }

  /** Where the engine has no version that is known here it is asked in the nearest one, because its
   * answer to that, a 400, says in its own words what is wrong. */
  async #negotiate(): Promise<string> {
    const { status, value } = await this.#exchange("/version");
    const [, minor] = /^1\.(\d+)$/.exec(String(value.ApiVersion)) ?? [];
    if (status !== 200 || !minor) {
      this.#version = undefined;
      throw new Unavailable("engine", { cause: { path: "/version", status, ...messageOf(value) } });
    }
    return `/v1.${Math.min(Math.max(Number(minor), OLDEST_MINOR), NEWEST_MINOR)}`;
  }

  async #exchange(path: string): Promise<Answer> {
    try {
      const how = { whom: "engine", deadlineMs: this.#deadlineMs, path };
      return await exchange(request, { ...how, socketPath: this.#socketPath, agent: this.#agent });
    } catch (error) {
      this.#version = undefined;
      throw error;
    }
  }
}

/** The engine's own explanation of an error, at most 200 characters of it. */
export function messageOf({ message }: JsonObject): { message?: string } {
  return typeof message === "string" ? { message: message.slice(0, 200) } : {};
}

export function connectEngine(socketPath: string) {
  const api = new EngineApi(socketPath, 1500);
  const labelsOf = new Map<string, JsonObject>(); // by digest, which never means another image

  async function get(ref: string): Promise<JsonObject> {
    const { status, value } = await api.get(`/${ref}/json`);
    if (status === 404) throw new Refusal("unknown-container", { cause: ref });
    if (status === 200) return value;
    throw new Unavailable("engine", { cause: { path: ref, status, ...messageOf(value) } });
  }

  async function inspect(id: string): Promise<Container> {
    const container = (await get(`containers/${id}`)) as Container;
    if (container.Id !== id) throw new Unavailable("engine", { cause: { not: container.Id } });
    // The engine's own order is another at each answer; a policy's list is in this one.
    container.Mounts.sort((a, b) => (a.Destination < b.Destination ? -1 : 1));
    if (container.State.Pid > 0) return container;
    throw new Unavailable("starting", { cause: container.State });
  }

  /** The labels that the image declares itself. */
  async function imageLabels(digest: string): Promise<JsonObject> {
    const known = labelsOf.get(digest);
    const labels = known ?? ((await get(`images/${digest}`)) as Container).Config.Labels ?? {};
    labelsOf.set(digest, labels);
    return labels;
  }

  return { inspect, imageLabels };
}
