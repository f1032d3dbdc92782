// Question: what did the engine, or Vault, answer? Guaranteed: a status and a JSON object, before
// the deadline, of at most 64 chunks of 64 KiB (a longer one is cut, and so is no JSON); or else
// Unavailable. No redirect is followed: node:http never does.
import { once } from "node:events";
import type { request } from "node:http";
import type { Exchange, JsonObject } from "../types.ts";
import { Unavailable } from "./refusal.ts";

export async function exchange(send: typeof request, how: Exchange, body?: JsonObject) {
  try {
    const sent = send({ ...how, signal: AbortSignal.timeout(how.deadlineMs) });
    sent.on("error", () => {}); // also once the answer has begun: what is awaited here throws it
    const [answer] = await once(sent.end(body && JSON.stringify(body)), "response");
    const chunks: string[] = [];
    for await (const chunk of answer.setEncoding("utf8")) if (chunks.push(chunk) > 64) break;
    const value: JsonObject = JSON.parse(chunks.join("") || "{}");
    return { status: answer.statusCode as number, value };
  } catch (error) {
    throw new Unavailable(how.whom, { cause: `${how.path}: ${(error as Error).message}` });
  }
}
