// Question: how does the engine of a Kubernetes node come to know the handler `authproxy`, and forget it?
//
// Input:    the change that containerd.ts or crio.ts plans; the engine's socket; how it is restarted.
// Guaranteed: a person is asked before a restart. Where the engine does not come back as it was, and
//           with the handler, the old file is put back and the engine restarted once more. A restart
//           ends no container: each has a shim or a monitor of its own.
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, rmSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { confirm } from "./confirm.ts";
import { RUNTIME_NAME } from "./daemon-json.ts";
import { blockIn, hasBlock } from "./handler-toml.ts";
import { KubernetesNode, type NodeStatus } from "./kubernetes-node.ts";
import { readText, replaceFile } from "./replace-file.ts";
import { DEFAULT_SOCKETS, requireTrusted, runtimeProgram, socketsOption } from "./runtime.ts";
import { Failure } from "./terminal.ts";

/** A script that calls our runtime with options: a handler names a program only. */
export type Launcher = { file: string; text: string };
/** The program for a handler that is to become `realRuntime`. */
export type ProgramOf = (realRuntime: string) => { path: string; launcher?: Launcher };
/** What becomes of one file. An absent text is an absent file. */
export type Change = { file: string; before: string | undefined; after: string | undefined };
export type Planned = {
  /** Absent where the configuration is as it should be. */
  change?: Change;
  launcher?: Launcher | undefined;
  /** The socket that the configuration names. */
  address?: string | undefined;
};

export type NodeEngine = {
  name: string;
  defaultConfig: string;
  defaultSocket: string;
  /** Where no file is taken for configuration. */
  directoryOf(config: string): string;
  planInstall(config: string, programOf: ProgramOf): Planned;
  planUninstall(config: string): Planned;
};

export type NodeOptions = {
  config?: string | undefined;
  address?: string | undefined;
  sockets?: string | undefined;
  /** A command for a shell. */
  restart?: string | undefined;
  isConfirmed?: boolean | undefined;
  isDryRun?: boolean | undefined;
};

type Running = { name: string; address: string; restart: string | undefined };

const LAUNCHER = "authproxy-runc";
const LAUNCHER_HEAD = "#!/bin/sh\n# Written by `authproxy runtime install`.\n";
const BACKUP_SUFFIX = ".before-authproxy";
const RESTART_DEADLINE_MS = 30_000;
const POLL_INTERVAL_MS = 200;

export const RUNTIME_CLASS = `apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata:
  name: ${RUNTIME_NAME}
handler: ${RUNTIME_NAME}`;

/** Returns lines for the person who asked. Throws Failures. */
export async function installHandler(engine: NodeEngine, options: NodeOptions): Promise<string[]> {
  const { sockets, isDryRun } = options;
  const config = resolve(options.config ?? engine.defaultConfig);
  const launcherFile = join(engine.directoryOf(config), LAUNCHER);
  const planned = engine.planInstall(config, programOf(launcherFile, sockets));
  const running = runningEngine(engine, planned, options);
  if (isDryRun) return shownChange(planned, config, running);

  const { launcher, change } = planned;
  if (change && (await statusAt(running.address))) await confirmRestart(running, change, options);
  const formerLauncher = readText(launcherFile);
  if (launcher) {
    write({ file: launcherFile, before: formerLauncher, after: launcher.text }, 0o755);
    requireTrusted(launcherFile);
  }
  if (!change) {
    const isSame = !launcher || launcher.text === formerLauncher;
    const written = isSame ? `${config}: nothing to change` : `${launcherFile}: written`;
    return [written, await stateOf(running, true)];
  }

  // CRI-O reads every file of a directory: nothing is kept beside a drop-in, which is ours alone.
  const backup = change.file + BACKUP_SUFFIX;
  const isKept = change.before !== undefined && !hasBlock(change.before);
  if (isKept) orSay(backup, () => copyFileSync(change.file, backup));
  try {
    const state = await writeAndRestart(running, change, true);
    if (!launcher) rmSync(launcherFile, { force: true });
    return [
      `${change.file}: written${isKept ? ` (as it was: ${backup})` : ""}`,
      state,
      "once for the cluster: authproxy runtime runtimeclass | kubectl apply -f -",
    ];
  } catch (error) {
    if (readText(change.file) === change.before) {
      if (isKept) rmSync(backup);
      if (launcher)
        write({ file: launcherFile, before: launcher.text, after: formerLauncher }, 0o755);
    }
    throw error;
  }
}

