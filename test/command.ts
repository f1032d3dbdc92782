// Question: how does a test run the command `authproxy`? As somebody would, in a process of its own,
// with nothing of our environment but the PATH.
import { spawn } from "node:child_process";
import { join } from "node:path";
import { text } from "node:stream/consumers";

const program = join(import.meta.dirname, "../cli/authproxy.ts");

/** Of our own environment. */
export const { PATH, NODE_COMPILE_CACHE } = process.env;

export type Ran = { status: number; stdout: string; stderr: string };

export function start(words: string[], env: NodeJS.ProcessEnv = {}) {
  const argv = ["--disable-warning=ExperimentalWarning", program, ...words];
  return spawn(process.execPath, argv, { env: { PATH, NODE_COMPILE_CACHE, ...env } });
}

export async function authproxy(
  words: string[],
  { input = "", ...env }: NodeJS.ProcessEnv = {},
): Promise<Ran> {
  const child = start(words, env);
  const ended = new Promise<number>((resolve) => child.on("close", resolve));
  child.stdin.on("error", () => {}).end(input); // it need not read
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return { status: await ended, stdout, stderr };
}
