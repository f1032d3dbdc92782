// What does this JSON answer of Vault's hold? Numbers are kept as the text they were written in:
// a secret such as 12345678901234567890 must not come out as 12345678901234567000.

import { Bytes } from "./keystore/bytes.ts";

export type Answer = {
  readonly data?: Fields;
  readonly auth?: Fields;
  readonly errors?: unknown;
  readonly warnings?: unknown;
  readonly lease_id?: unknown;
  readonly lease_duration?: unknown;
};
export type Fields = { readonly [key: string]: unknown };

/** Written by JSON.stringify as its own text: of ECMAScript 2026, in Node since 21. */
type RawNumber = { readonly rawJSON: string };
declare global {
  interface JSON {
    rawJSON(text: string): RawNumber;
    isRawJSON(value: unknown): value is RawNumber;
  }
}

/** Undefined where it is no JSON object; members of the wrong kind are left out. */
export function parseJson(body: string): Answer | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(body, keepNumber);
  } catch {
    return undefined;
  }
  if (!isFields(parsed)) return undefined;
  const { data, auth, ...rest } = parsed;
  return { ...rest, ...(isFields(data) && { data }), ...(isFields(auth) && { auth }) };
}

export function isFields(value: unknown): value is Fields {
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  return isObject && !JSON.isRawJSON(value);
}

/** A value as a variable or a file holds it: text as it is, all else as its JSON. */
export function textOf(value: unknown): string {
  if (import.meta.keystores && value instanceof Bytes) return value.toJSON();
  return typeof value === "string" ? value : JSON.stringify(value);
}

function keepNumber(_key: string, value: unknown, context?: { source?: string }): unknown {
  return typeof value === "number" ? JSON.rawJSON(context?.source ?? String(value)) : value;
}
