// Question: what did the engine, or Vault, answer? Guaranteed: a status and a JSON object, before
// the deadline, of at most 4 Mi characters; or else Unavailable. No redirect is followed: node:http
// never does.
import type { Exchange, JsonObject, Send } from "../types.ts";
import { Unavailable } from "./refusal.ts";

/** By plain events and one timer: a signal and promises of its own were a tenth of a grant. */
export async function exchange(send: Send, how: Exchange, body?: JsonObject) {
  try {
    const { promise, resolve, reject } = Promise.withResolvers<[number, string]>();
    const sent = send(how, (answer) => {
      let text = "";
      answer.setEncoding("utf8").on("error", reject);
      answer.on("data", (chunk: string) => {
        text += chunk;
        if (text.length > 1 << 22) sent.destroy();
      });
      answer.on("end", () => resolve([answer.statusCode ?? 0, text]));
    });
    const late = setTimeout(() => sent.destroy(new Error("no answer in time")), how.deadlineMs);
    sent.on("error", reject).on("close", () => clearTimeout(late));
    sent.end(body && JSON.stringify(body));
    const [status, text] = await promise;
    return { status, value: JSON.parse(text || "{}") as JsonObject };
  } catch (error) {
    throw new Unavailable(how.whom, { cause: `${how.path}: ${(error as Error).message}` });
  }
}
