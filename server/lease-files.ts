// Question: what must outlive this process?
//
// Output: one file for each lease, without a secret (invariant 8), in a directory that nobody else
// can read, on tmpfs, so that no disk is waited for.
// Guaranteed: a file is replaced whole. One that cannot be believed gives no token, and costs no other
// container its own.
import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { readTrustedFile } from "./trusted-file.ts";

/** A process, by kernel facts: `ticks` is when it started, in clock ticks after boot. */
export type ProcessStart = { pid: number; ticks: number };
/** One start of a container: its first process. */
export type Start = ProcessStart & { container: string };

/** The token of one process, as it is on file. */
export type Lease = ProcessStart & {
  /** Of the file: that of the start, and ".UUID" for every token of this start but its first. */
  name: string;
  start: Start;
  /** The process has its token. */
  sent: boolean;
  /** What Vault says in its audit log at each use of the token. */
  meta: { container: string; service?: string; image?: string; uid?: string; host?: string };
  /** Absent before the token is minted, and for one that all containers of the service share. */
  accessor?: string | undefined;
  /** In seconds. */
  ttl?: number;
  renewable?: boolean;
  wrapped?: boolean;
  namespace?: string;
};

const VERSION = 1;
const NAME = /^([0-9a-f]{64})-(\d+)-(\d+)(\.[0-9a-f-]{36})?$/;
const UNFINISHED = ".new";
/** No process has started then. */
const NEVER = -1;
const MEMBERS = { pid: "number", ticks: "number", sent: "boolean", meta: "object" };
const bootId = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();

/** The name of the first lease of a start. */
export function nameOf({ container, pid, ticks }: Start): string {
  return `${container}-${pid}-${ticks}`;
}

export class LeaseFiles {
  readonly #directory: string;

  /** Makes the directory where it is missing. Throws where others could look into it. */
  constructor(directory: string) {
    this.#directory = directory;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const { uid, mode } = lstatSync(directory);
    if (uid !== process.getuid?.() || (mode & 0o170777) !== 0o040700)
      throw new Error(`${directory}: must be a directory of the server's own user, with mode 0700`);
  }

  write(lease: Lease): void {
    const file = this.#path(lease.name);
    const text = JSON.stringify({ version: VERSION, boot: bootId, ...lease });
    writeFileSync(file + UNFINISHED, `${text}\n`, { mode: 0o600 });
    renameSync(file + UNFINISHED, file);
  }

  rename(from: string, to: string): void {
    renameSync(this.#path(from), this.#path(to));
  }

  remove(name: string): void {
    rmSync(this.#path(name), { force: true });
  }

  /** What an earlier run has left. `trouble` says why a file cannot be believed: then all that is
   * known is that its start had a token. */
  readAll(): (Lease & { trouble?: string })[] {
    const names = readdirSync(this.#directory);
    for (const name of names) if (name.endsWith(UNFINISHED)) this.remove(name);
    return names.flatMap((name) => {
      const [, container, pid, ticks] = NAME.exec(name) ?? [];
      if (!container) return []; // not ours
      const start = { container, pid: Number(pid), ticks: Number(ticks) };
      try {
        return { ...parseLease(readTrustedFile(this.#path(name)), start), name };
      } catch (error) {
        const { message: trouble } = error as Error;
        return { ...start, name, start, sent: true, meta: { container }, trouble };
      }
    });
  }

  #path(name: string): string {
    return `${this.#directory}/${name}`;
  }
}

/** Throws an Error that says what is wrong. */
function parseLease(text: string, start: Start): Omit<Lease, "name"> {
  // Older servers wrote this before they asked for a token.
  if (text === "pending") return { ...start, start, sent: false, meta: start };

  const { version, boot, ...lease } = JSON.parse(text);
  if (version !== VERSION) throw new Error(`its version is ${version}, expected ${VERSION}`);
  for (const [member, type] of Object.entries(MEMBERS)) {
    if (typeof lease[member] !== type) throw new Error(`its ${member} is not a ${type}`);
  }
  if (boot === bootId) return { ...lease, start };
  // Of another boot: its processes have ended, whatever has their numbers now.
  return { ...lease, ticks: NEVER, start: { ...start, ticks: NEVER } };
}
