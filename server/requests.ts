// Question: when is a peer judged, and how often?
//
// Guaranteed: every peer gets an answer without a reason; after any error it is no token
// (invariant 5). peercred admits one connection of a process, and IN_FLIGHT_MAX bounds them all
// (invariant 10).
import { setTimeout as sleep } from "node:timers/promises";
import { type AuditEvent, note } from "./audit.ts";
import { grant, Request, type Server } from "./grant.ts";
import type { Peer } from "./peercred.ts";
import { type Reason, type Refusal, toRefusal, unavailable } from "./refusal.ts";

const IN_FLIGHT_MAX = 256;
const FIRST_PAUSE_MS = 100;
/** The last try begins before that. It ends when its calls to the engine and Vault have met their
 * deadlines, at the latest. */
const LAST_TRY_MS = 3000;
/** What often passes within seconds, so that the server itself tries again. */
const TRANSIENT: Reason[] = ["alone", "clock", "engine", "starting", "vault"];

export class Requests {
  readonly #server: Server;
  readonly #drained = Promise.withResolvers<void>();
  /** Keys of peers that wait for their next try, one a key: the container's id, or the peer's pid
   * before that is known. */
  readonly #pausing = new Set<string>();
  #inFlight = 0;
  #stopping = false;

  constructor(server: Server) {
    this.#server = server;
  }

  /** From a connection to its answer. */
  async attend(peer: Peer): Promise<void> {
    const request = new Request(peer);
    if (this.#stopping || this.#inFlight >= IN_FLIGHT_MAX) {
      await this.#refuse(request, unavailable("busy", { inFlight: this.#inFlight }));
      return;
    }
    this.#inFlight++;
    await this.#tryUntilAnswered(request);
    this.#inFlight--;
    if (this.#stopping && this.#inFlight === 0) this.#drained.resolve();
  }

  /** From now on peers hear that they may ask again. Resolves when all others are answered. */
  async stop(): Promise<void> {
    this.#stopping = true;
    if (this.#inFlight > 0) await this.#drained.promise;
  }

  async #tryUntilAnswered(request: Request): Promise<void> {
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs *= 2) {
      const refusal = await grant(request, this.#server).catch(toRefusal);
      if (!refusal) return;

      const retryKey = request.facts.container?.Id ?? `pid ${request.peer.pid}`;
      if (!this.#mayTryAgain(request, refusal, retryKey, pauseMs)) {
        await this.#refuse(request, refusal);
        return;
      }
      this.#note("retry", request, refusal);
      this.#pausing.add(retryKey);
      await sleep(pauseMs);
      this.#pausing.delete(retryKey);
    }
  }

  #mayTryAgain(request: Request, refusal: Refusal, retryKey: string, pauseMs: number): boolean {
    const isTransient = refusal.canRetry && TRANSIENT.includes(refusal.reason);
    const isInTime = request.ageMs + pauseMs < LAST_TRY_MS;
    return isTransient && isInTime && !this.#stopping && !this.#pausing.has(retryKey);
  }

  async #refuse(request: Request, refusal: Refusal): Promise<void> {
    const error = refusal.canRetry ? "unavailable" : "refused";
    this.#note(error, request, refusal);
    await this.#server.peercred.answer("refuse", request.peer.id, { error });
  }

  #note(event: AuditEvent, request: Request, { reason, detail }: Refusal): void {
    note(event, { ...request.auditEntry(this.#server), reason, detail });
  }
}
