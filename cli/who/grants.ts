// Question: which containers were given a token, and which of these tokens live? Input: lines of our
// servers' audit streams (docs/audit.md), also as journalctl prints them.
// Guaranteed: a line that is none is passed over; what no stream says has ended counts as living.
import type { JsonObject } from "../../server/json.ts";

export type Grant = { service: string; since: string; ended?: string; living: Set<string> };
export type Grants = Map<string, Grant>;

/** False: it should have been a line of the stream, and is broken. */
export function note(grants: Grants, line: string): boolean {
  const begin = line.indexOf('{"time"');
  if (begin < 0) return true;
  try {
    take(grants, JSON.parse(line.slice(begin)));
    return true;
  } catch {
    return false; // cut by whoever carried it
  }
}

function take(grants: Grants, { event, time, container, service, accessor }: JsonObject): void {
  if (event !== "granted" && event !== "revoked") return;
  if (typeof container !== "string" || typeof service !== "string") return;
  const when = new Date(String(time)).toISOString();
  const grant = grants.get(container) ?? { service, since: when, living: new Set() };
  grants.set(container, grant);
  if (typeof accessor !== "string") return; // shared by all of its service, nobody's to end
  if (event === "granted") grant.living.add(accessor);
  else {
    grant.living.delete(accessor);
    grant.ended = when;
  }
}
