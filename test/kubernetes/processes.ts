// Question: how do the processes of a node start, break, start again, and end for certain?
// Input:    a directory that no other node has; commands.
// Output:   `Node`: what is started in it runs in a mount namespace of its own, where /run, /var/lib and
//           /var/log are empty: it finds no other engine, and leaves no mount, log or network behind.
// Promise:  all ends with `stop`, by number: the programs, their shims, and what is in the node's own
//           cgroup. Killed tests take the programs with them (PR_SET_PDEATHSIG) and leave the rest to
//           `sweep`, which the next node calls.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import {
  chmodSync,
  closeSync,
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { removeCgroups } from "../lab/engine.ts";

const PREFIX = join(tmpdir(), "authproxy-kube-");
const START_DEADLINE_MS = 120_000; // two cores may have much else to do
const STOP_DEADLINE_MS = 10_000;
/** Runs until it is killed: it holds the mount namespace. */
const HOLD = `mount -t tmpfs none /run
  mount -t tmpfs none /var/lib
  mount -t tmpfs none /var/log
  mkdir /run/authproxy
  mount --bind "$1/run" /run/authproxy
  touch "$1/held"
  exec sleep infinity`;

export class Node {
  readonly directory: string;
  readonly #programs: Program[] = [];
  #holder: ChildProcess | undefined;

  private constructor(directory: string) {
    this.directory = directory;
  }

  static async open(): Promise<Node> {
    await sweep();
    const directory = mkdtempSync(PREFIX);
    chmodSync(directory, 0o711);
    writeFileSync(join(directory, "owner"), `${process.pid} ${startOf(process.pid)}`);
    mkdirSync(join(directory, "run"), { mode: 0o755 });
    const node = new Node(directory);
    for (const hierarchy of hierarchies()) mkdirSync(join(hierarchy, node.cgroup));
    const words = ["--mount", "--propagation", "private", "sh", "-ec", HOLD, "sh", directory];
    node.#holder = startDying("unshare", words, join(directory, "holder.log"));
    await waitUntil("the mount namespace", () => existsSync(join(directory, "held")));
    return node;
  }

  /** The name of the cgroup that the node's pods are below, in every hierarchy. */
  get cgroup(): string {
    return basename(this.directory);
  }

