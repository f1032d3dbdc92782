// Question: which containers run on this engine? Output: what the engine says of each. One that ends
// while it is asked about is left out.
import type { Container } from "../server/engine.ts";
import { askEngine, findContainer } from "./ask-engine.ts";

/** How people know a container. */
export type ContainerName = { id: string; name: string };

/** Throws the Failure "unavailable". */
export async function runningContainers(socketPath?: string): Promise<Container[]> {
  const listed = (await askEngine("containers/json", socketPath)) as { Id: string }[];
  const running: Container[] = [];
  for (const { Id } of listed) {
    const container = await findContainer(Id, socketPath);
    if (container && container.State.Pid > 0) running.push(container);
  }
  return running;
}

export function nameOf({ Id, Name }: Container): ContainerName {
  return { id: Id, name: String(Name).replace(/^\//, "") };
}
