// Question: how often is the same thing asked?
//
// Guaranteed: of one key one call is under way, however many ask (invariant 10). Who asks meanwhile
// shares the next call, which begins after that: nobody gets an answer that is older than its
// question, and whoever claims the id of another container only shares that one's answer.
import { setTimeout as sleep } from "node:timers/promises";
import { type Refusal, toRefusal } from "./refusal.ts";

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

/** Of what is kept: how many answers, and the length of each as JSON. */
const KEPT_MAX = 256;
const KEPT_LENGTH_MAX = 1 << 16;

/** Answers that never change, by what was asked. */
export class KeptAnswers<Answer> {
  readonly #answers = new Map<string, Promise<Answer | undefined>>();

  /** Neither undefined is kept, nor an error, nor what is large. */
  get(key: string, ask: () => Promise<Answer | undefined>): Promise<Answer | undefined> {
    const known = this.#answers.get(key);
    if (known) return known;

    const asked = ask();
    if (this.#answers.size >= KEPT_MAX) this.#answers.clear();
    this.#answers.set(key, asked);
    const isKept = (answer?: Answer) =>
      answer !== undefined && JSON.stringify(answer).length < KEPT_LENGTH_MAX;
    const forget = () => this.#answers.delete(key);
    asked.then((answer) => isKept(answer) || forget(), forget);
    return asked;
  }
}

const TOO_LARGE_MAX = 1000;

/** Remembers which answers were too large, so that they are not asked for again. */
export class TooLarge {
  readonly #refusals = new Map<string, Refusal>();

  async remember<Answer>(key: string, ask: () => Promise<Answer>): Promise<Answer> {
    const known = this.#refusals.get(key);
    if (known) throw known;
    return await ask().catch((error) => {
      const refusal = toRefusal(error);
      if (this.#refusals.size >= TOO_LARGE_MAX) this.#refusals.clear();
      if (refusal.reason === "too-large") this.#refusals.set(key, refusal);
      throw refusal;
    });
  }
}
