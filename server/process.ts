// Question: what does /proc say about a process?
//
// Input: a pid that the kernel vouched for. Whoever runs in a container chooses its `exe` and its
// names, and with enough privilege its cgroup and namespaces.
// Guaranteed: a reading of one and the same process if it is still alive afterwards. For the peer,
// peercred checks that last; for the container's first process, where that is another one, the check
// `namespace` compares the two. Nothing is read that waits for the memory lock of the process
// (cmdline, environ, maps): whoever holds that lock would hold this server. What a workload can make
// long (threads, cgroups, mounts) is read up to a bound, and beyond it counts as what a check refuses
// (invariant 10).
// Sources: proc(5), cgroups(7), namespaces(7), capabilities(7).
import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  statSync,
} from "node:fs";
import { posix } from "node:path";
import { Refusal, unavailable } from "./refusal.ts";

export type Process = {
  exe: string;
  /** The number of the mount on which `exe` lies, as mountinfo has it. A path alone does not say in which
   * mount namespace it is one. */
  exe_mount: number;
  /** The lines of /proc/PID/cgroup. */
  cgroup: string[];
  ppid: number;
  /** Real, effective, saved and file system id. */
  uids: number[];
  gids: number[];
  /** Its effective user as it is called in its own user namespace; -1 if it has no name there. */
  uid_inside: number;
  /** Other processes of its uid can read its memory and take its descriptors. */
  dumpable: boolean;
  /** It is pid 1 of a pid namespace of its own. */
  init: boolean;
  /** No other process is in the container's cgroup or below it. */
  alone: boolean;
  /** The cgroup, below /sys/fs/cgroup, in which another process was seen, or at which the search ended
   * because there are too many. */
  others_in: string | null;
  /** Its numbers in each of its pid namespaces, the server's first. */
  pids: number[];
  /** The pid of its first thread's tracer, or 0; of any thread's where it was looked at closely.
   * -1: there are too many threads to look at. */
  tracer: number;
  /** Those of `CAPABILITIES` that it has, or can get by running a program. */
  capabilities: string[];
  /** When it started, in clock ticks after boot (USER_HZ: 100 a second). */
  start_ticks: number;
  namespaces: { user: string; pid: string; mnt: string };
};

/** The path of a cgroup, up to the leftmost name in it that is a container's, by either cgroup driver of
 * Docker or Podman, or by Podman below a unit of systemd's (Quadlet, `--cgroups=split`): a container in
 * a container is part of the outer one. A bare id directly below libpod_parent is that of a pod. */
const UP_TO_CONTAINER =
  /^(?:\/[^/]*)*?\/(?:docker-|libpod-(?:payload-)?|(?<!\/libpod_parent\/))([0-9a-f]{64})(?:\.scope)?(?=\/|$)/;
/** The same of a pod's container: below the kubelet's part of the path, which may itself be in a
 * container (kind). With ":" where the kubelet and the engine have different cgroup drivers. */
const UP_TO_PODS_CONTAINER =
  /^(?:\/[^/]*)*?\/[^/]*kubepods.*?(?:\/(?:cri-containerd-|crio-)?|:cri-containerd:|:crio:)([0-9a-f]{64})(?:\.scope)?(?=\/|$)/;
/** Root's own session, whose units are root's. The kernel lets nobody else make it at this place. */
const ROOT_SESSION = /^\/user\.slice\/user-0\.slice\/user@0\.service(?=\/|$)/;
/** A name outside the server's cgroup namespace that it cannot resolve; below a user's session, where
 * that user may choose any name (rootless engines). */
