// Question: why was a container, or a service, last turned away? Input: the audit stream
// (docs/audit.md), also as journalctl prints it: each line's JSON is what begins with {"time".
// Guaranteed: lines that are no audit line are passed over.
import type { Json, JsonObject } from "../server/json.ts";
import { reasonLines } from "./explain.ts";
import { columns, paint, shown } from "./terminal.ts";

export type Turned = JsonObject & { event: "refused" | "unavailable"; reason: string };

/** The last refusal of one of these: services, pids, beginnings of a container's id; none: of all. */
export async function lastRefusal(
  lines: AsyncIterable<string> | Iterable<string>,
  whom: string[],
): Promise<Turned | undefined> {
  let last: Turned | undefined;
  for await (const line of lines) {
    const found = parse(line);
    if (found && (whom.length === 0 || whom.some((name) => concerns(found, name)))) last = found;
  }
  return last;
}

function parse(line: string): Turned | undefined {
  const begin = line.indexOf('{"time"');
  if (begin < 0) return undefined;
  try {
    const found: JsonObject = JSON.parse(line.slice(begin));
    const turned = found.event === "refused" || found.event === "unavailable";
    return turned && typeof found.reason === "string" ? (found as Turned) : undefined;
  } catch {
    return undefined; // cut by whoever carried it
  }
}

function concerns({ container, pid, service, detail }: Turned, whom: string): boolean {
  const near = (typeof detail === "object" && detail !== null ? detail : {}) as JsonObject;
  const services: Json[] = [service ?? "", near.service ?? "", near.services ?? []].flat();
  const id = typeof container === "string" && whom.length >= 4 && container.startsWith(whom);
  return id || services.includes(whom) || (pid !== undefined && String(pid) === whom);
}

export function refusalLines({ event, reason, detail, ...facts }: Turned): string[] {
  const { time, id, ms, service, relaxed, ...peer } = facts;
  return [
    paint("bold", String(time)),
    ...columns(Object.entries(peer).map(([name, value]) => [name, shown(value)])),
    "",
    ...reasonLines(event, reason, detail, typeof service === "string" ? service : undefined),
  ];
}
