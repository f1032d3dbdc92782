// Question: how often is the same thing asked?
//
// Guaranteed: of one key one call is under way, however many ask (invariant 10). Who asks meanwhile
// shares the next call, which begins after that: nobody gets an answer that is older than its
// question, and whoever claims the id of another container only shares that one's answer.
import { setTimeout as sleep } from "node:timers/promises";

/** Between two calls that others wait for. */
const PAUSE_MS = 100;

type Call<Answer> = { answer: Promise<Answer>; next?: Promise<Answer> };

export class SharedCalls<Answer> {
  readonly #calls = new Map<string, Call<Answer>>();

  /** The answer of a call that begins now or later. Rejects as `make` does. */
  share(key: string, make: () => Promise<Answer>): Promise<Answer> {
    const current = this.#calls.get(key);
    if (!current) return this.#begin(key, make);
    current.next ??= this.#beginAfter(current.answer, key, make);
    return current.next;
  }

  #begin(key: string, make: () => Promise<Answer>): Promise<Answer> {
    const call: Call<Answer> = { answer: make() };
    this.#calls.set(key, call);
    return call.answer.finally(() => {
      if (!call.next) this.#calls.delete(key);
    });
  }

  async #beginAfter(former: Promise<Answer>, key: string, make: () => Promise<Answer>) {
    await former.catch(() => {}); // who waits for that one hears of it
    await sleep(PAUSE_MS);
    return await this.#begin(key, make);
  }
}
