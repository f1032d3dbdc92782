// Question: on what does the bench play?
// Output:   a real OpenBao over TLS, real servers on sockets of one directory, real containers that
//           do what they are told (programs/control.h).
// Promise:  all that a Stage has started ends with it.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { build } from "esbuild";
import { getContainerRuntimeClient } from "testcontainers";
import { baseImage } from "../scripts/images.ts";
import { client, type OpenBao, provision, startOpenBao } from "../scripts/openbao.ts";
import { placePrograms } from "../scripts/package.ts";
import type { Service } from "../server/config.ts";
import type { JsonObject } from "../server/json.ts";
import { type Memory, memoryOf, tree } from "./memory.ts";

const root = join(import.meta.dirname, "..");
const sources = join(import.meta.dirname, "programs");
export const USER = 1001;
export const PROGRAMS = ["asker", "first", "launcher", "holder", "flooder"] as const;
/** So many containers are started at a time: the engine is no faster with more. */
const STARTS_AT_ONCE = 8;
const READY_MS = 30_000;
const DEADLINE_MS = 600_000;

/** The service of every container that is not told otherwise. `once` is relaxed: one container is to
 * get many tokens, one after the other. It is evaluated all the same. */
export const app: Service = {
  match: { peer: { uid: USER }, container: { Config: { Labels: { app: "app" } } } },
  token: { create: "auth/token/create/app" },
  relax: ["once"],
};
/** For programs that are not their container's first process. */
export const anyProcess: Service = { ...app, relax: ["once", "init", "alone"] };

/** One of our servers. */
export class Server {
  readonly socket: string;
  readonly state: string;
  readonly pid: number;
  readonly #child: ChildProcess;

  constructor(name: string, state: string, child: ChildProcess) {
    this.socket = `/run/authproxy/${name}.sock`; // as containers see it
    this.state = state;
    this.#child = child;
    this.pid = child.pid ?? 0;
  }

  /** Server and helper. */
  memory(): Memory {
    return memoryOf(...tree(this.pid));
  }

  /** Resolves when no lease is left: a start's is kept until its container ends. */
  async rests(): Promise<void> {
    while (readdirSync(this.state).length > 0) await sleep(50); // inotify would tell of each file
  }

  async end(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill("SIGKILL"); // its helper ends with it
    await once(this.#child, "exit");
  }
}

/** A container that obeys. */
export class Inside {
  readonly id: string;
  readonly #socket: Socket;
  readonly #lines: AsyncIterator<string>;
  /** Its processes, and itself. */
  readonly remove: () => Promise<unknown>;

  constructor(id: string, socket: Socket, remove: () => Promise<unknown>) {
    this.id = id;
    this.#socket = socket;
    this.#lines = createInterface(socket)[Symbol.asyncIterator]();
    this.remove = remove;
  }

  tell(...words: (string | number)[]): Promise<string> {
    return this.tellWithin(DEADLINE_MS, ...words);
  }

