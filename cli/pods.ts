// Question: which container of this node is meant by NAMESPACE/POD, NAMESPACE/POD/CONTAINER or an id?
// Input: the word, and what the node's engine lists. Pure.
import { nearest } from "./nearest.ts";
import { Failure } from "./terminal.ts";
import { enumerate } from "./words.ts";

/** As CRI calls them. */
export type ContainerState = "created" | "running" | "exited" | "unknown";

/** `createdNs` is in nanoseconds, roughly. */
export type ListedContainer = {
  id: string;
  name: string;
  state: ContainerState;
  createdNs: number;
};

/** A pod as the engine lists it, by its sandbox. `handler` is its RuntimeClass's. */
export type ListedPod = {
  sandbox: string;
  namespace: string;
  name: string;
  uid: string;
  isReady: boolean;
  createdNs: number;
  handler: string;
  containers: ListedContainer[];
};

const SHAPE_HINT = "write NAMESPACE/POD, NAMESPACE/POD/CONTAINER or the id of a container";
/** `kubectl get pod -o yaml` writes containerd://ID. */
const SCHEME = /^[a-z-]+:\/\//;
const ID = /^[0-9a-f]{4,64}$/;
const STATE_WORDS: Record<ContainerState, string> = {
  created: "has not started yet",
  running: "runs",
  exited: "has ended",
  unknown: "is in a state that the engine does not know",
};

/** It names a pod. A Docker container's name has no "/" but the one before it. */
export function isPodName(subject: string): boolean {
  return subject.indexOf("/") > 0 && !SCHEME.test(subject);
}

/** The id of the one running container that is meant. `node` is this machine's name. Throws the Failures
 * "usage" and "noInput", which say what is here instead. */
export function chooseContainer(subject: string, pods: ListedPod[], node: string): string {
  if (isPodName(subject)) return chooseByName(subject, pods, node);

  const id = subject.replace(SCHEME, "");
  const isId = ID.test(id);
  const containers = pods.flatMap((pod) => pod.containers.map((each) => ({ ...each, pod })));
  const [first, second] = isId ? containers.filter((each) => each.id.startsWith(id)) : [];
  if (second) throw new Failure("usage", `several containers have an id that begins with ${id}`);
  if (first) return requireRunning(first, first.pod);

  const ofSandbox = isId && pods.find(({ sandbox }) => sandbox.startsWith(id));
  if (ofSandbox) return onlyRunning(ofSandbox);
  const meant = containers.find(({ pod, name }) => pod.name === subject || name === subject);
  const hint = meant ? `did you mean ${nameOfPod(meant.pod)}?` : SHAPE_HINT;
  throw new Failure("noInput", `this node (${node}) has no container ${subject}`, hint);
}

function chooseByName(subject: string, pods: ListedPod[], node: string): string {
  const [namespace, name, container, ...surplus] = subject.split("/");
  if (!namespace || !name || container === "" || surplus.length > 0)
    throw new Failure("usage", `${subject} does not name a pod`, SHAPE_HINT);

  // A pod that was made again, or has a new sandbox, has the name of one that is ending.
  const [pod] = pods
    .filter((each) => each.namespace === namespace && each.name === name)
    .sort((a, b) => Number(b.isReady) - Number(a.isReady) || b.createdNs - a.createdNs);
  if (!pod) throw notHere(namespace, name, pods, node);
  return container === undefined ? onlyRunning(pod) : named(container, pod);
}

function notHere(namespace: string, name: string, pods: ListedPod[], node: string): Failure {
  const meant = nearest(`${namespace}/${name}`, pods.map(nameOfPod));
  const elsewhere =
    "`authproxy check --running` lists the pods that are here, and " +
    `\`kubectl get pod ${name} --namespace ${namespace} --output wide\` says where it is`;
  return new Failure(
    "noInput",
    `the pod ${namespace}/${name} is not on this node (${node})`,
    meant ? `did you mean ${meant}? ${elsewhere}` : elsewhere,
  );
}

/** A container that was restarted is listed once for each start. */
function named(name: string, pod: ListedPod): string {
  const [newest] = pod.containers
    .filter((each) => each.name === name)
    .sort((a, b) => b.createdNs - a.createdNs);
  if (newest) return requireRunning(newest, pod);
  const names = namesOf(pod.containers);
  throw new Failure(
    "noInput",
    `the pod ${nameOfPod(pod)} has no container ${name}`,
    names.length > 0 ? `it has ${enumerate(names)}` : "none of its containers has started yet",
  );
}

function onlyRunning(pod: ListedPod): string {
  const running = pod.containers.filter(({ state }) => state === "running");
  const [first, second] = running;
  const names = namesOf(running);
  if (second) {
    throw new Failure(
      "usage",
      `the pod ${nameOfPod(pod)} has several containers that run: ${enumerate(names)}`,
      `name one of them, such as ${nameOfPod(pod)}/${names[0]}`,
    );
  }
  if (first) return first.id;
  const ended = pod.containers.map(({ name, state }) => `${name} ${STATE_WORDS[state]}`);
  throw new Failure(
    "noInput",
    `no container of the pod ${nameOfPod(pod)} runs: ${enumerate([...new Set(ended)]) || "none was made yet"}`,
    `to see why one was refused: authproxy explain --last ${nameOfPod(pod)}`,
  );
}

/** Each once, in the order of the alphabet. */
function namesOf(containers: ListedContainer[]): string[] {
  return [...new Set(containers.map(({ name }) => name))].sort();
}

function requireRunning({ id, name, state }: ListedContainer, pod: ListedPod): string {
  if (state === "running") return id;
  const place = `${nameOfPod(pod)}/${name}`;
  throw new Failure(
    "noInput",
    `the container ${place} ${STATE_WORDS[state]}`,
    `to see why it was refused: authproxy explain --last ${place}`,
  );
}

function nameOfPod({ namespace, name }: ListedPod): string {
  return `${namespace}/${name}`;
}
