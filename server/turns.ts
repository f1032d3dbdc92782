// Question: whose turn is it?
//
// Guaranteed: whatever a container does, and however many processes it has, it costs the others one
// judgement at a time, and less and less often while these end without a token (invariant 10).
// A key is a claim that nobody else can make whole: a container's id can be claimed by whoever
// chooses the name of a cgroup, but not together with the pid namespace of another container.
const WAIT_MS = 100;
/** For each that waits already: hundreds of processes must not be answered thousands of times a
 * second. */
const WAIT_MORE_MS = 10;
const WAIT_MAX_MS = 3000;
const FIRST_PAUSE_MS = 100;
const PAUSE_MAX_MS = 5000;
/** Each of them holds two of peercred's descriptors. */
const WAITING_MAX = 4096;

type Place = {
  isTaken: boolean;
  /** By performance.now(): until then the key is not judged again. */
  freeFromMs: number;
  pauseMs: number;
  /** Called when the place becomes free, one at a time. */
  waiting: Set<() => void>;
};

export class Turns {
  readonly #places = new Map<string, Place>();
  #waiting = 0;

  constructor() {
    setInterval(() => this.#forgetOld(), PAUSE_MAX_MS);
  }

  /** Takes the place of this key, as soon as it is free. Resolves false where it is not in 100 ms,
   * or in up to 3 s where others wait for it too. */
  async take(key: string): Promise<boolean> {
    const place = this.#places.get(key) ?? newPlace();
    this.#places.set(key, place);
    if (!isFree(place) && this.#waiting < WAITING_MAX) await this.#waitFor(place);
    if (!isFree(place)) return false;
    place.isTaken = true;
    return true;
  }

  /** Gives the place back. After a judgement without a token the key has to pause, each time for
   * longer. */
  leave(key: string, gotToken: boolean): void {
    const place = this.#places.get(key) as Place; // it is taken, so it is there
    place.isTaken = false;
    place.pauseMs = gotToken ? 0 : Math.min(2 * place.pauseMs || FIRST_PAUSE_MS, PAUSE_MAX_MS);
    place.freeFromMs = performance.now() + place.pauseMs;
    const [next] = place.waiting;
    if (gotToken) next?.();
  }

  async #waitFor({ waiting }: Place): Promise<void> {
    this.#waiting++;
    await new Promise<void>((resolve) => {
      const stop = () => {
        clearTimeout(timer);
        waiting.delete(stop);
        resolve();
      };
      const waitMs = WAIT_MS + waiting.size * WAIT_MORE_MS;
      const timer = setTimeout(stop, Math.min(waitMs, WAIT_MAX_MS));
      waiting.add(stop);
    });
    this.#waiting--;
  }

  #forgetOld(): void {
    const longAgoMs = performance.now() - PAUSE_MAX_MS;
    for (const [key, { isTaken, freeFromMs, waiting }] of this.#places) {
      if (!isTaken && waiting.size === 0 && freeFromMs < longAgoMs) this.#places.delete(key);
    }
  }
}

function newPlace(): Place {
  return { isTaken: false, freeFromMs: 0, pauseMs: 0, waiting: new Set() };
}

function isFree({ isTaken, freeFromMs }: Place): boolean {
  return !isTaken && performance.now() >= freeFromMs;
}
