// Question: by which selectors is this running container told from every other one? Input: what
// `observe` saw of its first process, and what its image declares. Pure.
// Guaranteed: each setting of settings.ts that is pinned "always" is in the match, or a note says
// why it is not; every equal start of the container has the same match. No value that may be a secret
// is in it: neither in the environment, nor in the options of a volume's driver.
import type { Pod } from "../server/engine.ts";
import type { Facts } from "../server/facts.ts";
import { documentOf } from "../server/grant.ts";
import type { Json, JsonObject } from "../server/json.ts";
import { environmentOf } from "./environment.ts";
import { isGeneratedName, isOfController, isOfPod } from "./pod-labels.ts";
import { MANIFEST_PATH, PINNED_PATHS, POD_PINNED_PATHS } from "./settings.ts";
import { shown } from "./terminal.ts";
import { enumerate } from "./words.ts";

const NAME_WITH_DIGEST = /@sha256:[0-9a-f]{64}$/;
/** Compose's and the engines' own labels. */
const FOREIGN_LABEL = /^(com\.docker\.|io\.podman\.)/;
/** What the engine calls a volume that was given no name. */
const ANONYMOUS_VOLUME = /^[0-9a-f]{64}$/;
const STATEFUL_SET_LABEL = "statefulset.kubernetes.io/pod-name";
/** What a provisioner calls the volume of a claim. */
const CLAIMED_VOLUME = /"pvc-[0-9a-f]{8}-/;
/** Of a container, a network or a volume. */
const ID = /(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])/;

/** As `suggest`. */
export function pinEverything(
  facts: Facts,
  imageEnv: string[],
  store?: string,
): { match: JsonObject; notes: string[] } {
  const pins = new Pins(facts);
  pinMappedUser(pins);
  if (facts.container.pod) pinPod(pins, facts.container, facts.container.pod, imageEnv);
  else pinContainer(pins, facts, imageEnv, store);
  if (pins.seen("process.dumpable") === false) pins.pin("process.dumpable");
  const { peer, container = {}, ...others } = pins.match;
  return { match: { ...(peer && { peer }), ...others, container }, notes: pins.notes };
}

/** Where the engine maps users. Docker has one map for all its containers, so that the host's numbers
 * are the same at each start; others may take another range each time. */
function pinMappedUser(pins: Pins): void {
  const inside = pins.seen("process.uid_inside");
  if (inside === null || inside === pins.seen("peer.uid")) return;
  pins.pin("process.uid_inside");
  if (pins.seen("container.HostConfig.UsernsMode") === "") return;
  pins.skip("peer.uid");
  for (const path of ["peer.gid", "peer.groups"])
    pins.leaveOpen(path, "the engine may map it to another number at each start");
}

function pinContainer(pins: Pins, facts: Facts, imageEnv: string[], store?: string): void {
  pinImage(pins, facts.container, store);
  pinLabels(pins, facts);
  pinEnvironment(pins, facts.container, imageEnv);
  pinMounts(pins, facts.container);
  pinOthers(pins);
}

/** What CRI says of a pod's container, but what differs from one pod of a controller to the next. */
function pinPod(pins: Pins, container: Facts["container"], pod: Pod, imageEnv: string[]): void {
  const labels = Object.entries(pod.labels).filter(
    ([label, value]) => !isOfController(label) && !isOfPod(String(value), pod.name),
  );
  labels.sort(([a], [b]) => (a < b ? -1 : 1)); // engines give them in any order
  if (labels.length > 0) pins.pin("pod.labels", Object.fromEntries(labels));
  pinEnvironment(pins, container, imageEnv);
  for (const path of POD_PINNED_PATHS) {
    if (pins.isDecided(path)) continue;
    const obstacle = obstacleInPod(pins.seen(path), pod);
    if (obstacle) pins.leaveOpen(path, obstacle);
    else pins.pin(path);
  }
}

/** Why the value is another one in the next pod of the same controller. */
function obstacleInPod(value: Json, { name, uid, labels }: Pod): string | undefined {
  const text = JSON.stringify(value);
  const isOfSet = STATEFUL_SET_LABEL in labels;
  const isUnique = isOfSet || isGeneratedName(name);
  const holdsName =
    isUnique && new RegExp(`(?<![\\w-])${RegExp.escape(name)}(?![\\w-])`).test(text);
  if (holdsName || text.includes(uid)) return "it holds the pod's own name or uid";
  if (isOfSet && CLAIMED_VOLUME.test(text)) {
    return (
      "each pod of a StatefulSet has a volume of its own. Until it is, a mount over the program runs " +
      "other code. For fewer than a handful of pods, write a service for each"
    );
  }
  return undefined;
}

/** A match as it grows. Each path is decided once: it is pinned, or left open for a reason. */
class Pins {
  readonly match: JsonObject = {};
  readonly notes: string[] = [];
  readonly #identity: JsonObject;
  readonly #decided = new Set<string>();

  constructor(facts: Facts) {
    this.#identity = documentOf(facts) as unknown as JsonObject;
  }

  /** What the identity document has there; null where it has nothing. */
  seen(path: string): Json {
    let value: Json = this.#identity;
    for (const key of path.split(".")) value = (value as JsonObject | null)?.[key] ?? null;
    return value;
  }

  isDecided(path: string): boolean {
    return this.#decided.has(path);
  }

