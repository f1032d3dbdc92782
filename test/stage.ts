// Question: on what do the tests of the server play?
// Input:    a configuration that differs from the usual one, and what a container is started with.
// Output:   the real server, a real OpenBao over TLS, real containers of the image that
//           Dockerfile.example describes. Each test waits for events: an audit line, a line of a
//           container's log, an exit.
// Promise:  all that a Stage has started ends with it: `await using stage = new Stage()`.
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { EventEmitter, once } from "node:events";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import {
  GenericContainer,
  getContainerRuntimeClient,
  type StartedTestContainer,
} from "testcontainers";
import { afterAll } from "vitest";
import { baseImage } from "../scripts/images.ts";
import { client, type OpenBao, provision, startOpenBao } from "../scripts/openbao.ts";
import type { JsonObject } from "../server/json.ts";

const root = join(import.meta.dirname, "..");
const daemon = join(root, "server/main.ts");
const DEADLINE_MS = 30_000;
const run = promisify(execFile);

export const password = `password-${randomUUID()}`;
export const base = baseImage();
export const image = await buildImage("authproxy-test-app", root, "Dockerfile.example", base);
export const bao = await startOpenBao();
afterAll(() => bao.stop());
const ids = await provision(bao, { services: { app: { password } } });

/** What identifies the service in most tests, and which token it gets. */
export const app = {
  match: { peer: { uid: 1001 }, container: { Config: { Labels: { app: "app" } } } },
  token: { create: "auth/token/create/app" },
};

/** For a Vault that is reached at another address, or is not the usual one. */
export function vaultAt(address: string, { caFile } = bao, roleId = ids.roleId): JsonObject {
  return {
    address,
    ca_file: caFile,
    login: {
      path: "auth/approle/login",
      body: { role_id: roleId },
      body_files: { secret_id: "" },
    },
  };
}

/** By the docker command, which looks only at the part of the context that its build wants. */
export async function buildImage(name: string, context: string, file: string, base: string) {
  const words = ["--quiet", "--tag", name, "--build-arg", `BASE=${base}`];
  const argv = ["build", ...words, "--file", join(context, file), context];
  const env = { ...process.env, DOCKER_BUILDKIT: "0" }; // newer ones ask a registry for the base
  const { stdout } = await run("docker", argv, { env });
  // By a name that says what is in it: another clone's tests have images of their own.
  const id = stdout.trim().slice("sha256:".length);
  const tagged = `${name.split(":", 1)[0]}:${id.slice(0, 17)}`;
  await run("docker", ["tag", id, tagged]);
  return tagged;
}

/** Polls what the kernel or Vault gives no event for. */
export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + DEADLINE_MS;
  while (!(await holds())) {
    if (performance.now() > deadlineMs) throw new Error(`not in time: ${what}`);
    await sleep(20);
  }
}

/** Connects as the process that runs the test, sends nothing, and gives all that is answered. */
export async function ask(socket: string): Promise<string> {
  const connection = connect(socket).setEncoding("utf8");
  return (await connection.toArray()).join("");
}

/** What Vault knows about the living tokens that this server's services got. */
export async function tokensOf(container: string, from: OpenBao = bao): Promise<JsonObject[]> {
  const vault = client(from);
  const { data } = await vault.list("auth/token/accessors");
  const found: JsonObject[] = [];
  for (const accessor of data.keys) {
    const token = await lookUp(accessor, from);
    if ((token?.meta as JsonObject | null)?.container === container) found.push(token ?? {});
  }
  return found;
}

/** Undefined: no such token. */
export async function lookUp(accessor: unknown, from = bao): Promise<JsonObject | undefined> {
  try {
    return (await client(from).write("auth/token/lookup-accessor", { accessor })).data;
  } catch (error) {
    // Root is denied nothing but an accessor without a token: its creation was cut off.
    if (/invalid accessor|permission denied|status 40[34]/i.test(String(error))) return undefined;
    throw error;
  }
}

function descendantsOf(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8");
  const children = text.split(" ").filter(Boolean).map(Number);
  return [...children, ...children.flatMap(descendantsOf)];
}

export type AuditLine = JsonObject & { time: string; event: string };

/** The daemon, and its audit stream as it comes. */
export class Server {
  readonly socket: string;
  readonly events: AuditLine[] = [];
  /** Resolves with its exit code, or the signal that ended it. */
  readonly ended: Promise<number | string>;
  stdout = "";
  stderr = "";
  readonly #child: ChildProcess;
  readonly #heard = new EventEmitter();

