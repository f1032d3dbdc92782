// How does a secret reach the application? As a variable, as a file, as a directory with a file for
// each key, or all together as one JSON object on standard input. A file is written whole or not at
// all, readable by whom it is meant for alone, and only where it can never reach a disk
// (invariant 11).

import {
  chmodSync,
  chownSync,
  closeSync,
  fchmodSync,
  fchownSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from "node:fs";
import type { Wanted } from "./environment.ts";
import { codeOf, Failure, fail } from "./failure.ts";
import { type Fields, isFields, textOf } from "./json.ts";
import { Bytes } from "./keystore/bytes.ts";

/** statfs(2), f_type: tmpfs and ramfs. */
const MEMORY = [0x01021994, 0x858458f6];
/** In every container of Docker and Podman; open to all, so only for what has no name. */
export const SHARED_MEMORY = "/dev/shm";

export type Place = {
  readonly files: string;
  readonly fileMode: number;
  readonly fileOwner: readonly [uid: number, gid: number] | undefined;
};

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

/** Gives what the variable is to hold: the value, or the path that was written. */
export function deliver({ name, form }: Wanted, value: unknown, place: Place): string {
  const path = `${place.files}/${name}`;
  try {
    if (form === "file") writeFile(path, value, place);
    else if (form === "directory" && isFields(value)) writeDirectory(path, value, place);
    else return textOf(value);
  } catch (error) {
    if (error instanceof Failure) throw error;
    fail("config", `cannot write ${path}: ${codeOf(error)}`);
  }
  return path;
}

function writeFile(path: string, value: unknown, { fileMode, fileOwner }: Place): void {
  const unfinished = path.replace(/[^/]*$/, `.$&.${process.pid}`);
  // O_EXCL ("wx") follows no symbolic link and opens nobody else's file; what a former process of
  // this pid left goes first.
  rmSync(unfinished, { force: true });
  const file = openSync(unfinished, "wx", 0o400);
  try {
    if (fileOwner) fchownSync(file, ...fileOwner);
    fchmodSync(file, fileMode);
    const isBytes = import.meta.keystores && value instanceof Bytes;
    writeFileSync(file, isBytes ? value.bytes : textOf(value));
  } finally {
    closeSync(file);
  }
  renameSync(unfinished, path);
}

/** Each file is replaced at once, not the directory: a reader of two may see the change between. */
function writeDirectory(path: string, fields: Fields, place: Place): void {
  const odd = Object.keys(fields).find((key) => !/^\w[\w.-]{0,200}$/.test(key));
  if (odd !== undefined) {
    fail(
      "config",
      `${path}: the key ${odd} makes no file name`,
      "of letters, digits, _ - and . only",
    );
  }
  if (!lstatSync(path, { throwIfNoEntry: false })?.isDirectory()) {
    rmSync(path, { force: true });
    mkdirSync(path);
  }
  if (place.fileOwner) chownSync(path, ...place.fileOwner);
  // Who may read the files may enter it.
  chmodSync(path, 0o700 | place.fileMode | ((place.fileMode & 0o444) >> 2));
  for (const [key, value] of Object.entries(fields)) writeFile(`${path}/${key}`, value, place);
  for (const old of readdirSync(path)) {
    if (!(old in fields)) rmSync(`${path}/${old}`, { recursive: true });
  }
}

/** Makes the text the standard input: a file in memory that has no name. */
export function putOnStandardInput(text: string): void {
  const path = `${SHARED_MEMORY}/authproxy.${process.pid}`;
  try {
    const writing = openSync(path, "wx", 0o400);
    // The lowest free descriptor is the next to be given, and execve closes all but 0 to 2.
    closeSync(0);
    const reading = openSync(path, "r");
    rmSync(path);
    writeFileSync(writing, text);
    closeSync(writing);
    if (reading) fail("config", "standard input is taken");
  } catch (error) {
    fail("config", `no memory for standard input at ${path}: ${codeOf(error)}`);
  }
}
