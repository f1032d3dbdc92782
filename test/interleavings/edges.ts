// Question: what do the server's modules get in place of Node's modules and of http.ts?
//
// hooks.ts puts this module there. Everything is answered by the world of the schedule that runs now.
// In this file `readFileSync` and the others are only what the server's modules call.
import type { RequestOptions } from "node:http";
import { MAPPED_NAMESPACE, noEntry, STATE, type World } from "./world.ts";

export { AnswerTooLong, HttpError } from "../../server/http.ts";

import { HttpError } from "../../server/http.ts";

let world: World;

export function setWorld(next: World): void {
  world = next;
}

// ---- node:fs

const user = process.getuid?.() ?? 0;
const stats = {
  uid: user,
  mode: 0o040700,
  nlink: 2,
  isDirectory: () => false,
  isSymbolicLink: () => false,
};
const constants: Record<string, string> = {
  "/proc/sys/kernel/random/boot_id": "boot\n",
  "/proc/self/ns/user": "user:[1]",
};
const opened = new Map<number, string>();
let descriptors = 100;

function processAt(path: string) {
  // A process has one thread.
  const [, pid, name = ""] = /^\/proc\/(\d+)\/(?:task\/\1\/)?(.*)$/.exec(path) ?? [];
  const found = world.processes.get(Number(pid));
  if (pid && !found) throw noEntry("open", path);
  return found && { found, name };
}

function textAt(path: string): string {
  if (path.startsWith("/proc/self/fdinfo/")) return "mnt_id:\t1\n";
  const constant = constants[path];
  if (constant) return constant;
  if (path.startsWith("/sys/fs/cgroup/")) {
    const container = world.containers.find(({ id }) => path.includes(id));
    const pids = container ? world.inContainer(container).map(({ pid }) => `${pid}\n`) : [];
    if (pids.length === 0) throw noEntry("open", path);
    return pids.join("");
  }
  const ofProcess = processAt(path);
  if (!ofProcess) {
    const text = world.files.get(path);
    if (text === undefined) throw noEntry("open", path);
    return text;
  }

  const { found, name } = ofProcess;
  const { pid, ticks, container, start } = found;
  switch (name) {
    case "cgroup":
      return `0::/docker/${container.id}\n`;
    case "status": {
      const inside = start.init === found ? 1 : 2;
      const ids = "1\t1\t1\t1";
      const capabilities = "CapPrm:\t0\nCapBnd:\t0\n";
      return `PPid:\t1\nTracerPid:\t0\nUid:\t${ids}\nGid:\t${ids}\nNSpid:\t${pid}\t${inside}\n${capabilities}`;
    }
    case "uid_map":
      return "0 0 4294967295\n";
    case "mountinfo":
      return "1 0 0:1 / / ro - overlay overlay ro\n";
    case "stat":
      return `${pid} (app) S${" 0".repeat(18)} ${ticks} 0`;
    case "exe":
      found.looks.push({ step: world.stepNumber, execs: found.execs });
      return found.execs === 0 ? "/app" : `/other-${found.execs}`;
    case "ns/user":
      return container.kind === "mapped" ? `user:[${MAPPED_NAMESPACE}]` : "user:[1]";
    case "ns/pid":
    case "ns/mnt":
      return `${name.slice(3)}:[${start.init.ticks}]`;
    default:
      throw noEntry("open", path);
  }
}

export const readFileSync = (path: string | number) =>
  textAt(typeof path === "number" ? (opened.get(path) ?? "") : path);
export const readlinkSync = textAt;
export const existsSync = (path: string) => path === "/sys/fs/cgroup/cgroup.controllers";
export const mkdirSync = () => undefined;
export const fstatSync = () => stats;
export const lstatSync = () => stats;

export function statSync(path: string) {
  const ofProcess = processAt(path);
  return ofProcess ? { ...stats, uid: 1 } : stats;
}

export function openSync(path: string): number {
  // Of a program the mount is asked for, and no look is taken.
  if (processAt(path)?.name !== "exe") textAt(path);
  opened.set(++descriptors, path);
  return descriptors;
}

