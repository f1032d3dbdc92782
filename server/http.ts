// Question: what did the engine, or Vault, answer? Guaranteed: a status and a JSON object, before
// the deadline, of at most 4 Mi characters; or else Unavailable. No redirect is followed: node:http
// never does.
import { once } from "node:events";
import type { Exchange, JsonObject, Send } from "../types.ts";
import { Unavailable } from "./refusal.ts";

export async function exchange(send: Send, how: Exchange, body?: JsonObject) {
  try {
    const sent = send(how).on("error", () => {}); // what is awaited here throws it
    const late = setTimeout(() => sent.destroy(new Error("no answer in time")), how.deadlineMs);
    sent.on("close", () => clearTimeout(late));
    const [answer] = await once(sent.end(body && JSON.stringify(body)), "response");
    let text = "";
    answer.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
      if (text.length > 1 << 22) sent.destroy();
    });
    await once(answer, "end");
    return { status: answer.statusCode as number, value: JSON.parse(text || "{}") as JsonObject };
  } catch (error) {
    throw new Unavailable(how.whom, { cause: `${how.path}: ${(error as Error).message}` });
  }
}
