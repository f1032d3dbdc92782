// Question: what does /proc say about a process?
//
// Input: a pid that the kernel vouched for. Whoever runs in a container chooses its `exe` and its
// names, and with enough privilege its cgroup and namespaces.
// Guaranteed: a reading of one and the same process if it is still alive afterwards. For the peer,
// peercred checks that last; for the container's first process, where that is another one, the check
// `namespace` compares the two. Nothing is read that waits for the memory lock of the process (cmdline, environ,
// maps): whoever holds that lock would hold this server (invariant 10).
// Sources: proc(5), cgroups(7), namespaces(7).
import { existsSync, readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { Refusal, unavailable } from "./refusal.ts";

export type Process = {
  exe: string;
  /** The lines of /proc/PID/cgroup. */
  cgroup: string[];
  ppid: number;
  /** Real, effective, saved and file system id. */
  uids: number[];
  gids: number[];
  /** Other processes of its uid can read its memory and take its descriptors. */
  dumpable: boolean;
  /** It is pid 1 of a pid namespace of its own. */
  init: boolean;
  /** No other process is in the container's cgroup or below it. With CAP_SYS_ADMIN a process can leave
   * it. */
  alone: boolean;
  /** Its numbers in each of its pid namespaces, the server's first. */
  pids: number[];
  /** The pid of its tracer, or 0. */
  tracer: number;
  /** When it started, in clock ticks after boot (USER_HZ: 100 a second). */
  start_ticks: number;
  namespaces: { user: string; pid: string; mnt: string };
};

/** A line of /proc/PID/cgroup, HIERARCHY:CONTROLLERS:PATH, up to the leftmost name in its path that is
 * a container's, by either cgroup driver of Docker or Podman: a container in a container is part of
 * the outer one. */
const UP_TO_CONTAINER =
  /^\d+:([^:]*):((?:\/[^/]*)*?\/(?:docker-|libpod-)?([0-9a-f]{64})(?:\.scope)?)(?:\/|$)/;
/** A name outside the server's cgroup namespace; one that a user may choose (rootless engines); the
 * kubelet's. */
const UNSUPPORTED = /\/(\.\.|user@[^/]*|kubepods[^/]*)(\/|$)/;
const CGROUP_ROOT = "/sys/fs/cgroup";
/** Where cgroup v1 is mounted as well, v2 is below it. */
const V2_ROOT = existsSync(`${CGROUP_ROOT}/cgroup.controllers`) ? "" : "/unified";

/** As much of a process as tells whose turn it is, before the engine is asked. */
export type Glance = {
  /** The lines of /proc/PID/cgroup. The name of a cgroup holds no newline. */
  cgroup: string[];
  /** /proc/PID/status. The kernel escapes the process's name in it, so that no line can be forged. */
  status: string;
  pidNamespace: string;
};

/** What /proc says now. Throws the refusal "exited" where the process is gone. */
export function glanceAt(pid: number): Glance {
  return whileItLives(pid, () => ({
    cgroup: readFileSync(`/proc/${pid}/cgroup`, "utf8").trimEnd().split("\n"),
    status: readFileSync(`/proc/${pid}/status`, "utf8"),
    pidNamespace: readlinkSync(`/proc/${pid}/ns/pid`),
  }));
}

/** The process's numbers in each of its pid namespaces, the server's first. */
export function pidsOf({ status }: Glance): number[] {
  return numbersOf(status, "NSpid");
}

/** It is pid 1 of a pid namespace of its own. */
export function isInit(pids: number[]): boolean {
  return pids.length > 1 && pids.at(-1) === 1;
}

/** All that is known of it, by this glance and what /proc says now. Throws as `glanceAt`. */
export function readProcess(pid: number, glance = glanceAt(pid)): Process {
  return whileItLives(pid, () => {
    const read = (name: string) => readFileSync(`/proc/${pid}/${name}`, "utf8");
    const readLink = (name: string) => readlinkSync(`/proc/${pid}/${name}`);
    const { cgroup, status, pidNamespace } = glance;
    const uids = numbersOf(status, "Uid");
    const pids = pidsOf(glance);

    return {
      exe: readLink("exe"),
      cgroup,
      ppid: Number(statusOf(status, "PPid")),
      start_ticks: startTicks(read("stat")),
      uids,
      gids: numbersOf(status, "Gid"),
      // The files of a process that is not dumpable belong to root.
      dumpable: statSync(`/proc/${pid}/environ`).uid === uids[1],
      alone: countProcesses(containerIn(cgroup).directory) === 1,
      pids,
      init: isInit(pids),
      tracer: Number(statusOf(status, "TracerPid")),
      namespaces: { user: readLink("ns/user"), pid: pidNamespace, mnt: readLink("ns/mnt") },
    };
  });
}

/** The process with this pid is the one that started then, in clock ticks after boot. A zombie counts
 * as running. */
export function isRunning(pid: number, ticks: number): boolean {
  try {
    return startTicks(readFileSync(`/proc/${pid}/stat`, "utf8")) === ticks;
  } catch (error) {
    return !hasVanished(error); // without a descriptor to look by (EMFILE), assume that it lives
  }
}

/** Field 22 of /proc/PID/stat. Field 2, the name, may hold anything: count from the last ")". */
function startTicks(stat: string): number {
  return Number(/^.*\) \S(?: -?\d+){18} (\d+)/s.exec(stat)?.[1]);
}