/** Returns lines for the person who asked. Throws Failures. */
export async function uninstallHandler(
  engine: NodeEngine,
  options: NodeOptions,
): Promise<string[]> {
  const { isDryRun } = options;
  const config = resolve(options.config ?? engine.defaultConfig);
  const planned = engine.planUninstall(config);
  const running = runningEngine(engine, planned, options);
  if (isDryRun) return shownChange(planned, config, running);

  const { change } = planned;
  if (!change) return [`${config}: nothing to change`, await stateOf(running, false)];
  if (await statusAt(running.address)) await confirmRestart(running, change, options);
  const state = await writeAndRestart(running, change, false);
  rmSync(change.file + BACKUP_SUFFIX, { force: true });
  rmSync(join(engine.directoryOf(config), LAUNCHER), { force: true });
  return [
    `${change.file}: ${change.after === undefined ? "removed" : "written"}`,
    state,
    "pods that were made with it keep running, and start no further container",
  ];
}

/** Our runtime itself, or a script where it needs options. */
function programOf(launcherFile: string, sockets = DEFAULT_SOCKETS): ProgramOf {
  const runtime = runtimeProgram();
  const socketsWords = sockets === DEFAULT_SOCKETS ? [] : [socketsOption(sockets)];
  return (realRuntime) => {
    const runtimeWords = realRuntime === "runc" ? [] : [`--runtime=${realRuntime}`];
    const words = [runtime, ...socketsWords, ...runtimeWords];
    if (words.length === 1) return { path: runtime };
    const command = words.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
    const text = `${LAUNCHER_HEAD}exec ${command} "$@"\n`;
    return { path: launcherFile, launcher: { file: launcherFile, text } };
  };
}

/** The runtime and the options that a launcher calls it with; none where the text is no launcher. */
export function wordsOfLauncher(text: string): string[] {
  if (!text.startsWith(LAUNCHER_HEAD)) return [];
  const words = text.slice(LAUNCHER_HEAD.length).matchAll(/'((?:[^']|'\\'')*)'/g);
  return [...words].map(([, word = ""]) => word.replaceAll("'\\''", "'"));
}

function runningEngine(
  { name, defaultSocket }: NodeEngine,
  { address = defaultSocket }: Planned,
  options: NodeOptions,
): Running {
  return {
    name,
    address: options.address ?? address,
    restart: options.restart ?? serviceRestart(name),
  };
}

/** Undefined where systemd does not run the engine. */
function serviceRestart(name: string): string | undefined {
  if (!existsSync("/run/systemd/system")) return undefined;
  const { status } = spawnSync("systemctl", ["is-active", "--quiet", name]);
  return status === 0 ? `systemctl restart ${name}` : undefined;
}

function shownChange({ change }: Planned, config: string, { restart }: Running): string[] {
  if (!change) return [`${config}: nothing to change`];
  // Not the rest of the file: it may hold a registry's password.
  const block = blockIn(change.after);
  const becomes = block
    ? `${change.file} would have at its end:\n${block}`
    : `${change.file} would lose what \`authproxy runtime install\` wrote`;
  return [becomes, `then: ${restart ?? "a restart, by you"}`];
}

async function confirmRestart(
  { name, restart }: Running,
  { file }: Change,
  { isConfirmed }: NodeOptions,
): Promise<void> {
  if (restart) await confirm(`Change ${file}, and restart ${name}: ${restart}?`, isConfirmed);
}

