// Question:   how does a secret reach the application?
// Input:      values from Vault, and the directory for secrets, which the image or whoever starts the
//             container named. Whoever can write above it, or to a volume on which it is mounted, can
//             make its path mean another directory while the client runs.
// Output:     a variable; a file; a directory with a file for each key; or all secrets together as one
//             JSON object on standard input.
// Guaranteed: a file is written completely or not at all, readable only by those it is meant for, and
//             only where it can never reach a disk (invariant 11). The directory is opened once, what
//             was opened is checked, and names are looked up from there. No link is followed in it,
//             and only what the client wrote is removed.

import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  mkdirSync,
  openSync,
  renameSync,
  statfsSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import type { ResolvedVariable, SecretVariable } from "./environment.ts";
import { errorCode, Failure, fail } from "./failure.ts";
import type { FileOptions, Options } from "./options.ts";
import { type Fields, isFields, textOf } from "./values.ts";

/** f_type of statfs(2): tmpfs and ramfs. */
const MEMORY_FILE_SYSTEMS = [0x01021994, 0x858458f6];
/**
 * Docker and Podman mount it in every container. Another container may have the same one (`--ipc`; the
 * containers of a pod do), so only a file without a name may be there.
 */
const SHARED_MEMORY = "/dev/shm";

/** NAME_MAX of Linux. */
const NAME_BYTES_MAX = 255;