  /** In the node's mount namespace; `path` comes first on its PATH. */
  start(name: string, path: string[], command: string[]): Program {
    const enter = ["--target", String(this.#holder?.pid), "--mount", "--"];
    const program = new Program(name, this.directory, ["nsenter", ...enter, ...command], path);
    this.#programs.push(program);
    return program;
  }

  async stop(): Promise<void> {
    for (const program of this.#programs.reverse()) await program.end("SIGKILL");
    this.#holder?.kill("SIGKILL");
    await remove(this.directory);
  }
}

/** A program of the node, which can be ended and started again. */
export class Program {
  readonly name: string;
  readonly log: string;
  readonly #command: string[];
  readonly #path: string;
  #child: ChildProcess;

  constructor(name: string, directory: string, command: string[], path: string[]) {
    this.name = name;
    this.log = join(directory, `${name}.log`);
    this.#command = command;
    this.#path = [...path, process.env.PATH].join(":");
    this.#child = this.#spawn();
  }

  #spawn(): ChildProcess {
    const [program = "", ...words] = this.#command;
    return startDying(program, words, this.log, this.#path);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Returns when it answers; throws the last lines of its log if it ends before. */
  async untilReady(answers: () => boolean | Promise<boolean>): Promise<void> {
    const hasEnded = () => this.#child.exitCode !== null || this.#child.signalCode !== null;
    try {
      await waitUntil(`${this.name} answers`, async () => {
        if (hasEnded()) throw new Error(`${this.name} ended`);
        return await answers();
      });
    } catch (error) {
      const lines = readFileSync(this.log, "utf8").trimEnd().split("\n").slice(-5);
      throw new Error(`${(error as Error).message}; its log ends:\n${lines.join("\n")}`);
    }
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, "exit");
    this.#child.kill(signal);
    const stuck = setTimeout(() => this.#child.kill("SIGKILL"), STOP_DEADLINE_MS);
    await exited;
    clearTimeout(stuck);
  }

  /** After `end`. */
  startAgain(): void {
    this.#child = this.#spawn();
  }
}

/** Starts what the kernel ends when this process has ended, however that came. */
function startDying(program: string, words: string[], log: string, path = process.env.PATH) {
  const output = openSync(log, "a");
  const env = { PATH: path, HOME: "/root" };
  const stdio: ["ignore", number, number] = ["ignore", output, output];
  const argv = ["--pdeathsig", "KILL", "--", program, ...words];
  const child = spawn("setpriv", argv, { stdio, env, detached: true });
  closeSync(output);
  return child;
}

export async function waitUntil(
  what: string,
  holds: () => boolean | Promise<boolean>,
  deadlineMs = START_DEADLINE_MS,
): Promise<void> {
  const end = performance.now() + deadlineMs;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`not in time: ${what}`);
    await sleep(50);
  }
}

/** Removes what nodes have left whose tests were killed. */
export async function sweep(): Promise<void> {
  for (const directory of globSync(`${PREFIX}*`)) {
    const owner = join(directory, "owner");
    const [pid = "0", start] = existsSync(owner) ? readFileSync(owner, "utf8").split(" ") : [];
    if (startOf(Number(pid)) !== start) await remove(directory);
  }
}

/** Ends what is in the node's cgroups and the shims, which were told its directory. */
async function remove(directory: string): Promise<void> {
  const isOver = () => {
    const pids = [...pidsBelow(basename(directory)), ...pidsToldOf(directory)];
    for (const pid of pids) kill(pid);
    return pids.length === 0;
  };
  await waitUntil(`the processes of ${directory} have ended`, isOver);
  await removeCgroups(basename(directory));
  removeBridgeOf(directory);
  rmSync(directory, { recursive: true, force: true });
}

function pidsBelow(cgroup: string): number[] {
  const files = hierarchies().flatMap((hierarchy) =>
    globSync(`${cgroup}/**/cgroup.procs`, { cwd: hierarchy }).map((file) => join(hierarchy, file)),
  );
  return files.flatMap((file) => readText(file).split("\n").filter(Boolean).map(Number));
}

function pidsToldOf(directory: string): number[] {
  const pids = readdirSync("/proc").map(Number).filter(Boolean);
  const others = pids.filter((pid) => pid !== process.pid);
  return others.filter((pid) => readText(`/proc/${pid}/cmdline`).includes(`${directory}/`));
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has ended.
  }
}

function readText(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return ""; // What it is about has ended.
  }
}

/** The directories of this machine's cgroup hierarchies: one, or one of each controller. */
function hierarchies(): string[] {
  const top = "/sys/fs/cgroup";
  const places = [top, ...readdirSync(top).map((name) => join(top, name))];
  const isRoot = (path: string) =>
    existsSync(join(path, "cgroup.procs")) && !existsSync(join(path, "../cgroup.procs"));
  return places.filter(isRoot);
}

/** When the process started, or undefined: numbers are used again. */
function startOf(pid: number): string | undefined {
  const text = readText(`/proc/${pid}/stat`);
  return text.slice(text.lastIndexOf(")") + 2).split(" ")[19];
}

/** The pods' bridge, and the node's address on it: 198.18.0.0/15 is nobody's (RFC 2544). */
export function makeBridge(directory: string): { name: string; address: string; subnet: string } {
  const name = bridgeOf(directory);
  const taken = execFileSync("ip", ["-4", "route"], { encoding: "utf8" });
  for (let attempt = 0; attempt < 250; attempt++) {
    const third = randomInt(256); // another node may be looking at the same moment
    const subnet = `198.19.${third}.0/24`;
    if (taken.includes(subnet)) continue;
    const address = `198.19.${third}.1`;
    execFileSync("ip", ["link", "add", name, "type", "bridge"]);
    execFileSync("ip", ["addr", "add", `${address}/24`, "dev", name]);
    execFileSync("ip", ["link", "set", name, "up"]);
    return { name, address, subnet };
  }
  throw new Error("no free network in 198.19.0.0/16");
}

function removeBridgeOf(directory: string): void {
  const name = bridgeOf(directory);
  if (existsSync(`/sys/class/net/${name}`)) execFileSync("ip", ["link", "delete", name]);
}

/** At most 15 characters. */
function bridgeOf(directory: string): string {
  return `kube-${basename(directory).slice(-6)}`;
}
