// Question: what does an attack get from a server that is written as one would write it first?
// Input:    a fragment of the same identity document, in the same language as our policy.
// Output:   a token to whom it takes for that service: SO_PEERCRED says the pid, /proc its cgroup,
//           that the container's id, and `inspect` the rest. It checks nothing more, and only once.
// It has no defence that the attacks could be shown against: an attack that does not get the token
// here is none, and its test fails. On Kubernetes test/kubernetes/naive.ts finds the peer's pod.
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { getContainerRuntimeClient } from "testcontainers";
import type { JsonObject } from "../../server/json.ts";
import { mismatchesOf } from "../../server/policy.ts";
import type { Stage } from "../stage.ts";
import { compile } from "./arena.ts";

type Mint = (container: string) => Promise<string>;
/** Members of the identity document that say where the process with this pid runs. */
type Find = (pid: number) => Promise<{ container?: { Id: string }; pod?: JsonObject }>;
type Options = {
  mint?: Mint;
  socket?: string;
  /** A program that runs the part that accepts, with its arguments. */
  under?: string[];
  /** How it finds the peer's container: by the id in its cgroup, unless told otherwise. */
  find?: Find;
  /** What else it looks at, before it judges. */
  look?: (pid: number) => Promise<unknown>;
};

export class Naive {
  /** Of the process that accepts. */
  readonly acceptor: number;
  /** Its log, in lines of text, as it would be read by `grep`. */
  log = "";
  /** Those that were accepted: they are answered one after the other. */
  readonly accepted: number[] = [];
  /** Those that were judged, and found to be the service. */
  readonly granted: number[] = [];
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #match: JsonObject;
  readonly #mint: Mint;
  readonly #find: Find;
  readonly #look: (pid: number) => Promise<unknown>;
  #queue = Promise.resolve();

  private constructor(child: ChildProcessWithoutNullStreams, match: JsonObject, options: Options) {
    this.acceptor = child.pid ?? 0;
    this.#child = child;
    this.#match = match;
    this.#mint = options.mint ?? (async () => "naive");
    this.#find = options.find ?? byCgroup;
    this.#look = options.look ?? (async () => {});
  }

  static async start(stage: Stage, match: JsonObject, options: Options = {}): Promise<Naive> {
    const { under = [], ...rest } = options;
    const { socket = join(stage.directory, "run/authproxy.sock") } = options;
    const [program = "", ...words] = [...under, compile("naive"), socket];
    const child = spawn(program, words, { stdio: "pipe" });
    child.stdin.on("error", () => {}); // it was ended
    stage.defer(() => child.kill("SIGKILL"));
    const server = new Naive(child, match, rest);
    const ready = Promise.withResolvers<void>();
    createInterface(child.stdout).on("line", (line) => {
      const [verb, socket = "", pid, uid] = line.split(" ");
      if (verb === "peer") server.accepted.push(Number(pid));
      if (verb === "peer") server.#enqueue(socket, Number(pid), Number(uid));
      else ready.resolve();
    });
    await ready.promise;
    return server;
  }

  #enqueue(socket: string, pid: number, uid: number): void {
    this.#queue = this.#queue.then(async () => {
      if (this.#child.killed) return;
      const answer = await this.#answer(pid, uid).catch((error: Error) => ({
        error: error.message,
      }));
      this.#child.stdin.write(`${socket} ${JSON.stringify(answer)}\n`);
    });
  }

  async #answer(pid: number, uid: number): Promise<object> {
    await this.#look(pid);
    const found = await this.#find(pid);
    const process = pid > 0 ? readProcess(pid) : { exe: "" };
    const document = JSON.parse(JSON.stringify({ peer: { uid }, process, ...found }));
    const granted = mismatchesOf(this.#match, document).length === 0;
    this.log += `${granted ? "granted" : "refused"} pid=${pid} exe=${process.exe}\n`;
    if (!granted) return { error: "refused" };
    this.granted.push(pid);
    return { token: await this.#mint(found.container?.Id ?? "") };
  }
}

const byCgroup: Find = async (pid) => {
  const id = /[0-9a-f]{64}/.exec(readFileSync(`/proc/${pid}/cgroup`, "utf8"))?.[0] ?? "";
  const engine = await getContainerRuntimeClient();
  return { container: await engine.container.getById(id).inspect() };
};

/** The container that has this pid. */
export const byPid: Find = async (pid) => {
  const { container } = await getContainerRuntimeClient();
  for (const { Id } of await container.dockerode.listContainers({ all: true })) {
    const found = await container
      .getById(Id)
      .inspect()
      .catch(() => undefined); // gone meanwhile
    if (found?.State.Pid === pid) return { container: found };
  }
  throw new Error(`no container has the pid ${pid}`);
};

function readProcess(pid: number) {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return {
    // What the kernel adds when a running program's file was replaced.
    exe: readlinkSync(`/proc/${pid}/exe`).replace(/ \(deleted\)$/, ""),
    ppid: Number(readFileSync(`/proc/${pid}/stat`, "utf8").split(" ")[3]),
    euid: Number(/^Uid:\t\d+\t(\d+)/m.exec(status)?.[1]),
  };
}

/** A Vault that answers when the test says so. */
export class SlowMint {
  readonly #asked = Promise.withResolvers<void>();
  readonly #answer = Promise.withResolvers<void>();
  /** Resolves when a token is wanted: somebody was judged. */
  readonly asked = this.#asked.promise;
  readonly release = this.#answer.resolve;
  readonly mint = async (): Promise<string> => {
    this.#asked.resolve();
    await this.#answer.promise;
    return "naive";
  };
}