const { O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants;
/** O_TMPFILE of open(2), which Node does not name: a file without a name. O_EXCL: for ever. */
const UNNAMED_FILE = 0o20000000 | O_DIRECTORY | O_EXCL | O_WRONLY;

/** The files that this process has written to a directory, by the directory's name. */
const writtenKeys = new Map<string, readonly string[]>();

/**
 * Opens where secrets will be written, before there is a token: the directory for files or, with
 * --stdin, a file without a name. Returns its descriptor, or -1 where nothing will be written. Throws a
 * Failure (config) where a secret could reach a disk, where others could read or replace it, or where
 * two variables would have one name.
 */
export function openPlace(
  secretVariables: readonly SecretVariable[],
  { stdin, files }: Options,
): number {
  const names = new Set<string>();
  for (const { variable, name, form } of secretVariables) {
    if (form === "value" && !stdin) continue;
    if (names.has(name)) {
      fail("config", `${variable}: another variable has the name ${name} too`, "rename one");
    }
    names.add(name);
  }
  if (names.size === 0) return -1;

  const path = stdin ? SHARED_MEMORY : files.directory;
  const place = openExisting(path, stdin ? UNNAMED_FILE : O_DIRECTORY);
  requireMemory(place, path);
  if (!stdin) requireOwn(place, path, files);
  return place;
}

function openExisting(path: string, flags: number): number {
  try {
    return openSync(path, flags, 0o400);
  } catch (error) {
    return refuse(path, `cannot be used: ${errorCode(error)}`);
  }
}

function requireMemory(descriptor: number, path: string): void {
  const { type } = statfsSync(`/proc/self/fd/${descriptor}`);
  if (MEMORY_FILE_SYSTEMS.includes(type)) return;
  refuse(path, "is not on tmpfs: a secret would be written to a disk");
}

/** Takes care that others cannot replace what is in the directory, or throws a Failure (config). */
function requireOwn(directory: number, path: string, { owner }: FileOptions): void {
  const { uid, mode, dev } = fstatSync(directory);
  if (uid !== 0 && uid !== process.geteuid?.() && uid !== owner?.uid) {
    refuse(path, `belongs to uid ${uid}`);
  }
  // The sticky bit, which Docker's --tmpfs sets: each user can replace only what is its own.
  const isSticky = (mode & 0o1000) !== 0;
  if ((mode & 0o022) !== 0 && !isSticky) {
    if (uid !== process.geteuid?.()) refuse(path, "can be written by others");
    // runc gives a tmpfs the mode of the image's directory below it.
    fchmodSync(directory, mode & 0o755);
  }
  if (dev === statSync(SHARED_MEMORY, { throwIfNoEntry: false })?.dev) {
    refuse(path, `is in ${SHARED_MEMORY}, which other containers may have too`);
  }
}

function refuse(path: string, problem: string): never {
  return fail(
    "config",
    `${path} ${problem}`,
    `add the mount --tmpfs ${path}:mode=0700,uid=UID, or name another directory by --files`,
  );
}

/**
 * Returns what the variable is to hold: the value as text, or the path of what was written. `place` is
 * from openPlace(). Throws a Failure (config).
 */
export function deliver(
  { name, form, value }: ResolvedVariable,
  files: FileOptions,
  place: number,
): string {
  const isDirectory = form === "directory" && isFields(value);
  // The default of a directory is text: the path of another directory.
  if (form !== "file" && !isDirectory) return textOf(value);

  const fileName = fileNameOf(name);
  const path = `${files.directory}/${fileName}`;
  try {
    requireSame(place, files.directory);
    if (isDirectory) writeDirectory(place, fileName, value, files);
    else writeFile(place, fileName, value, files);
    return path;
  } catch (error) {
    if (error instanceof Failure) throw error;
    const code = errorCode(error);
    const hint = code === "ENOSPC" ? `give the mount ${files.directory} a larger size=` : undefined;
    return fail("config", `cannot write ${path}: ${code}`, hint);
  }
}

/**
 * Returns the name of the file for what is left of a variable's name: it is encoded as a part of a URI,
 * "/" included, and so is a "." at the beginning. Different names stay so.
 */
function fileNameOf(name: string): string {
  return encodeURIComponent(name).replace(/^\./, "%2E");
}

/** The application looks for its files by their path: elsewhere it would not find them. */
function requireSame(place: number, path: string): void {
  const opened = fstatSync(place);
  const found = statSync(path);
  if (found.dev === opened.dev && found.ino === opened.ino) return;
  fail(
    "config",
    `${path} is no longer the directory that it was at the start`,
    "it was moved, covered by a mount, or its own mount was taken away",
  );
}

/** The kernel starts at the open directory, and not at a path that may have changed. */
function nameIn(directory: number, name: string): string {
  return `/proc/self/fd/${directory}/${name}`;
}

function writeFile(
  directory: number,
  name: string,
  value: unknown,
  { mode, owner }: FileOptions,
): void {
  // Not made of the name, which may be as long as a name can be.
  const unfinished = nameIn(directory, `.${Math.random()}`);
  // O_EXCL ("wx") follows no symbolic link, and opens no file of anybody else.
  const file = openSync(unfinished, "wx", 0o400);
  try {
    // Owner and mode come before the content: nobody else can read it at any time.
    if (owner) fchownSync(file, owner.uid, owner.gid);
    fchmodSync(file, mode);
    writeFileSync(file, value instanceof Uint8Array ? value : textOf(value));
    renameSync(unfinished, nameIn(directory, name));
  } catch (error) {
    unlinkSync(unfinished);
    throw error;
  } finally {
    closeSync(file);
  }
}

/**
 * Each file is replaced at once, but not the directory: an application that reads two files may see
 * the change between them.
 */
function writeDirectory(place: number, name: string, fields: Fields, files: FileOptions): void {
  const path = `${files.directory}/${name}`;
  const keys = Object.keys(fields);
  for (const key of keys) {
    const isTooLong = Buffer.byteLength(key) > NAME_BYTES_MAX;
    if (!isTooLong && !/^\.{0,2}$|[/\0]/.test(key)) continue;
    fail(
      "config",
      `${path}: the key ${key} cannot be the name of a file`,
      "a name is not empty, . or .., and has at most 255 bytes and no / or NUL; for single keys: NAME_FILE=vault:PATH#KEY",
    );
  }

  const own = nameIn(place, name);
  if (!statSync(own, { throwIfNoEntry: false })) mkdirSync(own, 0o700);
  const directory = openSync(own, O_DIRECTORY | O_NOFOLLOW);
  try {
    // It may have been there before, and may be a mount.
    requireMemory(directory, path);
    requireOwn(directory, path, files);
    if (files.owner) fchownSync(directory, files.owner.uid, files.owner.gid);
    // Whoever may read the files may enter the directory: each read bit becomes an execute bit.
    fchmodSync(directory, 0o700 | files.mode | ((files.mode & 0o444) >> 2));

    for (const key of keys) writeFile(directory, key, fields[key], files);
    for (const key of writtenKeys.get(name) ?? []) {
      if (!keys.includes(key)) removeFile(directory, key);
    }
    writtenKeys.set(name, keys);
  } finally {
    closeSync(directory);
  }
}

function removeFile(directory: number, name: string): void {
  try {
    unlinkSync(nameIn(directory, name));
  } catch {
    // The application has removed it, or has put a directory there: that is its own.
  }
}

/**
 * Makes the text the standard input of this process, and so of what it becomes. `file` is from
 * openPlace(). Throws a Failure (config).
 */
export function putOnStandardInput(file: number, text: string): void {
  try {
    writeFileSync(file, text);
    // open(2) returns the lowest free descriptor, here 0. execve closes all but 0 to 2.
    closeSync(0);
    const readEnd = openSync(`/proc/self/fd/${file}`, "r");
    closeSync(file);
    if (readEnd !== 0) fail("config", "standard input is taken");
  } catch (error) {
    fail("config", `no memory for standard input in ${SHARED_MEMORY}: ${errorCode(error)}`);
  }
}
