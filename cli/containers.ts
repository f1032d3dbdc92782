// Question: which containers run on this engine, and how do people know them? Output: what the server's
// own functions say of each. One that ends while it is asked about is left out.
import type { Config } from "../server/config.ts";
import { type Container, type Engine, openEngine } from "../server/engine.ts";
import { type Reason, toRefusal } from "../server/refusal.ts";
import { askEngine, ENGINE_SOCKET, engineFailure, findContainer } from "./ask-engine.ts";
import { KubernetesNode } from "./kubernetes-node.ts";
import { shown } from "./terminal.ts";

/** Where an engine is, as the configuration has it. */
export type EngineAddress = Config["engine"];

/** How people know a container. */
export type ContainerName = { id: string; name: string };

/** Reasons why a container is not listed: it has ended, or nobody can look at it. */
const LEFT_OUT: Reason[] = ["unknown-container", "starting", "too-large"];

const opened = new Map<string, Promise<Engine>>();

/** The server's own view of an engine; one for each address. */
export function engineAt(address: EngineAddress): Promise<Engine> {
  const key = JSON.stringify(address);
  const known = opened.get(key) ?? openEngine(address);
  opened.set(key, known);
  return known;
}

/** Throws the Failure "unavailable". */
export async function runningContainers(
  address: EngineAddress = ENGINE_SOCKET,
): Promise<Container[]> {
  const running: Container[] = [];
  for (const id of await runningIds(address)) {
    const container = await inspectRunning(id, address);
    if (container) running.push(container);
  }
  return running;
}

async function runningIds(address: EngineAddress): Promise<string[]> {
  if (typeof address === "string") {
    const listed = (await askEngine("containers/json", address)) as { Id: string }[];
    return listed.map(({ Id }) => Id);
  }
  const pods = await new KubernetesNode(address.cri).pods();
  const containers = pods.flatMap((pod) => pod.containers);
  return containers.filter(({ state }) => state === "running").map(({ id }) => id);
}

/** Undefined where it has ended. Throws the Failure "unavailable". */
export async function inspectRunning(
  id: string,
  address: EngineAddress,
): Promise<Container | undefined> {
  if (typeof address === "string") {
    const container = await findContainer(id, address);
    return container && container.State.Pid > 0 ? container : undefined;
  }
  try {
    return await (await engineAt(address)).inspect(id);
  } catch (error) {
    const { reason, detail } = toRefusal(error);
    if (LEFT_OUT.includes(reason)) return undefined;
    throw engineFailure(address.cri, shown(detail));
  }
}

/** Of a pod's container NAMESPACE/POD/CONTAINER. */
export function nameOf({ Id, Name, pod }: Container): ContainerName {
  if (pod) return { id: Id, name: `${pod.namespace}/${pod.name}/${pod.container}` };
  return { id: Id, name: String(Name).replace(/^\//, "") };
}