/** Returns what the engine does about it. Throws the Failure "unavailable" once all is as it was. */
async function writeAndRestart(engine: Running, change: Change, wanted: boolean): Promise<string> {
  const before = await statusAt(engine.address);
  if (readText(change.file) !== change.before) {
    const message = `${change.file} was changed meanwhile: nothing is done`;
    throw new Failure("unavailable", message, "try again");
  }
  write(change);
  if (!before || !engine.restart) return await stateOf(engine, wanted);
  try {
    await restart(engine, before.isReady, wanted);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    const outcome = await rollBack(engine, change);
    const hint = `its log says why: journalctl -u ${engine.name}`;
    throw new Failure("unavailable", `${error.message}: ${outcome}`, hint);
  }
  return `${engine.name} was restarted, and ${wanted ? "has" : "no longer has"} the handler`;
}

/** Returns when the engine answers again, and has the handler as `wanted`; undefined: as it may be. */
async function restart(
  { name, address, restart: command = "" }: Running,
  mustBeReady: boolean,
  wanted?: boolean,
): Promise<void> {
  const { status } = spawnSync("sh", ["-c", command], { stdio: ["ignore", 2, 2] });
  if (status !== 0) throw new Failure("unavailable", `\`${command}\` failed (${status})`);
  const deadlineMs = performance.now() + RESTART_DEADLINE_MS;
  for (;;) {
    const now = await statusAt(address);
    const hasHandler = hasOurHandler(now);
    const isAsWanted = [wanted, hasHandler].includes(undefined) || hasHandler === wanted;
    if (now && (now.isReady || !mustBeReady) && isAsWanted) return;
    if (performance.now() > deadlineMs) {
      const seen = now
        ? `answers, ${hasHandler ? "with" : "without"} the handler`
        : "does not answer";
      throw new Failure("unavailable", `after \`${command}\` ${name} ${seen}`);
    }
    await sleep(POLL_INTERVAL_MS); // a restart gives no event
  }
}

/** Returns what was done. */
async function rollBack(engine: Running, { file, before, after }: Change): Promise<string> {
  if (readText(file) !== after) return `${file} was changed meanwhile, and is left as it is`;
  write({ file, before: after, after: before });
  const again = await restart(engine, false).catch((error: Error) => error);
  const state = again ? `does not come back with it either (${again.message})` : "runs with it";
  return `${file} is again what it was, and ${engine.name} ${state}`;
}

async function stateOf(
  { name, address, restart: command = `restart ${name}` }: Running,
  wanted: boolean,
): Promise<string> {
  const status = await statusAt(address);
  if (!status) return `no ${name} answers at ${address}: this takes effect when one starts`;
  const hasHandler = hasOurHandler(status);
  const has = hasHandler ? "has" : "does not have";
  if (hasHandler === wanted) return `${name} ${has} the handler`;
  return `${name} must be restarted for this to take effect: ${command}`;
}

/** Undefined where nothing answers at this socket. */
function statusAt(socketPath: string): Promise<NodeStatus | undefined> {
  return new KubernetesNode(socketPath).status().catch(() => undefined);
}

/** Undefined where the engine does not say. */
function hasOurHandler(status: NodeStatus | undefined): boolean | undefined {
  return status?.handlers?.some(({ name }) => name === RUNTIME_NAME);
}

function write({ file, after }: Change, newMode = 0o644): void {
  orSay(file, () => {
    if (after !== undefined) mkdirSync(dirname(file), { recursive: true });
    replaceFile(file, after, { newMode });
  });
}

/** Throws the Failure "config" where the file cannot be written. */
function orSay(file: string, writeIt: () => void): void {
  try {
    writeIt();
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw new Failure(
      "config",
      `${file} cannot be written: ${(error as Error).message}`,
      "where a node is made from an image, put the handler there: --dry-run shows it",
    );
  }
}
