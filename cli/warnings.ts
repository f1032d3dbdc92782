// Question: which of a service's selectors are weak, or can never hold? Input: the service, its
// selectors, the other services, and what is known of this host. Pure.
import { isDeepStrictEqual } from "node:util";
import type { Service } from "../server/config.ts";
import type { Json, JsonObject } from "../server/json.ts";
import { isInterpreter } from "../server/writable.ts";
import type { Host } from "./host.ts";
import { nearest } from "./nearest.ts";
import { choiceWarnings, warningsAboutPod } from "./pod-warnings.ts";
import {
  ANYBODY,
  alternatives,
  ENV_PATH,
  isComparedWhole,
  type Selector,
  selectorsOf,
  valuesAt,
} from "./selectors.ts";
import { SETTINGS } from "./settings.ts";
import { enumerate } from "./words.ts";

/** Warnings about the service by itself, in the order in which they matter. `starter` is who chooses
 * how its containers are started. */
export function warningsAbout(
  service: Service,
  selectors: Selector[],
  starter: string,
  host: Host,
): string[] {
  const { match, relax = [] } = service;
  const warnings = [
    ...(starter === ANYBODY ? [] : warningsAboutPod(selectors, starter)),
    ...dumpableWarning(selectors, starter),
    ...pidWarning(selectors),
    ...labelWarning(selectors, host),
    ...composeWarning(selectors),
    ...checkWarnings(selectors, relax),
    ...dataWarning(service, selectors),
    ...valuesAt(selectors, "container.Image").flatMap((pin) => imageWarning(String(pin), host)),
  ];
  if (host.container)
    warnings.push(...neverHolding(match.container ?? {}, host.container, "container"));
  return warnings;
}

function dumpableWarning(selectors: Selector[], starter: string): string[] {
  if (valuesAt(selectors, "peer.uid").includes(0)) {
    return [
      "uid 0: root in a container reads what an undumpable client hides; run it as another user",
    ];
  }
  if (valuesAt(selectors, "process.dumpable").includes(false)) return [];
  const withoutRights = starter === ANYBODY ? "--cap-drop ALL" : 'capabilities: { drop: ["ALL"] }';
  return [
    "process.dumpable is not pinned: a user of the host with the same uid, or a container that " +
      "shares its pids, can take the token from the client; make the client's node " +
      `execute-only (chmod 0711), start it with ${withoutRights}, and match ` +
      '"process": { "dumpable": false }',
  ];
}

function pidWarning(selectors: Selector[]): string[] {
  const pids = [...valuesAt(selectors, "peer.pid"), ...valuesAt(selectors, "process.ppid")];
  return pids.length > 0 ? ["a pid is different at each start: this holds only by chance"] : [];
}

function labelWarning(selectors: Selector[], { mac }: Host): string[] {
  if (!mac || valuesAt(selectors, "peer.label").length > 0) return [];
  return [
    `no security label is pinned, and this kernel has ${mac}: if the audit stream's ` +
      '"label" is not empty, match "peer": { "label": … }',
  ];
}

function composeWarning(selectors: Selector[]): string[] {
  const selector = selectors.find(({ path }) => path.includes(".Labels.com.docker.compose."));
  if (!selector) return [];
  return [
    `${selector.path} is Compose's own: Compose writes it into images that it builds, and the ` +
      "check labels refuses those; use a label of your own",
  ];
}

function checkWarnings(selectors: Selector[], relax: string[]): string[] {
  const impossible = ["init", "alone"].filter(
    (check) => valuesAt(selectors, `process.${check}`).includes(false) && !relax.includes(check),
  );
  return impossible.map(
    (check) => `process.${check}: false can never hold while the check ${check} is not relaxed`,
  );
}

/** What an interpreter is given by name is code. */
function dataWarning({ data = [] }: Service, selectors: Selector[]): string[] {
  const program = valuesAt(selectors, "container.Path").find((path) => isInterpreter(String(path)));
  if (data.length === 0 || program === undefined) return [];
  return [
    `${program} runs what its arguments name, on ${enumerate(data)} too: if one of them names a ` +
      "script there, take that mount out of data",
  ];
}

/** `.Image` is the digest of the configuration in the classic store and on a node, of the manifest in
 * containerd's store of Docker. */
