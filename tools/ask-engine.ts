// Question: what does the engine know that the server never asks: a container by its name, the
// images, the kind of its image store?
// Source: Docker Engine API v1.41, containers/NAME/json, images/json, info; Podman's too.
import { request } from "node:http";
import { exchange } from "../server/http.ts";
import { Unavailable } from "../server/refusal.ts";
import type { Container, Json } from "../types.ts";
import { Failure } from "./terminal.ts";

export const ENGINE = "/var/run/docker.sock"; // the server's default

/** Undefined where the engine has no such thing. */
export async function askEngine(path: string, socketPath = ENGINE): Promise<Json | undefined> {
  const how = { whom: "engine", deadlineMs: 5000, socketPath, path: `/v1.41/${path}` };
  try {
    const { status, value } = await exchange(request, how);
    if (status === 404) return undefined;
    if (status === 200) return value;
    throw new Unavailable("engine", { cause: `${path}: status ${status}` });
  } catch (error) {
    const { cause } = error as Error;
    const hint = 'is it running, and is "engine" in the configuration its socket?';
    throw new Failure("unavailable", `the engine at ${socketPath}: ${String(cause)}`, hint);
  }
}

/** A container by its name, its id, or the beginning of its id. */
export async function findContainer(name: string, socket?: string): Promise<Container | undefined> {
  return (await askEngine(`containers/${encodeURIComponent(name)}/json`, socket)) as
    | Container
    | undefined;
}
