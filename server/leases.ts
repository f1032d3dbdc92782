// Question: how long does a token live?
//
// Guaranteed: as long as the process that got it, and no longer than it takes to revoke it then
// (invariant 7). A start of a container has one token (invariant 6), also across a crash: what an
// earlier run of this server has left on file is taken up.
//
// The life of a lease: open, mint, then keep until its process exits; or abandon.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
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
const RENEWALS_AT_ONCE_MAX = 16;
/** peercred had no descriptor left to watch a process by. */
const WATCH_RETRY_MS = 1000;
/** A start whose tokens could not be sent, whatever its processes did, gets no more of them. */
const IN_VAIN_MAX = 3;
const IN_VAIN = `${IN_VAIN_MAX} tokens were made for this start of the container, and none could be sent`;
/** After a start of the server a hundred tokens a second are renewed. */
const RENEWAL_SPREAD_MS_PER_LEASE = 10;

/** Why a start can have no token, and whether it may have one a moment later. */
export type Spent = { why: string; mayPass?: boolean };

/** When a lease is renewed next, and when its token dies otherwise, by performance.now(); and the
 * renewal that is under way. */
type Renewals = { nextMs: number; diesMs: number; underWay?: Promise<void> };

export class Leases {
  readonly #files: LeaseFiles;
  readonly #vault: Vault;
  readonly #peercred: Peercred;
  /** The leases that decide about `once`, by the name of their start. A further one of this run does
   * not. */
  readonly #ofStart = new Map<string, Lease[]>();
  /** Leases whose process waits for its token or has it. */
  readonly #living = new Map<Lease, Renewals>();
  /** Those that an earlier run has left. */
  readonly #takenUp = new WeakSet<Lease>();
  #renewalsUnderWay = 0;

  constructor(files: LeaseFiles, vault: Vault, peercred: Peercred) {
    this.#files = files;
    this.#vault = vault;
    this.#peercred = peercred;
    // One look at all leases: a timer for each would be half of the memory of a lease.
    setInterval(() => this.#renewDue(), RENEWAL_LOOK_MS);
  }

  /** Takes up what an earlier run has left on file. */
  takeUpFiles(): void {
    const leasesOnFile = this.#files.readAll();
    for (const { invalidReason, ...lease } of leasesOnFile) {
      if (invalidReason) note("set-aside", { file: lease.name, detail: invalidReason });
      void this.#takeUp(lease, leasesOnFile.length * RENEWAL_SPREAD_MS_PER_LEASE);
    }
  }

  /** Why this process of a start can have no token (invariant 6), or undefined where it can. */
  spentBy(start: Start, holder: ProcessStart): Spent | undefined {
    const leases = this.#leasesOf(start);
    const first = leases.find((lease) => isFirst(lease) && !this.#mayBeReplacedBy(holder, lease));
    // A request whose process has exited may be judged by the facts of the next one with its number.
    // Its token cannot be sent, and then the start is free again.
    if (first) {
      const mayPass = first.stage !== "sent" && !this.#takenUp.has(first);
      return { why: "this start of the container has had its token", mayPass };
    }
    return leases.filter(isInVain).length >= IN_VAIN_MAX ? { why: IN_VAIN } : undefined;
  }

  /** A lease without a token, on file: from now on its start has had its token (invariant 6). Throws
   * an error of the file system; then there is no lease. */
  open(start: Start, holder: ProcessStart, meta: Lease["meta"]): Lease {
    const former = this.#leasesOf(start).find((lease) => this.#mayBeReplacedBy(holder, lease));
    if (former) this.abandon(former, "revoking");

    const name = this.#leasesOf(start).some(isFirst) ? furtherNameOf(start) : nameOf(start);
    const lease: Lease = { ...holder, name, start, stage: "minting", meta };
    this.#files.write(lease);
    this.#add(lease);
    return lease;
  }

  /** A token. Its accessor, never the token itself, is on file before this resolves: a crash does not
   * lose what was minted, and `abandon` revokes it. Throws the refusals of vault.ts. */
  async mint(lease: Lease, source: TokenSource): Promise<string> {
    const token = source.read
      ? await this.#vault.readSharedToken(source.read, source.namespace)
      : await this.#create(lease, source);
    lease.stage = "sending";
    this.#files.write(lease);
    return token;
  }

  async #create(lease: Lease, source: TokenSource): Promise<string> {
    const created = await this.#vault.create(source, lease.meta);
    const { token, accessor, namespace, wrapped } = created;
    Object.assign(lease, { accessor, namespace, wrapped, ttl: created.description?.ttl });
    // To look at a wrapped token takes another call; any other is on file before the next one.
    if (wrapped) this.#files.write(lease);

    const { ttl, renewable } = await this.#vault.requireOwn(created, source);
    Object.assign(lease, { ttl, renewable });
    this.#planRenewal(lease, ttl);
    return token;
  }

  /** The token was sent. It lives until its process exits (invariant 7). Throws an error of the file
   * system; the lease is kept all the same. */
  keepUntil(exited: Promise<void>, lease: Lease): void {
    lease.stage = "sent";
    void exited.then(() => this.#end(lease));
    this.#files.write(lease);
  }

  /** The token was not sent: the start may ask again from now on, and what was minted is revoked
   * (invariant 7). Throws an error of the file system; it is revoked all the same. */
  abandon(lease: Lease, stage: "revoking" | "in-vain"): void {
    lease.stage = stage;
    try {
      // Before the start is free: a crash between the two must not leave a token that was perhaps sent
      // beside the start's next one.
      this.#files.write(lease);
    } finally {
      void this.#end(lease);
      this.#freeStart(lease);
    }
  }

  /** A crash came between the sending and its note. If this process did not get its token it asks again:
   * then the former one is revoked. In one run nothing is replaced: the lease may be that of a request
   * whose process has exited, and which is judged by the facts of this one (`spentBy`). */
  #mayBeReplacedBy({ pid, ticks }: ProcessStart, lease: Lease): boolean {
    const isOfHolder = lease.pid === pid && lease.ticks === ticks;
    return isOfHolder && lease.stage === "sending" && this.#takenUp.has(lease);
  }

  #leasesOf(start: Start): Lease[] {
    return this.#ofStart.get(nameOf(start)) ?? [];
  }

