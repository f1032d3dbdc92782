// Question: what does the demo play on, and how does all of it go away again?
// Input:    dist/, as scripts/prepare.sh makes it; a Docker engine; root.
// Output:   a real OpenBao, a real server, an image from Dockerfile.example and its containers.
// Promise:  after `close`, whenever it is called: no container, no process and no file of the demo
//           is left. The images stay: they are a cache, and hold no secret.
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { baseImage } from "../scripts/images.ts";
import { type OpenBao, provision, startOpenBao } from "../scripts/openbao.ts";

const repository = join(import.meta.dirname, "..");
const auditDeadlineMs = 15_000;
const runningDeadlineMs = 30_000;

export const image = "authproxy-demo";
export const service = "app";
/** A new one each time: found somewhere, it can only have come from this demo's Vault. */
export const password = randomBytes(24).toString("base64url");

export type Outcome = { status: number | null; stdout: string; stderr: string };
/** The members of any of its lines; which, the event says. */
export type AuditLine = {
  event: string;
  pid: number;
  uid: number;
  exe: string;
  container: string;
  /** In place of `container`, where the engine was not asked. */
  claimed: string;
  image: string;
  service: string;
  accessor: string;
  reason: string;
  detail: Record<string, unknown>;
};

export class Stage {
  readonly #directory = mkdtempSync(join(tmpdir(), "authproxy-demo-"));
  readonly #label = basename(this.#directory);
  readonly #closing = new AbortController();
  readonly #commands = new Set<Promise<Outcome>>();
  readonly #undo: (() => Promise<void>)[] = [];
  readonly #audit: string[] = [];
  readonly #serverErrors: string[] = [];
  #serverEnded = false;

