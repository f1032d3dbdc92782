// Question: where is the installation tried?
// Input:    a tree (scripts/debian.ts) with systemd and Docker.
// Output:   a bare host: systemd as the first process, its own users, services, journal and engine;
//           neither npm nor a compiler. One wire leads to this machine, at the address GATEWAY.
// Promise:  what it writes is in one temporary directory, and goes with it. It dies with us.
import { type ChildProcess, execFile, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import type { Tree } from "../../scripts/debian.ts";
import { removeCgroups } from "./engine.ts";

const run = promisify(execFile);
const script = join(import.meta.dirname, "host.sh");
const DEADLINE_MS = 120_000;
/** This machine, as a host sees it, and the host (RFC 2544: no one's). */
export const GATEWAY = "198.18.254.1";
const ADDRESS = "198.18.254.2";
export const CONTAINERS = "198.18.253.0/24";

/** What a bare Debian has, and Docker. */
export const PACKAGES = [
  ..."systemd docker.io bash coreutils tar gzip grep sed findutils util-linux procps".split(" "),
  ..."hostname iproute2 libstdc++6".split(" "),
];

export class Host {
  /** /mnt there. */
  readonly share: string;
  readonly #directory = mkdtempSync(join(tmpdir(), "authproxy-host-"));
  readonly #tree: Tree;
  readonly #hierarchies: string[];
  #child: ChildProcess | undefined;
  #init = "";

  /** `hierarchies`: of cgroups of version 1, such as "memory"; they are in /run/cgroups there. */
  constructor(tree: Tree, hierarchies: string[] = []) {
    this.#tree = tree;
    this.#hierarchies = hierarchies;
    this.share = join(this.#directory, "share");
    mkdirSync(this.share);
    mkdirSync(join(this.#directory, "layer/usr/local/bin"), { recursive: true });
  }

  /** Makes a program of this machine one of the host's, before it boots. */
  provide(program: string): void {
    const target = join(this.#directory, "layer/usr/local/bin", basename(program));
    copyFileSync(program, target);
  }

  async boot(): Promise<void> {
    const roots = [hierarchy(), ...this.#hierarchies.map((name) => join("/sys/fs/cgroup", name))];
    const cgroups = roots.map((root) => makeCgroup(root, basename(this.#directory)));
    const enter = cgroups.map((cgroup) => `echo $$ >"${cgroup}/cgroup.procs"; `).join("");
    const inCgroup = `${enter}exec "$@"`;
    const namespaces = ["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"];
    namespaces.push("--net", "--cgroup", "--uts", "--ipc");
    const words = ["sh", script, this.#directory, this.#tree.path, this.#hierarchies.join(" ")];
    const log = openSync(join(this.#directory, "log"), "a");
    const command = ["-ec", inCgroup, "sh", "setpriv", "--pdeathsig", "TERM", "unshare"];
    const child = spawn("sh", [...command, ...namespaces, ...words], {
      stdio: ["ignore", log, log],
      detached: true,
    });
    closeSync(log);
    this.#child = child;
    const children = `/proc/${child.pid}/task/${child.pid}/children`;
    const deadlineMs = performance.now() + DEADLINE_MS;
    // Neither gives an event: the first process, and the end of the boot.
    while (child.exitCode === null && performance.now() < deadlineMs) {
      await sleep(20);
      if (!this.#init) {
        this.#init = readFileSync(children, "utf8").trim();
        if (this.#init) wire(this.#init);
      } else if (await this.#isUp()) return;
    }
    throw new Error(`the host did not boot: ${readFileSync(join(this.#directory, "log"))}`);
  }

  /** All units have started, none has failed. */
  async #isUp(): Promise<boolean> {
    return await this.#nsenter("systemctl is-system-running").then(
      () => true,
      () => false,
    );
  }

  #nsenter(script: string, environment: Record<string, string> = {}) {
    const env = {
      PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
      HOME: "/root",
      ...environment,
    };
    const words = ["--target", this.#init, "--all", "--", "/bin/sh", "-eu"];
    const running = run("/usr/bin/nsenter", words, { env, timeout: DEADLINE_MS });
    running.child.stdin?.on("error", () => {}).end(script); // it says itself why it has ended
    return running;
  }

  /** Runs lines of shell as root; their standard output. Throws all that they said. */
  async sh(script: string, environment?: Record<string, string>): Promise<string> {
    try {
      return (await this.#nsenter(script, environment)).stdout;
    } catch (error) {
      const { stdout, stderr, code } = error as { stdout: string; stderr: string; code: unknown };
      throw new Error(`${script}\nended with ${code}, and said:\n${stdout}${stderr}`);
    }
  }

  /** As when its power fails. */
  async #halt(): Promise<void> {
    if (!this.#child) return;
    const ended = once(this.#child, "exit");
    this.#child.kill("SIGKILL"); // unshare; its child goes with it, and the whole pid namespace
    await ended;
    await removeCgroups(basename(this.#directory));
    this.#child = undefined;
    this.#init = "";
  }

  async reboot(): Promise<void> {
    await this.#halt();
    await this.boot();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#halt();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

const ip = (words: string) => execFileSync("ip", words.split(" "));

/** Where Vault can listen, before there is a host. */
export function makeGateway(): void {
  ip(`addr replace ${GATEWAY}/32 dev lo`);
}

export function removeGateway(): void {
  ip(`addr delete ${GATEWAY}/32 dev lo`);
}

/** Ends with the host's network namespace. */
function wire(pid: string): void {
  ip(`link add authproxy-host type veth peer name eth0 netns ${pid}`);
  ip("link set authproxy-host up");
  ip(`route replace ${ADDRESS} dev authproxy-host`);
  for (const words of [`addr add ${ADDRESS} peer ${GATEWAY} dev eth0`, "link set eth0 up"])
    execFileSync("nsenter", ["--target", pid, "--net", "ip", ...words.split(" ")]);
  ip(`route replace ${CONTAINERS} via ${ADDRESS} dev authproxy-host`);
}

function makeCgroup(root: string, name: string): string {
  const cgroup = join(root, name);
  mkdirSync(cgroup, { recursive: true });
  // Nothing can run in a cpuset of version 1 before it has processors and memory, cpuset(7).
  for (const file of ["cpuset.cpus", "cpuset.mems"])
    if (basename(root) === "cpuset")
      writeFileSync(join(cgroup, file), readFileSync(join(root, file)));
  return cgroup;
}

/** Where cgroups of version 2 are. */
function hierarchy(): string {
  const unified = "/sys/fs/cgroup/unified";
  return existsSync(unified) ? unified : "/sys/fs/cgroup";
}
