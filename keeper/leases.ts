// Question: what must outlive this process? Output: one file a lease, without a secret
// (invariant 8), in a directory that nobody else can read, on tmpfs: no disk is waited for. The
// server makes the file before it asks for a token (invariant 6): it says "pending". Guaranteed: a
// file that cannot be believed gives no token, and costs no other container its own; none is
// half-written.
import { randomUUID } from "node:crypto";
import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { readTrusted } from "../config/trusted.ts";
import type { Lease } from "../types.ts";

const VERSION = 1;
const PENDING = "pending"; // as server/main.ts writes it
/** Container id, pid and start of its first process; for a second token of it, an own part. */
const NAME = /^([0-9a-f]{64})-(\d+)-(\d+)(\.[0-9a-f-]{36})?$/;
const GONE = -1; // no process has started then
const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
const types = { pid: "number", ticks: "number", sent: "boolean", meta: "object", start: "object" };

/** Over what is there, in one write: a kill leaves the former text, or this one. "sent" makes it a
 * character shorter, so that a newline of the former may stay. */
export function save(directory: string, lease: Lease): void {
  const text = JSON.stringify({ version: VERSION, boot, ...lease });
  writeFileSync(join(directory, lease.name), `${text}\n`, { flag: "r+" });
}

/** The start that this lease was for may ask again: it was not sent. */
export function free(directory: string, lease: Lease): void {
  const { name } = lease;
  lease.name = `${name.split(".")[0]}.${randomUUID()}`;
  renameSync(join(directory, name), join(directory, lease.name));
}

export function forget(directory: string, { name }: Lease): void {
  rmSync(join(directory, name), { force: true });
}

/** What an earlier run has left. `trouble` says why a file cannot be believed: all that is known
 * then is its name. */
export function readLeases(directory: string): (Lease & { trouble?: string })[] {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const { uid, mode } = lstatSync(directory);
  if (uid !== process.getuid?.() || (mode & 0o170777) !== 0o040700)
    throw new Error(`${directory}: must be a directory of the server's own user, mode 0700`);
  return readdirSync(directory).flatMap((name) => {
    const [, container, pid, ticks] = NAME.exec(name) ?? [];
    const file = join(directory, name);
    const start = { pid: Number(pid), ticks: Number(ticks) };
    if (!container) return []; // not ours
    try {
      const text = readTrusted(file);
      if (text !== PENDING) return { ...parseLease(text), name };
      rmSync(file); // if a token was minted nobody holds it, nor can end it: it dies by its TTL
      return [];
    } catch (error) {
      const meta = { container };
      return { name, start, ...start, sent: true, meta, trouble: (error as Error).message };
    }
  });
}

function parseLease(text: string): Lease {
  const lease = JSON.parse(text);
  if (lease.version !== VERSION) throw new Error(`its version is ${lease.version}, not ${VERSION}`);
  const wrong = Object.entries(types).find(([key, type]) => typeof lease[key] !== type);
  if (wrong) throw new Error(`its ${wrong[0]} is no ${wrong[1]}`);
  const { pid } = lease;
  return lease.boot === boot ? lease : { ...lease, ticks: GONE, start: { pid, ticks: GONE } };
}
