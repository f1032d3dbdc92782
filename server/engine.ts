// Question: what does the container engine say about a container? Input: a full id. The engine is
// trusted, but may be slow, restarting or wrong. Guaranteed: an answer about exactly that id.
// Source: Docker Engine API v1.41, GET /containers/ID/json and /images/ID/json; Podman's too.
import { Agent, request } from "node:http";
import { exchange } from "./http.ts";
import { at } from "./policy.ts";
import { Refusal, Unavailable } from "./refusal.ts";
import type { Container, JsonObject } from "./types.ts";

const DEADLINE_MS = 1500;

export function connectEngine(socketPath: string) {
  const agent = new Agent({ keepAlive: true });
  const labelsOfImage = new Map<string, JsonObject>();

  async function get(path: string): Promise<JsonObject> {
    const place = { socketPath, agent, path: `/v1.41/${path}/json` };
    const { status, value } = await exchange("engine", DEADLINE_MS, request, place);
    if (status === 200) return value;
    if (status === 404) throw new Refusal("unknown-container", { cause: path });
    throw new Unavailable("engine", { cause: { path, status } });
  }

  return {
    async inspect(id: string): Promise<Container> {
      const container = (await get(`containers/${id}`)) as Container;
      if (container.Id !== id) throw new Unavailable("engine", { cause: { not: container.Id } });
      if (container.State.Pid > 0) return container;
      throw new Unavailable("starting", { cause: container.State });
    },

    /** What the image itself declares. A digest never comes to mean another image. */
    async imageLabels(digest: string): Promise<JsonObject> {
      const known = labelsOfImage.get(digest);
      const labels = known ?? at(await get(`images/${digest}`), ["Config", "Labels"]) ?? {};
      labelsOfImage.set(digest, labels as JsonObject);
      return labels as JsonObject;
    },
  };
}
