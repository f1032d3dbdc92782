// keeper: holds the server's Vault token, mints a token for each service, and keeps each one as
// long as its process lives (invariant 7).
//
// Input: orders of the server that has started us (trusted), Vault's answers, and the files that an
// earlier run has left. Nothing of a container comes here but its id, image digest and uid.
// Life: the server's. After a crash the next run takes up what is on file.
//
//   the server tells us                          we tell the server
//   start DIRECTORY vault                        ready   what an earlier run left is taken up
//   mint NAME lease, source                      minted NAME token, ttl … | failure
//   sent NAME    its process has the token       note EVENT fields      for the audit stream
//   end NAME     it never got it, or has ended   ended NAME             its start may ask again
//   watching PID (held from now on), exited PID  watch PID              its end is to be told
import { EventEmitter, once } from "node:events";
import { readFileSync } from "node:fs";
import { startTicks } from "../server/process.ts";
import { Refusal } from "../server/refusal.ts";
import type { Lease, Message, TokenSource, VaultConfig } from "../types.ts";
import { forget, free, readLeases, save } from "./leases.ts";
import { connectVault, part } from "./vault.ts";

const heard = new EventEmitter().setMaxListeners(0);
/** That it fails means that the server has ended, and so do we. */
const tell = (verb: string, name: string, fields = {}) =>
  process.send?.({ verb, name, fields }, undefined, undefined, () => {});
const note = (event: string, fields: object) => tell("note", event, fields);

function isRunning(pid: number, ticks: number): boolean {
  try {
    return startTicks(readFileSync(`/proc/${pid}/stat`, "utf8")) === ticks;
  } catch {
    return false; // ENOENT, or ESRCH when it ends while it is read
  }
}

/** Resolves when no process has this pid and start any more. */
async function gone(pid: number, ticks: number): Promise<void> {
  const exited = once(heard, `exited ${pid}`);
  tell("watch", `${pid}`);
  await once(heard, `watching ${pid}`);
  if (isRunning(pid, ticks)) await exited;
}

/** A lease whose process lives, or waits for its answer. */
type Kept = { lease: Lease; dueMs: number; renewed?: Promise<void> };

function serve(directory: string, place: VaultConfig): void {
  const vault = connectVault(place, note);
  const kept = new Map<string, Kept>(); // by the lease's name
  let renewing = 0;

  async function mint(name: string, lease: Lease, source: TokenSource): Promise<void> {
    const one = { lease, dueMs: Infinity };
    kept.set(name, one);
    try {
      const token = await vault.mint(source, lease);
      save(directory, lease); // from here on a crash does not lose it
      const { accessor, namespace, wrapped = false, ttl = 0, renewable = false } = lease;
      tell("minted", name, { token, accessor, namespace, wrapped, ttl, renewable });
      if (renewable) one.dueMs = performance.now() + part(ttl);
    } catch (error) {
      const { message: reason, cause } = error as Error;
      tell("minted", name, { failure: { reason, cause, refused: error instanceof Refusal } });
    }
  }

  async function renew(one: Kept): Promise<void> {
    one.dueMs = Infinity;
    renewing++;
    const seconds = (await vault.settle("renew", one.lease)) ?? (one.lease.ttl ?? 0) / 10;
    one.dueMs = performance.now() + part(seconds);
    renewing--;
  }

  /** Invariant 7: its process has ended, or never got it. "end" may come twice. */
  async function end(one?: Kept): Promise<void> {
    if (!one) return;
    const { lease, renewed } = one;
    kept.delete(lease.name);
    if (!lease.sent) free(directory, lease);
    await renewed; // a renewal after its end would fail
    if (lease.accessor) await vault.revoke(lease);
    // What `once` looks at: the first of a start, as long as the container's first process lives.
    const isFirst = lease.sent && !lease.name.includes(".");
    if (isFirst && lease.pid !== lease.start.pid) await gone(lease.start.pid, lease.start.ticks);
    forget(directory, lease);
  }

  /** Renewed within `soonMs`, so that a token outlives quick restarts. */
  async function takeUp(lease: Lease, soonMs: number): Promise<void> {
    const dueMs = lease.renewable ? performance.now() + soonMs * Math.random() : Infinity;
    const one = { lease, dueMs };
    if (lease.sent) kept.set(lease.name, one);
    if (lease.sent) await gone(lease.pid, lease.ticks);
    await end(one);
  }

  heard.on("mint", (name, { lease, source }) => mint(name, lease, source));
  heard.on("end", (name) => {
    void end(kept.get(name));
    tell("ended", name);
  });
  heard.on("sent", (name) => {
    const { lease } = kept.get(name) ?? {};
    if (lease) save(directory, Object.assign(lease, { sent: true }));
  });
  const left = readLeases(directory);
  for (const { trouble, ...lease } of left) {
    if (trouble) note("set-aside", { file: lease.name, detail: trouble });
    if (!lease.sent) free(directory, lease); // perhaps nobody has its token: it is revoked first
    const soonMs = Math.min(part(lease.ttl) / 10, left.length * 10); // a hundred a second
    vault.whenLoggedIn.then(() => takeUp(lease, soonMs));
  }
  tell("ready", "");
  // One look at all of them: a timer for each would be half of a lease's memory.
  setInterval(() => {
    const nowMs = performance.now();
    for (const one of kept.values())
      if (one.dueMs < nowMs && renewing < 32) one.renewed = renew(one);
  }, 100);
  void vault.stayLoggedIn();
}

heard.once("start", serve);
process.on("message", ({ verb, name, fields }: Message) => {
  heard.emit(verb, name, fields);
  heard.emit(`${verb} ${name}`);
});
process.on("disconnect", () => process.exit());
process.on("uncaughtException", ({ message }) => {
  process.stderr.write(`authproxy: error: keeper: ${message}\n`);
  process.exit(1);
});