  /** `wanted` is written as it is. */
  pin(path: string, wanted = whole(this.seen(path))): void {
    this.#decided.add(path);
    const keys = path.split(".");
    const last = keys.pop() ?? "";
    let parent = this.match;
    for (const key of keys) {
      parent[key] ??= {};
      parent = parent[key] as JsonObject;
    }
    parent[last] = wanted;
  }

  leaveOpen(path: string, why: string): void {
    this.#decided.add(path);
    this.notes.push(`${path.replace("container.", "")} is not pinned: ${why}`);
  }

  /** It is open because another path says the same. */
  skip(path: string): void {
    this.#decided.add(path);
  }
}

/** An object would be a fragment, to which others may be added. In a list it is compared whole. */
function whole(value: Json): Json {
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  return isObject ? [value] : value;
}

function pinImage(pins: Pins, { Config }: Facts["container"], store?: string): void {
  // A name with a digest is the same on every image store.
  const name = String((Config as JsonObject).Image);
  if (NAME_WITH_DIGEST.test(name)) {
    pins.pin("container.Config.Image", name);
    pins.skip("container.Image");
  } else {
    pins.pin("container.Image");
  }

  if (pins.seen(MANIFEST_PATH) !== null) pins.pin(MANIFEST_PATH);
  else if (store === "containerd") {
    pins.leaveOpen(
      MANIFEST_PATH,
      "this engine does not say which manifest of an image index runs, so that the image's other " +
        "platforms match as well (--platform). Docker 28.1 says it",
    );
  }
}

/** The labels that were given at its start. */
function pinLabels(pins: Pins, { container, imageLabels }: Facts): void {
  const labels = Object.entries(container.Config.Labels ?? {});
  const given = labels.filter(
    ([key, value]) => imageLabels?.labels[key] !== value && !FOREIGN_LABEL.test(key),
  );
  if (given.length > 0) pins.pin("container.Config.Labels", Object.fromEntries(given));
}

function pinEnvironment(pins: Pins, { Config }: Facts["container"], imageEnv: string[]): void {
  const path = "container.Config.Env";
  if (!Config.Env?.length) {
    pins.pin(path, Config.Env ? [] : [null]); // any of: nothing
    return;
  }
  const { variables, withheld } = environmentOf(Config.Env, imageEnv);
  pins.pin(path, variables);
  if (withheld.length > 0) {
    pins.notes.push(
      `Config.Env leaves ${enumerate(withheld)} open: the values were given at the container's ` +
        "start, may be secrets, and are shown to nobody. Move them into the image or behind " +
        "vault: references, or write them yourself",
    );
  }
}

function pinMounts(pins: Pins, container: Facts["container"]): void {
  const mounts = container.Mounts as JsonObject[];
  const anonymous = mounts.filter(({ Name }) => ANONYMOUS_VOLUME.test(String(Name)));
  if (anonymous.length === 0) {
    pins.pin("container.Mounts");
  } else {
    const destinations = enumerate(anonymous.map(({ Destination }) => String(Destination)));
    pins.leaveOpen(
      "container.Mounts",
      `the volume at ${destinations} has no name, so each container has another one. Until it ` +
        "is, a mount over the program runs other code. Give the volume a name",
    );
  }

  const options = (pins.seen("container.HostConfig.Mounts") as JsonObject[] | null) ?? [];
  const withDriver = options.filter(({ VolumeOptions }) => {
    const { DriverConfig } = (VolumeOptions ?? {}) as { DriverConfig?: JsonObject };
    return Object.keys((DriverConfig?.Options as JsonObject | undefined) ?? {}).length > 0;
  });
  if (withDriver.length === 0) return;
  const targets = enumerate(withDriver.map(({ Target }) => String(Target)));
  pins.leaveOpen(
    "container.HostConfig.Mounts",
    `the driver's options for ${targets} may hold a password, and are shown to nobody. Make the ` +
      "volume first (docker volume create)",
  );
}

/** All other settings that the starter can interfere by. */
function pinOthers(pins: Pins): void {
  for (const path of PINNED_PATHS) {
    if (pins.isDecided(path)) continue;
    const obstacle = obstacleTo(path, pins.seen(path));
    if (obstacle) pins.leaveOpen(path, obstacle);
    else pins.pin(path);
  }
  const hostname = pins.seen("container.Config.Hostname");
  const isOwnId = String(pins.seen("container.Id")).startsWith(String(hostname));
  const networkMode = String(pins.seen("container.HostConfig.NetworkMode"));
  const isOfOther = networkMode === "host" || networkMode.startsWith("container:");
  if (hostname && !isOwnId && !isOfOther) pins.pin("container.Config.Hostname");
}

/** Why the value may be another one at an equal start. */
function obstacleTo(path: string, value: Json): string | undefined {
  const name = path.replace("container.HostConfig.", "");
  const isFilledList = Array.isArray(value) && value.length > 0;
  if (name === "Links" && isFilledList) {
    return (
      "it holds this container's own name. Write it yourself if each start has the same name, or " +
      "use a network of your own in place of --link"
    );
  }
  if (name === "Ulimits" && Array.isArray(value) && value.length > 1) {
    return "engines and clients give several limits in any order. Write it yourself if yours does not";
  }
  if (path.startsWith("container.HostConfig.") && ID.test(JSON.stringify(value))) {
    return (
      `it holds an id (${shown(value)}), which is another one when that container or network is ` +
      "made again"
    );
  }
  return undefined;
}
