// Question: what must outlive this process?
//
// Output: one file for each lease, without a secret (invariant 8), in a directory that nobody else
// can read. It is meant to be on tmpfs, so that no disk is waited for.
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
import { readTrustedFile, resolveTrusted } from "./trusted-file.ts";

/** A process, by kernel facts: `ticks` is when it started, in clock ticks after boot. */
export type ProcessStart = { pid: number; ticks: number };
/** One start of a container: its first process. */
export type Start = ProcessStart & { container: string };

/** How far it has come:
 *  - "minting": the process has no token;
 *  - "sending": perhaps it has. A crash leaves it so;
 *  - "sent": it has;
 *  - "revoking": it has not, and never will;
 *  - "in-vain": as before, and its start has one try less. */
const STAGES = ["minting", "sending", "sent", "revoking", "in-vain"] as const;
export type Stage = (typeof STAGES)[number];

/** The token of one process, as it is on file. */
export type Lease = ProcessStart & {
  /** Of its file. The name of the start holds `once`; further leases of that start, and those that
   * were abandoned, have ".UUID" behind it. */
  name: string;
  start: Start;
  stage: Stage;
  /** What Vault is given at minting, and logs at each use of the token. */
  meta: { container: string; service?: string; image?: string; uid?: string; host?: string };
  /** Absent before the token is minted, and for one that all containers of the service share. */
  accessor?: string | undefined;
  /** In seconds, at minting. Unknown for a wrapped token that was not looked at yet. */
  ttl?: number | undefined;
  renewable?: boolean;
  wrapped?: boolean;
  namespace?: string;
};

const VERSION = 2;
/** It had `sent`, true or false, in place of `stage`. */
const FORMER_VERSION = 1;
const NAME = /^([0-9a-f]{64})-(\d+)-(\d+)(\.[0-9a-f-]{36})?$/;
/** In a file that only we or root have written, also where it was cut or is of another version. */
const TOKEN = /"accessor":"([^"]+)","namespace":"([^"]*)"/;
const UNFINISHED = ".new";
const TICKS_OF_NO_PROCESS = -1;
const MEMBERS = { pid: "number", ticks: "number", meta: "object" };
const bootId = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();

/** The name of the first lease of a start. */
export function nameOf({ container, pid, ticks }: Start): string {
  return `${container}-${pid}-${ticks}`;
}

export class LeaseFiles {
  readonly #directory: string;

  /** Makes the directory where it is missing. Throws where others could look into it or replace it. */
  constructor(directory: string) {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    this.#directory = resolveTrusted(directory);
    const { uid, mode } = lstatSync(directory);
    if (uid !== process.getuid?.() || (mode & 0o170777) !== 0o040700)
      throw new Error(`${directory}: must be a directory of the server's own user, with mode 0700`);
  }

  /** All of the file or nothing, by rename(2). Throws an error of the file system, as the others do. */
  write(lease: Lease): void {
    const text = JSON.stringify({ version: VERSION, boot: bootId, ...lease });
    const unfinished = this.#path(lease.name) + UNFINISHED;
    writeFileSync(unfinished, `${text}\n`, { mode: 0o600 });
    renameSync(unfinished, this.#path(lease.name));
  }

  rename(from: string, to: string): void {
    renameSync(this.#path(from), this.#path(to));
  }

  remove(name: string): void {
    rmSync(this.#path(name), { force: true });
  }

  /** What an earlier run has left. `invalidReason` says why a file cannot be believed: then all that
   * is known is that its start had a token, and perhaps which. */
  readAll(): (Lease & { invalidReason?: string })[] {
    const names = readdirSync(this.#directory);
    for (const name of names) if (name.endsWith(UNFINISHED)) this.remove(name);
    return names.flatMap((name) => {
      const [, container, pid, ticks] = NAME.exec(name) ?? [];
      if (!container) return []; // not ours
      const start = { container, pid: Number(pid), ticks: Number(ticks) };
      let text = "";
      try {
        text = readTrustedFile(this.#path(name));
        return { ...parseLease(text, start), name };
      } catch (error) {
        // The text of a SyntaxError quotes the file.
        const invalidReason =
          error instanceof SyntaxError ? "is not JSON" : (error as Error).message;
        const lease = { ...start, name, start, stage: "sent", meta: { container } } as const;
        const [, accessor, namespace = ""] = TOKEN.exec(text) ?? [];
        return { ...lease, accessor, namespace, renewable: Boolean(accessor), invalidReason };
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
  if (text === "pending") return { ...start, start, stage: "minting", meta: start };

  const { version, boot, sent, ...lease } = JSON.parse(text);
  if (version === FORMER_VERSION) lease.stage = { true: "sent", false: "minting" }[String(sent)];
  else if (version !== VERSION) throw new Error(`its version is ${version}, expected ${VERSION}`);
  if (!STAGES.includes(lease.stage)) throw new Error("its stage is not known");
  for (const [member, type] of Object.entries(MEMBERS)) {
    if (typeof lease[member] !== type) throw new Error(`its ${member} is not a ${type}`);
  }
  if (boot === bootId) return { ...lease, start };
  // Of another boot: its processes have ended, whatever has their numbers now, and no start of this
  // boot can be meant.
  return { ...lease, ticks: TICKS_OF_NO_PROCESS, start: { ...start, ticks: TICKS_OF_NO_PROCESS } };
}
