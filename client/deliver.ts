// How does a secret become a file? Written whole or not at all, readable by its owner alone, and
// only where it can never reach a disk.

import { renameSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { codeOf, fail } from "./failure.ts";

/** statfs(2), f_type: tmpfs and ramfs. */
const MEMORY = [0x01021994, 0x858458f6];

/** Throws unless secrets may be written to the directory: asked before there is a token. */
export function requireMemory(directory: string): void {
  let problem = "is not on tmpfs: a secret would be written to a disk";
  try {
    if (MEMORY.includes(statfsSync(`${directory}/`).type)) return;
  } catch (error) {
    problem = `cannot be used: ${codeOf(error)}`;
  }
  fail(
    "config",
    `${directory} ${problem}`,
    `add the mount --tmpfs ${directory}, or name another by --files`,
  );
}

/** Gives the file's path. */
export function writeSecret(directory: string, name: string, value: string): string {
  const path = `${directory}/${name}`;
  const unfinished = `${directory}/.${name}.${process.pid}`;
  try {
    // O_EXCL ("wx") follows no symbolic link and opens nobody else's file; what a former process of
    // this pid left goes first.
    rmSync(unfinished, { force: true });
    writeFileSync(unfinished, value, { flag: "wx", mode: 0o400 });
    renameSync(unfinished, path);
    return path;
  } catch (error) {
    return fail("config", `cannot write ${path}: ${codeOf(error)}`);
  }
}
