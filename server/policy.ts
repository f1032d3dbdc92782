// Question: which service is a process with this identity?
//
// Input: the identity document, and for each service the fragment that the document must contain.
// Pure: no I/O, no clock.
// Guaranteed: exactly one service, or a Refusal that names the nearest one and what it lacks.
import { isDeepStrictEqual } from "node:util";
import type { Service } from "./config.ts";
import type { Json, JsonObject } from "./json.ts";
import { Refusal } from "./refusal.ts";

/** A selector that does not hold. Values of `Config.Env` are left out: they may be secrets. */
export type Mismatch = { path: string; wanted?: Json; seen?: Json };

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
 * anything else as any of these: of an object, as a whole. What is absent is null. With
 * `mismatches`, all of them are added to that list; without, the first one ends the search, because
 * there may be a thousand services. */
function matches(wanted: Json, seen: Json, mismatches?: Mismatch[], path = ""): boolean {
  if (isObject(wanted) && isObject(seen)) {
    let allMatch = true;
    for (const key in wanted) {
      const memberPath = mismatches ? `${path}${path && "."}${key}` : "";
      const wantedMember = wanted[key] ?? null;
      const seenMember = member(seen, key);
      // Variables are matched by name where the policy has an object.
      const isByName = key === "Env" && isObject(wantedMember) && Array.isArray(seenMember);
      const comparable = isByName ? variablesOf(seenMember as string[]) : seenMember;
      if (matches(wantedMember, comparable, mismatches, memberPath)) continue;
      if (!mismatches) return false;
      allMatch = false;
    }
    return allMatch;
  }
  if (isEqual(wanted, seen) || isAnyOf(wanted, seen)) return true;

  if (!mismatches) return false;
  const isEnvironment = path.split(".").includes("Env");
  mismatches.push(isEnvironment ? { path } : { path, wanted, seen });
  return false;
}

function isObject(value: Json): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function member(object: JsonObject, key: string): Json {
  return Object.hasOwn(object, key) ? (object[key] ?? null) : null;
}

function variablesOf(environment: string[]): JsonObject {
  return Object.fromEntries(
    environment.map((variable) => {
      const [name = ""] = variable.split("=", 1);
      return [name, variable.slice(name.length + 1)];
    }),
  );
}

function isAnyOf(wanted: Json, seen: Json): boolean {
  if (!Array.isArray(wanted) || Array.isArray(seen)) return false;
  return wanted.some((value) => isEqual(value, seen));
}

/** Of objects too: inside a list they are not fragments. */
function isEqual(wanted: Json, seen: Json): boolean {
  if (wanted === seen) return true;
  return typeof wanted === "object" && typeof seen === "object" && isDeepStrictEqual(wanted, seen);
}
