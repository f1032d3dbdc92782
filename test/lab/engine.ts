// Question: how does an engine run beside the machine's own, without either touching the other?
// Input:    a tree (scripts/debian.ts), and what its configuration differs in.
// Output:   the path of its socket, and how to end it.
// Promise:  it runs in a mount namespace of its own, where /usr is the tree's and /run, /dev/shm and
//           /etc/docker are empty: it finds no other engine's containerd, locks or settings. All
//           that it writes is in one temporary directory, and goes with it; it dies with us.
import { type ChildProcess, execFile, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { fetchTree, type Tree } from "../../scripts/debian.ts";
import { Api } from "./api.ts";

const run = promisify(execFile);
const ROOTLESS = "54321"; // a user id
const START_DEADLINE_MS = 60_000;
const STOP_DEADLINE_MS = 15_000;

/** The first of the host's users that an engine with `MAPPED_USERS` runs its containers as. */
export const FIRST_MAPPED = 165_536;
/** What makes a Docker engine map users: its setting, and the files that name their range, in a /run and
 * /etc of its own. */
export const MAPPED_USERS = {
  changes: { "userns-remap": "daemon" },
  before: mappedRange(`daemon:${FIRST_MAPPED}:65536`),
};
/** A runtime that is a script needs a shell, with what scripts use. */
export const DOCKER_WITH_SHELL = ["docker.io", "dash", "grep", "coreutils"];
/** What lets Podman take a range of its own for each container (`--userns=auto`). */
const RANGES_OF_PODMAN = mappedRange(`containers:${2 ** 31}:${2 ** 22}`);

function mappedRange(line: string): string {
  return `mkdir /run/sub; echo ${line} >/run/sub/ids
    for file in /etc/subuid /etc/subgid; do mount --bind /run/sub/ids $file; done`;
}

export type Engine = { socket: string; pid: number; stop(): Promise<void> };

/** A Docker engine: `changes` are members of its daemon.json, `before` lines of shell that prepare
 * its namespace, `program` is another dockerd than the tree's. */
export async function startDocker(
  tree: Tree,
  changes: object = {},
  before = "",
  program = "dockerd",
): Promise<Engine> {
  const { directory, socket, file } = dockerSettings(changes);
  return await startEngine(
    directory,
    socket,
    inNamespace(tree, before, [program, "--config-file", file]),
  );
}

/** What `authproxy runtime install` is told, for an engine that startDocker has started. */
export function daemonJsonOf({ socket }: Engine): string {
  return join(dirname(socket), "daemon.json");
}

/** A Docker engine whose containers live on while it is stopped and started. `restart` takes lines of
 * shell that it runs first, such as an export. */
export async function startDockerAnew(
  tree: Tree,
): Promise<Engine & { restart(before?: string): Promise<void> }> {
  const { directory, socket, file } = dockerSettings({ "live-restore": true });
  const script = join(directory, "before.sh");
  writeFileSync(script, "");
  // By the shell that prepares the namespace: the tree has none.
  const once = `. "${script}"; dockerd --config-file "${file}" || :`;
  const forever = `${enter(tree)}; while :; do ${once}; done`;
  const engine = await startEngine(directory, socket, inNamespace(tree, forever, []));
  const restart = async (before = "") => {
    writeFileSync(script, before);
    const pid = Number(readFileSync(join(directory, "pid"), "utf8"));
    process.kill(pid, "SIGTERM");
    while (existsSync(`/proc/${pid}`)) await sleep(50); // it is no child of ours: no event
    await untilAnswers(
      () => true,
      socket,
      () => readFileSync(join(directory, "log"), "utf8"),
    );
  };
  return { ...engine, restart };
}

/** A Docker engine under a systemd of its own, which it has make its cgroups. Systemd is the first
 * process of a pid namespace, and so the numbers that this engine knows are that namespace's: who
 * works with it is run by the command `enter`. */
export async function startDockerUnderSystemd(tree: Tree): Promise<Engine & { enter: string[] }> {
  const changes = { "exec-opts": ["native.cgroupdriver=systemd"] };
  const { directory, socket, file } = dockerSettings(changes);
  const cgroup = join(hierarchies(["", "unified"])[0] ?? "", basename(directory));
  mkdirSync(cgroup);
  const script = join(import.meta.dirname, "systemd.sh");
  const namespaces = ["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"];
  const unshare = ["unshare", ...namespaces, "--cgroup", "sh", script, directory, tree.path, file];
  const inCgroup = `echo $$ >"${cgroup}/cgroup.procs"; exec "$@"`;
  try {
    const engine = await startEngine(directory, socket, ["sh", "-ec", inCgroup, "sh", ...unshare]);
    const children = readFileSync(`/proc/${engine.pid}/task/${engine.pid}/children`, "utf8");
    const enter = ["nsenter", "--target", children.trim(), "--mount", "--pid", "--cgroup", "--"];
    const stop = async () => {
      process.kill(engine.pid, "SIGKILL"); // and systemd with it, without its shutting down
      await engine.stop();
      await removeCgroup(cgroup);
    };
    return { ...engine, stop, enter };
  } catch (error) {
    await removeCgroup(cgroup);
    throw error;
  }
}

/** A Docker engine in a container of another; it ends with that container. */
export async function startDockerIn(outer: Engine, tree: Tree, image: string) {
  const { directory, socket, file } = dockerSettings({ "storage-driver": "vfs" });
  const api = new Api(outer.socket);
  await api.pull(image);
  const { Id: id } = await api.run({
    Image: image,
    Cmd: ["/usr/sbin/dockerd", "--config-file", file],
    Env: ["PATH=/usr/sbin:/usr/bin"],
    User: "0:0",
    Labels: { app: "app" },
    HostConfig: {
      Privileged: true,
      NetworkMode: "host",
      Binds: [`${tree.path}/usr:/usr:ro`, "/tmp:/tmp"],
    },
  });
  const stop = async () => {
    await api.remove(id);
    rmSync(directory, { recursive: true, force: true });
  };
  try {
    const lives = async () => (await api.inspect(id)).State.Pid > 0;
    await untilAnswers(lives, socket, () => api.output(id));
    return { engine: socket, id, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** With those below it, as soon as the last process has left. */
async function removeCgroup(path: string): Promise<void> {
  for (let attempt = 1; existsSync(path); attempt++) {
    const words = [path, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"];
    const failed = await run("find", words).catch((error: Error) => error);
    if (failed instanceof Error && attempt === 100) throw failed;
    await sleep(50); // a pid namespace that ends gives no event
  }
}

/** Removes what an engine made of a cgroup's name, in every hierarchy. */
export async function removeCgroups(name: string): Promise<void> {
  const names = readdirSync("/sys/fs/cgroup");
  for (const path of hierarchies(["", ...names])) await removeCgroup(join(path, name));
}

/** Those of these that are the root of a cgroup hierarchy. */
function hierarchies(names: string[]): string[] {
  const paths = names.map((name) => join("/sys/fs/cgroup", name));
  return paths.filter((path) => existsSync(join(path, "cgroup.procs")));
}

/** Of this test file, because another one may run at the same time. A name has at most 15 bytes. */
const BRIDGE = `authproxy-${process.pid.toString(36)}`;
const network = process.pid % 2 ** 14;
/** In one of the 2^14 networks of four addresses in 198.18.0.0/16, which is no one's (RFC 2544). */
export const bridgeAddress = `198.18.${network >> 6}.${4 * (network % 64) + 1}`;

/** An engine without a bridge deletes docker0, which is the machine's own engine's: this one is for
 * all engines of a test file, and no container uses it. */
function bridge(): string {
  if (!existsSync(`/sys/class/net/${BRIDGE}`)) {
    execFileSync("ip", ["link", "add", BRIDGE, "type", "bridge"]);
    execFileSync("ip", ["addr", "add", `${bridgeAddress}/30`, "dev", BRIDGE]);
  }
  return BRIDGE;
}

export function removeBridge(): void {
  if (existsSync(`/sys/class/net/${BRIDGE}`)) execFileSync("ip", ["link", "delete", BRIDGE]);
}

function dockerSettings(changes: object) {
  const directory = mkdtempSync(join(tmpdir(), "authproxy-engine-"));
  chmodSync(directory, 0o711); // where users are mapped, the container's root is nobody here
  const socket = join(directory, "s");
  const settings = {
    hosts: [`unix://${socket}`],
    "data-root": join(directory, "data"),
    "exec-root": join(directory, "exec"),
    pidfile: join(directory, "pid"),
    "exec-opts": ["native.cgroupdriver=cgroupfs"],
    iptables: false,
    ip6tables: false,
    bridge: bridge(),
    "userland-proxy": false,
    ...changes,
  };
  const file = join(directory, "daemon.json");
  writeFileSync(file, JSON.stringify(settings));
  return { directory, socket, file };
}

/** Podman with both runtimes, and with what our runtime needs of a host: a shell. Trixie's is also a
 * guest's, which needs a kernel. */
export async function fetchPodman(suite: "bookworm" | "trixie"): Promise<Tree> {
  const packages = ["podman", "runc", "uidmap", "util-linux", "dash", "grep", "coreutils"];
  if (suite === "bookworm") return await fetchTree(suite, packages);
  return await fetchTree(suite, ["crun", ...packages, "catatonit"]);
}

/** `command` is the one that works on this engine, to which a runtime can be named. */
export type Podman = Engine & { command: string[] };

/** Podman's service, as root; `insecure` is a registry on loopback that speaks no TLS. */
export async function startPodman(tree: Tree, insecure: string): Promise<Podman> {
  const { directory, socket, home, options, service } = podmanSettings("overlay", insecure);
  const before = `${home}\n${RANGES_OF_PODMAN}`;
  const engine = await startEngine(
    directory,
    socket,
    inNamespace(tree, before, ["podman", ...options, ...service]),
  );
  const environment = readFileSync(`/proc/${engine.pid}/environ`, "utf8").split("\0");
  const enter = [
    "nsenter",
    "--target",
    `${engine.pid}`,
    "--mount",
    "--",
    "env",
    "--ignore-environment",
  ];
  return { ...engine, command: [...enter, ...environment.filter(Boolean), "podman", ...options] };
}

/** Podman's service, of a user that only it knows, with user ids of its own. */
export async function startRootlessPodman(tree: Tree, insecure: string): Promise<Engine> {
  const { directory, socket, home, options, service } = podmanSettings("vfs", insecure);
  await run("chown", ["--recursive", `${ROOTLESS}:${ROOTLESS}`, directory]);
  const before = `${home}
    ${mappedRange("lab:300000:65536")}
    mkdir /run/lab
    echo lab:x:${ROOTLESS}:${ROOTLESS}::${directory}:/bin/sh >/run/lab/passwd
    echo lab:x:${ROOTLESS}: >/run/lab/group
    for file in passwd group; do mount --bind /run/lab/$file /etc/$file; done`;
  const as = ["setpriv", "--reuid", ROOTLESS, "--regid", ROOTLESS, "--clear-groups"];
  const command = [...as, "podman", ...options, ...service];
  return await startEngine(directory, socket, inNamespace(tree, before, command));
}

/** What Podman wants to find at home: whom it trusts, and limits that this root may set. */
function podmanSettings(storage: string, insecure: string) {
  const directory = mkdtempSync(join(tmpdir(), "authproxy-engine-"));
  chmodSync(directory, 0o711); // as in dockerSettings
  const socket = join(directory, "s");
  const settings = join(directory, ".config/containers");
  mkdirSync(settings, { recursive: true });
  writeFileSync(join(settings, "registries.conf"), insecureRegistry(insecure));
  writeFileSync(join(settings, "policy.json"), '{"default":[{"type":"insecureAcceptAnything"}]}');
  const limits = '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]\n';
  writeFileSync(join(settings, "containers.conf"), limits);
  const home = `export HOME="${directory}" XDG_RUNTIME_DIR="${directory}"
    export CONTAINERS_CONF="${settings}/containers.conf"
    export CONTAINERS_REGISTRIES_CONF="${settings}/registries.conf"
    export PODMAN_IGNORE_CGROUPSV1_WARNING=1`;
  const options = ["--cgroup-manager", "cgroupfs", "--events-backend", "file"];
  const places = { root: "data", runroot: "exec", tmpdir: "tmp" };
  for (const [option, name] of Object.entries(places))
    options.push(`--${option}`, join(directory, name));
  options.push("--storage-driver", storage);
  const service = ["--runtime", "runc", "system", "service", "--time", "0", `unix://${socket}`];
  return { directory, socket, home, options, service };
}

/** A part of registries.conf. */
export function insecureRegistry(location: string): string {
  return `[[registry]]\nlocation = "${location}"\ninsecure = true\n`;
}

/** The line of shell after which /usr is the tree's. */
function enter(tree: Tree): string {
  return `mount --bind "${tree.path}/usr" /usr`;
}

/** Runs a program of a tree, to its end. */
export async function inTree(tree: Tree, command: string[], timeout = 60_000): Promise<string> {
  const words = ["--mount", "--propagation", "private", "sh", "-ec", `${enter(tree)}; exec "$@"`];
  const { stdout } = await run("unshare", [...words, "sh", ...command], { timeout });
  return stdout;
}

/** The command that runs another with a tree for /usr, and nothing of this machine's engines. */
function inNamespace(tree: Tree, before: string, command: string[]): string[] {
  const prepare = `mount -t tmpfs none /run; mount -t tmpfs none /dev/shm
    ${before}
    ${enter(tree)}; exec "$@"`;
  const namespaces = ["--mount", "--propagation", "private"];
  return ["unshare", ...namespaces, "sh", "-ec", prepare, "sh", ...command];
}

/** Starts the command, and waits until the engine answers. */
async function startEngine(directory: string, socket: string, command: string[]): Promise<Engine> {
  const log = openSync(join(directory, "log"), "a");
  // PR_SET_PDEATHSIG (prctl(2)) outlives execve.
  const words = ["--pdeathsig", "TERM", ...command];
  const child = spawn("setpriv", words, { stdio: ["ignore", log, log], detached: true });
  closeSync(log);
  const stop = async () => {
    await end(child);
    endWhoIsLeft(directory);
    rmSync(directory, { recursive: true, force: true });
  };
  try {
    const lives = () => child.exitCode === null && child.signalCode === null;
    await untilAnswers(lives, socket, () => readFileSync(join(directory, "log"), "utf8"));
    return { socket, pid: child.pid ?? 0, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function untilAnswers(
  lives: () => Promise<boolean> | boolean,
  socket: string,
  log: () => Promise<string> | string,
): Promise<void> {
  const deadlineMs = performance.now() + START_DEADLINE_MS;
  while ((await lives()) && performance.now() < deadlineMs) {
    if (existsSync(socket)) {
      const answered = await new Api(socket).about().catch(() => undefined);
      if (answered) return;
    }
    await sleep(50); // a socket's first listener gives no event
  }
  const lines = (await log()).trimEnd().split("\n").slice(-4);
  throw new Error(`the engine did not start: ${lines.join("\n")}`);
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill("SIGTERM");
  const stuck = setTimeout(() => child.kill("SIGKILL"), STOP_DEADLINE_MS);
  await exited;
  clearTimeout(stuck);
}

/** Podman leaves a process for each command it ran in a container, for five minutes, and a rootless
 * one another for its namespaces. The engine's directory, which no other has, is in what they were
 * started with. */
function endWhoIsLeft(directory: string): void {
  for (const pid of readdirSync("/proc").map(Number).filter(Boolean)) {
    const started = (name: string) => readFileSync(`/proc/${pid}/${name}`, "utf8");
    try {
      if (`${started("cmdline")}${started("environ")}`.includes(directory))
        process.kill(pid, "SIGKILL");
    } catch {
      // It has ended.
    }
  }
}
