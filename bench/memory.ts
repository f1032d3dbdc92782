// Question: how much memory do these processes have, in MB?
// `rss` counts a page that they share once for each of them. `alone` counts it once: what the machine
// has less for them, if no other process has the same program loaded. (Pss of proc(5) would divide
// it among all who have it, the bench's own Node too.)
import { readFileSync } from "node:fs";

export type Memory = { rss: number; alone: number };

/** A mapping's first line; of a file, its offset and path name what processes share. */
const MAPPING = /^[\da-f]+-[\da-f]+ \S+ ([\da-f]+) \S+ \d+ +(\/.*)$/;

export function memoryOf(...pids: number[]): Memory {
  const shared = new Map<string, number>(); // the most that one of them has of it
  const sum = { rss: 0, alone: 0 };
  for (const pid of pids) {
    for (const mapping of readIfAlive(`/proc/${pid}/smaps`).split(/\n(?=[\da-f]+-)/)) {
      const kib = (field: string) =>
        Number(new RegExp(`^${field}: +(\\d+) kB$`, "m").exec(mapping)?.[1] ?? 0);
      const [, offset, path] = MAPPING.exec(mapping.split("\n", 1)[0] ?? "") ?? [];
      const own = kib("Anonymous");
      sum.rss += kib("Rss") / 1024;
      sum.alone += own / 1024;
      const place = path ? `${offset} ${path}` : `${pid} ${mapping}`;
      shared.set(place, Math.max(shared.get(place) ?? 0, kib("Rss") - own));
    }
  }
  for (const most of shared.values()) sum.alone += most / 1024;
  return sum;
}

/** Some of the peers fork for each request: a child may end while it is looked at. */
function readIfAlive(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return ""; // ENOENT or ESRCH: it has no memory
  }
}

/** A process and all that descend from it. */
export function tree(pid: number): number[] {
  const text = readIfAlive(`/proc/${pid}/task/${pid}/children`);
  return [pid, ...text.split(" ").filter(Boolean).map(Number).flatMap(tree)];
}

/** Seconds of processor time that a process has used: fields 14 and 15 of /proc/PID/stat. */
export function processorSeconds(pid: number): number {
  const TICKS_A_SECOND = 100;
  const text = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_A_SECOND;
}
