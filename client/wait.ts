// Question: how long until the next attempt?
// Output:   waits that double from 50 ms to 2 s. Each is shortened at random by up to half, so that
//           the containers of a host that all start together do not all ask together.

const FIRST_DELAY_MS = 50;
const DELAY_MS_MAX = 2000;
/** The last attempt gets a second, even where the deadline is nearer. */
const ATTEMPT_MS_MIN = 1000;

/**
 * Returns milliseconds on a monotonic clock. `performance` would do the same, but Node loads it at
 * its first use, which takes 0.7 ms.
 */
export function nowMs(): number {
  return process.uptime() * 1000;
}

/** Returns how long one attempt may take, in milliseconds. */
export function attemptMs(deadlineMs: number): number {
  return Math.max(ATTEMPT_MS_MIN, deadlineMs - nowMs());
}

/** Waits after the attempt of this number, counted from 0, but not beyond the deadline. */
export async function waitBeforeRetry(attempt: number, deadlineMs: number): Promise<void> {
  const longestMs = Math.min(DELAY_MS_MAX, FIRST_DELAY_MS * 2 ** Math.min(attempt, 10));
  const delayMs = longestMs * (0.5 + Math.random() / 2);
  const remainingMs = Math.max(0, deadlineMs - nowMs());
  await sleep(Math.min(delayMs, remainingMs));
}

/** Waits this many milliseconds. setTimeout() takes 24 days; options.ts allows 11. */
export async function sleep(delayMs: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, delayMs));
}
