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
import { join } from "node:path";
import type { JsonObject } from "./json.ts";
import { readTrustedFile } from "./trusted-file.ts";

/** One start of a container, by kernel facts; a wall clock is not one. `ticks`: when its first
 * process started, in clock ticks after boot. */
export type Start = { container: string; pid: number; ticks: number };

/** The token of one process: as it is on file. */
export type Lease = {
  /** Of the file: that of the start, and ".UUID" for every token of this start but its first. */
  name: string;
  start: Start;
  /** The process that gets the token. */
  holder: { pid: number; ticks: number };
  /** The holder has its token. */
  sent: boolean;
  /** What Vault says in its audit log at each use of the token. */
  meta: { container: string; service?: string; image?: string; uid?: string; host?: string };
  /** What has to be renewed and revoked: absent before it is minted, and for a token that all
   * containers of the service share. */
  token?: LeasedToken;
};

export type LeasedToken = {
  accessor: string;
  ttlSeconds: number;
  renewable: boolean;
  wrapped: boolean;
  namespace: string;
};

/** A file that cannot be believed: all that is known is its name. */
export type SetAside = { name: string; start: Start; trouble: string };

const VERSION = 2;
const NAME = /^([0-9a-f]{64})-(\d+)-(\d+)(\.[0-9a-f-]{36})?$/;
/** No process has started then. */
const NEVER = -1;
const UNFINISHED = ".new";
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
    const { name, holder, sent, meta, token } = lease;
    const file = this.#path(name);
    const text = JSON.stringify({ version: VERSION, boot: bootId, holder, sent, meta, token });
    writeFileSync(file + UNFINISHED, `${text}\n`, { mode: 0o600 });
    renameSync(file + UNFINISHED, file);
  }

  rename(from: string, to: string): void {
    renameSync(this.#path(from), this.#path(to));
  }

  remove(name: string): void {
    rmSync(this.#path(name), { force: true });
  }

  /** What an earlier run has left. */
  readAll(): { leases: Lease[]; setAside: SetAside[] } {
    const leases: Lease[] = [];
    const setAside: SetAside[] = [];
    for (const name of readdirSync(this.#directory)) {
      const start = startOf(name);
      if (!start) {
        if (name.endsWith(UNFINISHED)) this.remove(name);
        continue; // not ours
      }
      try {
        const lease = parseLease(name, start, readTrustedFile(this.#path(name)));
        if (lease) leases.push(lease);
        else this.remove(name);
      } catch (error) {
        setAside.push({ name, start, trouble: (error as Error).message });
      }
    }
    return { leases, setAside };
  }

  #path(name: string): string {
    return join(this.#directory, name);
  }
}

function startOf(name: string): Start | undefined {
  const [, container, pid, ticks] = NAME.exec(name) ?? [];
  return container ? { container, pid: Number(pid), ticks: Number(ticks) } : undefined;
}

/** Undefined: it was written before a token was asked for. If one was made all the same, nobody holds
 * it or knows how to revoke it, and it ends with its TTL. Throws an Error that says what is wrong. */
function parseLease(name: string, start: Start, text: string): Lease | undefined {
  if (text === "pending") return undefined; // of version 1
  let fields: JsonObject;
  try {
    fields = JSON.parse(text);
  } catch {
    throw new Error("it is not JSON");
  }
  const lease = fields.version === 1 ? upgrade(fields) : fields;
  if (lease.version !== VERSION)
    throw new Error(`its version is ${lease.version}, expected ${VERSION}`);
  requireTypes(lease);
  const { holder, sent, meta, token } = lease as unknown as Omit<Lease, "name" | "start">;
  if (!sent && !token) return undefined;

  const common = { name, sent, meta, ...(token && { token }) };
  if (fields.boot === bootId) return { ...common, start, holder };
  // Of another boot: its processes have ended, whatever has their numbers now.
  return {
    ...common,
    start: { ...start, ticks: NEVER },
    holder: { ...holder, ticks: NEVER },
  };
}

/** Version 1 had the same facts in other places. */
function upgrade(former: JsonObject): JsonObject {
  const { boot = null, pid = null, ticks = null, sent = null, meta = null, accessor } = former;
  const { ttl = 0, renewable = false, wrapped = false, namespace = "" } = former;
  return {
    version: VERSION,
    boot,
    holder: { pid, ticks },
    sent,
    meta,
    ...(accessor && { token: { accessor, ttlSeconds: ttl, renewable, wrapped, namespace } }),
  };
}

function requireTypes({ holder, sent, meta }: JsonObject): void {
  const { pid, ticks } = (holder ?? {}) as JsonObject;
  const wanted = [
    { member: "holder.pid", value: pid, type: "number" },
    { member: "holder.ticks", value: ticks, type: "number" },
    { member: "sent", value: sent, type: "boolean" },
    { member: "meta", value: meta, type: "object" },
  ];
  for (const { member, value, type } of wanted) {
    if (typeof value !== type) throw new Error(`its ${member} is not a ${type}`);
  }
}