type CgroupOfContainer = { id: string; directory: string };

/** The container's id and the directory that lists its processes, by the cgroup of one of them. What
 * a workload makes below that directory is part of the container. It is only a hint: whoever can
 * make cgroups can write any id, so the engine must confirm it (invariant 4). Throws the refusal
 * "no-container". */
export function containerIn(cgroup: string[]): CgroupOfContainer {
  const container = findContainer(cgroup);
  if (container) return container;
  throw new Refusal("no-container", { cgroup });
}

export function findContainer(cgroup: string[]): CgroupOfContainer | undefined {
  const found = cgroup.flatMap((line) => containerInLine(line) ?? []);
  const last = found.at(-1); // the line of cgroup v2, where it is mounted
  const isOne = found.every(({ id }) => id === last?.id);
  const isSupported = !cgroup.some((line) => UNSUPPORTED.test(line));
  return isOne && isSupported ? last : undefined;
}

function containerInLine(line: string): CgroupOfContainer | undefined {
  const [, controllers, path, id] = UP_TO_CONTAINER.exec(line) ?? [];
  if (!id) return undefined;
  const hierarchy = controllers ? `/${controllers.replace("name=", "")}` : V2_ROOT;
  return { id, directory: CGROUP_ROOT + hierarchy + path };
}

/** In this cgroup and all below it. */
function countProcesses(directory: string): number {
  let count = readFileSync(`${directory}/cgroup.procs`, "utf8").split("\n").length - 1;
  if (statSync(directory).nlink === 2) return count; // its name and ".": nothing is below it

  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    if (!entry.isDirectory()) continue;
    try {
      count += countProcesses(`${directory}/${entry.name}`);
    } catch (error) {
      if (!hasVanished(error)) throw error; // a cgroup that was removed has no process
    }
  }
  return count;
}

/** The value of a line of /proc/PID/status. Throws where there is no such line: what a check does not
 * know must not pass for 0. */
function statusOf(status: string, field: string): string {
  const [, value] = new RegExp(`^${field}:\t(.*)$`, "m").exec(status) ?? [];
  if (value === undefined) throw new Error(`/proc/PID/status has no ${field}`);
  return value;
}

function numbersOf(status: string, field: string): number[] {
  return statusOf(status, field).split(/\s/).map(Number);
}

function whileItLives<Reading>(pid: number, read: () => Reading): Reading {
  try {
    return read();
  } catch (error) {
    const { path = "/proc/" } = error as NodeJS.ErrnoException;
    throw hasVanished(error) && path.startsWith("/proc/") ? unavailable("exited", { pid }) : error;
  }
}

/** A process or cgroup that is gone: ENOENT where it is opened, ESRCH or ENODEV where it is read. */
function hasVanished(error: unknown): boolean {
  return ["ENOENT", "ESRCH", "ENODEV"].includes((error as NodeJS.ErrnoException).code ?? "");
}
