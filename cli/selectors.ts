// Question: who could forge what a service matches on? Input: its `match`. Pure.
import type { Json, JsonObject } from "../server/json.ts";
import { enumerate } from "./words.ts";

/** Whose word a selector is, the hardest to deceive first. */
const RANKS = ["kernel", "engine", "/proc", "image"] as const;
export type Rank = (typeof RANKS)[number];

/** A leaf of the fragment. `path` is its keys, joined by dots. */
export type Selector = { path: string; wanted: Json; rank: Rank; forgedBy: string };

export const ENV_PATH = "container.Config.Env";
/** Who chooses how a container is started, where the engine is Docker or Podman. */
export const ANYBODY = "whoever may start containers here";

/** In the texts below STARTER is `starterOf`; `inPod` is the text for a pod where it is another one. */
type Forger = { pattern: RegExp; rank: Rank; forgedBy: string; inPod?: string };

/** The first pattern that a path fits decides. */
const FORGERS: Forger[] = [
  { pattern: /^pod\.namespace$/, rank: "engine", forgedBy: "STARTER, and root of the node" },
  { pattern: /^pod\.uid$/, rank: "engine", forgedBy: "changes with each pod" },
  { pattern: /^pod\./, rank: "engine", forgedBy: "STARTER" },
  {
    pattern: /^peer\.label$/,
    rank: "kernel",
    forgedBy: "the host's security policy; --security-opt may ask for another",
    inPod: "the node's security policy; securityContext may ask for another",
  },
  { pattern: /^peer\.pid$/, rank: "kernel", forgedBy: "changes with each start" },
  {
    // The engine made the map, and the uid in it is the kernel's.
    pattern: /^(peer\.|process\.uid_inside$)/,
    rank: "kernel",
    forgedBy: "STARTER (-u, --group-add)",
    inPod: "STARTER (securityContext)",
  },
  {
    pattern: /^container\.(Config\.)?Image$/,
    rank: "engine",
    forgedBy: "nobody: it is the digest of the image's content",
  },
  { pattern: /^container\.Config\.Labels\b/, rank: "engine", forgedBy: "STARTER (-l)" },
  {
    pattern: /^container\.Config\.Env\b/,
    rank: "engine",
    forgedBy: "STARTER (-e)",
    inPod: "STARTER (env, envFrom)",
  },
  {
    pattern: /^container\.Mounts$/,
    rank: "engine",
    forgedBy: "STARTER (-v)",
    inPod: "STARTER (volumeMounts)",
  },
  {
    pattern: /^container\.(Path|Args|Config\.(Cmd|Entrypoint))$/,
    rank: "image",
    forgedBy: "the image, or STARTER",
  },
  {
    pattern: /^container\.Config\.(User|WorkingDir|Volumes|ExposedPorts)\b/,
    rank: "image",
    forgedBy: "the image, or -u, -w …",
    inPod: "the image, or STARTER",
  },
  { pattern: /^container\./, rank: "engine", forgedBy: "STARTER" },
  {
    pattern: /^process\.exe$/,
    rank: "/proc",
    forgedBy: 'the image: it says no more than "node" does',
  },
  { pattern: /^process\.cgroup$/, rank: "/proc", forgedBy: "whoever may make cgroups" },
  { pattern: /^process\.ppid$/, rank: "/proc", forgedBy: "changes with each start" },
  { pattern: /^process\./, rank: "/proc", forgedBy: "the process, or whoever starts it" },
];
const OTHERS: Omit<Forger, "pattern"> = { rank: "image", forgedBy: "STARTER" };

/** What the identity document has as a list. A policy's list means "any of these" elsewhere. */
const LIST_PATHS = [
  "peer.groups",
  "process.cgroup",
  "process.uids",
  "process.gids",
  "container.Args",
  "container.Mounts",
  "container.Config.Env",
  "container.Config.Cmd",
  "container.Config.Entrypoint",
  "container.Config.Shell",
  ...["CapAdd", "CapDrop", "DeviceCgroupRules", "DeviceRequests", "Devices", "Dns", "DnsOptions"]
    .concat(["DnsSearch", "ExtraHosts", "Links", "MaskedPaths", "Mounts", "ReadonlyPaths"])
    .concat(["SecurityOpt", "Ulimits", "VolumesFrom"])
    .map((name) => `container.HostConfig.${name}`),
];

/** Who chooses how a container is started. `isOfNode`: the engine is that of a Kubernetes node. */
export function starterOf({ pod }: JsonObject, isOfNode = pod !== undefined): string {
  if (!isOfNode) return ANYBODY;
  const { namespace } = (pod ?? {}) as JsonObject;
  if (namespace === undefined) return "whoever may create pods in any namespace";
  const names = alternatives(namespace).map(String);
  const place = names.length > 1 ? "one of the namespaces" : "namespace";
  return `whoever may create pods in ${place} ${enumerate(names)}`;
}

/** The selectors of a match, the hardest to forge first. */
export function selectorsOf(match: JsonObject, starter = starterOf(match)): Selector[] {
  return leavesOf(match, [])
    .map((leaf) => rankSelector(leaf, starter))
    .sort((a, b) => RANKS.indexOf(a.rank) - RANKS.indexOf(b.rank));
}

function leavesOf(value: Json, path: string[]): { path: string; wanted: Json }[] {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    return [{ path: path.join("."), wanted: value }];
  return Object.entries(value).flatMap(([key, child]) => leavesOf(child, [...path, key]));
}

function rankSelector(leaf: { path: string; wanted: Json }, starter: string): Selector {
  const forger = FORGERS.find(({ pattern }) => pattern.test(leaf.path));
  const { rank, forgedBy, inPod = forgedBy } = forger ?? OTHERS;
  const isTag = /\.Image$/.test(leaf.path) && !isImageDigest(leaf);
  if (isTag) return { ...leaf, rank, forgedBy: "whoever may name images here" };
  const text = starter === ANYBODY ? forgedBy : inPod;
  return { ...leaf, rank, forgedBy: text.replace("STARTER", starter) };
}

/** It pins the image by its digest. A name alone can be given to another image. */
export function isImageDigest({ path, wanted }: { path: string; wanted: Json }): boolean {
  const isImage = /^container\.(Config\.)?Image$/.test(path);
  return isImage && alternatives(wanted).every((name) => /sha256:[0-9a-f]{64}$/.test(String(name)));
}

/** The variables as a list, or one of them by its name. Their values may be secrets. */
export function isEnvironment(path: string): boolean {
  return path === ENV_PATH || path.startsWith(`${ENV_PATH}.`);
}

/** The values of which any will do. */
export function alternatives(wanted: Json): Json[] {
  return Array.isArray(wanted) ? wanted : [wanted];
}

/** The values that a selector allows; none where the service does not have it. */
export function valuesAt(selectors: Selector[], path: string): Json[] {
  const selector = selectors.find((candidate) => candidate.path === path);
  return selector ? alternatives(selector.wanted) : [];
}

/** Where the identity document has a list, a policy's list is compared whole. */
export function isComparedWhole(path: string): boolean {
  return LIST_PATHS.includes(path);
}