/** All of it at once, and then nothing. */
export function readSync(descriptor: number, buffer: Buffer, offset: number): number {
  const path = opened.get(descriptor);
  return path === undefined || offset > 0 ? 0 : buffer.write(textAt(path), offset);
}

export function closeSync(descriptor: number): void {
  opened.delete(descriptor);
}

export function readdirSync(path: string): string[] {
  const ofProcess = processAt(path);
  if (ofProcess) return [`${ofProcess.found.pid}`]; // its threads
  return [...world.files.keys()]
    .filter((file) => path === STATE && file.startsWith(`${STATE}/`))
    .map((file) => file.slice(STATE.length + 1))
    .sort();
}

export const writeFileSync = (path: string, text: string) => world.writeFile(path, text);
export const renameSync = (from: string, to: string) => world.renameFile(from, to);
export const rmSync = (path: string) => world.removeFile(path);

// ---- node:os, node:crypto

export const hostname = () => "host";
export const uptime = () => world.uptimeMs / 1000;
export const randomUUID = () => world.uuid();

// ---- node:timers/promises

type SleepOptions = { signal?: AbortSignal };

function sleep(ms: number, value?: unknown, { signal }: SleepOptions = {}): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const timer = world.setTimer(() => resolve(value), ms, false);
    signal?.addEventListener("abort", () => {
      world.clearTimer(timer);
      reject(new Error("aborted"));
    });
  });
}

/** A step of its own: processes exec and exit meanwhile. */
function nextTurn(): Promise<void> {
  const { life } = world;
  return new Promise((resolve) => {
    if (life.isAlive) world.step("the server's next turn", () => life.isAlive && resolve());
  });
}

export { nextTurn as setImmediate, sleep as setTimeout };

// ---- node:child_process

export function spawn() {
  const { peercred } = world.life;
  return {
    on: () => {},
    stderr: { pipe: () => {} },
    stdin: { on: () => {}, write: (text: string) => peercred.command(text) },
    stdout: {
      setEncoding: () => {},
      on: (_event: "data", onData: (text: string) => void) => peercred.start(onData),
    },
  };
}

// ---- http.ts

type Outgoing = RequestOptions & { path: string; deadlineMs: number };

export async function exchange(_send: unknown, options: Outgoing, body?: object) {
  const { path, deadlineMs, socketPath } = options;
  const enginePath = path.replace(/^\/v1\.\d+/, "");
  try {
    return await world.exchange(
      socketPath ? enginePath : path,
      Boolean(socketPath),
      body,
      deadlineMs,
    );
  } catch (error) {
    throw new HttpError(path, (error as Error).message);
  }
}

// ---- what needs no import

/** From now on the server's clock, timers, chance and audit stream are the world's. Returns what undoes
 * that. */
export function replaceGlobals(): () => void {
  const { setTimeout, setInterval, clearTimeout } = globalThis;
  const { now: wallClock } = Date;
  const { random } = Math;
  const stdout = Object.getOwnPropertyDescriptor(process, "stdout");

  const fakes = {
    setTimeout: (call: () => void, ms = 0) => world.setTimer(call, ms, false),
    setInterval: (call: () => void, ms = 0) => world.setTimer(call, ms, true),
    clearTimeout: (timer: unknown) => world.clearTimer(timer),
  };
  Object.assign(globalThis, fakes);
  Date.now = () => world.wallClockMs;
  Math.random = () => world.random();
  performance.now = () => world.nowMs;
  const stream = {
    on: () => {},
    writableLength: 0,
    get writableNeedDrain() {
      return world.isAuditFull;
    },
    write: (line: string, onWritten: () => void) => world.writeAudit(line, onWritten),
  };
  Object.defineProperty(process, "stdout", { configurable: true, value: stream });

  return () => {
    Object.assign(globalThis, { setTimeout, setInterval, clearTimeout });
    Date.now = wallClock;
    Math.random = random;
    Reflect.deleteProperty(performance, "now");
    if (stdout) Object.defineProperty(process, "stdout", stdout);
  };
}