  constructor(child: ChildProcess, socket: string) {
    this.socket = socket;
    this.#child = child;
    this.ended = once(child, "close").then(([code, signal]) => signal ?? code);
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.stderr += text;
    });
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      this.stdout += text;
      const lines = this.stdout.split("\n").slice(this.events.length, -1);
      this.events.push(...lines.map((line) => JSON.parse(line)));
      this.#heard.emit("line");
    });
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** peercred's pid. */
  get helper(): number {
    return this.#childThatRuns("peercred");
  }

  #childThatRuns(program: string): number {
    const runs = (pid: number) => readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(program);
    const found = descendantsOf(this.pid).find(runs);
    if (!found) throw new Error(`the server has no child that runs ${program}`);
    return found;
  }

  /** The first audit line with these members. */
  async until(wanted: Partial<AuditLine>): Promise<AuditLine> {
    const signal = AbortSignal.timeout(DEADLINE_MS);
    for (;;) {
      const found = this.find(wanted);
      if (found) return found;
      try {
        await once(this.#heard, "line", { signal });
      } catch {
        const wish = JSON.stringify(wanted);
        throw new Error(`no audit line ${wish}; it said:\n${this.stdout}${this.stderr}`);
      }
    }
  }

  find(wanted: Partial<AuditLine>): AuditLine | undefined {
    const members = Object.entries(wanted);
    return this.events.find((line) => members.every(([key, value]) => line[key] === value));
  }

  async end(signal: NodeJS.Signals): Promise<number | string> {
    this.#child.kill(signal);
    return await this.ended;
  }
}

export type ContainerOptions = {
  image?: string;
  labels?: Record<string, string>;
  environment?: Record<string, string>;
  command?: string[];
  entrypoint?: string[];
  user?: string;
  writable?: boolean;
  /** Where it sees a writable directory of the host's. */
  data?: string;
  /** How long the client asks, in seconds. */
  wait?: number;
};

/** Testcontainers has no method for a read-only root file system; `hostConfig` is its hook. */
class ApplicationContainer extends GenericContainer {
  withReadonlyRoot(): this {
    this.hostConfig.ReadonlyRootfs = true;
    return this;
  }
}

/** A container that was started, and its log as it comes. */
export class Container {
  readonly id: string;
  /** Resolves with its exit code, when all of its output has been read. */
  readonly ended: Promise<number>;
  output = "";
  readonly #started: StartedTestContainer;
  readonly #heard = new EventEmitter();

  constructor(started: StartedTestContainer, log: NodeJS.ReadableStream) {
    this.id = started.getId();
    this.#started = started;
    const read = once(log, "end");
    log.on("data", (text) => {
      this.output += text;
      this.#heard.emit("data");
    });
    this.ended = this.#exitCode(read);
    this.ended.then(() => this.#heard.emit("data"));
  }

  async #exitCode(read: Promise<unknown>): Promise<number> {
    const engine = await getContainerRuntimeClient();
    const { StatusCode } = await engine.container.getById(this.id).wait();
    await read;
    return StatusCode;
  }

  async says(text: string): Promise<string> {
    const signal = AbortSignal.timeout(DEADLINE_MS);
    while (!this.output.includes(text)) {
      try {
        await once(this.#heard, "data", { signal });
      } catch {
        throw new Error(`the container did not say "${text}", but:\n${this.output}`);
      }
    }
    return this.output;
  }

  exec(...command: string[]) {
    return this.#started.exec(command);
  }

  /** As `docker stop` does: SIGTERM, and SIGKILL after two seconds. */
  async stop(): Promise<void> {
    await this.#started.stop({ timeout: 2000, remove: false });
  }

  async kill(): Promise<void> {
    const engine = await getContainerRuntimeClient();
    await engine.container.getById(this.id).kill();
  }

  async restart(): Promise<void> {
    const engine = await getContainerRuntimeClient();
    await engine.container.getById(this.id).restart({ t: 2 });
  }

  async inspect() {
    const engine = await getContainerRuntimeClient();
    return await engine.container.getById(this.id).inspect();
  }

  async remove(): Promise<void> {
    const engine = await getContainerRuntimeClient();
    await engine.container.getById(this.id).remove({ force: true, v: true });
  }
}

export type StartOptions = {
  /** A descriptor, where the test itself reads the audit stream. */
  stdout?: number;
  /** A program that runs the server, with its arguments. */
  under?: string[];
  main?: string;
};

export class Stage {
  readonly directory = mkdtempSync(join(tmpdir(), "authproxy-stage-"));
  readonly #undo: (() => unknown)[] = [];

