// Question: what does /proc say about a process? Input: a pid that the kernel vouched for. Who runs
// in a container chooses its exe and names, and with enough privilege its cgroup and
// namespaces. Guaranteed: a reading of one and the same process if it is still alive afterwards,
// which peercred checks last. Sources: proc(5), cgroups(7), namespaces(7).
import { existsSync, readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import type { Process } from "../types.ts";
import { Refusal } from "./refusal.ts";

// Of the path, the leftmost id: a container in a container is part of the outer one.
const WITH_ID = /^\d+:[^:]*:(?:\/[^/]*)*?\/(?:docker-|libpod-)?([0-9a-f]{64})(?:\.scope)?(?:\/|$)/;
// Where v1 is mounted too, v2 is below it.
const V2 = existsSync("/sys/fs/cgroup/cgroup.controllers") ? "" : "/unified";
// Outside our cgroup namespace; what a user may name (rootless engines); the kubelet's.
const UNSUPPORTED = /\/(\.\.|user@[^/]*|kubepods[^/]*)(\/|$)/;

/** Its lines: a cgroup's name holds no newline. Throws as readProcess does. */
export const cgroupOf = (pid: number) =>
  readFileSync(`/proc/${pid}/cgroup`, "utf8").trimEnd().split("\n");

/** `cgroup`: as it was read before. Throws ENOENT or ESRCH when the process is gone. Invariant 10:
 * reads nothing that waits for its memory lock (cmdline, environ, maps); who holds that would hold
 * us. */
export function readProcess(pid: number, cgroup = cgroupOf(pid)): Process {
  const read = (name: string) => readFileSync(`/proc/${pid}/${name}`, "utf8");
  const link = (name: string) => readlinkSync(`/proc/${pid}/${name}`);
  const status = read("status"); // the kernel escapes the name in it: no line can be forged
  const line = (field: string) => new RegExp(`^${field}:\t(.*)$`, "m").exec(status)?.[1];
  const numbers = (field: string) => String(line(field)).split(/\s/).map(Number);
  return {
    exe: link("exe"),
    cgroup,
    ppid: Number(numbers("PPid")),
    start_ticks: startTicks(read("stat")),
    uids: numbers("Uid"),
    gids: numbers("Gid"),
    dumpable: statSync(`/proc/${pid}/environ`).uid === numbers("Uid")[1], // else it is root's
    alone: countProcesses(cgroupDirectory(containerIn(cgroup).line)) === 1,
    pids: numbers("NSpid"),
    init: /^NSpid:\t.*\t1$/m.test(status),
    tracer: Number(numbers("TracerPid")),
    namespaces: { user: link("ns/user"), pid: link("ns/pid"), mnt: link("ns/mnt") },
  };
}

/** Field 22 of /proc/PID/stat, in clock ticks after boot. The name, field 2, may hold anything:
 * counted from the last ")". */
export function startTicks(stat: string): number {
  return Number(/^.*\) \S(?: -?\d+){18} (\d+)/s.exec(stat)?.[1]);
}

/** The container id in a process's cgroup, and the last line that has it, up to it: what a workload
 * makes below is part of the container. Only a hint: who may make cgroups can write any id, so the
 * engine must confirm it (invariant 4). */
export function containerIn(cgroup: string[]): { id: string; line: string } {
  const [id, another] = new Set(cgroup.flatMap((line) => WITH_ID.exec(line)?.[1] ?? []));
  const [line] = WITH_ID.exec(cgroup.findLast((text) => WITH_ID.test(text)) ?? "") ?? [];
  if (id && line && !another && !cgroup.some((text) => UNSUPPORTED.test(text))) return { id, line };
  throw new Refusal("no-container", { cause: { cgroup } });
}

/** Where the kernel lists the processes of a line of /proc/PID/cgroup: v2, hybrid or v1. */
function cgroupDirectory(line: string): string {
  const [, controllers = "", ...path] = line.split(":");
  const hierarchy = controllers ? `/${controllers.replace("name=", "")}` : V2;
  return `/sys/fs/cgroup${hierarchy}${path.join(":")}`;
}

function countProcesses(directory: string): number {
  const here = readFileSync(`${directory}/cgroup.procs`, "utf8").split("\n").length - 1;
  if (statSync(directory).nlink === 2) return here; // its name and ".": no directory below
  const below = readdirSync(directory, { withFileTypes: true }).filter((e) => e.isDirectory());
  return below.reduce((sum, { name }) => sum + countProcesses(`${directory}/${name}`), here);
}
