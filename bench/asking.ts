// Question: how long do real containers wait for their answers? Each of them asks one time after the
// other; so many containers, so many requests are under way.
import type { Round } from "./figures.ts";
import type { Inside } from "./stage.ts";

/** Before it asks again; a client's own first pause is between 25 and 50 ms. */
const AGAIN_MS = 1;
const DEADLINE_MS = 600_000;

export type Asking = { wanted?: string; againMs?: number; request?: string; deadlineMs?: number };

/** `count` answers in all. The time is that of the container: from connect() to the end. */
export async function ask(
  askers: Inside[],
  socket: string,
  count: number,
  { wanted = '"token"', againMs = AGAIN_MS, request = "", deadlineMs = DEADLINE_MS }: Asking = {},
): Promise<Round> {
  const each = Math.ceil(count / askers.length);
  const words = ["ask", socket, each, againMs, wanted, request];
  const began = performance.now();
  const answers = await Promise.all(askers.map((asker) => asker.tellWithin(deadlineMs, ...words)));
  const seconds = (performance.now() - began) / 1000;
  const numbers = answers.map((line) => line.split(" ").map(Number));
  const retries = numbers.reduce((sum, [first = 0]) => sum + first, 0);
  return { ms: numbers.flatMap(([, ...ns]) => ns.map((n) => n / 1e6)), seconds, retries };
}
