// How long until the next try? Doubling from 50 ms to 2 s, each shortened at random by up to half,
// so that a host's containers, all started at once, do not ask at once.

/** Monotonic. In place of `performance`, which is loaded at its first use: 0.7 ms. */
export function nowMs(): number {
  return process.uptime() * 1000;
}

/** What a try may take: what is left, and a second for the last. */
export function triesMs(deadlineMs: number): number {
  return Math.max(1000, deadlineMs - nowMs());
}

export async function waitForTry(attempt: number, deadlineMs: number): Promise<void> {
  const longestMs = Math.min(2000, 50 * 2 ** Math.min(attempt, 10));
  const delayMs = longestMs * (0.5 + Math.random() / 2);
  const leftMs = Math.max(0, deadlineMs - nowMs());
  await pause(Math.min(delayMs, leftMs));
}

export async function pause(delayMs: number): Promise<void> {
  // setTimeout takes 31 bits; what is due later is looked at too early.
  await new Promise((resolve) => setTimeout(resolve, Math.min(delayMs, 2 ** 31 - 1)));
}