const UNSUPPORTED = /\/(\.\.|user@[^/]*)(\/|$)/;
/** By which a process deceives /proc or the engine, or acts on the host; with their bits. */
export const CAPABILITIES = {
  DAC_READ_SEARCH: 2,
  SYS_MODULE: 16,
  SYS_RAWIO: 17,
  SYS_PTRACE: 19,
  SYS_ADMIN: 21,
  SYS_RESOURCE: 24,
  BPF: 39,
  CHECKPOINT_RESTORE: 40,
};
const THREADS_MAX = 4096;
const CGROUPS_MAX = 64;
const CGROUP_DEPTH_MAX = 8;
/** Room for two pids. */
const PIDS_BYTES_MAX = 64;
const MOUNTS_BYTES_MAX = 1 << 19;
/** open(2), the same on each architecture of Linux that Node runs on. */
const O_PATH = 0o10000000;
/** Only `readStart` uses it. One for each file would keep the garbage collector busy. */
const readBuffer = Buffer.allocUnsafeSlow(MOUNTS_BYTES_MAX);
export const serverUserNamespace = readlinkSync("/proc/self/ns/user");
const CGROUP_ROOT = "/sys/fs/cgroup";
/** Where cgroup v1 is mounted as well, v2 is below it. */
const V2_ROOT = existsSync(`${CGROUP_ROOT}/cgroup.controllers`) ? "" : "/unified";

/** As much of a process as tells whose turn it is, before the engine is asked. */
export type Glance = {
  /** The lines of /proc/PID/cgroup. The name of a cgroup holds no newline. */
  cgroup: string[];
  /** The container that these lines name. */
  container: ContainersCgroups | undefined;
  /** /proc/PID/status. The kernel escapes the process's name in it, so that no line can be forged. */
  status: string;
  /** Its numbers in each of its pid namespaces, the server's first. */
  pids: number[];
  pidNamespace: string;
};

/** What /proc says now. Throws the refusal "exited" if the process is gone. */
export function glanceAt(pid: number): Glance {
  return whileItLives(pid, () => {
    const cgroup = readFileSync(`/proc/${pid}/cgroup`, "utf8").trimEnd().split("\n");
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    return {
      cgroup,
      container: findContainer(cgroup),
      status,
      pids: numbersOf(status, "NSpid"),
      pidNamespace: readlinkSync(`/proc/${pid}/ns/pid`),
    };
  });
}

/** It is pid 1 of a pid namespace of its own. */
export function isInit(pids: number[]): boolean {
  return pids.length > 1 && pids.at(-1) === 1;
}

/** All that is known of it, by this glance and what /proc says now. `isClose`: every thread and every
 * hierarchy is looked at, which takes three times as long. Throws as `glanceAt`. */