  readonly socketDirectory = join(this.#directory, "socket");

  async startVault(): Promise<OpenBao> {
    this.#closing.signal.throwIfAborted();
    const starting = startOpenBao();
    this.#undo.push(async () => (await starting.catch(() => undefined))?.stop());
    return starting;
  }

  /** Resolves when it serves one service, which is who has the label app=app and the uid 1001. */
  async startServer(bao: OpenBao): Promise<void> {
    const { roleId, secretId } = await provision(bao, { services: { [service]: { password } } });
    const secretIdFile = this.write("secret-id", secretId);
    const engine = await this.docker("context", "inspect", "-f", "{{.Endpoints.docker.Host}}");
    // Containers of any user look for the socket there, whatever our umask is.
    mkdirSync(this.socketDirectory);
    chmodSync(this.socketDirectory, 0o755);
    const config = {
      socket: join(this.socketDirectory, "authproxy.sock"),
      state: join(this.#directory, "state"),
      engine: engine.stdout.trim().replace(/^unix:\/\//, "") || "/var/run/docker.sock",
      vault: {
        address: bao.address,
        ca_file: bao.caFile,
        login: {
          path: "auth/approle/login",
          body: { role_id: roleId },
          body_files: { secret_id: secretIdFile },
        },
      },
      services: {
        [service]: {
          match: { peer: { uid: 1001 }, container: { Config: { Labels: { app: service } } } },
          token: { create: `auth/token/create/${service}` },
        },
      },
    };
    const configFile = this.write("authproxy.json", JSON.stringify(config, null, 2));
    this.#spawnServer(configFile);
    await this.auditLine((line) => line.event === "ready");
  }

  #spawnServer(configFile: string): void {
    this.#closing.signal.throwIfAborted();
    const main = join(repository, "server/main.ts");
    // PR_SET_PDEATHSIG (prctl(2)): the kernel ends it when we are gone, even by SIGKILL.
    const argv = ["--pdeathsig", "TERM", "--", process.execPath, main, "--config", configFile];
    // In a group of its own: Ctrl-C on a terminal is for us, and we end it.
    const server = spawn("setpriv", argv, { stdio: ["ignore", "pipe", "pipe"], detached: true });
    const ended = once(server, "close").catch((error) => this.#serverErrors.push(String(error)));
    ended.then(() => {
      this.#serverEnded = true;
    });
    createInterface({ input: server.stdout }).on("line", (line) => this.#audit.push(line));
    createInterface({ input: server.stderr }).on("line", (line) => this.#serverErrors.push(line));
    this.#undo.push(async () => {
      server.kill("SIGTERM");
      await ended;
    });
  }

  /** All that the server has written. */
  serverOutput(): string {
    return [...this.#audit, ...this.#serverErrors].join("\n");
  }

  async auditLine(wanted: (line: AuditLine) => boolean): Promise<AuditLine> {
    const deadlineMs = performance.now() + auditDeadlineMs;
    while (performance.now() < deadlineMs) {
      const line = this.#audit.map((text): AuditLine => JSON.parse(text)).find(wanted);
      if (line) return line;
      if (this.#serverEnded) break;
      await sleep(5, undefined, { signal: this.#closing.signal });
    }
    const what = this.#serverEnded ? "it ended" : "the audit line that is waited for did not come";
    const last = [this.#audit.at(-1) ?? "no audit line", ...this.#serverErrors.slice(0, 3)];
    throw new Error(`server: ${what}; its last words: ${last.join("; ")}`);
  }

  /** The classic builder or BuildKit, as the engine has it; its output only where it fails. */
  async buildImage(): Promise<void> {
    const base = `BASE=${baseImage()}`;
    const file = join(repository, "Dockerfile.example");
    const label = `${image}=image`;
    const argv = ["build", "--force-rm", "-f", file, "--build-arg", base, "--label", label];
    const built = await this.#run([...argv, "-t", image, repository], this.#closing.signal);
    if (built.status !== 0)
      throw new Error(`docker build: failed:\n${built.stdout}${built.stderr}`);
    // What had this name before is nobody's now.
    await this.docker("image", "prune", "--force", "--filter", `label=${label}`);
  }

  /** Resolves with its id when its application has printed this. */
  async startContainer(argv: string[], lineStart: string): Promise<string> {
    const { status, stdout, stderr } = await this.docker(...this.#runCommand("-d", argv));
    if (status !== 0) throw new Error(`docker run: ${stderr}`);
    const id = stdout.trim();
    const deadlineMs = performance.now() + runningDeadlineMs;
    while (performance.now() < deadlineMs) {
      const logs = await this.docker("logs", id);
      if (logs.stdout.startsWith(lineStart)) return id;
      const running = await this.docker("inspect", "-f", "{{.State.Running}}", id);
      if (running.stdout.trim() !== "true") throw new Error(`the container ended: ${logs.stderr}`);
      await sleep(50);
    }
    throw new Error("the container's application did not start in time");
  }

  /** Resolves when it has ended. */
  runContainer(argv: string[]): Promise<Outcome> {
    return this.docker(...this.#runCommand("--rm", argv));
  }

  #runCommand(how: string, argv: string[]): string[] {
    return ["run", how, "--label", `${image}=${this.#label}`, ...argv];
  }

  docker(...argv: string[]): Promise<Outcome> {
    this.#closing.signal.throwIfAborted();
    return this.#run(argv);
  }

  #run(argv: string[], signal?: AbortSignal): Promise<Outcome> {
    const command = outcomeOf(argv, signal);
    this.#commands.add(command);
    return command.finally(() => this.#commands.delete(command));
  }

  /** What a shell script prints about a container or an image, which is its $1. It starts when it is
   * first read: Node throws away what a process wrote that ended unread. */
  async *output(script: string, id: string): AsyncGenerator<Buffer> {
    this.#closing.signal.throwIfAborted();
    const shell = spawn("sh", ["-c", script, "sh", id], {
      stdio: ["ignore", "pipe", "ignore"],
      detached: true,
    });
    const ended = once(shell, "exit");
    this.#undo.push(async () => {
      const running = shell.exitCode === null && shell.signalCode === null;
      if (shell.pid && running) process.kill(-shell.pid); // all of the pipeline
      await ended;
    });
    yield* shell.stdout;
  }

  /** A file that only root can read. */
  write(name: string, content: string): string {
    const path = join(this.#directory, name);
    writeFileSync(path, content, { mode: 0o600 });
    return path;
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#removeContainers(); // those that run end, and with them who waits for them
    await Promise.allSettled(this.#commands);
    await this.#removeContainers(); // what one of these commands was about to create
    const undone = await Promise.allSettled(this.#undo.map((undo) => undo()));
    rmSync(this.#directory, { recursive: true, force: true });
    for (const one of undone) if (one.status === "rejected") throw one.reason;
  }

  async #removeContainers(): Promise<void> {
    const label = `label=${image}=${this.#label}`;
    const { stdout } = await outcomeOf(["ps", "-aq", "--no-trunc", "--filter", label]);
    const ids = stdout.split("\n").filter(Boolean);
    if (ids.length > 0) await outcomeOf(["rm", "-f", "-v", ...ids]);
  }
}

/** Rejects where there is no docker command, or the signal came. */
async function outcomeOf(argv: string[], signal?: AbortSignal): Promise<Outcome> {
  const stdio = ["ignore", "pipe", "pipe"] as const;
  const child = spawn("docker", argv, {
    stdio: [...stdio],
    detached: true,
    ...(signal && { signal }),
  });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text) => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text) => {
    stderr += text;
  });
  await once(child, "close");
  return { status: child.exitCode, stdout, stderr };
}
