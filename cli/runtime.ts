// Question: how does a Docker engine learn of the runtime `authproxy`, and forget it again?
//
// Input: the engine's daemon.json, and the runtime as `npm run build` made it.
// Guaranteed: nothing else in that file changes, neither content nor layout; it is replaced as a
// whole, by one that this machine's dockerd accepts. The engine is told (SIGHUP) and asked; where
// it does not follow, the old file is put back. No container is touched.
import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, readFileSync, realpathSync, statSync } from "node:fs";
import { dirname, isAbsolute, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Json, JsonObject } from "../server/json.ts";
import { askEngine, ENGINE_SOCKET } from "./ask-engine.ts";
import {
  type Daemon,
  parseDaemon,
  RUNTIME_NAME,
  type Runtime,
  withoutRuntime,
  withRuntime,
} from "./daemon-json.ts";
import { readText, replaceFile } from "./replace-file.ts";
import { Failure } from "./terminal.ts";

const DAEMON_JSON = "/etc/docker/daemon.json";
export const DEFAULT_SOCKETS = "/run/authproxy";
const DEFAULT_PIDFILE = "/var/run/docker.pid";
const RELOAD_DEADLINE_MS = 10_000;
const POLL_INTERVAL_MS = 100;

const WRITABLE_BY_OTHERS = 0o022;
const STICKY = 0o1000;

/** Returns lines for the person who asked. `sockets` is the directory where the server listens.
 * Throws Failures: where the runtime could be changed by others, the file is not as it should be,
 * or the engine does not follow. */
export async function install(file = DAEMON_JSON, sockets?: string): Promise<string[]> {
  const runtime = builtRuntime(sockets);
  const before = readText(file);
  const after = withRuntime(before, runtime);
  if (after === before) return [`${file}: nothing to change`];

  const engineState = await replaceAndReload(file, before, after, true);
  return [
    `${file}: written`,
    engineState,
    "try: docker run --runtime authproxy … (docs/runtime.md)",
  ];
}

/** Returns lines for the person who asked. Throws as `install`. */
export async function uninstall(file = DAEMON_JSON): Promise<string[]> {
  const before = readText(file);
  const after = withoutRuntime(before);
  if (before === undefined || after === before) return [`${file}: nothing to change`];

  // An engine forgets a runtime when it is told of others, or of an empty list of them, but not
  // where the key is gone: so it is told first, and the key goes afterwards.
  const emptied = withoutRuntime(before, { keepKey: true }) ?? "{}";
  const engineState = await replaceAndReload(file, before, emptied, false);
  replaceFile(file, after, { check: requireAccepted });
  return [
    `${file}: ${after === undefined ? "removed, because nothing else was in it" : "written"}`,
    engineState,
    "containers that were made with it keep running, but cannot be started again",
  ];
}

/** The runtime of this installation, as Docker is told of it. */
function builtRuntime(sockets = DEFAULT_SOCKETS): Runtime {
  const path = runtimeProgram();
  // For arguments Docker writes a script around the runtime, which costs one exec more at each
  // call.
  return sockets === DEFAULT_SOCKETS ? { path } : { path, runtimeArgs: [socketsOption(sockets)] };
}

/** The runtime's option for another directory than the default. Throws the Failure "usage". */
export function socketsOption(sockets: string): string {
  if (isAbsolute(sockets)) return `--sockets=${sockets}`;
  throw new Failure("usage", `--sockets ${sockets}: is not an absolute path`);
}

/** The path of authproxy-runc. Throws a Failure where others than root could change it or its
 * client. */
export function runtimeProgram(): string {
  const program = "dist/runtime/authproxy-runc";
  const ownPath = join(import.meta.dirname, "..", program);
  // On a host each version is installed beside the others, and the link `current` leads to one.
  const currentPath = join(import.meta.dirname, "../../current", program);
  const isCurrent = existsSync(currentPath) && realpathSync(currentPath) === realpathSync(ownPath);
  const path = isCurrent ? currentPath : ownPath;
  requireTrusted(path);
  requireTrusted(join(dirname(path), "../authproxy/ld.so"));
  return path;
}

