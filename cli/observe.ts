// Question: what would the server see if this process connected now?
//
// The facts are gathered by the server's own function. Two things only the server knows: what the
// kernel fixes at connect() (here it is what /proc says at this moment), and whether this start of
// the container has had its token.
import { readFileSync } from "node:fs";
import { type Facts, gatherFacts } from "../server/facts.ts";
import type { Peer } from "../server/peercred.ts";
import { glanceAt, readProcess } from "../server/process.ts";
import { type Refusal, toRefusal, unavailable } from "../server/refusal.ts";
import { ENGINE_SOCKET } from "./ask-engine.ts";
import { askForOwner } from "./ask-peercred.ts";
import { type EngineAddress, engineAt } from "./containers.ts";

/** All facts; or those that could be gathered, and why there are no more. */
export type Observation =
  | { facts: Facts }
  | { facts?: never; partialFacts: Partial<Facts>; refusal: Refusal };

/** `pid` is the process's, `address` the engine's, `userNamespaces` as the configuration has it. Does not
 * throw: what went wrong is the refusal. */
export async function observe(
  pid: number,
  address: EngineAddress = ENGINE_SOCKET,
  userNamespaces = false,
): Promise<Observation> {
  const partialFacts: Partial<Facts> = {};
  try {
    const engine = await engineAt(address);
    const peercred = { ownerOfPids: userNamespaces ? askForOwner : async () => undefined };
    const sources = { engine, peercred };
    const facts = await gatherFacts(peerByProc(pid), glanceAt(pid), sources, partialFacts);
    // Which service it is decides whether the server needs these two.
    const imageLabels = await engine.imageLabels(facts.container);
    return { facts: { ...facts, process: readProcess(pid, true), imageLabels } };
  } catch (error) {
    return { partialFacts, refusal: toRefusal(error) };
  }
}

/** What SO_PEERCRED would say: the effective ids (unix(7)), the second of four in proc(5). */
function peerByProc(pid: number): Peer {
  const status = readStatus(pid);
  const numbers = (field: string) => {
    const [, words = ""] = new RegExp(`^${field}:\t(.*)$`, "m").exec(status) ?? [];
    return words.split(/\s/).filter(Boolean).map(Number);
  };
  const [, uid = -1] = numbers("Uid");
  const [, gid = -1] = numbers("Gid");
  return { id: "", pid, uid, gid, groups: numbers("Groups"), label: securityLabel(pid) };
}

function readStatus(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/status`, "utf8");
  } catch {
    throw unavailable("exited", { pid }); // everybody may read it, so it is not there
  }
}

/** Empty where no security module labels processes: reading the file is EINVAL then. */
function securityLabel(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/attr/current`, "utf8").replace(/[\n\0]+$/, "");
  } catch {
    return "";
  }
}
