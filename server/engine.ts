// Question: what does the container engine say about a container? Input: a full id. The engine is
// trusted, but may be slow, restarting or wrong. Guaranteed: an answer about exactly that id
// (invariant 4).
// Source: Docker Engine API v1.41, GET /containers/ID/json and /images/ID/json; Podman's too.
import type { Container, JsonObject } from "../types.ts";
import { exchange } from "./http.ts";
import { Refusal, Unavailable } from "./refusal.ts";

// An import would ask it for each thing that it exports, WebSocket too: 8 MB are loaded for that.
const { Agent, request } = process.getBuiltinModule("node:http");

export function connectEngine(socketPath: string) {
  const agent = new Agent({ keepAlive: true, maxSockets: 64 });
  const labelsOf = new Map<string, JsonObject>(); // by digest, which never means another image

  async function get(ref: string): Promise<JsonObject> {
    const how = { whom: "engine", deadlineMs: 1500, socketPath, agent, path: `/v1.41/${ref}/json` };
    const { status, value } = await exchange(request, how);
    if (status === 404) throw new Refusal("unknown-container", { cause: ref });
    if (status !== 200) throw new Unavailable("engine", { cause: { path: ref, status } });
    return value;
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
