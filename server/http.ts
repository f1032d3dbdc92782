// Question: what does the engine or Vault answer to one HTTP request?
//
// Guaranteed: a status and a JSON object of at most 4 Mi characters before the deadline, or an
// HttpError. No redirect is followed: node:http never does. No error quotes the answer, because it
// may hold a token.
import type { RequestOptions, request } from "node:http";
import type { JsonObject } from "./json.ts";

const BODY_LENGTH_MAX = 1 << 22;

export type HttpAnswer = { status: number; value: JsonObject };
export type HttpRequest = RequestOptions & { path: string; deadlineMs: number };

/** There is no answer. The message names the path and says why. */
export class HttpError extends Error {}
export class AnswerTooLong extends HttpError {}

/** `send` is `request` of node:http or node:https. The deadline includes the wait for one of the
 * agent's sockets. */
export async function exchange(
  send: typeof request,
  options: HttpRequest,
  body?: JsonObject,
): Promise<HttpAnswer> {
  // Plain events and one timer: an AbortSignal and promises for each step cost a tenth of a grant.
  const { promise, resolve, reject } = Promise.withResolvers<[status: number, text: string]>();
  const outgoing = send(options, (response) => {
    let text = "";
    response.setEncoding("utf8").on("error", reject);
    response.on("data", (chunk: string) => {
      text += chunk;
      if (text.length > BODY_LENGTH_MAX)
        outgoing.destroy(new AnswerTooLong(`${options.path}: the answer is too long`));
    });
    response.on("end", () => resolve([response.statusCode ?? 0, text]));
  });
  const timer = setTimeout(
    () => outgoing.destroy(new Error("no answer in time")),
    options.deadlineMs,
  );
  outgoing.on("error", reject).on("close", () => clearTimeout(timer));
  outgoing.end(body && JSON.stringify(body));

  const fail = (why: string) => new HttpError(`${options.path}: ${why}`);
  const [status, text] = await promise.catch((error) =>
    Promise.reject(error instanceof HttpError ? error : fail(error.message)),
  );
  let value: unknown;
  try {
    value = JSON.parse(text || "{}");
  } catch {}
  if (typeof value === "object" && value !== null) return { status, value: value as JsonObject };
  throw fail(`status ${status}, the answer is not a JSON object`);
}
