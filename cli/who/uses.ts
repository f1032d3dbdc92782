// Question: who used which secret how often, from when to when? Input: accesses, one after the
// other, in any order. Guaranteed: memory grows with the number of different answers only, and not
// beyond a bound.
import { Failure } from "../terminal.ts";
import type { Access, Who } from "./access.ts";

const USES_MAX = 200_000;

/** All equal accesses. `first` and `last` are times. */
export type Use = Omit<Access, "time"> & { times: number; first: string; last: string };

/** By the JSON of what is equal. */
export type Uses = Map<string, Use>;

/** Throws the Failure "noInput" where there are too many different uses. */
export function addAccess(uses: Uses, { time, ...access }: Access): void {
  const key = JSON.stringify(access);
  const use = uses.get(key);
  if (use) {
    use.times++;
    if (time < use.first) use.first = time;
    if (time > use.last) use.last = time;
    return;
  }
  if (uses.size >= USES_MAX) {
    throw new Failure(
      "noInput",
      `there are more than ${USES_MAX} different uses`,
      "ask for fewer: --service, --container, --secret, or fewer files",
    );
  }
  uses.set(key, { ...access, times: 1, first: time, last: time });
}

/** Which accesses are asked for; all members must hold. `container` is the beginning of an id, `pod` is
 * NAMESPACE/POD or NAMESPACE/POD/CONTAINER. */
export type Selectors = { service?: string; container?: string; pod?: string; secret?: string };

export function isSelected({ who, secret }: Access, selectors: Selectors): boolean {
  if (!isSelectedWho(who, selectors)) return false;
  return selectors.secret === undefined || isSecret(secret, selectors.secret);
}

/** By service, container and pod alone. */
export function isSelectedWho(who: Who, { service, container, pod }: Selectors): boolean {
  if (service === undefined && container === undefined && pod === undefined) return true;
  if (!("container" in who)) return false;
  if (service !== undefined && who.service !== service) return false;
  if (pod !== undefined && !`${who.pod}/`.startsWith(`${pod}/`)) return false;
  return container === undefined || who.container.startsWith(container);
}

/** `wanted` may be as `vault kv` names it, without the data/ of its API path; with * at the end it
 * is all that begin so. */
function isSecret(secret: string, wanted: string): boolean {
  const names = [secret, secret.replace("/data/", "/")];
  if (!wanted.endsWith("*")) return names.includes(wanted);
  return names.some((name) => name.startsWith(wanted.slice(0, -1)));
}
