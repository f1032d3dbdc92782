// Question: which process is meant by a pid, a container's name or id, or NAMESPACE/POD[/CONTAINER], and
// which engine knows it?
import { existsSync, readFileSync } from "node:fs";
import { hostname } from "node:os";
import type { JsonObject } from "../server/json.ts";
import { ENGINE_SOCKET, findContainer } from "./ask-engine.ts";
import { DEFAULT_FILE, readConfig } from "./configuration.ts";
import { type EngineAddress, inspectRunning } from "./containers.ts";
import { KubernetesNode } from "./kubernetes-node.ts";
import { chooseContainer, isPodName } from "./pods.ts";
import { Failure } from "./terminal.ts";

/** Where the engines of nodes listen: containerd, CRI-O, and containerd of k3s. */
const CRI_SOCKETS = [
  "/run/containerd/containerd.sock",
  "/run/crio/crio.sock",
  "/run/k3s/containerd/containerd.sock",
];

/** The engine of this configuration; without one that of the usual file, which need not be right yet, or
 * the one that would know such a subject. Throws the Failures of `readConfig`. */
export function engineFor(subject: string, file: string | undefined): EngineAddress {
  if (file !== undefined) return readConfig(file).engine;
  const socket = CRI_SOCKETS.find(existsSync);
  const usual = isPodName(subject) && socket ? { cri: socket } : ENGINE_SOCKET;
  return engineIn(DEFAULT_FILE) ?? usual;
}

function engineIn(file: string): EngineAddress | undefined {
  try {
    const { engine }: { engine?: EngineAddress & JsonObject } = JSON.parse(
      readFileSync(file, "utf8"),
    );
    const isAddress = typeof engine === "string" || typeof engine?.cri === "string";
    return isAddress ? engine : undefined;
  } catch {
    return undefined;
  }
}

/** Of a container, the pid of its first process. Throws the Failures "noInput", "usage" and
 * "unavailable". */
export async function pidOf(subject: string, engine: EngineAddress): Promise<number> {
  const isPid = /^\d{1,7}$/.test(subject); // pid_max is 4,194,304 at most, proc(5)
  if (isPid) return Number(subject);
  return typeof engine === "string"
    ? await pidByName(subject, engine)
    : await pidOnNode(subject, engine);
}

async function pidByName(subject: string, socketPath: string): Promise<number> {
  const container = await findContainer(subject, socketPath);
  if (!container) {
    const hint = isPodName(subject)
      ? 'a pod is known to the engine of its node: "engine": { "cri": "/run/containerd/containerd.sock" }'
      : "if it is gone, the audit stream may have it: authproxy explain --last";
    throw new Failure("noInput", `the engine has no container ${subject}`, hint);
  }
  if (container.State.Pid > 0) return container.State.Pid;
  throw new Failure(
    "noInput",
    `the container ${subject} is not running`,
    `to see why it was refused: authproxy explain --last ${container.Id.slice(0, 12)}`,
  );
}

async function pidOnNode(subject: string, engine: { cri: string }): Promise<number> {
  const pods = await new KubernetesNode(engine.cri).pods();
  const id = chooseContainer(subject, pods, hostname());
  const container = await inspectRunning(id, engine);
  if (container) return container.State.Pid;
  throw new Failure("noInput", `the container ${subject} has just ended`, "try again");
}
