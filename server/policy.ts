// Question: which service is a process with this identity? Input: the identity document, and for
// each service the fragment that it must contain. Pure: no I/O, no clock.
// Guaranteed: exactly one service, or a refusal that names the nearest and what it misses.
import { isDeepStrictEqual } from "node:util";
import type { Json, JsonObject, Mismatch, Service } from "../types.ts";
import { Refusal } from "./refusal.ts";

const isObject = (value: Json): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const at = (all: JsonObject, key: string) => (Object.hasOwn(all, key) ? all[key] : null) ?? null;

/** What does not hold. Objects match as fragments, scalars by equality, a list against a list
 * element by element, a list against a scalar as any of these. */
export function mismatches(wanted: Json, seen: Json, path: string[] = []): Mismatch[] {
  if (isObject(wanted) && isObject(seen))
    return Object.keys(wanted).flatMap((key) =>
      mismatches(at(wanted, key), at(seen, key), [...path, key]),
    );
  const anyOf = Array.isArray(wanted) && !Array.isArray(seen) && wanted.includes(seen);
  if (anyOf || isDeepStrictEqual(wanted, seen)) return [];
  // The environment's values are shown to nobody.
  return [{ path: path.join("."), ...(path.includes("Env") ? {} : { wanted, seen }) }];
}

/** No mismatch. The first ends the search: there may be a thousand services. */
function holds(wanted: Json, seen: Json): boolean {
  if (Array.isArray(wanted)) return mismatches(wanted, seen).length === 0;
  if (!isObject(wanted) || !isObject(seen)) return wanted === seen;
  for (const key in wanted) if (!holds(wanted[key] ?? null, at(seen, key))) return false;
  return true;
}

/** The one service whose fragment the document contains (invariant 5). */
export function choose(identity: JsonObject, all: [string, Service][]): [string, Service] {
  const [found, another] = all.filter(([, { match }]) => holds(match, identity));
  if (another) throw new Refusal("ambiguous", { cause: { services: [found?.[0], another[0]] } });
  if (found) return found;
  const [nearest] = all
    .map(([service, { match }]) => ({ service, missing: mismatches(match, identity) }))
    .sort((a, b) => a.missing.length - b.missing.length);
  throw new Refusal("no-match", { cause: { service: nearest?.service, ...nearest?.missing[0] } });
}
