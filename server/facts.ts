// Question: what is known about the process that has connected?
//
// Input: what the kernel fixed at connect(); /proc and the engine are asked for the rest.
// Guaranteed: facts of one and the same process if it is still alive afterwards, which peercred
// checks last. They are facts, not a decision: policy.ts and checks.ts judge them.
import { uptime } from "node:os";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Container, Engine, ImageLabels } from "./engine.ts";
import type { Peer, Peercred } from "./peercred.ts";
import {
  containerOf,
  type Glance,
  type Mounts,
  type Process,
  readMounts,
  readProcess,
  serverUserNamespace,
} from "./process.ts";

export type Facts = {
  peer: Peer;
  process: Process;
  container: Container;
  /** The process that the engine calls State.Pid. */
  init: Process;
  /** Of that process's mount namespace; undefined where there are too many. */
  mounts: Mounts | undefined;
  /** Undefined where the image is gone, or was not asked for: only matched labels need it. */
  imageLabels: ImageLabels | undefined;
  /** Where the process may be: `findUserNamespace`. */
  userNamespace: string | undefined;
  /** The wall clock's time at boot, in milliseconds. */
  bootMs: number;
};

/** Who is asked. */
export type Sources = { engine: Engine; peercred: Pick<Peercred, "ownerOfPids"> };

/** Asks the engine, and the rest of /proc; for labels of images, `Engine.imageLabels` does.
 * `partialFacts` gets peer, process and container as soon as they are known, so that a caller can tell
 * them when this throws: any Refusal of process.ts and engine.ts. */
export async function gatherFacts(
  peer: Peer,
  glance: Glance,
  sources: Sources,
  partialFacts: Partial<Facts> = {},
): Promise<Facts> {
  partialFacts.peer = peer;
  const inspecting = sources.engine.inspect(containerOf(glance).id);
  // The request leaves before this turn of the event loop ends; /proc is read while it is answered.
  const reading = nextTurn().then(() => {
    partialFacts.process = readProcess(peer.pid, false, glance);
    return { process: partialFacts.process, mounts: readMounts(peer.pid) };
  });
  const [container, ofPeer] = await Promise.all([
    inspecting.then((answer) => (partialFacts.container = answer)),
    reading,
  ]);

  const { Pid } = container.State;
  const ofInit = Pid === peer.pid ? ofPeer : { process: readProcess(Pid), mounts: readMounts(Pid) };
  return {
    peer,
    process: ofPeer.process,
    container,
    init: ofInit.process,
    mounts: ofInit.mounts,
    imageLabels: undefined,
    userNamespace: await findUserNamespace(ofPeer.process, container, sources),
    bootMs: Date.now() - uptime() * 1000,
  };
}

/** Invariant 2: the user namespace in which this process may be. It is the server's, if the process is
 * there, or the one that owns the pid namespace of the engine's State.Pid. An engine makes a container's
 * user namespace first and its pid namespace in it, and no process can leave its pid namespace. So a
 * user namespace that a process of the container makes or enters owns none that a container began
 * with, whatever its parent and its map. Undefined: the kernel does not tell, or is not to be asked. */
export async function findUserNamespace(
  { namespaces }: Process,
  { State }: Container,
  { peercred }: Sources,
): Promise<string | undefined> {
  if (namespaces.user === serverUserNamespace) return serverUserNamespace;
  return await peercred.ownerOfPids(State.Pid);
}