  #add(lease: Lease): void {
    if (isFirst(lease) || this.#takenUp.has(lease))
      this.#ofStart.set(nameOf(lease.start), [...this.#leasesOf(lease.start), lease]);
    this.#living.set(lease, { nextMs: Infinity, diesMs: Infinity });
  }

  #remove(lease: Lease): void {
    const others = this.#leasesOf(lease.start).filter((other) => other !== lease);
    if (others.length > 0) this.#ofStart.set(nameOf(lease.start), others);
    else this.#ofStart.delete(nameOf(lease.start));
    this.#files.remove(lease.name);
  }

  /** `once` asks for the first lease of a start; this one becomes a further one. */
  #freeStart(lease: Lease): void {
    if (!isFirst(lease)) return;
    const name = furtherNameOf(lease.start);
    this.#files.rename(lease.name, name);
    lease.name = name;
  }

  async #end(lease: Lease): Promise<void> {
    const renewals = this.#living.get(lease);
    if (!renewals) return; // it has been ended before
    this.#living.delete(lease);
    await renewals.underWay; // a renewal after the revocation would fail
    if (lease.accessor) await this.#vault.revoke(lease);
    if (this.#mustOutliveItsToken(lease)) await this.#exitOf(lease.start);
    this.#remove(lease);
  }

  /** `once` holds as long as the container's first process lives. */
  #mustOutliveItsToken(lease: Lease): boolean {
    const inVain = this.#leasesOf(lease.start).filter(isInVain);
    if (isInVain(lease)) return inVain.includes(lease) && inVain.length <= IN_VAIN_MAX;
    return isFirst(lease) && lease.pid !== lease.start.pid;
  }

  /** Resolves when no process has this pid and start any more. */
  async #exitOf({ pid, ticks }: ProcessStart): Promise<void> {
    for (;;) {
      const watched = await this.#peercred.watch(pid);
      // peercred watches the process that has this number now: is it the one that is meant?
      if (!isRunning(pid, ticks)) return;
      if (watched) return await watched.exited;
      await sleep(WATCH_RETRY_MS);
    }
  }

  async #takeUp(lease: Lease, spreadMs: number): Promise<void> {
    this.#takenUp.add(lease);
    this.#add(lease);
    const wasPerhapsSent = lease.stage === "sent" || lease.stage === "sending";
    if (!wasPerhapsSent) this.#freeStart(lease);

    await this.#vault.whenLoggedIn;
    if (wasPerhapsSent) {
      // Renewed soon, so that a token outlives quick restarts of the server.
      const soonMs = Math.min(renewalDelayMs(lease.ttl) / 10, spreadMs);
      this.#planRenewal(lease, lease.ttl, soonMs * Math.random());
      await this.#exitOf(lease);
    }
    await this.#end(lease);
  }

  /** The token has so long a life ahead of it; undefined where that is not known, or has not changed. */
  #planRenewal(
    lease: Lease,
    ttlSeconds: number | undefined,
    delayMs = renewalDelayMs(ttlSeconds),
  ): void {
    const renewals = this.#living.get(lease);
    if (!renewals || !lease.renewable) return;
    renewals.nextMs = performance.now() + delayMs;
    if (ttlSeconds) renewals.diesMs = performance.now() + ttlSeconds * 1000;
  }

  #renewDue(): void {
    const nowMs = performance.now();
    const due: [Lease, Renewals][] = [];
    for (const entry of this.#living) if (entry[1].nextMs <= nowMs) due.push(entry);
    // The token that dies first goes first; Vault may have been away for half of all lives.
    due.sort(([, a], [, b]) => a.diesMs - b.diesMs);
    for (const [lease, renewals] of due.slice(0, RENEWALS_AT_ONCE_MAX - this.#renewalsUnderWay)) {
      renewals.nextMs = Infinity; // until this renewal has its answer
      renewals.underWay = this.#renew(lease);
    }
  }

  async #renew(lease: Lease): Promise<void> {
    this.#renewalsUnderWay++;
    const ttlSeconds = await this.#vault.renew(lease);
    this.#renewalsUnderWay--;
    if (ttlSeconds) lease.ttl = ttlSeconds;
    // Where Vault did not do it, it is asked again after a tenth of the usual delay.
    this.#planRenewal(lease, ttlSeconds, renewalDelayMs(ttlSeconds ?? (lease.ttl ?? 0) / 10));
  }
}

function isInVain({ stage }: Lease): boolean {
  return stage === "in-vain";
}

function isFirst({ name, start }: Lease): boolean {
  return name === nameOf(start);
}

function furtherNameOf(start: Start): string {
  return `${nameOf(start)}.${randomUUID()}`;
}