  async tellWithin(deadlineMs: number, ...words: (string | number)[]): Promise<string> {
    const order = words.join(" ");
    this.#socket.write(`${order}\n`);
    const late = sleep(deadlineMs, undefined, { ref: false }).then(() => {
      throw new Error(`no answer in ${deadlineMs} ms to "${order}"`);
    });
    const { value, done } = await Promise.race([this.#lines.next(), late]);
    if (done) throw new Error(`the container that was told "${order}" has ended`);
    return value;
  }
}

type Wanted = { image?: string; labels?: Record<string, string>; binds?: string[] };

/** As packaging/authproxy.service starts what is installed. */
function installedFlags(): string[] {
  const unit = readFileSync(join(root, "packaging/authproxy.service"), "utf8");
  const [, flags] = /^ExecStart=\S+\/node (--.*) \S+\/server\/main\.js$/m.exec(unit) ?? [];
  if (!flags) throw new Error("packaging/authproxy.service: no ExecStart with flags of Node");
  return flags.split(" ");
}

export class Stage {
  readonly directory = mkdtempSync(join(tmpdir(), "authproxy-bench-"));
  /** On tmpfs, as /run is: no disk is waited for. */
  readonly memory = mkdtempSync("/dev/shm/authproxy-bench-");
  readonly bao: OpenBao;
  readonly image = baseImage();
  readonly #ids: { roleId: string; secretId: string };
  readonly #undo: (() => unknown)[] = [];
  readonly #joined = new Map<string, (socket: Socket) => void>();

  /** Those that a signal has to end. */
  static readonly open = new Set<Stage>();

  private constructor(bao: OpenBao, ids: { roleId: string; secretId: string }) {
    Stage.open.add(this);
    this.bao = bao;
    this.#ids = ids;
    this.defer(() => bao.stop());
  }

  static async start(): Promise<Stage> {
    const bao = await startOpenBao();
    const token = await client(bao).tokenCreate({ policies: ["default"], no_parent: true });
    const secret = { password: "a password", token: token.auth.client_token };
    const stage = new Stage(bao, await provision(bao, { services: { app: secret } }));
    // For `read`: our server may read a ready token as well.
    const rules = 'path "secret/data/app" { capabilities = ["read"] }';
    await client(bao).addPolicy({ name: "ready", policy: rules });
    await client(bao).write("auth/approle/role/authproxy", {
      token_policies: ["authproxy", "ready"],
      token_no_default_policy: true,
      token_period: "3600s",
    });
    try {
      await placePrograms(join(stage.directory, "host"));
      await stage.#build();
      return stage;
    } catch (error) {
      await stage[Symbol.asyncDispose](); // Ctrl-C, which ends the compiler too
      throw error;
    }
  }

  /** To be done at the end, the last first. */
  defer(undo: () => unknown): void {
    this.#undo.push(undo);
  }

  /** What containers see as /bench: programs, the client, and what peers need. */
  get programs(): string {
    return join(this.directory, "bench");
  }

  async #build(): Promise<void> {
    chmodSync(this.directory, 0o755);
    for (const name of ["run", "control", "bench"]) mkdirSync(join(this.directory, name));
    const flags = ["-std=gnu17", "-Wall", "-Wextra", "-Werror", "-O1", "-static"];
    for (const name of PROGRAMS) {
      const words = ["-o", join(this.programs, name), join(sources, `${name}.c`)];
      execFileSync(process.env.CC ?? "cc", [...flags, ...words]);
    }
    copyFileSync(join(root, "dist/authproxy.js"), join(this.programs, "authproxy.js"));
    copyFileSync(join(sources, "smallest.cjs"), join(this.programs, "smallest.cjs"));
    await build({
      entryPoints: [join(sources, "node-vault.cjs")],
      outfile: join(this.programs, "node-vault.cjs"),
      bundle: true,
      platform: "node",
      logLevel: "error",
    });
    writeFileSync(join(this.programs, "ca.pem"), this.bao.ca);
    const control = join(this.directory, "control/control.sock");
    const server = createServer((socket) => {
      socket.on("error", () => {}); // its container was removed
      socket.once("data", (name) => this.#joined.get(name.toString().trim())?.(socket));
    });
    server.listen(control);
    await once(server, "listening");
    chmodSync(control, 0o666);
    this.defer(() => server.close());
  }

  login(): JsonObject {
    const { roleId: role_id, secretId: secret_id } = this.#ids;
    return { role_id, secret_id };
  }

  /** `programs`: a directory of ours that has them, as placePrograms() lays them out. */
  async server(
    name: string,
    services: Record<string, Service> = { app },
    changes: object = {},
    programs = "host",
  ): Promise<Server> {
    const state = join(this.memory, name);
    const file = join(this.directory, `${name}.json`);
    const config = {
      socket: join(this.directory, `run/${name}.sock`),
      state,
      vault: {
        address: this.bao.address,
        ca_file: this.bao.caFile,
        login: { path: "auth/approle/login", body: this.login() },
      },
      services,
      ...changes,
    };
    writeFileSync(file, JSON.stringify(config), { mode: 0o600 });
    const main = join(this.directory, programs, "server/main.js");
    const words = [...installedFlags(), main, "--config", file];
    const child = spawn(process.execPath, words, { stdio: ["ignore", "pipe", "inherit"] });
    const server = new Server(name, state, child);
    this.defer(() => server.end());
    const signal = AbortSignal.timeout(READY_MS);
    await once(child.stdout, "data", { signal }); // "ready"
    child.stdout.resume(); // somebody reads the audit stream, and does no more with it
    return server;
  }

  /** Starts containers whose first process is this program, and waits until each can be told. */
  async containers(program: string, count: number, wanted: Wanted = {}): Promise<Inside[]> {
    const started: Inside[] = [];
    while (started.length < count) {
      const some = Math.min(STARTS_AT_ONCE, count - started.length);
      const all = Array.from({ length: some }, async () => (await this.create(program, wanted))());
      started.push(...(await Promise.all(all)));
    }
    return started;
  }

  /** A name for a program that is going to be told, and its connection once it has said that name. */
  expect(program: string): { name: string; joined: Promise<Socket> } {
    const name = `${program}-${this.#joined.size}`;
    const { promise: joined, resolve } = Promise.withResolvers<Socket>();
    this.#joined.set(name, resolve);
    return { name, joined };
  }

  /** Creates a container; what is returned starts it, and waits until it can be told. */
  async create(program: string, { image, labels, binds = [] }: Wanted = {}) {
    const { container: engine } = await getContainerRuntimeClient();
    const { name, joined } = this.expect(program);
    const container = await engine.dockerode.createContainer({
      Image: image ?? this.image,
      Cmd: [`/bench/${program}`, "/run/bench/control.sock", name],
      User: `${USER}:${USER}`,
      Labels: labels ?? { app: "app" },
      HostConfig: {
        ReadonlyRootfs: true,
        NetworkMode: "host", // where this machine's OpenBao listens
        Binds: [
          `${join(this.directory, "run")}:/run/authproxy:ro`,
          `${join(this.directory, "control")}:/run/bench:ro`,
          `${this.programs}:/bench:ro`,
          ...binds,
        ],
      },
    });
    let removed: Promise<unknown> | undefined;
    const remove = () => {
      removed ??= container.remove({ force: true, v: true });
      return removed;
    };
    this.defer(remove);
    return async () => {
      await container.start();
      const { State } = await container.inspect();
      if (!State.Running) throw new Error(`${program}: ${await container.logs({ stderr: true })}`);
      return new Inside(container.id, await joined, remove);
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    while (this.#undo.length > 0) {
      const some = this.#undo.splice(-STARTS_AT_ONCE).reverse();
      await Promise.all(some.map((undo) => undo()));
    }
    Stage.open.delete(this);
    rmSync(this.memory, { recursive: true, force: true });
    rmSync(this.directory, { recursive: true, force: true });
  }
}