  /** To be done at the end, the last first. */
  defer(undo: () => unknown): void {
    this.#undo.push(undo);
  }

  /** Writes a configuration, with the usual values where none is given; returns its path. */
  configure(changes: JsonObject = {}, secretId = ids.secretId): string {
    mkdirSync(join(this.directory, "run"), { recursive: true, mode: 0o755 });
    const secretFile = join(this.directory, "secret_id");
    writeFileSync(secretFile, secretId, { mode: 0o600 });
    const config = {
      socket: join(this.directory, "run/authproxy.sock"),
      state: join(this.directory, "state"),
      vault: vaultAt(bao.address),
      services: { app },
      ...changes,
    };
    const text = JSON.stringify(config).replace('"secret_id":""', `"secret_id":"${secretFile}"`);
    const file = join(this.directory, "authproxy.json");
    writeFileSync(file, text, { mode: 0o600 });
    return file;
  }

  /** Starts the server. */
  start(config: string, { stdout, under = [], main = daemon }: StartOptions = {}): Server {
    const [program = "", ...words] = [...under, process.execPath, main, "--config", config];
    const child = spawn(program, words, { stdio: ["ignore", stdout ?? "pipe", "pipe"] });
    const server = new Server(child, JSON.parse(readFileSync(config, "utf8")).socket);
    this.defer(() => server.end("SIGKILL"));
    return server;
  }

  async server(changes: JsonObject = {}, secretId = ids.secretId): Promise<Server> {
    const server = this.start(this.configure(changes, secretId));
    await server.until({ event: "ready" });
    return server;
  }

  /** What the state directory says of its tokens. */
  leases(): JsonObject[] {
    const directory = join(this.directory, "state");
    const read = (name: string) => JSON.parse(readFileSync(join(directory, name), "utf8"));
    const names = readdirSync(directory).filter((name) => !name.endsWith(".new"));
    return names.map((name) => ({ ...read(name), name }));
  }

  /** Kills a server that has noted that this container has its token. */
  async crash(server: Server, container: Container): Promise<void> {
    const noted = ({ stage, meta }: JsonObject) =>
      stage === "sent" && (meta as JsonObject).container === container.id;
    await until("the delivery is noted", () => this.leases().some(noted));
    await server.end("SIGKILL");
  }

  /** As Dockerfile.example says that its image is to be run, label included, unless told otherwise. */
  async container(options: ContainerOptions = {}): Promise<Container> {
    const log = Promise.withResolvers<NodeJS.ReadableStream>();
    const bind = (source: string, target: string, mode: "ro" | "rw") => ({ source, target, mode });
    const runDirectory = bind(join(this.directory, "run"), "/run/authproxy", "ro");
    const data = options.data
      ? [bind(mkdtempSync(join(this.directory, "data-")), options.data, "rw")]
      : [];
    const container = new ApplicationContainer(options.image ?? image)
      .withLabels(options.labels ?? { app: "app" })
      .withUser(options.user ?? "1001:1001")
      .withNetworkMode("host") // where this machine's OpenBao listens
      .withTmpFs({ "/run/authproxy-secrets": "mode=0700,uid=1001,gid=1001,size=1m" })
      .withBindMounts([runDirectory, ...data])
      .withEnvironment({
        DB_PASSWORD_FILE: "vault:secret/data/app#password",
        AUTHPROXY_WAIT: String(options.wait ?? 30),
        ...options.environment,
      })
      .withLogConsumer(log.resolve);
    if (!options.writable) container.withReadonlyRoot();
    if (options.entrypoint) container.withEntrypoint(options.entrypoint);
    if (options.command) container.withCommand(options.command);
    const started = new Container(await container.start(), await log.promise);
    this.defer(() => started.remove());
    return started;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const undo of this.#undo.reverse()) await undo();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** No process has this number; a zombie counts as gone. */
export function isGone(pid: number): boolean {
  try {
    return /\) Z /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return true; // ENOENT, or ESRCH when it ends while it is read
  }
}
