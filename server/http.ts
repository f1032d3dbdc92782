// Question: what did the engine, or Vault, answer? Guaranteed: one JSON object within the deadline,
// of at most MAX_CHUNKS chunks (a longer one is cut, and so is no JSON). No redirect is followed.
import { once } from "node:events";
import type { RequestOptions, request } from "node:http";
import { Unavailable } from "./refusal.ts";
import type { JsonObject } from "./types.ts";

const MAX_CHUNKS = 64; // of 64 KiB at most

/** `whom` is the reason that a failure gives: "engine" or "vault". */
export async function exchange(
  whom: string,
  deadlineMs: number,
  send: typeof request,
  options: RequestOptions,
  body?: JsonObject,
): Promise<{ status: number; value: JsonObject }> {
  try {
    const sent = send({ ...options, signal: AbortSignal.timeout(deadlineMs) });
    sent.on("error", () => {}); // also after the answer has begun; `once` and `take` throw it
    const [answer] = await once(sent.end(body && JSON.stringify(body)), "response");
    const chunks: Buffer[] = await answer.take(MAX_CHUNKS).toArray();
    const value = JSON.parse(Buffer.concat(chunks).toString() || "{}");
    return { status: answer.statusCode, value };
  } catch (error) {
    throw new Unavailable(whom, { cause: `${options.path}: ${(error as Error).message}` });
  }
}
