// Question: what does a configuration that the server accepts rest on, and who could forge it?
// Input: the configuration, and what is known of this host: the kernel's security module, the
// engine's images and one of its containers. Pure. `authproxy check` prints it.
import { dirname } from "node:path";
import type { Config, Service } from "../server/config.ts";
import type { Json, JsonObject } from "../server/json.ts";
import { isInterpreter } from "../server/writable.ts";
import { CODE_VARIABLES } from "./environment.ts";
import type { Host } from "./host.ts";
import {
  ANYBODY,
  alternatives,
  ENV_PATH,
  isEnvironment,
  isImageDigest,
  type Selector,
  selectorsOf,
  starterOf,
  valuesAt,
} from "./selectors.ts";
import { MANIFEST_PATH, PINNED_PATHS, POD_PINNED_PATHS, shortName } from "./settings.ts";
import { shown } from "./terminal.ts";
import { warningsAbout, warningsBeside } from "./warnings.ts";
import { enumerate } from "./words.ts";

const EVERY_OTHER_VARIABLE = `${ENV_PATH}.*`;

/** As `authproxy check --json` prints it, for each service. */
export type Advice = {
  token: string;
  selectors: Selector[];
  relaxed: { check: string; opens: string }[];
  /** Mounts that hold no program, by the word of whoever wrote the policy. */
  data: string[];
  /** Who can be this service, in a sentence. */
  who: string;
  /** The settings, by their paths, that whoever starts a container is free to choose. */
  open: string[];
  warnings: string[];
};

/** What each relaxation opens. */
export const RELAXATION_OPENS: Record<string, string> = {
  init: "whatever runs in the container later may ask, once for each start: docker exec, kubectl exec",
  alone: "another process in the container may trace the client, or take its socket or its memory",
  once: "code that breaks into the application may ask for a token again",
  readonly: "code inside may overwrite the program, restart the container, and ask as the program",
  labels: "an image that simply declares the label passes for the service",
  capabilities: "code inside may forge its program and mounts, and hide processes from alone",
  seccomp: "an agent outside may answer the client's system calls, and take the token",
};

/** What `data` opens. */
export const DATA_OPENS = "the command may name it, so nothing that is written there may be run";

/** What stands in place of the values of Config.Env, which may be secrets. */
export const HIDDEN = "(values are not shown)";

/** More would hide what matters. --json has them all. */
const MISSING_SHOWN_MAX = 6;
/** The kind of pinned mount that holds what the image or nobody has put there. */
const OWN_MOUNT_TYPES: Json[] = ["tmpfs", "image"];

/** The kinds of volume of a pod that hold what its own containers write, or what the cluster says. */
const OWN_VOLUME_KINDS: Json[] = ["empty-dir", "downward-api", "image"];

/** The advice for each service, by its name. */
export function advise(config: Config, host: Host): Record<string, Advice> {
  const services = Object.entries(config.services);
  const isOfNode = typeof config.engine === "object";
  const advice: Record<string, Advice> = {};
  for (const [name, service] of services) {
    const { token, match, relax = [], data = [] } = service;
    const starter = starterOf(match, isOfNode || match.pod !== undefined);
    const selectors = selectorsOf(match, starter);
    const others = services.filter(([other]) => other !== name);
    const open = openSettings(selectors, starter, host);
    advice[name] = {
      token: token.create ?? `${token.read}, shared by all`,
      selectors: withoutEnv(selectors),
      relaxed: relax.map((check) => ({ check, opens: RELAXATION_OPENS[check] ?? "" })),
      data,
      who: whoCanBe(service, selectors, open, starter, host, dirname(config.socket)),
      open,
      warnings: [
        ...warningsAbout(service, selectors, starter, host),
        ...warningsBeside(service, selectors, starter, others),
      ],
    };
  }
  return advice;
}

/** All variables are one selector, because their values may be secrets. */
function withoutEnv(selectors: Selector[]): Selector[] {
  const first = selectors.find(({ path }) => isEnvironment(path));
  return selectors.flatMap((selector) => {
    if (!isEnvironment(selector.path)) return [selector];
    return selector === first ? [{ ...selector, path: ENV_PATH, wanted: HIDDEN }] : [];
  });
}

/** The settings that the service does not pin. A fragment of an object does not pin it: others may be
 * added. */
