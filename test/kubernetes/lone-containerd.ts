// Question: how does containerd run alone, without a kubelet, and what does it do for a pod?
// Input:    a version; its configuration, which is a file that tests change.
// Output:   `LoneContainerd`: its socket, and CRI's calls, which a kubelet would make.
// Promise:  it runs in a mount namespace of its own, where /run, /var/lib and /var/log are empty; it is
//           started again whenever it ends, as systemd does; all ends with `await using`.
import { type ChildProcess, execFile, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
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
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { criStatus } from "../../cli/cri-status.ts";
import { GrpcClient } from "../../server/grpc.ts";
import { Message } from "../../server/protobuf.ts";
import { removeCgroups } from "../lab/engine.ts";
import { fetchTree } from "../lab/fetch.ts";

const run = promisify(execFile);
const SUITES = { "1.6": "bookworm", "1.7": "trixie", "2": "sid" } as const;
const DEADLINE_MS = 60_000;
const PAUSE = "authproxy-install-pause:1";
const CGROUP = "authproxy-install";
/** Of CRI's NamespaceMode and ContainerState. */
const [CONTAINER, NODE] = [1, 2];
const EXITED = 2;

export type Version = keyof typeof SUITES;
export const versions = Object.keys(SUITES) as Version[];

export type Pod = { sandbox: string; id: string };

/** The directory of its programs. */
export async function containerdPrograms(version: Version): Promise<string> {
  return join((await fetchTree(SUITES[version], ["containerd"])).path, "usr/bin");
}

/** Started again and again; `starts` has a line for each. */
const SUPERVISE = `mount -t tmpfs none /run; mount -t tmpfs none /var/lib; mount -t tmpfs none /var/log
  cd "$1"
  while :; do
    containerd --config "$2" >>log 2>&1 & echo $! >pid; wait $! || :
    echo >>starts; sleep 0.1
  done`;

export class LoneContainerd {
  readonly directory: string;
  readonly config: string;
  readonly socket: string;
  readonly #programs: string;
  readonly #child: ChildProcess;

  private constructor(directory: string, programs: string) {
    this.directory = directory;
    this.config = join(directory, "config.toml");
    this.socket = join(directory, "containerd.sock");
    this.#programs = programs;
    const log = openSync(join(directory, "supervisor.log"), "a");
    const words = ["--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"];
    const shell = ["sh", "-c", SUPERVISE, "sh", directory, this.config];
    const stdio: ["ignore", number, number] = ["ignore", log, log];
    this.#child = spawn("setpriv", [...words, ...shell], { stdio, env: { PATH: this.path } });
    closeSync(log);
  }

  static async start(version: Version, more = ""): Promise<LoneContainerd> {
    const programs = await containerdPrograms(version);
    const directory = mkdtempSync(join(tmpdir(), "authproxy-lone-"));
    writeFileSync(join(directory, "config.toml"), configuration(version, directory) + more);
    const containerd = new LoneContainerd(directory, programs);
    try {
      await containerd.untilReady();
      await containerd.import(PAUSE, ["bin/sleep"], 'ENTRYPOINT ["/bin/sleep", "1000000"]');
      return containerd;
    } catch (error) {
      const log = readFileSync(join(directory, "log"), "utf8").slice(-2000);
      await containerd[Symbol.asyncDispose]();
      throw new Error(log, { cause: error });
    }
  }

  get path(): string {
    return `${this.#programs}:${process.env.PATH}`;
  }

  /** A command that ends it, so that it is started again. */
  get restart(): string {
    return `kill $(cat ${join(this.directory, "pid")})`;
  }

  async untilReady(): Promise<void> {
    const deadlineMs = performance.now() + DEADLINE_MS;
    while (!(await criStatus(this.socket))?.isReady) {
      if (performance.now() > deadlineMs) throw new Error("containerd does not answer");
      await sleep(50); // a socket's first listener gives no event
    }
  }

  /** An image of busybox, with these commands. */
  async import(name: string, commands: string[], says = "ENV A=1"): Promise<void> {
    const root = mkdtempSync(join(this.directory, "image-"));
    mkdirSync(join(root, "bin"));
    execFileSync("cp", ["/usr/bin/busybox", join(root, "bin/busybox")]);
    for (const path of commands) execFileSync("ln", ["-s", "/bin/busybox", join(root, path)]);
    const archive = `${root}.tar`;
    const owned = ["--numeric-owner", "--owner=0", "--group=0"];
    execFileSync("tar", ["--create", ...owned, "-f", archive, "-C", root, "."]);
    execFileSync("docker", ["import", "--change", says, archive, name], { stdio: "pipe" });
    await run("docker", ["save", "--output", archive, name]);
    const ctr = ["--address", this.socket, "--namespace", "k8s.io"];
    await run(join(this.#programs, "ctr"), [...ctr, "images", "import", archive]);
  }

  async call(method: string, ...fields: Field[]): Promise<Message> {
    const client = new GrpcClient(this.socket);
    return new Message(await client.call(`runtime.v1.RuntimeService/${method}`, encode(fields)));
  }

  /** A pod of one container: its sandbox's id, and its own. Mounts are of HOST onto CONTAINER. */
  async runPod(
    handler: string,
    image: string,
    command: string[],
    env: Record<string, string>,
    mounts: Record<string, string> = {},
  ): Promise<Pod> {
    const log = join(this.directory, "pods");
    const namespaces: Field[] = [
      [1, NODE], // its network needs no plugin
      [2, CONTAINER],
    ];
    const sandboxConfig: Field[] = [
      [1, [[1, "app"], [2, `uid-${performance.now()}`], [3, "shop"]]],
      [3, log],
      [8, [[1, `/${CGROUP}`], [2, [[1, namespaces]]]]],
    ];
    const made = await this.call("RunPodSandbox", [1, sandboxConfig], [2, handler]);
    const sandbox = made.text(1);
    const config: Field[] = [
      [1, [[1, "app"]]],
      [2, [[1, `docker.io/library/${image}`]]],
      ...command.map((word): Field => [3, word]),
      ...Object.entries(env).map(([key, value]): Field => [6, [[1, key], [2, value]]]),
      ...Object.entries(mounts).map(([host, inside]): Field => [7, [[1, inside], [2, host]]]),
      [11, `${sandbox}.log`],
      [15, [[2, [[3, namespaces]]]]],
    ];
    const container = await this.call("CreateContainer", [1, sandbox], [2, config], [3, sandboxConfig]);
    const id = container.text(1);
    await this.call("StartContainer", [1, id]);
    return { sandbox, id };
  }

  /** When it has ended: its exit code and its log. */
  async untilEnded({ id, sandbox }: Pod): Promise<{ status: number; log: string }> {
    for (;;) {
      const status = (await this.call("ContainerStatus", [1, id])).message(1);
      if (status.number(3) === EXITED) {
        const lines = readFileSync(join(this.directory, "pods", `${sandbox}.log`), "utf8").split("\n");
        const text = lines.map((line) => line.split(" ").slice(3).join(" ")).join("\n");
        return { status: status.number(7), log: text };
      }
      await sleep(50); // CRI's events are not in 1.6
    }
  }

  async removePod(sandbox: string): Promise<void> {
    await this.call("StopPodSandbox", [1, sandbox]);
    await this.call("RemovePodSandbox", [1, sandbox]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null) {
      const exited = once(this.#child, "exit");
      this.#child.kill("SIGKILL");
      await exited;
    }
    // What it started has its directory in its words: shims, and itself.
    for (let isLeft = true; isLeft; await sleep(50)) {
      isLeft = false;
      for (const pid of readdirSync("/proc").map(Number).filter(Boolean)) {
        if (pid === process.pid || !wordsOf(pid).includes(this.directory)) continue;
        isLeft = true;
        end(pid);
      }
    }
    for (const pid of pidsIn(CGROUP)) end(pid);
    await removeCgroups(CGROUP);
    rmSync(this.directory, { recursive: true, force: true });
  }
}

function pidsIn(cgroup: string): number[] {
  const files = globSync(`/sys/fs/cgroup/{,*/}${cgroup}/**/cgroup.procs`);
  return files.flatMap((file) => readFileSync(file, "utf8").split("\n").filter(Boolean).map(Number));
}

function wordsOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8");
  } catch {
    return ""; // it has ended
  }
}

function end(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has ended.
  }
}

function configuration(version: Version, directory: string): string {
  const image = `docker.io/library/${PAUSE}`;
  const head = `root = "${directory}/root"\nstate = "${directory}/state"
[grpc]
  address = "${directory}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "${directory}/opt"\n`;
  if (version !== "2") {
    return `version = 2\n${head}[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${image}"
  restrict_oom_score_adj = true\n`;
  }
  return `version = 3\n${head}[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "${image}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true\n`;
}

/** A field of protobuf: its number, and a varint, a text or a message. */
export type Field = [number, number | string | Field[]];

function encode(fields: Field[]): Buffer {
  const parts = fields.map(([number, value]) => {
    if (typeof value === "number") return Buffer.from([...varint(number * 8), ...varint(value)]);
    const bytes = typeof value === "string" ? Buffer.from(value) : encode(value);
    return Buffer.concat([Buffer.from([...varint(number * 8 + 2), ...varint(bytes.length)]), bytes]);
  });
  return Buffer.concat(parts);
}

function varint(value: number): number[] {
  return value < 128 ? [value] : [(value % 128) + 128, ...varint(Math.floor(value / 128))];
}
