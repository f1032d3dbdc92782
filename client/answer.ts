// What did the server answer? One line of JSON and a newline, then end of file. Pure.
// Members that are not known here are ignored: clients sit in images for years.

import { isFields } from "./json.ts";

export type VaultPlace = {
  readonly address: string;
  readonly ca: string | undefined;
  readonly namespace: string | undefined;
};

export type Grant = {
  readonly service: string;
  readonly token: string;
  readonly wrapped: boolean;
  readonly vault: VaultPlace;
};

/** `unavailable` covers a connection that ended before its line did: a crash, a flood. */
export type Answer = Grant | "refused" | "unavailable" | "malformed";

export function parseAnswer(text: string): Answer {
  if (!text.includes("\n")) return "unavailable";
  if (text.indexOf("\n") !== text.length - 1) return "malformed";
  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch {
    return "malformed";
  }
  if (!isFields(answer)) return "malformed";
  const { error, service, token, wrapped, vault } = answer;
  if (error === "refused" || error === "unavailable") return error;
  if (error !== undefined || typeof service !== "string" || !isFields(vault)) return "malformed";
  const { address, ca, namespace } = vault;
  // Both go into a request's head.
  if (!isHeaderText(token) || !(namespace === undefined || isHeaderText(namespace))) {
    return "malformed";
  }
  if (typeof wrapped !== "boolean" || typeof address !== "string") return "malformed";
  if (!(ca === undefined || typeof ca === "string")) return "malformed";
  return { service, token, wrapped, vault: { address, ca, namespace } };
}

function isHeaderText(value: unknown): value is string {
  return typeof value === "string" && /^[\x21-\x7e]+$/.test(value);
}
