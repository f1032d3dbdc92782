// Question:   how does a secret reach the application?
// Input:      values from Vault, and directories that the image or whoever starts the container named.
// Output:     a variable; a file; a directory with a file for each key; or all secrets together as one
//             JSON object on standard input.
// Guaranteed: a file is written completely or not at all, readable only by those it is meant for, and
//             only where it can never reach a disk (invariant 11).

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
import type { ResolvedVariable, SecretVariable } from "./environment.ts";
import { errorCode, Failure, fail } from "./failure.ts";
import type { FileOptions, Options } from "./options.ts";
import { type Fields, isFields, textOf } from "./values.ts";

/** f_type of statfs(2): tmpfs and ramfs. */
const MEMORY_FILE_SYSTEMS = [0x01021994, 0x858458f6];
/** Docker and Podman mount it in every container. Everybody may write there: only for unnamed files. */
const SHARED_MEMORY = "/dev/shm";

/**
 * Throws a Failure (config) where a secret could reach a disk, or two variables would have one name.
 * It is called before there is a token.
 */
export function requireDeliverable(
  secretVariables: readonly SecretVariable[],
  { stdin, files }: Options,
): void {
  const names = new Set<string>();
  for (const { variable, name, form } of secretVariables) {
    if (form === "value" && !stdin) continue;
    if (names.has(name)) {
      fail("config", `${variable}: another variable has the name ${name} too`, "rename one");
    }
    names.add(name);
  }
  if (names.size > 0) requireMemory(stdin ? SHARED_MEMORY : files.directory);
}

function requireMemory(directory: string): void {
  let problem = "is not on tmpfs: a secret would be written to a disk";
  try {
    if (MEMORY_FILE_SYSTEMS.includes(statfsSync(`${directory}/`).type)) return;
  } catch (error) {
    problem = `cannot be used: ${errorCode(error)}`;
  }
  fail(
    "config",
    `${directory} ${problem}`,
    `add the mount --tmpfs ${directory}, or name another directory by --files`,
  );
}

/**
 * Returns what the variable is to hold: the value as text, or the path of what was written. Throws a
 * Failure (config).
 */
export function deliver({ name, form, value }: ResolvedVariable, files: FileOptions): string {
  const path = `${files.directory}/${name}`;
  try {
    if (form === "file") writeFile(path, value, files);
    else if (form === "directory" && isFields(value)) writeDirectory(path, value, files);
    // The default of a directory is text: the path of another directory.
    else return textOf(value);
    return path;
  } catch (error) {
    if (error instanceof Failure) throw error;
    return fail("config", `cannot write ${path}: ${errorCode(error)}`);
  }
}

function writeFile(path: string, value: unknown, { mode, owner }: FileOptions): void {
  const unfinished = path.replace(/[^/]*$/, `.$&.${process.pid}`);
  // An earlier process of this pid may have left one. O_EXCL ("wx") follows no symbolic link, and
  // opens no file of anybody else.
  rmSync(unfinished, { force: true });
  const file = openSync(unfinished, "wx", 0o400);
  try {
    // Owner and mode come before the content: nobody else can read it at any time.
    if (owner) fchownSync(file, owner.uid, owner.gid);
    fchmodSync(file, mode);
    writeFileSync(file, value instanceof Uint8Array ? value : textOf(value));
  } finally {
    closeSync(file);
  }
  renameSync(unfinished, path);
}

/**
 * Each file is replaced at once, but not the directory: an application that reads two files may see
 * the change between them.
 */
function writeDirectory(path: string, fields: Fields, files: FileOptions): void {
  for (const key of Object.keys(fields)) {
    if (/^\w[\w.-]{0,200}$/.test(key)) continue;
    const hint = "a name has letters, digits, _ - and . only, and begins with neither - nor .";
    fail("config", `${path}: the key ${key} cannot be the name of a file`, hint);
  }

  if (!lstatSync(path, { throwIfNoEntry: false })?.isDirectory()) {
    rmSync(path, { force: true });
    mkdirSync(path);
  }
  if (files.owner) chownSync(path, files.owner.uid, files.owner.gid);
  // Whoever may read the files may enter the directory: each read bit becomes an execute bit.
  chmodSync(path, 0o700 | files.mode | ((files.mode & 0o444) >> 2));

  for (const [key, value] of Object.entries(fields)) writeFile(`${path}/${key}`, value, files);
  for (const name of readdirSync(path)) {
    if (!(name in fields)) rmSync(`${path}/${name}`, { recursive: true });
  }
}

/**
 * Makes the text the standard input of this process, and so of what it becomes: a file in memory that
 * has no name any more. Throws a Failure (config).
 */
export function putOnStandardInput(text: string): void {
  const path = `${SHARED_MEMORY}/authproxy.${process.pid}`;
  try {
    const writeEnd = openSync(path, "wx", 0o400);
    // open(2) returns the lowest free descriptor, here 0. execve closes all but 0 to 2.
    closeSync(0);
    const readEnd = openSync(path, "r");
    rmSync(path);
    writeFileSync(writeEnd, text);
    closeSync(writeEnd);
    if (readEnd !== 0) fail("config", "standard input is taken");
  } catch (error) {
    fail("config", `no memory for standard input at ${path}: ${errorCode(error)}`);
  }
}
