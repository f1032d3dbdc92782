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
import {
  type Lease,
  type LeaseFiles,
  nameOf,
  type ProcessStart,
  type Start,
} from "./lease-files.ts";
import type { Peercred } from "./peercred.ts";
import { isRunning } from "./process.ts";
import { renewalDelayMs, type Vault } from "./vault.ts";

const RENEWAL_LOOK_MS = 100;
/** More of them would keep a mint waiting for a connection. */
const RENEWALS_AT_ONCE_MAX = 32;
/** After a start of the server a hundred tokens a second are renewed. */
const RENEWAL_SPREAD_MS = 10;

/** What is known of a lease in memory only. */
type LeaseState = {
  lease: Lease;
  /** By performance.now(). */
  renewAtMs: number;
  renewal?: Promise<void>;
};

export class Leases {
  readonly #files: LeaseFiles;
  readonly #vault: Vault;
  readonly #peercred: Peercred;
  /** The names of all leases that have a file. */
  readonly #names = new Set<string>();
  /** Leases whose process waits for its token or has it. */
  readonly #living = new Map<Lease, LeaseState>();
  #renewalsUnderWay = 0;

  /** Takes up what an earlier run has left on file. */
  constructor(files: LeaseFiles, vault: Vault, peercred: Peercred) {
    this.#files = files;
    this.#vault = vault;
    this.#peercred = peercred;
    const left = files.readAll();
    for (const { trouble, ...lease } of left) {
      if (trouble) note("set-aside", { file: lease.name, detail: trouble });
      void this.#takeUp(lease, left.length);
    }
    // One look at all leases: a timer for each would be half of the memory of a lease.
    setInterval(() => this.#renewDue(), RENEWAL_LOOK_MS);
  }

  /** This start of a container has had a token, or is about to get one. */
  hadToken(start: Start): boolean {
    return this.#names.has(nameOf(start));
  }

  /** A lease without a token, on file: from now on its start has had its token. */
  open(start: Start, holder: ProcessStart, meta: Lease["meta"]): Lease {
    const name = this.hadToken(start) ? furtherNameOf(start) : nameOf(start);
    const lease: Lease = { ...holder, name, start, sent: false, meta };
    this.#files.write(lease);
    this.#add(lease, Infinity);
    return lease;
  }

  /** The lease's token, on file before this resolves, so that a crash does not lose it. Throws the
   * refusals of vault.ts; what was minted by then is revoked by `abandon`. */
  async mint(lease: Lease, source: TokenSource): Promise<string> {
    if (source.read) return await this.#vault.readReady(source.read, source.namespace);

    const created = await this.#vault.create(source, lease.meta);
    lease.accessor = created.accessor;
    lease.namespace = created.namespace;
    const { renewable, ttl } = await this.#vault.requireOwn(created, source);
    Object.assign(lease, { renewable, ttl, wrapped: created.wrapped });
    this.#files.write(lease);
    this.#planRenewal(lease, ttl);
    return created.token;
  }

  /** The token was sent. It lives until its process exits. */
  keepUntil(exited: Promise<void>, lease: Lease): void {
    lease.sent = true;
    void exited.then(() => this.#end(lease));
    this.#files.write(lease);
  }

  /** The token was not sent: the start may ask again from now on. */
  abandon(lease: Lease): void {
    this.#freeStart(lease);
    void this.#end(lease);
  }

  #add(lease: Lease, renewAtMs: number): void {
    this.#names.add(lease.name);
    this.#living.set(lease, { lease, renewAtMs });
  }

  /** `once` asks for the first lease of a start; this one becomes a further one. */
  #freeStart(lease: Lease): void {
    if (!isFirst(lease)) return;
    const name = furtherNameOf(lease.start);
    this.#files.rename(lease.name, name);
    this.#names.delete(lease.name);
    this.#names.add(name);
    lease.name = name;
  }

  async #end(lease: Lease): Promise<void> {
    const state = this.#living.get(lease);
    this.#living.delete(lease);
    await state?.renewal; // a renewal after the revocation would fail
    if (lease.accessor) await this.#vault.revoke(lease);
    // `once` holds as long as the container's first process lives.
    if (isFirst(lease) && lease.pid !== lease.start.pid) await this.#exitOf(lease.start);
    this.#files.remove(lease.name);
    this.#names.delete(lease.name);
  }

  /** Resolves when no process has this pid and start any more. */
  async #exitOf({ pid, ticks }: ProcessStart): Promise<void> {
    const { exited } = await this.#peercred.watch(pid);
    // peercred watches the process that has this number now: is it the one that is meant?
    if (isRunning(pid, ticks)) await exited;
  }

  async #takeUp(lease: Lease, count: number): Promise<void> {
    // Renewed soon, so that a token outlives quick restarts of the server.
    const soonMs = Math.min(renewalDelayMs(lease.ttl) / 10, count * RENEWAL_SPREAD_MS);
    const renewAtMs = performance.now() + soonMs * Math.random();
    this.#add(lease, lease.renewable ? renewAtMs : Infinity);
    // Perhaps nobody has its token: it is revoked, and the start may ask again.
    if (!lease.sent) this.#freeStart(lease);

    await this.#vault.whenLoggedIn;
    if (lease.sent) await this.#exitOf(lease);
    await this.#end(lease);
  }

  #planRenewal(lease: Lease, ttlSeconds: number | undefined): void {
    const state = this.#living.get(lease);
    if (state && lease.renewable) state.renewAtMs = performance.now() + renewalDelayMs(ttlSeconds);
  }

  #renewDue(): void {
    const nowMs = performance.now();
    for (const state of this.#living.values()) {
      if (this.#renewalsUnderWay >= RENEWALS_AT_ONCE_MAX) return;
      if (state.renewAtMs < nowMs) state.renewal = this.#renew(state);
    }
  }

  async #renew(state: LeaseState): Promise<void> {
    const { lease } = state;
    state.renewAtMs = Infinity; // until this renewal has its answer
    this.#renewalsUnderWay++;
    const ttlSeconds = await this.#vault.renew(lease);
    this.#renewalsUnderWay--;
    // Where Vault did not answer, it is asked again in a tenth of the time.
    this.#planRenewal(lease, ttlSeconds ?? (lease.ttl ?? 0) / 10);
  }
}

function isFirst({ name, start }: Lease): boolean {
  return name === nameOf(start);
}

function furtherNameOf(start: Start): string {
  return `${nameOf(start)}.${randomUUID()}`;
}