/** Writes the new text, and waits for the engine to follow; where it does not, writes the old text
 * again. `wanted`: the engine is to have the runtime. */
async function replaceAndReload(
  file: string,
  before: string | undefined,
  after: string,
  wanted: boolean,
): Promise<string> {
  replaceFile(file, after, { check: requireAccepted });
  try {
    return await reloadEngine(parseDaemon(after), wanted);
  } catch (error) {
    replaceFile(file, before, { check: requireAccepted });
    throw error;
  }
}

/** Asks dockerd, which can check a configuration without starting since 23.0. An older one does not
 * know the flag, and where there is no dockerd there is nobody to ask. */
function requireAccepted(file: string): void {
  const words = ["--validate", "--config-file", file];
  const { status, stderr } = spawnSync("dockerd", words, { encoding: "utf8" });
  if (status === null || status === 0 || stderr.includes("unknown flag")) return;
  throw new Failure("config", `dockerd does not accept the new file: ${stderr.trim()}`);
}

/** Sends SIGHUP to the engine, and asks it until it has the runtime, or has it no more. */
async function reloadEngine({ pidfile, hosts }: Daemon, wanted: boolean): Promise<string> {
  const pidFile = typeof pidfile === "string" ? pidfile : DEFAULT_PIDFILE;
  const pid = existsSync(pidFile) ? Number(readFileSync(pidFile, "utf8")) : 0;
  if (!pid || !existsSync(`/proc/${pid}`))
    return "no engine runs: this takes effect when one starts";
  const name = readFileSync(`/proc/${pid}/comm`, "utf8").trim();
  if (name !== "dockerd")
    throw new Failure("unavailable", `${pidFile}: process ${pid} is ${name}, not dockerd`);

  process.kill(pid, "SIGHUP");
  const deadlineMs = performance.now() + RELOAD_DEADLINE_MS;
  while ((await hasRuntime(socketIn(hosts))) !== wanted) {
    if (performance.now() > deadlineMs)
      throw new Failure("unavailable", "the engine did not follow", "its log says why");
    await sleep(POLL_INTERVAL_MS); // a reload gives no event
  }
  return `the engine (process ${pid}) has been told, and follows`;
}

/** The first UNIX socket of daemon.json's "hosts". */
function socketIn(hosts: Json | undefined): string {
  const addresses = Array.isArray(hosts) ? hosts.map(String) : [];
  const address = addresses.find((host) => host.startsWith("unix://"));
  return address?.slice("unix://".length) ?? ENGINE_SOCKET;
}

async function hasRuntime(socketPath: string): Promise<boolean> {
  const { Runtimes } = (await askEngine("info", socketPath)) as { Runtimes: JsonObject };
  return RUNTIME_NAME in Runtimes;
}

/** The engine runs it as root, so only root may be able to change it, or to put another in its
 * place. Throws a Failure where that is not so. */
export function requireTrusted(file: string): void {
  if (!existsSync(file))
    throw new Failure("noInput", `there is no ${file}`, "`npm run build` makes it");
  accessSync(file, constants.X_OK);
  for (let path = realpathSync(file); ; path = dirname(path)) {
    const { uid, mode } = statSync(path);
    // In a sticky directory others can add files, and not replace those of root.
    const isWritable = (mode & WRITABLE_BY_OTHERS) !== 0 && (mode & STICKY) === 0;
    if (uid !== 0 || isWritable) {
      throw new Failure(
        "config",
        `${path} is not root's alone: whoever can write it would become root`,
        "install a copy of dist/authproxy and dist/runtime that is, such as in /usr/local/lib",
      );
    }
    if (path === "/") return;
  }
}