export function readProcess(pid: number, isClose = false, glance = glanceAt(pid)): Process {
  return whileItLives(pid, () => {
    const readLink = (name: string) => readlinkSync(`/proc/${pid}/${name}`);
    const { cgroup, status, pids, pidNamespace } = glance;
    const uids = numbersOf(status, "Uid");
    const [, uid = -1] = uids;
    const user = readLink("ns/user");
    // The last hierarchy is that of cgroup v2 where it is mounted. With CAP_SYS_ADMIN a process can
    // leave one of them.
    const [last = "", ...more] = containerOf(glance).directories.toReversed();
    const others = otherProcesses(pid, isClose ? [last, ...more.filter(existsSync)] : [last]);

    return {
      exe: readLink("exe"),
      exe_mount: mountOf(`/proc/${pid}/exe`),
      cgroup,
      ppid: Number(statusOf(status, "PPid")),
      start_ticks: startTicks(readFileSync(`/proc/${pid}/stat`, "utf8")),
      uids,
      gids: numbersOf(status, "Gid"),
      uid_inside: user === serverUserNamespace ? uid : uidInside(pid, uid),
      // The files of a process that is not dumpable belong to root.
      dumpable: statSync(`/proc/${pid}/environ`).uid === uid,
      alone: others === undefined,
      others_in: others?.slice(CGROUP_ROOT.length) ?? null,
      pids,
      init: isInit(pids),
      tracer: isClose ? tracerOfThreads(pid) : Number(statusOf(status, "TracerPid")),
      capabilities: capabilitiesOf(status),
      namespaces: { user, pid: pidNamespace, mnt: readLink("ns/mnt") },
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

/** By lines of INSIDE OUTSIDE COUNT, where OUTSIDE is as the server calls it (user_namespaces(7)). */
function uidInside(pid: number, uid: number): number {
  const map = readFileSync(`/proc/${pid}/uid_map`, "utf8");
  for (const range of map.matchAll(/(\d+) +(\d+) +(\d+)/g)) {
    const [, inside = 0, outside = 0, count = 0] = range.map(Number);
    if (uid >= outside && uid < outside + count) return inside + uid - outside;
  }
  return -1;
}

/** Of any thread: one that is not the first can have a tracer of its own (ptrace(2)). */
function tracerOfThreads(pid: number): number {
  const threads = readdirSync(`/proc/${pid}/task`);
  if (threads.length > THREADS_MAX) return -1;

  for (const thread of threads) {
    try {
      const status = readFileSync(`/proc/${pid}/task/${thread}/status`, "utf8");
      const tracer = Number(statusOf(status, "TracerPid"));
      if (tracer !== 0) return tracer;
    } catch (error) {
      if (!hasVanished(error)) throw error;
    }
  }
  return 0;
}

/** In the permitted set, or in the bounding set, which limits what a program can get by execve(2). */
function capabilitiesOf(status: string): string[] {
  const set = (field: string) => BigInt(`0x${statusOf(status, field)}`);
  const all = set("CapPrm") | set("CapBnd");
  const held = Object.entries(CAPABILITIES).filter(([, bit]) => (all >> BigInt(bit)) & 1n);
  return held.map(([name]) => name);
}

/** O_PATH opens no file, so that no file system has to answer. */
function mountOf(path: string): number {
  const file = openSync(path, O_PATH);
  try {
    const [, number] =
      /^mnt_id:\t(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${file}`, "utf8")) ?? [];
    return Number(number);
  } finally {
    closeSync(file);
  }
}

/** The mounts of a process's mount namespace: their numbers, and where the writable ones are. */
export type Mounts = { numbers: number[]; writable: string[] };

/** NUMBER PARENT DEVICE ROOT POINT OPTIONS [TAG …] - TYPE SOURCE OPTIONS: writable where neither the mount
 * nor its file system is "ro". White space in a name is escaped; SOURCE may be empty. */
const MOUNT = /^(\d+) \S+ \S+ \S+ (\S+) (r[ow])\S* (?:\S+ )*?- \S+ \S* (r[ow])/gm;

/** Undefined if there are too many. Throws as `readProcess`. */
export function readMounts(pid: number): Mounts | undefined {
  const path = `/proc/${pid}/mountinfo`;
  const text = whileItLives(pid, () => readStart(path, MOUNTS_BYTES_MAX));
  if (text.length >= MOUNTS_BYTES_MAX) return undefined;

  const mounts: Mounts = { numbers: [], writable: [] };
  const unescaped = (_: string, code: string) => String.fromCharCode(Number.parseInt(code, 8));
  for (const [, number, point = "", ofMount, ofFileSystem] of text.matchAll(MOUNT)) {
    mounts.numbers.push(Number(number));
    if (ofMount === "rw" && ofFileSystem === "rw")
      mounts.writable.push(point.replace(/\\([0-7]{3})/g, unescaped));
  }
  return mounts;
}

/** Its id, and the directories that list its processes, one for each hierarchy. */
type ContainersCgroups = { id: string; directories: string[] };

let upToContainer = UP_TO_CONTAINER;

/** The server's own cgroups, by the root of their hierarchy, where it has a cgroup namespace. */
const ownCgroups = new Map<string, string | undefined>();

/** From now on only containers of pods are found, by a server in a cgroup namespace of its own too. */
export function expectPods(): void {
  upToContainer = UP_TO_PODS_CONTAINER;
  for (const line of readFileSync("/proc/self/cgroup", "utf8").split("\n")) {
    const { hierarchy, path } = parseCgroup(line);
    if (path === "/") ownCgroups.set(hierarchy, findOwnCgroup(hierarchy));
  }
}

/** HIERARCHY:CONTROLLERS:PATH */
function parseCgroup(line: string) {
  const [, controllers, path = ""] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
  const name = controllers ? `/${controllers.replace("name=", "")}` : V2_ROOT;
  return { hierarchy: CGROUP_ROOT + name, path };
}

/** The container by the cgroups of one of its processes. What a workload makes below its directories is
 * part of it. It is only a hint: whoever can make cgroups can write any id, so the engine must confirm
 * it (invariant 4). */
export function findContainer(cgroup: string[]): ContainersCgroups | undefined {
  let id: string | undefined;
  const directories: string[] = [];
  for (const line of cgroup) {
    const { hierarchy, path: seen } = parseCgroup(line);
    const path = resolveInNamespace(hierarchy, seen);
    // What is below the container has names of its choice.
    const [outside = path, found] = upToContainer.exec(path) ?? [];
    if (UNSUPPORTED.test(outside.replace(ROOT_SESSION, ""))) return undefined;
    if (!found) continue;
    id ??= found;
    if (found !== id) return undefined;
    directories.push(hierarchy + outside);
  }
  return id ? { id, directories } : undefined;
}

/** In a cgroup namespace of its own, a server sees paths relative to its own cgroup. */
function resolveInNamespace(root: string, path: string): string {
  if (!/^\/\.\.(\/|$)/.test(path)) return path;
  // What leads above the root stays as it is.
  return `/${posix.join(ownCgroups.get(root) ?? ".", `.${path}`)}`;
}

/** Its path below the root, which must be the host's. Undefined if it is not there. */
function findOwnCgroup(root: string, path = "."): string | undefined {
  try {
    const pids = readFileSync(`${root}/${path}/cgroup.procs`, "utf8").split("\n");
    if (pids.includes(`${process.pid}`)) return path;
    for (const entry of readdirSync(`${root}/${path}`, { withFileTypes: true })) {
      const own = entry.isDirectory() ? findOwnCgroup(root, `${path}/${entry.name}`) : undefined;
      if (own) return own;
    }
  } catch {} // it was removed meanwhile
  return undefined;
}

/** Throws the refusal "no-container" if the cgroups name none. */
export function containerOf({ container, cgroup }: Glance): ContainersCgroups {
  if (container) return container;
  throw new Refusal("no-container", { cgroup });
}

/** The first cgroup, of these and all below them, that holds a process other than `pid`, or at which
 * the search reaches its limits. */
function otherProcesses(pid: number, directories: string[]): string | undefined {
  const pending = directories.map((directory) => ({ directory, depth: 0 }));
  for (const { directory, depth } of pending) {
    try {
      const pids = readStart(`${directory}/cgroup.procs`, PIDS_BYTES_MAX).trim().split("\n");
      if (pids.some((other) => other !== "" && other !== `${pid}`)) return directory;

      const below = statSync(directory).nlink - 2; // its name, ".", and one for each that is below
      if (below === 0) continue;
      if (depth === CGROUP_DEPTH_MAX || pending.length + below > CGROUPS_MAX) return directory;
      for (const entry of readdirSync(directory, { withFileTypes: true }))
        if (entry.isDirectory())
          pending.push({ directory: `${directory}/${entry.name}`, depth: depth + 1 });
    } catch (error) {
      if (depth === 0 || !hasVanished(error)) throw error; // what was removed has no process
    }
  }
  return undefined;
}

/** The file up to this length. */
function readStart(path: string, bytesMax: number): string {
  const file = openSync(path, "r");
  try {
    let length = 0;
    for (let read = 1; read > 0; length += read)
      read = readSync(file, readBuffer, length, bytesMax - length, null);
    return readBuffer.toString("utf8", 0, length);
  } finally {
    closeSync(file);
  }
}

/** The value of a line of /proc/PID/status. Throws if the line is missing: an unknown value must not
 * pass for 0. */
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

/** A process or cgroup that is gone: ENOENT where it is opened, ESRCH or ENODEV where it is read.
 * ENOTSUP: a threaded cgroup, whose processes are listed above it. */
function hasVanished(error: unknown): boolean {
  return ["ENOENT", "ESRCH", "ENODEV", "ENOTSUP"].includes(
    (error as NodeJS.ErrnoException).code ?? "",
  );
}
