// Question: what does the engine know that the server never asks: a container by its name, the
// images, the kind of its image store?
// Source: Docker Engine API, containers/NAME/json, images/json, info; Podman's too.
import { type Container, EngineApi } from "../server/engine.ts";
import type { Json } from "../server/json.ts";
import { toRefusal } from "../server/refusal.ts";
import { Failure } from "./terminal.ts";

/** The server's default. */
export const ENGINE_SOCKET = "/var/run/docker.sock";

/** GET `path`, without its leading "/". Undefined where the engine says 404. Throws the Failure
 * "unavailable". */
export async function askEngine(
  path: string,
  socketPath = ENGINE_SOCKET,
): Promise<Json | undefined> {
  const engine = new EngineApi(socketPath);
  const { status, value } = await engine.get(`/${path}`).catch((error: unknown) => {
    throw engineFailure(socketPath, String(toRefusal(error).detail));
  });
  if (status === 404) return undefined;
  if (status === 200) return value;
  throw engineFailure(socketPath, `${path}: ${value.message ?? `status ${status}`}`);
}

/** The Failure for an engine that does not answer as it should. */
export function engineFailure(socketPath: string, problem: string): Failure {
  return new Failure(
    "unavailable",
    `the engine at ${socketPath}: ${problem}`,
    'check that it runs, and that "engine" in the configuration is its socket',
  );
}

/** A container by its name, its id, or the beginning of its id; undefined where there is none.
 * Throws as `askEngine`. */
export async function findContainer(
  name: string,
  socketPath?: string,
): Promise<Container | undefined> {
  const answer = await askEngine(`containers/${encodeURIComponent(name)}/json`, socketPath);
  return answer as Container | undefined;
}
