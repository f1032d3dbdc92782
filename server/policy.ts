// Question: which service is a process with this identity?
//
// Input: the identity document, and for each service the fragment that the document must contain.
// Pure: no I/O, no clock.
// Guaranteed: exactly one service, or a Refusal that names the nearest one and what it lacks.
import { isDeepStrictEqual } from "node:util";
import type { Service } from "./config.ts";
import { type Json, type JsonObject, wordsOf } from "./json.ts";
import { Refusal } from "./refusal.ts";

/** A selector that does not hold. Values that may be secrets are left out (`SECRET_MEMBER`), and what
 * is more than scalars and lists of them is named, not shown (invariant 8). */
export type Mismatch = { path: string; wanted?: Json; seen?: Json };

/** Environment, commands, and what a health check printed. */
const SECRET_MEMBER = /\.(Env|Args|Cmd|Entrypoint|Health|Healthcheck|Log|annotations)(\.|$)/;

const SHOWN_MAX = 32;

export type NamedService = [name: string, service: Service];

/** The one service whose fragment the identity document contains (invariant 5). Throws the refusals
 * "no-match" and "ambiguous". */
export function choose(identity: JsonObject, services: NamedService[]): NamedService {
  const matching = services.filter(([, { match }]) => matches(match, identity));
  const [first, second] = matching;
  if (second) throw new Refusal("ambiguous", { services: matching.map(([name]) => name) });
  if (first) return first;

  const [nearest] = rank(identity, services);
  throw new Refusal("no-match", { service: nearest?.name ?? null, ...nearest?.missing[0] });
}

/** All services with what they lack, the nearest first. */
export function rank(identity: JsonObject, services: NamedService[]) {
  return services
    .map(([name, { match }]) => ({ name, missing: mismatchesOf(match, identity) }))
    .sort((a, b) => a.missing.length - b.missing.length);
}

/** All that `seen` lacks of `wanted`. */
export function mismatchesOf(wanted: JsonObject, seen: JsonObject): Mismatch[] {
  const mismatches: Mismatch[] = [];
  matches(wanted, seen, mismatches);
  return mismatches;
}

/** Objects match as fragments, scalars by equality, a list against a list in order, a list against
 * anything else as any of these: of an object, as a whole; `Env` as `environments` says. What is
 * absent is null. Without `mismatches` the first one ends the search, because there may be a thousand
 * services; with it, all of them are added to that list, and what is returned means nothing. */
function matches(wanted: Json, seen: Json, mismatches?: Mismatch[], path = ""): boolean {
  if (isObject(wanted) && isObject(seen)) {
    for (const key in wanted) {
      const memberPath = mismatches ? `${path}${path && "."}${key}` : "";
      let pair: [Json, Json] = [wanted[key] ?? null, member(seen, key)];
      if (key === "Env") pair = environments(...pair, member(seen, "KubernetesEnv"));
      if (!matches(...pair, mismatches, memberPath) && !mismatches) return false;
    }
    return true;
  }
  if (isDeepStrictEqual(wanted, seen) || isAnyOf(wanted, seen)) return true;

  if (mismatches) {
    const isSecret = SECRET_MEMBER.test(path);
    mismatches.push(isSecret ? { path } : { path, wanted: shown(wanted), seen: shown(seen) });
  }
  return false;
}

/** Both as they are compared: lists sorted, because two starts with the same variables can have them in
 * another order; an object by name, "*" for all others. A variable that stands twice, or has no "=",
 * has no value that a policy can want: programs differ in what they take it for. Those that Kubernetes
 * makes count only where they are named: nobody can list them, and none may pass for absent. */
function environments(wanted: Json, seen: Json, byKubernetes: Json): [wanted: Json, seen: Json] {
  if (Array.isArray(wanted) && Array.isArray(seen)) return [wanted.toSorted(), seen.toSorted()];
  if (!isObject(wanted) || isObject(seen)) return [wanted, seen];

  const values = new Map<string, Json>();
  const named = wordsOf(byKubernetes).filter((text) =>
    Object.hasOwn(wanted, text.split("=", 1)[0] ?? ""),
  );
  for (const text of [...wordsOf(seen), ...named]) {
    const [name = "", ...value] = text.split("=");
    const isUsual = value.length > 0 && !values.has(name);
    values.set(name, isUsual ? value.join("=") : false);
  }
  const hasOthers = [...values.keys()].some((name) => !Object.hasOwn(wanted, name));
  if (hasOthers) values.set("*", false);
  return [wanted, Object.fromEntries(values)];
}

/** Of a list of mounts, what they are; of other objects, that there is one. */
function shown(value: Json): Json {
  if (Array.isArray(value)) return value.slice(0, SHOWN_MAX).map(shown);
  if (!isObject(value)) return value;
  const { Destination, RW } = value;
  return typeof Destination === "string" ? `${Destination}${RW ? "" : ":ro"}` : "an object";
}

function isObject(value: Json): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function member(object: JsonObject, key: string): Json {
  return Object.hasOwn(object, key) ? (object[key] ?? null) : null;
}

function isAnyOf(wanted: Json, seen: Json): boolean {
  if (!Array.isArray(wanted) || Array.isArray(seen)) return false;
  return wanted.some((value) => isDeepStrictEqual(value, seen)); // an object in a list is compared whole
}
