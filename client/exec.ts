// Question: how does this process become the command?
// Input:    the command and PATH, which the image or whoever starts the container chose, and files of
//           the image.
// Output:   the process runs the command, by execve. Nothing of Node stays but the pid and the
//           descriptors 0 to 2 (invariant 12). Where the kernel would not run the command, a Failure
//           says so first: in Node 22 and 24 a failing process.execve aborts with a stack trace. The
//           exit code is 127 where there is no such command, 126 where it cannot be run, as in a shell.

import {
  accessSync,
  closeSync,
  constants,
  openSync,
  readFileSync,
  readSync,
  statSync,
} from "node:fs";
import { errorCode, fail } from "./failure.ts";

/** BINPRM_BUF_SIZE of the kernel: how much of a file it reads to see what the file is. */
const HEAD_BYTES = 256;
/** A script's interpreter may be a script, at most so many times (execve(2), ELOOP). */
const SCRIPT_DEPTH_MAX = 4;
/**
 * e_machine of elf(5) that a kernel runs by itself, by Node's names of processors: the processor's own,
 * and that of its 32-bit programs.
 */
const OWN_MACHINES: Readonly<Record<string, readonly number[]>> = {
  x64: [62, 3],
  arm64: [183, 40],
};
/** How much of an ELF file its header is. */
const ELF_HEADER_BYTES = 64;
/** p_type of elf(5): the entry that names the loader. */
const PT_INTERP = 3;

/** One of the variables that hasHandler() fills the room with. */
const FILLER_BYTES = 1024;
/** More than what "/bin/sh" in front of a command takes. */
const SH_BYTES = 64;

/** MAX_ARG_STRLEN of the kernel: one argument or variable, with its NUL. */
const STRING_BYTES_MAX = 128 * 1024;
/** The kernel adds strings too, such as a script's interpreter: a page is left for them. */
const PAGE_BYTES = 4096;
const AS_FILE = "hand it over as a file: NAME_FILE=vault:… in place of NAME=vault:…";

type Environment = Readonly<Record<string, string>>;

/**
 * Returns the path of the program that a command means. PATH is searched as a shell does. Throws a
 * Failure (notFound, cannotRun) where execve would fail on the program.
 */
export function findProgram(command: string, path: string | undefined): string {
  let problem: string | undefined;
  for (const file of candidates(command, path)) {
    const reason = whyNotExecutable(file);
    if (!reason) {
      requireFormat(file, 0);
      return file;
    }
    const isMissing = reason === "ENOENT" || reason === "ENOTDIR";
    if (!isMissing) problem = `${file}: ${reason}`;
  }
  if (problem) return fail("cannotRun", problem);
  return fail("notFound", `${command}: command not found`);
}

function candidates(command: string, path: string | undefined): string[] {
  if (command.includes("/")) return [command];
  // Without PATH, execvp(3) searches these two directories.
  const directories = (path ?? "/bin:/usr/bin").split(":");
  return directories.map((directory) => `${directory || "."}/${command}`);
}

/** Returns a reason in words or an errno's name, or undefined where the file may be executed. */
function whyNotExecutable(file: string): string | undefined {
  try {
    if (!statSync(file).isFile()) return "not a file";
    accessSync(file, constants.X_OK);
    return undefined;
  } catch (error) {
    const code = errorCode(error);
    return code === "EACCES" ? "not executable for this user" : code;
  }
}

/**
 * Throws a Failure (cannotRun) unless the kernel runs the file: a program for this processor whose
 * loader exists, a script whose interpreter it runs, or what a handler is registered for. `depth` counts
 * the scripts before.
 */
function requireFormat(file: string, depth: number): void {
  const head = readBytes(file, 0, HEAD_BYTES);
  // The file may be executed but not read. The kernel can read it.
  if (!head) return;

  const magic = head.toString("latin1", 0, 4);
  const isElf = magic === "\x7fELF";
  if (magic.startsWith("#!")) {
    requireScript(file, head, depth);
  } else if (isElf && isForThisProcessor(head)) {
    requireLoader(file, head);
  } else if (!hasHandler(file)) {
    if (!isElf) {
      fail("cannotRun", `${file}: neither a program nor a script with #!`, "add #!/bin/sh");
    }
    fail(
      "cannotRun",
      `${file}: built for another processor than ${process.arch}`,
      "take an image for this one, or let the host emulate the other (binfmt_misc, qemu-user)",
    );
  }
}

function requireScript(file: string, head: Buffer, depth: number): void {
  const interpreter = /^[ \t]*([^ \t\n\0]+)/.exec(head.toString("utf8", 2))?.[1];
  if (!interpreter || depth === SCRIPT_DEPTH_MAX) {
    fail("cannotRun", `${file}: no interpreter after #!`);
  }
  requireInterpreter(file, interpreter);
  requireFormat(interpreter, depth + 1);
}

function isForThisProcessor(head: Buffer): boolean {
  if (head.length < ELF_HEADER_BYTES) return false;
  // Of a program with the other byte order this is another number, which no processor has.
  return OWN_MACHINES[process.arch]?.includes(head.readUInt16LE(18)) ?? true;
}

/**
 * Says whether the kernel hands files of this format to a handler, such as an emulator (binfmt_misc). A
 * container cannot read which are registered. So this has the kernel execute the file with so many
 * variables that nothing fits beside them. A handler's first step is to add the file's path to the
 * arguments, which fails with E2BIG: neither handler nor file is run.
 *
 * Where there is no handler, the C library of Node may hand the file to /bin/sh (ENOEXEC in execvp(3)). That
 * finds nothing: the path is a descriptor, which is closed by then. It is also longer than the room that
 * the variables leave, and the words that execvp adds are shorter.
 */
