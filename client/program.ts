// Which file does this command mean, and can the kernel run it? Searches PATH as a shell does, and
// looks for whatever makes execve(2) fail: in Node 22 and 24 a failing process.execve aborts with a
// stack trace. 127 where there is no such command, 126 where it cannot be run, as a shell says.

import { accessSync, closeSync, constants, openSync, readSync, statSync } from "node:fs";
import { codeOf, fail } from "./failure.ts";

/** BINPRM_BUF_SIZE of the kernel: how much of a file it reads to see what it is. */
const HEAD_BYTES = 256;
/** A script whose interpreter is a script and so on: at most so many (execve(2), ELOOP). */
const SCRIPTS_MAX = 4;
/** e_machine (elf(5)). */
const MACHINES: Readonly<Record<string, number>> = { x64: 62, arm64: 183 };

/** The program's path; throws where execve would fail on it. */
export function findProgram(command: string, path: string | undefined): string {
  let why = "ENOENT";
  // Without PATH execvp(3) searches these.
  const directories = command.includes("/") ? [""] : (path ?? "/bin:/usr/bin").split(":");
  for (const directory of directories) {
    const file = command.includes("/") ? command : `${directory || "."}/${command}`;
    const problem = whyNotRunnable(file);
    if (!problem) {
      requireFormat(file, 0);
      return file;
    }
    if (!isMissing(problem)) why = `${file}: ${problem}`;
  }
  if (isMissing(why)) return fail("notFound", `${command}: command not found`);
  return fail("cannotRun", why);
}

function isMissing(code: string): boolean {
  return code === "ENOENT" || code === "ENOTDIR";
}

function whyNotRunnable(file: string): string | undefined {
  try {
    if (!statSync(file).isFile()) return "not a file";
    accessSync(file, constants.X_OK);
    return undefined;
  } catch (error) {
    return codeOf(error) === "EACCES" ? "not executable for this user" : codeOf(error);
  }
}

/** A program for this processor whose loader exists, or a script whose interpreter is one. */
function requireFormat(file: string, depth: number): void {
  const head = readAt(file, 0, HEAD_BYTES);
  if (!head) return; // May be run but not read: the kernel sees more than we do.
  const magic = head.toString("latin1", 0, 4);
  let next: string | undefined;
  if (magic.startsWith("#!")) {
    next = /^[ \t]*([^ \t\n\0]+)/.exec(head.toString("utf8", 2))?.[1];
    if (!next || depth === SCRIPTS_MAX) fail("cannotRun", `${file}: no interpreter after #!`);
  } else if (magic !== "\x7fELF") {
    fail("cannotRun", `${file}: neither a program nor a script with #!`, "add #!/bin/sh");
  } else if (head[4] === 2 && head[5] === 1 && head.length >= 64) {
    if (head.readUInt16LE(18) !== (MACHINES[process.arch] ?? head.readUInt16LE(18))) {
      fail("cannotRun", `${file}: built for another processor than ${process.arch}`);
    }
    next = loaderOf(file, head);
  }
  if (next === undefined) return;
  const problem = whyNotRunnable(next);
  if (problem) {
    const windows = next.endsWith("\r") ? "the script has Windows line ends" : undefined;
    fail("cannotRun", `${file}: its interpreter ${next}: ${problem}`, windows);
  }
  if (magic.startsWith("#!")) requireFormat(next, depth + 1);
}

/** PT_INTERP of a 64-bit little-endian file (elf(5)); a static program has none. */
function loaderOf(file: string, head: Buffer): string | undefined {
  const size = head.readUInt16LE(54);
  const table = readAt(file, Number(head.readBigUInt64LE(32)), size * head.readUInt16LE(56));
  for (let at = 0; table && size >= 56 && at + size <= table.length; at += size) {
    if (table.readUInt32LE(at) !== 3) continue;
    const place = Number(table.readBigUInt64LE(at + 8));
    return readAt(file, place, 4096)?.toString("utf8").split("\0", 1)[0];
  }
  return undefined;
}

/** What there is of the bytes; undefined where the file may not be read. */
function readAt(path: string, position: number, length: number): Buffer | undefined {
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
