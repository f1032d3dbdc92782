// Question: how much memory do these processes have, in MB?
// Rss counts a page that processes share once for each; Pss divides it among them, so that a sum is
// what the machine has less (proc(5), smaps_rollup).
import { readFileSync } from "node:fs";

export type Memory = { rss: number; pss: number };

export function memoryOf(...pids: number[]): Memory {
  const sum = { rss: 0, pss: 0 };
  for (const pid of pids) {
    const text = readIfAlive(`/proc/${pid}/smaps_rollup`);
    const kib = (field: string) =>
      Number(new RegExp(`^${field}: +(\\d+) kB$`, "m").exec(text)?.[1] ?? 0);
    sum.rss += kib("Rss") / 1024;
    sum.pss += kib("Pss") / 1024;
  }
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
