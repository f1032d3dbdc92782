// Question: which containers were given a token, and which of these tokens live? Input: lines of
// our servers' audit streams (docs/audit.md), also as journalctl prints them.
// Guaranteed: a line that is not of a stream is passed over; a token is living unless a stream says
// that it has ended.
import type { JsonObject } from "../../server/json.ts";
import { isEnd } from "../ends.ts";
import { podIn } from "./access.ts";

/** Of one container. Both times are ISO 8601; `living` are the accessors of living tokens. */
export type Grant = {
  service: string;
  /** NAMESPACE/POD/CONTAINER, on Kubernetes only. */
  pod?: string;
  since: string;
  ended?: string;
  living: Set<string>;
};

/** By the container's id. */
export type Grants = Map<string, Grant>;

/** Adds what the line says. Returns false where it should have been a line of the stream, and is
 * broken. */
export function addLine(grants: Grants, line: string): boolean {
  const begin = line.indexOf('{"time"');
  if (begin < 0) return true;
  try {
    addEntry(grants, JSON.parse(line.slice(begin)));
    return true;
  } catch {
    return false; // it was cut on its way
  }
}

function addEntry(grants: Grants, entry: JsonObject): void {
  const { event, time, container, service, accessor } = entry;
  if (event !== "granted" && !isEnd(event)) return;
  if (typeof container !== "string" || typeof service !== "string") return;

  const isoTime = new Date(String(time)).toISOString();
  const grant: Grant = grants.get(container) ?? { service, since: isoTime, living: new Set() };
  grants.set(container, grant);
  const pod = podIn(entry); // the line that ends a token need not have it
  if (pod) grant.pod = pod;
  // A ready token has no accessor: all containers of the service share it, and none can end it.
  if (typeof accessor !== "string") return;
  if (event === "granted") {
    grant.living.add(accessor);
    return;
  }
  grant.living.delete(accessor);
  grant.ended = isoTime;
}
