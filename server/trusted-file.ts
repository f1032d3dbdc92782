// Question: what is in this file, and can only root or the server's own user have written it?
//
// Input: a path from the configuration, or of a lease. Who could forge the file: whoever can write it,
// or a directory on the way to it, that of a link included.
// Guaranteed: nobody else can, and the text is of the very file whose owner and mode were looked at. Of
// the engine's socket: nobody else answers at it, now or when it is made again.
import {
  closeSync,
  fstatSync,
  lstatSync,
  openSync,
  readFileSync,
  readlinkSync,
  statSync,
} from "node:fs";
import { join } from "node:path";

const WRITABLE_BY_OTHERS = 0o022;
/** In such a directory others can add entries, but replace only their own. */
const STICKY = 0o1000;

/** The file's text. Throws an Error of one line that says which file, or directory on the way to it, is
 * wrong, and what to do. */
export function readTrustedFile(file: string): string {
  if (statSync(file).isDirectory()) throw new Error(`${file}: is a directory`);
  const descriptor = openSync(resolveTrusted(file), "r");
  try {
    const { uid, mode } = fstatSync(descriptor);
    requireOurs(file, uid, mode);
    return readFileSync(descriptor, "utf8");
  } finally {
    closeSync(descriptor);
  }
}

/** Throws an Error of one line where others own the engine's socket, or could put another one in its
 * place: whoever answers there says which container a process is of (invariant 4). A part of the path
 * that does not exist yet is made by those who can write the directory above it. */
export function requireTrustedEngine(socket: string): void {
  try {
    requireOurs(socket, statSync(resolveTrusted(socket)).uid, 0);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    // With a code, the kernel's own: nobody answers there yet, or not to this user.
    if (!code) throw new Error(`engine: ${message}, or others say what each container is`);
  }
}

/** The path without links of something that exists (links that go round in circles do not end). Throws
 * an Error of one line where others could put something else in its place. */
export function resolveTrusted(path: string, directory = process.cwd()): string {
  let resolved = path.startsWith("/") ? "/" : directory;
  for (const name of path.split("/").filter(Boolean)) {
    const entry = join(resolved, name);
    requireKept(entry, resolved); // first: a directory that may not be entered says nothing else
    const isLink = lstatSync(entry).isSymbolicLink();
    resolved = isLink ? resolveTrusted(readlinkSync(entry), resolved) : entry;
  }
  return resolved;
}

/** Others cannot replace this entry of a directory, or make it if it is missing. */
function requireKept(entry: string, directory: string): void {
  const { uid, mode } = statSync(directory);
  const isOurEntry = () => isOurs(lstatSync(entry, { throwIfNoEntry: false })?.uid);
  const isKept = (mode & STICKY && isOurEntry()) || isReadOnlyVolume(directory, mode);
  requireOurs(directory, uid, isKept ? 0 : mode);
}

/** Kubernetes' own volumes have the mode 0777, and a container has them by a read-only mount of a part
 * of a file system. Other read-only mounts say nothing: to a systemd unit with ProtectSystem=strict all
 * are, and others write to them by their own. Source: proc_pid_mountinfo(5). */
function isReadOnlyVolume(directory: string, mode: number): boolean {
  if (!(mode & WRITABLE_BY_OTHERS)) return false;
  const mounts = readFileSync("/proc/self/mountinfo", "utf8");
  return mounts.includes(` ${directory} ro`) && !mounts.includes(` / ${directory} ro`);
}

function requireOurs(path: string, uid: number, mode: number): void {
  if (!isOurs(uid))
    throw new Error(`${path}: belongs to uid ${uid}, must belong to root or the server's user`);
  const hint = mode & STICKY ? "choose another directory" : `try: chmod go-w ${path}`;
  if (mode & WRITABLE_BY_OTHERS) throw new Error(`${path}: others can write it (${hint})`);
}

function isOurs(uid: number | undefined): boolean {
  return uid === 0 || uid === process.getuid?.();
}
