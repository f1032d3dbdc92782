// Question: what would the server see if this process connected now? It asks what `grant` in
// server/main.ts asks, of the same modules, in the same order. Two things only the server knows:
// what the kernel fixes at connect() (here: /proc's word of this moment), and whether this start of
// the container has had its token.
import { readFileSync, readlinkSync } from "node:fs";
import { uptime } from "node:os";
import { connectEngine } from "../server/engine.ts";
import { containerIn, readProcess } from "../server/process.ts";
import type { Container, Facts, JsonObject, Peer } from "../types.ts";
import { ENGINE } from "./ask-engine.ts";

/** All that could be seen, and the error that ended it, whose message is the reason. */
export type Observation = { facts: Facts } | { facts?: never; known: JsonObject; error: Error };

export async function observe(pid: number, socket = ENGINE): Promise<Observation> {
  const engine = connectEngine(socket);
  const known: JsonObject = {};
  try {
    const peer = peerOf(pid);
    known.peer = peer;
    const process = readProcess(pid);
    known.process = process;
    const container = await engine.inspect(containerIn(process.cgroup).id);
    known.container = withoutValues(container);
    const init = container.State.Pid === pid ? process : readProcess(container.State.Pid);
    const imageLabels = await engine.imageLabels(container.Image);
    const user_namespace = readlinkSync("/proc/self/ns/user");
    const now = { first: true, bootMs: Date.now() - uptime() * 1000 };
    return { facts: { peer, process, container, init, imageLabels, user_namespace, ...now } };
  } catch (error) {
    return { known, error: error as Error };
  }
}

/** SO_PEERCRED gives the effective ids (unix(7)). */
function peerOf(pid: number): Peer {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const numbers = (field: string) => {
    const words = new RegExp(`^${field}:\t(.*)$`, "m").exec(status)?.[1] ?? "";
    return words.split(/\s/).filter(Boolean).map(Number);
  };
  const [, uid = -1] = numbers("Uid");
  const [, gid = -1] = numbers("Gid");
  return { id: "", pid, uid, gid, groups: numbers("Groups"), label: labelOf(pid) };
}

/** Empty where no security module labels processes: reading it is EINVAL then. */
function labelOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/attr/current`, "utf8").replace(/[\n\0]+$/, "");
  } catch {
    return "";
  }
}

/** The container, with the names alone of its environment. */
export function withoutValues(container: Container): Container {
  const { Config } = container;
  const names = Config.Env?.map((text) => `${text.split("=", 1)[0]}=…`);
  return { ...container, Config: { ...Config, Env: names ?? null } } as Container;
}
