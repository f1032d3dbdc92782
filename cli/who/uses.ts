// Question: who used which secret how often, from when to when? Input: accesses, one after the other,
// in any order. Guaranteed: memory grows with the number of different answers only, and not beyond
// a bound.
import { Failure } from "../terminal.ts";
import type { Access, Who } from "./access.ts";

const USES_MAX = 200_000;

export type Use = Omit<Access, "time"> & { times: number; first: string; last: string };

export function count(uses: Map<string, Use>, { time, ...access }: Access): void {
  const key = JSON.stringify(access);
  const use = uses.get(key);
  if (use) {
    use.times++;
    if (time < use.first) use.first = time;
    if (time > use.last) use.last = time;
  } else if (uses.size < USES_MAX) uses.set(key, { ...access, times: 1, first: time, last: time });
  else
    throw new Failure(
      "noInput",
      `more than ${USES_MAX} different uses`,
      "ask for less: --service, --container, --secret, or fewer files",
    );
}

export type Selectors = { service?: string; container?: string; secret?: string };

export function concerns({ who, secret }: Access, wanted: Selectors): boolean {
  return isWho(who, wanted) && (wanted.secret === undefined || isSecret(secret, wanted.secret));
}

export function isWho(who: Who, { service, container }: Selectors): boolean {
  if (service === undefined && container === undefined) return true;
  if (!("container" in who)) return false;
  const same = service === undefined || who.service === service;
  return same && (container === undefined || who.container.startsWith(container));
}

/** Also as `vault kv` names it, without the data/ of its API path; with * all that begin so. */
function isSecret(secret: string, wanted: string): boolean {
  const names = [secret, secret.replace("/data/", "/")];
  if (!wanted.endsWith("*")) return names.includes(wanted);
  return names.some((name) => name.startsWith(wanted.slice(0, -1)));
}
