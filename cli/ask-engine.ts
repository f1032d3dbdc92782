// Question: what does the engine know that the server never asks: a container by its name, the
// images, the kind of its image store?
// Source: Docker Engine API, containers/NAME/json, images/json, info; Podman's too.

import { type Container, EngineApi } from "../server/engine.ts";
import type { Json } from "../server/json.ts";
import { toRefusal } from "../server/refusal.ts";
import { Failure } from "./terminal.ts";

export const ENGINE = "/var/run/docker.sock"; // the server's default
const DEADLINE_MS = 5000;

/** Undefined where the engine has no such thing. */
export async function askEngine(path: string, socketPath = ENGINE): Promise<Json | undefined> {
  const { status, value } = await new EngineApi(socketPath, DEADLINE_MS)
    .get(`/${path}`)
    .catch((error: unknown) => fail(socketPath, String(toRefusal(error).detail)));
  if (status === 404) return undefined;
  if (status === 200) return value;
  return fail(socketPath, `${path}: ${value.message ?? `status ${status}`}`);
}

function fail(socketPath: string, why: string): never {
  throw new Failure(
    "unavailable",
    `the engine at ${socketPath}: ${why}`,
    'is it running, and is "engine" in the configuration its socket?',
  );
}

/** A container by its name, its id, or the beginning of its id. */
export async function findContainer(name: string, socket?: string): Promise<Container | undefined> {
  return (await askEngine(`containers/${encodeURIComponent(name)}/json`, socket)) as
    | Container
    | undefined;
}
