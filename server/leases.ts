// Question: who has a token, and does that process still live? One lease for each start of each
// container. Guaranteed: one token a start (invariant 6); renewed while its process lives, revoked
// when it exits, again and again until Vault has answered or the token has died (invariant 7).
import { note } from "./audit.ts";
import { Unavailable } from "./refusal.ts";
import type { Auth, Lease, Vault } from "./types.ts";
import { half } from "./vault.ts";

const RETRY_MS = 2000;

export function openLeases(vault: Vault) {
  const leases = new Map<string, Lease>(); // by the start of the container
  const holders = new Map<string, Lease>(); // by the id of the peer

  /** Renews or revokes a lease, and says when to do so again. */
  async function tend(lease: Lease): Promise<void> {
    lease.dueMs = Date.now() + RETRY_MS * (0.5 + Math.random());
    const { ended, accessor, ttlSeconds } = lease;
    try {
      await (ended ? vault.revoke(accessor) : vault.renew(accessor));
      if (ended !== lease.ended) return; // it ended meanwhile
      lease.dueMs = Date.now() + half(ttlSeconds);
      lease.deadMs = Date.now() + ttlSeconds * 1000;
    } catch (error) {
      const { cause } = error as Error;
      note(ended ? "revoke-failed" : "renew-failed", { ...lease.about, accessor, detail: cause });
      if (error instanceof Unavailable && Date.now() < lease.deadMs) return;
      lease.dueMs = Number.POSITIVE_INFINITY; // Vault knows no such token any more
    }
    if (!ended) return;
    lease.dueMs = Number.POSITIVE_INFINITY;
    note("revoked", { ...lease.about, accessor });
    if (lease.ofInit) leases.delete(lease.start); // else `once` goes on as long as the container
  }

  function end(id: string): void {
    const lease = holders.get(id);
    if (!lease) return;
    holders.delete(id);
    lease.ended = true;
    void tend(lease);
  }

  return {
    has: (start: string) => leases.has(start),
    /** The process of this peer has exited. */
    end,
    /** Before its token is sent. */
    begin(id: string, start: string, ofInit: boolean, about: object, auth: Auth): void {
      const ttlSeconds = auth.lease_duration;
      const dueMs = auth.renewable ? Date.now() + half(ttlSeconds) : Number.POSITIVE_INFINITY;
      const deadMs = Date.now() + ttlSeconds * 1000;
      const { accessor } = auth;
      const lease = { start, ofInit, about, accessor, ttlSeconds, ended: false, dueMs, deadMs };
      leases.set(start, lease);
      holders.set(id, lease);
    },
    /** It was not sent: its container may ask again. */
    cancel(id: string): void {
      const lease = holders.get(id);
      if (!lease) return;
      leases.delete(lease.start);
      lease.start = lease.accessor;
      leases.set(lease.start, lease);
      end(id);
    },
    /** To be called each second. */
    tendAll(): void {
      for (const lease of leases.values()) if (lease.dueMs < Date.now()) void tend(lease);
    },
  };
}
