// Question: what does the client do, as an image would run it?
// Input:    an environment, arguments, a server at the other end of a real socket, and where: on this
//           machine or in a container.
// Promise:  the real bundle, in a Node process of its own (on this machine CLIENT_NODE names another
//           Node). Whatever it prints is searched for the secrets of the case, and whatever it sends to
//           the server fails it.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect } from "vitest";
import { bundleClient } from "../scripts/build.ts";

export const node = process.env.CLIENT_NODE ?? process.execPath;

/** Of all places; containers have it under the same path. */
export const directory = mkdtempSync(join(tmpdir(), "authproxy-client-"));
chmodSync(directory, 0o755);
afterAll(() => rmSync(directory, { recursive: true, force: true }));

export const bundle = join(directory, "authproxy.js");
writeFileSync(bundle, (await bundleClient()).bytes);

/** Bytes that no output of the client may hold; each case adds its own. */
export const secretBytes = new Set<string>();

let places = 0;

/** A new directory, of the mode that the server's own has. */
export function newPlace(mode = 0o755): string {
  const place = join(directory, String(places++));
  mkdirSync(place);
  chmodSync(place, mode);
  return place;
}

export type Answering = (connection: Socket, count: number) => void;

/** A server at the socket of a new place; what it answers depends on the case. */
export class Playground {
  readonly place: string;
  readonly socket: string;
  connections = 0;
  received = 0;
  readonly #server: Server;

  private constructor(answering: Answering, place: string) {
    this.place = place;
    this.socket = join(place, "authproxy.sock");
    this.#server = createServer((connection) => {
      connection.on("data", (chunk) => {
        this.received += chunk.length;
      });
      connection.on("error", () => {});
      answering(connection, this.connections++);
    });
  }

  static async open(answering: Answering, place = newPlace()): Promise<Playground> {
    const playground = new Playground(answering, place);
    playground.#server.listen(playground.socket);
    await once(playground.#server, "listening");
    chmodSync(playground.socket, 0o666); // as the server's own: who connects may be another user
    return playground;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
    expect(this.received, "bytes that the client sent to the server").toBe(0);
  }
}

export function answer(line: unknown): Answering {
  return (connection) => connection.end(`${JSON.stringify(line)}\n`);
}

export type Run = {
  /** The client's own options; its socket is --socket. */
  options?: string[];
  flags?: string[];
  command?: string[];
  environment?: Record<string, string>;
  /** Called with the process when it is started. */
  during?: (child: ChildProcess) => void;
  /** What comes before node, as `unshare --pid`. */
  before?: string[];
  /** The command alone: what the client is compared with. */
  bare?: boolean;
};

/** Where clients are started. */
export type Place = {
  node: string;
  bundle: string;
  /** The words that start a program there with this environment. */
  enter?: (environment: Record<string, string>) => string[];
};

export const here: Place = { node, bundle };

export type Ended = {
  exitCode: number | null;
  signal: string | null;
  stdout: string;
  stderr: string;
  milliseconds: number;
};

export async function run(with_: Run, at: Place = here): Promise<Ended> {
  const { options = [], flags = ["--disable-sigusr1"], command = ["/bin/true"] } = with_;
  const { before = [], bare = false, during } = with_;
  const environment = { PATH: "/usr/bin:/bin", ...with_.environment };
  const ours = bare ? [] : [at.node, ...flags, at.bundle, ...options];
  const entering = at.enter?.(environment) ?? [];
  const [program = "", ...argv] = [...entering, ...before, ...ours, ...command];
  const startMs = performance.now();
  const child = spawn(program, argv, {
    env: at.enter ? process.env : environment,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    stdout += chunk;
  });
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
    stderr += chunk;
  });
  during?.(child);
  const [exitCode, signal]: [number | null, string | null] = await new Promise(
    (resolve, reject) => {
      child.once("error", reject);
      child.once("close", (...ended: [number | null, string | null]) => resolve(ended));
    },
  );
  for (const secret of secretBytes) {
    expect(stdout + stderr, "no output holds a secret").not.toContain(secret);
  }
  return { exitCode, signal, stdout, stderr, milliseconds: performance.now() - startMs };
}

/** A failure as the design has it: its code, one line, at most one hint, nothing else. */
export function expectFailure(ended: Ended, exitCode: number, line: RegExp, hint?: RegExp): void {
  const { stdout, stderr } = ended;
  expect({ exitCode: ended.exitCode, stdout, stderr }).toMatchObject({ exitCode, stdout: "" });
  const lines = stderr.split("\n");
  expect(lines.pop(), "the last line has an end").toBe("");
  expect(lines.length, stderr).toBeLessThanOrEqual(2);
  expect(lines[0]).toMatch(/^authproxy: (?!hint: )/);
  expect(lines[0]).toMatch(line);
  if (lines[1] !== undefined) expect(lines[1]).toMatch(/^authproxy: hint: /);
  if (hint) expect(lines[1]).toMatch(hint);
}
