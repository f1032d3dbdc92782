// Question: how long does a token live?
//
// Guaranteed: as long as the process that got it, and no longer than it takes to revoke it then
// (invariant 7). A start of a container has one token (invariant 6), also across a crash: what an
// earlier run of this server has left on file is taken up.
//
// The life of a lease: open, mint, then keep until its process exits; or abandon.
import { randomUUID } from "node:crypto";
import { note } from "./audit.ts";
import type { TokenSource } from "./config.ts";
import { type Lease, type LeaseFiles, nameOf, type Start } from "./lease-files.ts";
import type { Peercred } from "./peercred.ts";
import { isRunning } from "./process.ts";
import { renewalDelayMs, type Vault } from "./vault.ts";

const RENEWAL_LOOK_MS = 100;
/** More of them would keep a mint waiting for a connection. */
const RENEWALS_AT_ONCE_MAX = 32;
/** After a start of the server a hundred tokens a second are renewed. */
const RENEWAL_SPREAD_MS = 10;

/** A lease, and when its token is to be renewed next, by performance.now(). */
export type LiveLease = Lease & { renewAtMs: number; renewal?: Promise<void>; hasEnded?: boolean };

/** What the answer to a container says of its token. */
export type Minted = {
  token: string;
  wrapped: boolean;
  ttlSeconds: number;
  renewable: boolean;
  /** Empty for Vault's root namespace. */
  namespace: string;
  /** Undefined for a token that all containers of the service share. */
  accessor: string | undefined;
};

export class Leases {
  readonly #files: LeaseFiles;
  readonly #vault: Vault;
  readonly #peercred: Peercred;
  /** By name: each lease that has a file. */
  readonly #leases = new Map<string, LiveLease>();
  #renewalsUnderWay = 0;

  /** Takes up what an earlier run has left on file. */
  constructor(files: LeaseFiles, vault: Vault, peercred: Peercred) {
    this.#files = files;
    this.#vault = vault;
    this.#peercred = peercred;
    this.#takeUpAll();
    // One look at all leases: a timer for each would be half of the memory of a lease.
    setInterval(() => this.#renewDue(), RENEWAL_LOOK_MS);
  }

  /** This start of a container has had a token, or is about to get one. */
  hadToken(start: Start): boolean {
    return this.#leases.has(nameOf(start));
  }

  /** A lease without a token, on file: from now on its start has had its token. */
  open(start: Start, holder: Lease["holder"], meta: Lease["meta"]): LiveLease {
    const name = this.hadToken(start) ? furtherNameOf(start) : nameOf(start);
    const lease = { name, start, holder, sent: false, meta, renewAtMs: Infinity };
    this.#files.write(lease);
    this.#leases.set(name, lease);
    return lease;
  }

  /** The lease's token, on file before this resolves, so that a crash does not lose it. Throws the
   * refusals of vault.ts; what was minted by then is revoked by `abandon`. */
  async mint(lease: LiveLease, source: TokenSource): Promise<Minted> {
    if (source.read) {
      const token = await this.#vault.readReady(source.read, source.namespace);
      return { token, ...SHARED };
    }
    const created = await this.#vault.create(source, lease.meta);
    const { token = "", accessor = "", auth, namespace } = created;
    const ttlSeconds = auth?.lease_duration ?? 0;
    const unknown = { ttlSeconds, renewable: false, wrapped: !auth, namespace };
    if (accessor) lease.token = { accessor, ...unknown };
    lease.token = await this.#vault.approve(created, source.create ?? "");
    this.#files.write(lease);
    this.#planRenewal(lease, lease.token.ttlSeconds);
    return { token, ...lease.token };
  }

  /** The token was sent. It lives until its process exits. */
  keepUntil(exited: Promise<void>, lease: LiveLease): void {
    lease.sent = true;
    void exited.then(() => this.#end(lease));
    this.#files.write(lease);
  }

  /** The token was not sent: the start may ask again from now on. */
  abandon(lease: LiveLease): void {
    this.#freeStart(lease);
    void this.#end(lease);
  }

  /** `once` asks for the first lease of a start; this one becomes a further one. */
  #freeStart(lease: LiveLease): void {
    if (!isFirst(lease)) return;
    const name = furtherNameOf(lease.start);
    this.#files.rename(lease.name, name);
    this.#leases.delete(lease.name);
    lease.name = name;
    this.#leases.set(name, lease);
  }

  async #end(lease: LiveLease): Promise<void> {
    lease.hasEnded = true;
    await lease.renewal; // a renewal after the revocation would fail
    if (lease.token) await this.#vault.revoke(lease, lease.token);
    // `once` holds as long as the container's first process lives.
    if (isFirst(lease) && lease.holder.pid !== lease.start.pid) await this.#exitOf(lease.start);
    this.#forget(lease.name);
  }

