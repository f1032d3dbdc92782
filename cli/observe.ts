// Question: what would the server see if this process connected now?
//
// The facts are gathered by the server's own function. Two things only the server knows: what the
// kernel fixes at connect() (here: what /proc says at this moment), and whether this start of the
// container has had its token.
import { readFileSync } from "node:fs";
import { Engine } from "../server/engine.ts";
import { type Facts, gatherFacts } from "../server/facts.ts";
import type { Peer } from "../server/peercred.ts";
import { type Refusal, toRefusal } from "../server/refusal.ts";
import { ENGINE } from "./ask-engine.ts";

/** All facts; or those that could be gathered, and why there are no more. */
export type Observation =
  | { facts: Facts }
  | { facts?: never; known: Partial<Facts>; refusal: Refusal };

/** `pid`: of the process; `socketPath`: of the engine. */
export async function observe(pid: number, socketPath = ENGINE): Promise<Observation> {
  const known: Partial<Facts> = {};
  try {
    return { facts: await gatherFacts(peerOf(pid), new Engine(socketPath), known) };
  } catch (error) {
    return { known, refusal: toRefusal(error) };
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
