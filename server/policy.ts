// Question: which service is a process with this identity? Input: the identity document, and each
// service's fragment of it, as selectors. Pure: no I/O, no clock.
// Guaranteed: exactly one service, or a refusal that names the nearest and what it misses.
import { isDeepStrictEqual } from "node:util";
import { Refusal } from "./refusal.ts";
import type { Json, JsonObject, Policy, Selector } from "./types.ts";

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function selectors(fragment: JsonObject, path: string[] = []): Selector[] {
  return Object.entries(fragment).flatMap(([key, wanted]) => {
    const here = [...path, key];
    return isObject(wanted) ? selectors(wanted, here) : [{ path: here, wanted }];
  });
}

export function at(document: Json, path: string[]): Json {
  let part = document;
  for (const key of path) part = (isObject(part) && Object.hasOwn(part, key) && part[key]) || null;
  return part;
}

/** Scalars by equality; a list against a list, element by element; against a scalar, as any of. */
function holds({ path, wanted }: Selector, document: JsonObject): boolean {
  const seen = at(document, path);
  if (!Array.isArray(wanted)) return wanted === seen;
  return Array.isArray(seen) ? isDeepStrictEqual(wanted, seen) : wanted.includes(seen);
}

/** The one service whose selectors all hold (invariant 5). */
export function choose(document: JsonObject, policy: Policy): string {
  const services = [...policy.keys()].filter((name) =>
    policy.get(name)?.every((selector) => holds(selector, document)),
  );
  const [service] = services;
  if (service !== undefined && services.length === 1) return service;
  if (service !== undefined) throw new Refusal("ambiguous", { cause: { services } });
  const missed = [...policy].map(([name, all]) => ({
    service: name,
    selectors: all.filter((selector) => !holds(selector, document)),
  }));
  const [nearest] = missed.sort((a, b) => a.selectors.length - b.selectors.length);
  const { path = [], wanted = null } = nearest?.selectors[0] ?? {};
  const shown = path.includes("Env") ? {} : { wanted, seen: at(document, path) };
  const cause = { service: nearest?.service, path: path.join("."), ...shown };
  throw new Refusal("no-match", { cause });
}