function hasHandler(file: string): boolean {
  const descriptor = openSync(file, "r");
  const path = `/proc/self/${"./".repeat(FILLER_BYTES)}fd/${descriptor}`;
  const fillerBytes = readLimitBytes() - path.length - SH_BYTES;
  const env: Record<string, string> = {};
  for (let count = 0; count < Math.floor(fillerBytes / FILLER_BYTES); count++) {
    // Its seven digits, "=", the value, a NUL, and the 8 bytes of a pointer to it.
    env[1_000_000 + count] = "-".repeat(FILLER_BYTES - 17);
  }
  const { spawnSync } = process.getBuiltinModule("node:child_process");
  const { error } = spawnSync(path, { argv0: "", env, stdio: "ignore" });
  closeSync(descriptor);
  return errorCode(error) === "E2BIG";
}

/** Only 64-bit little-endian files are looked at; the kernel judges others. */
function requireLoader(file: string, head: Buffer): void {
  const is64Bit = head[4] === 2;
  const isLittleEndian = head[5] === 1;
  const loader = is64Bit && isLittleEndian ? findLoader(file, head) : undefined;
  if (loader !== undefined) requireInterpreter(file, loader);
}

function requireInterpreter(file: string, interpreter: string): void {
  const reason = whyNotExecutable(interpreter);
  if (!reason) return;
  const hint = interpreter.endsWith("\r") ? "the script has Windows line ends" : "";
  fail("cannotRun", `${file}: its interpreter ${interpreter}: ${reason}`, hint);
}

/** Returns the loader that the program table names (PT_INTERP); a static program has none. */
function findLoader(file: string, head: Buffer): string | undefined {
  const tableOffset = Number(head.readBigUInt64LE(32));
  const entryBytes = head.readUInt16LE(54);
  const entryCount = head.readUInt16LE(56);
  const table = readBytes(file, tableOffset, entryBytes * entryCount);
  if (!table || entryBytes < 56) return undefined;

  for (let entry = 0; entry + entryBytes <= table.length; entry += entryBytes) {
    if (table.readUInt32LE(entry) !== PT_INTERP) continue;
    const offset = Number(table.readBigUInt64LE(entry + 8));
    return readBytes(file, offset, PAGE_BYTES)?.toString("utf8").split("\0", 1)[0];
  }
  return undefined;
}

/** Returns the bytes that are there, or undefined where the file may not be read. */
function readBytes(path: string, position: number, length: number): Buffer | undefined {
  try {
    const file = openSync(path, "r");
    const bytes = Buffer.alloc(length);
    const count = readSync(file, bytes, 0, length, position);
    closeSync(file);
    return bytes.subarray(0, count);
  } catch {
    return undefined;
  }
}

/** Becomes the program. Throws a Failure (cannotRun, config) where it cannot. */
export async function becomeProgram(
  program: string,
  command: readonly string[],
  environment: Environment,
): Promise<never> {
  requireSizes(command, environment);

  // Node ignores these two signals. An ignored signal stays ignored over execve, a caught one is set
  // to its default (signal(7)).
  process.on("SIGPIPE", () => {});
  process.on("SIGXFSZ", () => {});
  // A SIGTERM that came meanwhile is still in libuv's pipe. It must end the process first.
  await new Promise((resolve) => setImmediate(resolve));

  let problem = "no execve";
  try {
    process.execve?.(program, command, environment);
  } catch (error) {
    problem = errorCode(error);
  }
  return fail("cannotRun", `${program}: cannot be run: ${problem}`);
}

/**
 * Throws a Failure (cannotRun) where the kernel would refuse the arguments and variables as too long,
 * and (config) where one has a NUL byte.
 */
export function requireSizes(command: readonly string[], environment: Environment): void {
  let totalBytes = 0;
  for (const argument of command) {
    totalBytes += requireString("an argument", argument);
  }
  for (const [name, value] of Object.entries(environment)) {
    totalBytes += requireString(name, `${name}=${value}`);
  }

  // This is the smallest limit there is. Only above it, the real one has to be looked up.
  if (totalBytes <= STRING_BYTES_MAX - PAGE_BYTES) return;
  const limitBytes = readLimitBytes() - PAGE_BYTES;
  if (totalBytes > limitBytes) {
    const sizes = `${totalBytes} bytes, of ${limitBytes}`;
    fail("cannotRun", `the environment and arguments are too long: ${sizes}`, AS_FILE);
  }
}

/** Returns how many bytes the string takes, with its NUL and the 8 bytes of a pointer to it. */
function requireString(name: string, text: string): number {
  if (text.includes("\0")) fail("config", `${name}: the value has a NUL byte`, AS_FILE);
  const bytes = Buffer.byteLength(text) + 1;
  if (bytes > STRING_BYTES_MAX) fail("cannotRun", `${name}: ${bytes} bytes are too long`, AS_FILE);
  return bytes + 8;
}

/** A quarter of the soft limit of the stack, at least 128 KiB and at most 6 MiB (execve(2)). */
function readLimitBytes(): number {
  const limits = readFileSync("/proc/self/limits", "latin1");
  const stackBytes = /^Max stack size +(\d+)/m.exec(limits)?.[1] ?? Number.POSITIVE_INFINITY;
  const quarter = Math.min(Math.floor(Number(stackBytes) / 4), 6 * 1024 * 1024);
  return Math.max(STRING_BYTES_MAX, quarter);
}