function openSettings(selectors: Selector[], starter: string, { store }: Host): string[] {
  const names = new Set(selectors.map(({ path }) => path));
  const namesVariables =
    names.has(EVERY_OTHER_VARIABLE) ||
    CODE_VARIABLES.every((name) => names.has(`${ENV_PATH}.${name}`));
  const isPinned = (path: string) => {
    if (path === ENV_PATH && namesVariables) return true;
    if (path === "container.Image") return selectors.some(isImageDigest);
    if (path === "peer.uid" && names.has("process.uid_inside")) return true;
    return names.has(path);
  };
  const ofDocker = store === "containerd" ? [...PINNED_PATHS, MANIFEST_PATH] : PINNED_PATHS;
  const wanted = starter === ANYBODY ? ofDocker : POD_PINNED_PATHS;
  return wanted.filter((path) => !isPinned(path));
}

function whoCanBe(
  { relax = [], data = [] }: Service,
  selectors: Selector[],
  open: string[],
  starter: string,
  { engine }: Host,
  socketDirectory: string,
): string {
  if (!selectors.some(isImageDigest)) {
    const kinds = new Set(selectors.map(({ path }) => kindOf(path)));
    return `${enumerate([...kinds])} only: ${starter} can be this service`;
  }
  if (open.length > 0) return `${starter} can be this service by ${whatIsOpen(selectors, open)}`;
  if (starter !== ANYBODY) {
    const settings =
      "another seccomp profile, hook or exec probe: of a pod these are the creator's word";
    const sentence = `${starter} can be this service by this image with ${settings}`;
    return [sentence, ...volumesOfOthers(selectors)].join("; ");
  }
  if (engine === "podman") {
    return (
      `${starter} can be this service by this image with another seccomp profile: of Podman ` +
      "that is the starter's word"
    );
  }
  const isByName =
    selectors.some(({ path }) => path.startsWith(`${ENV_PATH}.`)) &&
    !selectors.some(({ path }) => path === EVERY_OTHER_VARIABLE);
  const additions = [
    ...(isByName ? ["with any variable that Config.Env does not name"] : []),
    ...mountsOfOthers(selectors, socketDirectory).map((name) => `and whoever writes to ${name}`),
    ...data.map((mount) => `and whatever runs what is written to ${shown(mount)}`),
    ...(relax.length > 0 ? ["and whatever its relaxations let in"] : []),
  ];
  const command = isByName ? "command and mounts" : "command, environment and mounts";
  const only = `only this image with this ${command} can be this service`;
  return [engine === "docker" ? only : `on Docker ${only}`, ...additions].join(", ");
}

/** Such as "this image with other Path and Args". */
function whatIsOpen(selectors: Selector[], open: string[]): string {
  const names = open.map(shortName);
  const more = names.length - MISSING_SHOWN_MAX;
  const shownNames =
    more > 1 ? [...names.slice(0, MISSING_SHOWN_MAX), `${more} more settings`] : names;
  const what = `this image with other ${enumerate(shownNames)}`;
  const interpreter = selectors.find(namesInterpreter);
  if (!interpreter) return what;
  return (
    `${what}; a script that ${shown(interpreter.wanted)} runs is authenticated only by all of ` +
    "these together"
  );
}

/** The volumes and directories of the host whose content the service trusts. The directory of the
 * server's socket is root's. */
function mountsOfOthers(selectors: Selector[], socketDirectory: string): string[] {
  const selector = selectors.find(({ path }) => path === "container.Mounts");
  const mounts = alternatives(selector?.wanted ?? []) as (JsonObject | null)[];
  return mounts.flatMap((mount) => {
    const { Type = "", Name, Source } = mount ?? {};
    if (!mount || OWN_MOUNT_TYPES.includes(Type) || Source === socketDirectory) return [];
    return [Type === "volume" ? `volume ${Name}` : String(Source)];
  });
}

/** The volumes of a pod whose content is not its own. */
function volumesOfOthers(selectors: Selector[]): string[] {
  const mounts = valuesAt(selectors, "container.Mounts") as (JsonObject | null)[];
  const foreign = mounts.filter((mount) => mount && !OWN_VOLUME_KINDS.includes(mount.Type ?? ""));
  const names = [...new Set(foreign.map((mount) => String(mount?.Name)))];
  return names.length > 0 ? [`so can whoever writes to the volumes ${enumerate(names)}`] : [];
}

/** "uid" of peer.uid, and "labels" of any label. */
function kindOf(path: string): string {
  const [, ofMany] = /^(?:pod\.|container\.Config\.)(labels|annotations)\./i.exec(path) ?? [];
  return ofMany?.toLowerCase() ?? path.replace(/^(peer|process|container|pod)\./, "");
}

function namesInterpreter({ path, wanted }: Selector): boolean {
  if (path !== "container.Path" && path !== "process.exe") return false;
  return alternatives(wanted).some((program) => isInterpreter(String(program)));
}
