// Question: why was a container, or a service, last turned away? Input: the audit stream
// (docs/audit.md), also as journalctl prints it: each line's JSON is what begins with {"time".
// Guaranteed: lines that are not audit lines are passed over.
import type { Json, JsonObject } from "../server/json.ts";
import { reasonLines } from "./explanation-text.ts";
import { columns, paint, shown } from "./terminal.ts";

/** A line of the audit stream, by which no token was given. */
export type RefusalEntry = JsonObject & { event: "refused" | "unavailable"; reason: string };

/** A shorter beginning of a container's id would fit too many. */
const ID_LENGTH_MIN = 4;

/** The last refusal that concerns one of these names: services, pids, beginnings of a container's
 * id, NAMESPACE/POD[/CONTAINER]. Of all refusals where there is no name. */
export async function lastRefusal(
  lines: AsyncIterable<string> | Iterable<string>,
  names: string[],
): Promise<RefusalEntry | undefined> {
  let last: RefusalEntry | undefined;
  for await (const line of lines) {
    const entry = parseRefusal(line);
    if (!entry) continue;
    if (names.length === 0 || names.some((name) => concerns(entry, name))) last = entry;
  }
  return last;
}

function parseRefusal(line: string): RefusalEntry | undefined {
  const begin = line.indexOf('{"time"');
  if (begin < 0) return undefined;
  try {
    const entry: JsonObject = JSON.parse(line.slice(begin));
    const isRefusal = entry.event === "refused" || entry.event === "unavailable";
    return isRefusal && typeof entry.reason === "string" ? (entry as RefusalEntry) : undefined;
  } catch {
    return undefined; // the line was cut on its way
  }
}

function concerns(entry: RefusalEntry, name: string): boolean {
  const { container = entry.claimed, pid, service, detail, pod, pod_container } = entry;
  const isId =
    typeof container === "string" && name.length >= ID_LENGTH_MIN && container.startsWith(name);
  const isPod = pod !== undefined && [pod, `${pod}/${pod_container}`].includes(name);
  const isPid = pid !== undefined && String(pid) === name;
  // Of "no-match" the detail has the nearest service, of "ambiguous" all that match.
  const refusalDetail = typeof detail === "object" && detail !== null ? (detail as JsonObject) : {};
  const services: Json[] = [
    service ?? "",
    refusalDetail.service ?? "",
    refusalDetail.services ?? "",
  ].flat();
  return isId || isPod || isPid || services.includes(name);
}

/** What `authproxy explain --last` prints, as lines. */
export function refusalLines({ event, reason, detail, ...entry }: RefusalEntry): string[] {
  const { time, id, ms, service, relaxed, ...peer } = entry;
  return [
    paint("bold", String(time)),
    ...columns(Object.entries(peer).map(([name, value]) => [name, shown(value)])),
    "",
    ...reasonLines(event, reason, detail, typeof service === "string" ? service : undefined),
  ];
}
