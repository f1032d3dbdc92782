// Question: which service is a process with this identity? Input: the identity document, and for
// each service the fragment that it must contain. Pure: no I/O, no clock.
// Guaranteed: exactly one service, or a refusal that names the nearest and what it misses.
import { isDeepStrictEqual } from "node:util";
import type { Json, JsonObject, Mismatch, Service } from "../types.ts";
import { Refusal } from "./refusal.ts";

function isObject(value: Json): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** What does not hold. Objects match as fragments, scalars by equality, a list against a list
 * element by element, a list against a scalar as any of these. */
export function mismatches(wanted: Json, seen: Json, path: string[] = []): Mismatch[] {
  if (isObject(wanted) && isObject(seen))
    return Object.entries(wanted).flatMap(([key, value]) =>
      mismatches(value, Object.hasOwn(seen, key) ? (seen[key] ?? null) : null, [...path, key]),
    );
  const anyOf = Array.isArray(wanted) && !Array.isArray(seen) && wanted.includes(seen);
  if (anyOf || isDeepStrictEqual(wanted, seen)) return [];
  // The environment's values are shown to nobody.
  return [{ path: path.join("."), ...(path.includes("Env") ? {} : { wanted, seen }) }];
}

/** The one service whose fragment the document contains (invariant 5). */
export function choose(identity: JsonObject, services: Record<string, Service>): [string, Service] {
  const [nearest, next] = Object.entries(services)
    .map(([name, service]) => ({ name, service, missing: mismatches(service.match, identity) }))
    .sort((a, b) => a.missing.length - b.missing.length);
  const cause = { service: nearest?.name, ...nearest?.missing[0] };
  if (!nearest || nearest.missing.length > 0) throw new Refusal("no-match", { cause });
  if (next?.missing.length !== 0) return [nearest.name, nearest.service];
  throw new Refusal("ambiguous", { cause: { services: [nearest.name, next.name] } });
}