  #forget(name: string): void {
    this.#leases.delete(name);
    this.#files.remove(name);
  }

  /** Resolves when no process has this pid and start any more. */
  async #exitOf({ pid, ticks }: { pid: number; ticks: number }): Promise<void> {
    const { exited } = await this.#peercred.watch(pid);
    // peercred holds the process that has this number now: is it the one that is meant?
    if (isRunning(pid, ticks)) await exited;
  }

  #takeUpAll(): void {
    const { leases, setAside } = this.#files.readAll();
    for (const { name, start, trouble } of setAside) {
      note("set-aside", { file: name, detail: trouble });
      void this.#takeUpSetAside(name, start);
    }
    for (const lease of leases) void this.#takeUp(lease, leases.length);
  }

  async #takeUp(former: Lease, count: number): Promise<void> {
    const lease: LiveLease = { ...former, renewAtMs: Infinity };
    this.#leases.set(lease.name, lease);
    // Perhaps nobody has its token. It is revoked, and the start may ask again.
    if (!lease.sent) this.#freeStart(lease);

    await this.#vault.whenLoggedIn;
    if (lease.sent) {
      // Renewed soon, so that a token outlives quick restarts of the server.
      const delayMs = renewalDelayMs(lease.token?.ttlSeconds ?? 0) / 10;
      const soonMs = Math.min(delayMs, count * RENEWAL_SPREAD_MS);
      if (lease.token?.renewable) lease.renewAtMs = performance.now() + soonMs * Math.random();
      await this.#exitOf(lease.holder);
    }
    await this.#end(lease);
  }

  /** All that is known is that the start had a token. */
  async #takeUpSetAside(name: string, start: Start): Promise<void> {
    const unknown = { holder: start, sent: true, meta: { container: start.container } };
    this.#leases.set(name, { name, start, ...unknown, renewAtMs: Infinity });
    await this.#exitOf(start);
    this.#forget(name);
  }

  #planRenewal(lease: LiveLease, ttlSeconds: number): void {
    const { renewable } = lease.token ?? {};
    lease.renewAtMs = renewable ? performance.now() + renewalDelayMs(ttlSeconds) : Infinity;
  }

  #renewDue(): void {
    const nowMs = performance.now();
    for (const lease of this.#leases.values()) {
      if (this.#renewalsUnderWay >= RENEWALS_AT_ONCE_MAX) return;
      if (lease.renewAtMs < nowMs && !lease.hasEnded) lease.renewal = this.#renew(lease);
    }
  }

  async #renew(lease: LiveLease): Promise<void> {
    const { token } = lease;
    if (!token) return;
    lease.renewAtMs = Infinity; // until this renewal has its answer
    this.#renewalsUnderWay++;
    const ttlSeconds = await this.#vault.renew(lease, token);
    this.#renewalsUnderWay--;
    // Where Vault did not answer, it is tried again ten times in what may be left of the life.
    this.#planRenewal(lease, ttlSeconds ?? token.ttlSeconds / 10);
  }
}

const SHARED = {
  wrapped: false,
  ttlSeconds: 0,
  renewable: false,
  namespace: "",
  accessor: undefined,
};

function isFirst(lease: Lease): boolean {
  return lease.name === nameOf(lease.start);
}

function furtherNameOf(start: Start): string {
  return `${nameOf(start)}.${randomUUID()}`;
}
