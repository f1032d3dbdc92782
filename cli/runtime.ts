// Question: how does a Docker engine come to know the runtime `authproxy`, and forget it again?
// Input:    the engine's daemon.json, and the runtime as `npm run build` made it.
// Promise:  of that file nothing else changes, neither content nor layout; it is replaced whole, by one
//           that this machine's dockerd takes for valid. The engine is told (SIGHUP) and asked; where
//           it does not follow, the file is again what it was. No container is touched.
import { spawnSync } from "node:child_process";
import {
  accessSync,
  chmodSync,
  chownSync,
  constants,
  existsSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, isAbsolute, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { applyEdits, modify, type ParseError, parse } from "jsonc-parser";
import type { JsonObject } from "../server/json.ts";
import { askEngine, ENGINE } from "./ask-engine.ts";
import { Failure } from "./terminal.ts";

export const DAEMON_JSON = "/etc/docker/daemon.json";
const NAME = "authproxy";
const SOCKETS = "/run/authproxy";
const RELOAD_DEADLINE_MS = 10_000;

/** What the engine is told to run. */
type Runtime = { path: string; runtimeArgs?: string[] };
type Daemon = JsonObject & { runtimes?: Record<string, Runtime> };

function runtimeHere(sockets = SOCKETS): Runtime {
  if (!isAbsolute(sockets)) throw new Failure("usage", `--sockets ${sockets}: no absolute path`);
  const program = "dist/runtime/authproxy-runc";
  const own = join(import.meta.dirname, "..", program);
  // Installed on a host, by the link that each version takes over from the one before.
  const current = join(import.meta.dirname, "../../current", program);
  const path = existsSync(current) && realpathSync(current) === realpathSync(own) ? current : own;
  // Docker's own way to hand on an argument is a script of the engine's, one start more.
  return sockets === SOCKETS ? { path } : { path, runtimeArgs: [`--sockets=${sockets}`] };
}

/** Each returns what is to be said to who asked for it. */
export async function install(file = DAEMON_JSON, sockets?: string): Promise<string[]> {
  const runtime = runtimeHere(sockets);
  requireTrusted(runtime.path);
  requireTrusted(join(dirname(runtime.path), "../authproxy/ld.so"));
  const before = readDaemon(file);
  const after = withRuntime(before, runtime);
  if (after === before) return [`${file}: nothing to change`];
  const told = await replace(file, before, after, true);
  return [`${file}: written`, told, "try: docker run --runtime authproxy … (docs/runtime.md)"];
}

export async function uninstall(file = DAEMON_JSON): Promise<string[]> {
  const before = readDaemon(file);
  const after = withoutRuntime(before);
  if (before === undefined || after === before) return [`${file}: nothing to change`];
  // An engine forgets its runtimes when it is told of others, or of none; not where the key is gone.
  const told = await replace(file, before, edited(before, ["runtimes", NAME], undefined), false);
  put(file, after);
  const done = after === undefined ? "removed: it held nothing else" : "written";
  return [`${file}: ${done}`, told, "containers made with it run on, and do not start again"];
}

/** Pure. Throws where another runtime has the name. */
export function withRuntime(text: string | undefined, runtime: Runtime): string {
  const daemon = parsed(text);
  const present = daemon.runtimes?.[NAME];
  if (present && present.path !== runtime.path) {
    throw new Failure(
      "config",
      `another runtime is named ${NAME}: ${present.path}`,
      "uninstall it first, if it is an older one of these",
    );
  }
  if (text === undefined || Object.keys(daemon).length === 0)
    return `${JSON.stringify({ runtimes: { [NAME]: runtime } }, null, 2)}\n`;
  if (JSON.stringify(present) === JSON.stringify(runtime)) return text;
  return edited(text, ["runtimes", NAME], runtime);
}

/** Pure. Undefined: nothing is left to be in the file. */
export function withoutRuntime(text: string | undefined): string | undefined {
  const { runtimes = {}, "default-runtime": usual } = parsed(text);
  if (text === undefined || !runtimes[NAME]) return text;
  if (usual === NAME)
    throw new Failure("config", `"default-runtime" is ${NAME}`, "take that line away first");
  const isOnly = Object.keys(runtimes).length === 1;
  const left = edited(text, isOnly ? ["runtimes"] : ["runtimes", NAME], undefined);
  return Object.keys(parsed(left)).length === 0 ? undefined : left;
}

function parsed(text = "{}"): Daemon {
  const errors: ParseError[] = [];
  const value: unknown = parse(text.trim() || "{}", errors, { disallowComments: true });
  if (errors.length === 0 && typeof value === "object" && value !== null && !Array.isArray(value))
    return value as Daemon;
  throw new Failure("config", "daemon.json is not one JSON object: nothing was changed");
}

/** What is put in stands on a line of its own where the file has lines, after what was the last; so
 * that, taken away, it leaves the text that was. */
function edited(text: string, path: string[], value: Runtime | undefined): string {
  const edits = modify(text, path, value, {}).map(({ offset, length, content }) => {
    const line = /(\r?\n[ \t]*)[^\n]*$/.exec(text.slice(0, offset))?.[1] ?? "";
    return { offset, length, content: content.replace(/^,/, `,${line}`) };
  });
  return applyEdits(text, edits);
}

function readDaemon(file: string): string | undefined {
  return existsSync(file) ? readFileSync(file, "utf8") : undefined;
}

/** The new text, and an engine that follows; or the old one. */
async function replace(
  file: string,
  before: string | undefined,
  after: string,
  wanted: boolean,
): Promise<string> {
  put(file, after);
  try {
    return await reload(parsed(after), wanted);
  } catch (error) {
    put(file, before);
    throw error;
  }
}

/** A link stays a link: what it leads to is replaced. */
function put(file: string, text: string | undefined): void {
  const target = existsSync(file) ? realpathSync(file) : file;
  if (text === undefined) {
    rmSync(target, { force: true });
    return;
  }
  if (!existsSync(dirname(target)))
    throw new Failure("noInput", `no directory ${dirname(target)}`, "is the engine installed?");
  const unfinished = `${target}.authproxy`;
  const { mode = 0o644, uid = 0, gid = 0 } = statSync(target, { throwIfNoEntry: false }) ?? {};
  rmSync(unfinished, { force: true });
  try {
    writeFileSync(unfinished, text, { flag: "wx", flush: true });
    chmodSync(unfinished, mode);
    chownSync(unfinished, uid, gid);
    requireValid(unfinished);
    renameSync(unfinished, target);
  } finally {
    rmSync(unfinished, { force: true });
  }
}

/** dockerd looks at a configuration without starting since 23.0; an older one does not know the flag. */
function requireValid(file: string): void {
  const words = ["--validate", "--config-file", file];
  const { status, stderr } = spawnSync("dockerd", words, { encoding: "utf8" });
  if (status === null || status === 0 || stderr.includes("unknown flag")) return;
  throw new Failure("config", `dockerd does not take it: ${stderr.trim()}`);
}

/** SIGHUP, and then what the engine says. */
async function reload({ pidfile, hosts }: Daemon, wanted: boolean): Promise<string> {
  const place = typeof pidfile === "string" ? pidfile : "/var/run/docker.pid";
  const pid = existsSync(place) ? Number(readFileSync(place, "utf8")) : 0;
  if (!pid || !existsSync(`/proc/${pid}`)) return "no engine runs: it takes effect when one starts";
  const name = readFileSync(`/proc/${pid}/comm`, "utf8").trim();
  if (name !== "dockerd")
    throw new Failure("unavailable", `${place}: process ${pid} is ${name}, not dockerd`);
  process.kill(pid, "SIGHUP");
  const listed = Array.isArray(hosts) ? hosts.map(String) : [];
  const socket = listed.find((host) => host.startsWith("unix://"))?.slice("unix://".length);
  const deadlineMs = performance.now() + RELOAD_DEADLINE_MS;
  for (;;) {
    const { Runtimes } = (await askEngine("info", socket ?? ENGINE)) as { Runtimes: JsonObject };
    if (NAME in Runtimes === wanted)
      return `the engine (process ${pid}) has been told, and follows`;
    if (performance.now() > deadlineMs)
      throw new Failure("unavailable", "the engine did not follow: its log says why");
    await sleep(100); // a reload gives no event
  }
}

/** The engine runs it as root: nobody else may be able to change it, or to put another in its place. */
export function requireTrusted(file: string): void {
  if (!existsSync(file)) throw new Failure("noInput", `no ${file}`, "npm run build makes it");
  accessSync(file, constants.X_OK);
  for (let path = realpathSync(file); ; path = dirname(path)) {
    const { uid, mode } = statSync(path);
    const sticky = (mode & 0o1000) !== 0; // others can add to it, and not replace
    if (uid !== 0 || ((mode & 0o022) !== 0 && !sticky)) {
      throw new Failure(
        "config",
        `${path} is not root's alone: who can write it would be root`,
        "install a copy of dist/authproxy and dist/runtime that is, as in /usr/local/lib",
      );
    }
    if (path === "/") return;
  }
}
