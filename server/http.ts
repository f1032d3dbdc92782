// Question: what does the engine or Vault answer to one HTTP request?
//
// Guaranteed: a status and a JSON object of at most 1 Mi characters before the deadline, or an
// HttpError. An answer without a body counts as an empty object. No redirect is followed: node:http
// never does. No error quotes the answer, because it may hold a token.
import type { RequestOptions, request } from "node:http";
import type { JsonObject } from "./json.ts";

/** It takes some 10 ms to read, and nobody else is served meanwhile. */
const BODY_LENGTH_MAX = 1 << 20;

/** `type`: the header Content-Type, or "". */
export type HttpAnswer = { status: number; type: string; value: JsonObject };
export type HttpRequest = RequestOptions & { path: string; deadlineMs: number };

/** There is no answer. The message names the path and says why. */
export class HttpError extends Error {
  constructor(path: string, why: string) {
    super(`${path}: ${why}`);
  }
}

export class AnswerTooLong extends HttpError {}

/** `send` is `request` of node:http or node:https. The deadline counts from when the request has one of
 * the agent's sockets; it waits at most as long for that, so that a queue cannot grow without bound. */
export async function exchange(
  send: typeof request,
  options: HttpRequest,
  body?: JsonObject,
): Promise<HttpAnswer> {
  // Plain events and one timer: an AbortSignal and promises for each step cost a tenth of a grant.
  const { promise, resolve, reject } = Promise.withResolvers<Omit<HttpAnswer, "value">>();
  let text = "";
  const outgoing = send(options, (response) => {
    response.setEncoding("utf8").on("error", reject);
    response.on("data", (chunk: string) => {
      text += chunk;
      if (text.length > BODY_LENGTH_MAX)
        outgoing.destroy(new AnswerTooLong(options.path, "the answer is too long"));
    });
    response.on("end", () => {
      const { statusCode: status = 0, headers } = response;
      resolve({ status, type: headers["content-type"] ?? "" });
    });
  });
  const timer = setTimeout(() => {
    reject(new Error("no answer in time")); // a request without a socket emits no error
    outgoing.destroy();
  }, options.deadlineMs);
  outgoing.on("socket", () => timer.refresh());
  outgoing.on("error", reject).on("close", () => clearTimeout(timer));
  outgoing.end(body && JSON.stringify(body));

  const head = await promise.catch((error) =>
    Promise.reject(error instanceof HttpError ? error : new HttpError(options.path, error.message)),
  );
  let value: unknown;
  try {
    value = JSON.parse(text || "{}");
  } catch {}
  if (typeof value === "object" && value !== null) return { ...head, value: value as JsonObject };
  throw new HttpError(options.path, `status ${head.status}, the answer is not a JSON object`);
}
