// Question: how does a test run the client with --watch?
// Output:   the real bundle, an application that is a shell script, and what both print. `files` is the
//           directory for files of secrets, another one for each test.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, expect } from "vitest";
import { answer, bundle, node, Playground, secretBytes } from "./client-playground.ts";
import { grant } from "./client-vault.ts";
import { memoryDirectory } from "./memory.ts";

const memory = memoryDirectory();
export let files = memory;
let cases = 0;
beforeEach(() => {
  files = join(memory, String(cases++));
  mkdirSync(files);
  chmodSync(files, 0o755);
});

export type Running = {
  child: ChildProcess;
  /** Resolves when what was printed so far, on both streams, holds the text this often. */
  says: (text: string, times?: number) => Promise<string>;
  ended: Promise<{ exitCode: number | null; signal: string | null }>;
};

/** The client with --watch, until the test is over. */
export async function watching(
  test_: (running: Running) => Promise<void>,
  environment: Record<string, string>,
  script: string,
  options: string[] = [],
  { line = grant(), before = [] as string[], flags = ["--disable-sigusr1"] } = {},
): Promise<void> {
  await using server = await Playground.open(answer(line));
  const own = ["--watch", "--refresh", "1", "--socket", server.socket, "--files", files];
  const [program = "", ...argv] = [...before, node, ...flags, bundle, ...own, ...options];
  const child = spawn(program, [...argv, "--", "/bin/sh", "-c", script], {
    env: { PATH: "/usr/bin:/bin", ...environment },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true, // a process group of its own, to be ended with all that is in it
  });
  let output = "";
  const heard = new EventTarget();
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding("utf8").on("data", (text: string) => {
      output += text;
      heard.dispatchEvent(new Event("text"));
    });
  }
  const ended = once(child, "close").then(([exitCode, signal]) => {
    heard.dispatchEvent(new Event("text"));
    return { exitCode, signal };
  });
  const says = async (text: string, times = 1): Promise<string> => {
    const deadline = AbortSignal.timeout(20_000);
    while (output.split(text).length <= times) {
      if (child.exitCode !== null || child.signalCode !== null || deadline.aborted) {
        throw new Error(`not said ${times} times: ${text}; but:\n${output}`);
      }
      await once(heard, "text", { signal: deadline }).catch(() => {});
    }
    return output;
  };
  try {
    await test_({ child, says, ended });
    for (const secret of secretBytes) expect(output).not.toContain(secret);
  } finally {
    try {
      process.kill(-(child.pid ?? 0), "SIGKILL");
    } catch (error) {
      expect(error).toMatchObject({ code: "ESRCH" });
    }
    await ended;
  }
}

/** Prints a hash of the secret at its start and on each SIGHUP, until it is ended. */
export const PRINTER = `
show() { sha256sum < "$X_FILE" | cut -c 1-64; }
trap show HUP
trap 'echo ended; exit 0' TERM
show
while :; do sleep 0.1; done`;
