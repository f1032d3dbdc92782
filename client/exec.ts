// How does this process become the command? By execve, with a clean slate: nothing of Node stays but
// the pid and the descriptors 0 to 2 (invariant 12). Sizes are looked at first, see program.ts.

import { readFileSync } from "node:fs";
import { codeOf, fail } from "./failure.ts";

/** MAX_ARG_STRLEN of the kernel: one string, with its NUL. */
const STRING_BYTES = 128 * 1024;
const AS_FILE = "hand it over as a file: NAME_FILE=vault:… in place of NAME=vault:…";

export async function become(
  program: string,
  command: readonly string[],
  environment: Readonly<Record<string, string>>,
): Promise<never> {
  requireSizes(command, environment);
  // Node ignores these two, and what is ignored stays ignored over execve; what is caught does not.
  process.on("SIGPIPE", () => {});
  process.on("SIGXFSZ", () => {});
  // A SIGTERM that came meanwhile is still in libuv's pipe: let it end the process.
  await new Promise((resolve) => setImmediate(resolve));
  let problem = "no execve";
  try {
    process.execve?.(program, command, environment);
  } catch (error) {
    problem = codeOf(error);
  }
  return fail("cannotRun", `${program}: cannot be run: ${problem}`);
}

export function requireSizes(
  command: readonly string[],
  environment: Readonly<Record<string, string>>,
): void {
  let total = 0;
  const add = (name: string, text: string) => {
    if (text.includes("\0")) fail("config", `${name}: the value has a NUL byte`, AS_FILE);
    const bytes = Buffer.byteLength(text) + 1;
    if (bytes > STRING_BYTES) fail("cannotRun", `${name}: ${bytes} bytes are too long`, AS_FILE);
    total += bytes + 8; // and a pointer to it
  };
  for (const argument of command) add("an argument", argument);
  for (const [name, value] of Object.entries(environment)) add(name, `${name}=${value}`);
  // The smallest limit there is: only above it the real one has to be looked up.
  if (total > STRING_BYTES - 4096 && total > roomBytes()) {
    const limit = `${total} bytes, of ${roomBytes()}`;
    fail("cannotRun", `the environment and arguments are too long: ${limit}`, AS_FILE);
  }
}

/** A quarter of the stack's soft limit, at least 128 KiB and at most 6 MiB (execve(2)), less a page
 * for what the kernel adds itself, as a script's interpreter. */
function roomBytes(): number {
  const limits = readFileSync("/proc/self/limits", "latin1");
  const stack = /^Max stack size +(\d+)/m.exec(limits)?.[1] ?? Number.POSITIVE_INFINITY;
  return Math.max(STRING_BYTES, Math.min(Number(stack) / 4, 6 * 1024 * 1024)) - 4096;
}