function imageWarning(pin: string, { images, store, engine }: Host): string[] {
  if (!images || images.some(({ Id }) => Id === pin)) return [];

  const place = engine === "cri" ? "a node's engine" : `this engine's ${store} store`;
  const sameManifest = images.find(({ RepoDigests }) =>
    RepoDigests?.some((name) => name.endsWith(`@${pin}`)),
  );
  if (sameManifest) {
    return [
      `Image ${pin} is the digest of a manifest, and ${place} uses that of the configuration: ` +
        `write ${sameManifest.Id}, or pin Config.Image by NAME@${pin}`,
    ];
  }
  const otherKind =
    store === "containerd"
      ? "of a configuration, as in the classic store"
      : "of a manifest, as in the containerd store";
  return [
    `Image ${pin}: this engine has no image with that digest; either the image is not here yet, ` +
      `or the digest is ${otherKind}, which ${place} never shows`,
  ];
}

/** Selectors that are misspelled, or of a type that can never be equal, as the engine's own answer
 * about a container shows. What the engine leaves out where it is empty raises no warning. */
function neverHolding(wanted: Json, seen: Json, path: string): string[] {
  if (seen === null || alternatives(wanted).includes(null)) return [];
  const isByName = path === ENV_PATH && isObject(wanted);
  if (isByName) return [];
  if (!isObject(wanted)) {
    if (!canBeEqual(wanted, seen)) return [otherType(path, seen)];
    return nameWithoutSlash(wanted, seen, path);
  }
  if (!isObject(seen)) return [otherType(path, seen)];

  const isFreelyNamed = /\.(Labels|Networks)$/.test(path);
  return Object.entries(wanted).flatMap(([key, value]) => {
    const memberPath = `${path}.${key}`;
    if (Object.hasOwn(seen, key)) return neverHolding(value, seen[key] ?? null, memberPath);
    if (isFreelyNamed || SETTINGS.some((setting) => setting.path === memberPath)) return [];
    const elsewhere = SETTINGS.find((setting) => setting.path.endsWith(`.${key}`));
    if (elsewhere) return [`${memberPath} is not where the engine has it: write ${elsewhere.path}`];
    const near = nearest(key, Object.keys(seen));
    return near ? [`${memberPath} is not a name that the engine uses: did you mean ${near}?`] : [];
  });
}

function isObject(value: Json): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** By its type. */
function canBeEqual(wanted: Json, seen: Json): boolean {
  if (isObject(seen)) return Array.isArray(wanted) && wanted.some(isObject);
  if (Array.isArray(seen)) return Array.isArray(wanted);
  return alternatives(wanted).some((value) => typeof value === typeof seen);
}

function otherType(path: string, seen: Json): string {
  const type = Array.isArray(seen) ? "a list" : isObject(seen) ? "an object" : `a ${typeof seen}`;
  return `${path} can never hold: the engine says ${type} there`;
}

function nameWithoutSlash(wanted: Json, seen: Json, path: string): string[] {
  if (path !== "container.Name" || !String(seen).startsWith("/")) return [];
  const hasSlash = alternatives(wanted).some((name) => String(name).startsWith("/"));
  return hasSlash ? [] : [`${path} can never hold: the engine's names begin with "/"`];
}

/** Warnings about the service beside the others. */
export function warningsBeside(
  service: Service,
  selectors: Selector[],
  starter: string,
  others: [name: string, service: Service][],
): string[] {
  const warnings = starter === ANYBODY ? [] : choiceWarnings(selectors, starter, others);
  const uids = valuesAt(selectors, "peer.uid");
  const sharing = others.filter(([, { match }]) =>
    valuesAt(selectorsOf(match), "peer.uid").some((uid) => uids.includes(uid)),
  );
  if (sharing.length > 0) {
    const names = enumerate(sharing.map(([name]) => name));
    warnings.push(
      `its uid is also that of ${names}: processes of one uid may signal and trace each other`,
    );
  }
  for (const [name, { match }] of others) {
    if (isDeepStrictEqual(service.match, match))
      warnings.push(`it matches exactly what ${name} matches: always refused as ambiguous`);
    else if (isWithin(selectors, selectorsOf(match)))
      warnings.push(`${name} matches all that it matches: always refused as ambiguous`);
  }
  return warnings;
}

/** Whatever has all the narrow selectors has all the wide ones as well. */
function isWithin(narrow: Selector[], wide: Selector[]): boolean {
  return wide.every(({ path, wanted }) => {
    const selector = narrow.find((candidate) => candidate.path === path);
    if (!selector) return false;
    if (isDeepStrictEqual(selector.wanted, wanted)) return true;
    if (isComparedWhole(path)) return false;
    return alternatives(selector.wanted).every((value) => alternatives(wanted).includes(value));
  });
}
