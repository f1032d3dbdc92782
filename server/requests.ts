// Question: when is a peer judged, and how often?
//
// Guaranteed: every peer gets an answer without a reason; after any error it is no token
// (invariant 5). One peer of a key is judged at a time, the others wait their turn (turns.ts).
import { setTimeout as sleep } from "node:timers/promises";
import { type AuditEvent, noteCounted } from "./audit.ts";
import { grant, Request, type Server } from "./grant.ts";
import type { Peer } from "./peercred.ts";
import { type Glance, glanceAt } from "./process.ts";
import { type Reason, type Refusal, toRefusal, unavailable } from "./refusal.ts";
import { Turns } from "./turns.ts";

const FIRST_PAUSE_MS = 100;
/** The last try begins before that. It ends when its calls to the engine and Vault have met their
 * deadlines, at the latest. */
const LAST_TRY_MS = 3000;
/** What often passes within seconds, so that the server itself tries again. */
const TRANSIENT: Reason[] = ["alone", "clock", "engine", "starting", "vault"];

export class Requests {
  readonly #server: Server;
  readonly #drained = Promise.withResolvers<void>();
  readonly #turns = new Turns();
  #inFlight = 0;
  #stopping = false;

  constructor(server: Server) {
    this.#server = server;
  }

  /** From a connection to its answer. */
  async attend(peer: Peer): Promise<void> {
    const request = new Request(peer);
    if (this.#stopping)
      return await this.#refuse(request, unavailable("busy", "the server is stopping"));

    this.#inFlight++;
    const refusal = await this.#attendInTurn(request).catch(toRefusal);
    if (refusal) await this.#refuse(request, refusal);
    this.#inFlight--;
    if (this.#stopping && this.#inFlight === 0) this.#drained.resolve();
  }

  /** From now on peers hear that they may ask again. Resolves when all others are answered. */
  async stop(): Promise<void> {
    this.#stopping = true;
    if (this.#inFlight > 0) await this.#drained.promise;
  }

  async #attendInTurn(request: Request): Promise<void> {
    const glance = glanceAt(request.peer.pid);
    request.claimed = glance.container?.id;
    const key = `${request.claimed} ${glance.pidNamespace}`;
    if (!(await this.#turns.take(key)))
      throw unavailable("busy", "another process of the container is judged, or one was refused");

    let gotToken = false;
    try {
      await this.#tryUntilGranted(request, glance);
      gotToken = true;
    } finally {
      this.#turns.leave(key, gotToken);
    }
  }

  async #tryUntilGranted(request: Request, firstGlance: Glance): Promise<void> {
    let glance = firstGlance;
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs *= 2) {
      const refusal = await grant(request, glance, this.#server).catch(toRefusal);
      if (!refusal) return;
      if (!this.#mayTryAgain(request, refusal, pauseMs)) throw refusal;

      this.#note("retry", request, refusal);
      await sleep(pauseMs);
      glance = glanceAt(request.peer.pid);
    }
  }

  #mayTryAgain(request: Request, { reason, canRetry }: Refusal, pauseMs: number): boolean {
    const isTransient = canRetry && TRANSIENT.includes(reason);
    const isInTime = request.ageMs + pauseMs < LAST_TRY_MS;
    return isTransient && isInTime && !this.#stopping;
  }

  async #refuse(request: Request, refusal: Refusal): Promise<void> {
    const event = refusal.canRetry ? "unavailable" : "refused";
    this.#note(event, request, refusal);
    await this.#server.peercred.answer("refuse", request.peer.id, { error: event });
  }

  #note(event: AuditEvent, request: Request, { reason, detail }: Refusal): void {
    const { claimed, peer } = request;
    const fields = { ...request.auditEntry(this.#server), reason, detail };
    noteCounted(`${claimed ?? `uid ${peer.uid}`} ${reason}`, event, fields);
  }
}
