// Question: what do the values in Vault's answers look like, and how is each written for the
//           application?
// Input:    the body of an answer. Vault wrote it; whoever wrote the secret chose its fields.
// Output:   numbers keep the text that they were written in: a secret such as 12345678901234567890
//           must not become 12345678901234567000. A value may also be bytes (Uint8Array): they are
//           written as they are to a file, and in base64 where only text can stand.

/** The fields of a secret, or the members of another JSON object. */
export type Fields = { readonly [key: string]: unknown };

/** The members of Vault's answers that the client reads. */
export type VaultBody = {
  readonly data?: Fields | undefined;
  readonly auth?: Fields | undefined;
  readonly errors?: unknown;
  readonly warnings?: unknown;
  readonly lease_id?: unknown;
  readonly lease_duration?: unknown;
};

/** ECMAScript 2026, in Node since version 21: JSON.stringify writes this text as it is. */
type RawNumber = { readonly rawJSON: string };
declare global {
  interface JSON {
    rawJSON(text: string): RawNumber;
    isRawJSON(value: unknown): value is RawNumber;
  }
}

/**
 * Parses the body of an answer. Returns undefined where it does not have Vault's form, which is a JSON
 * object with a `request_id` or with `errors`, a list of texts: then something between here and Vault
 * wrote it. `data` and `auth` are undefined where they are not objects.
 */
export function parseVaultBody(text: string): VaultBody | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text, keepNumberText);
  } catch {
    return undefined;
  }
  if (!isFields(parsed)) return undefined;
  const { errors, request_id: requestId } = parsed;
  const hasErrors = Array.isArray(errors) && errors.every((each) => typeof each === "string");
  if (!hasErrors && typeof requestId !== "string") return undefined;

  const data = isFields(parsed.data) ? parsed.data : undefined;
  const auth = isFields(parsed.auth) ? parsed.auth : undefined;
  return { ...parsed, data, auth };
}

function keepNumberText(_key: string, value: unknown, context?: { source?: string }): unknown {
  return typeof value === "number" ? JSON.rawJSON(context?.source ?? String(value)) : value;
}

/** Says whether the value is an object with fields: not a list, a number or bytes. */
export function isFields(value: unknown): value is Fields {
  if (typeof value !== "object" || value === null) return false;
  return !(Array.isArray(value) || JSON.isRawJSON(value) || value instanceof Uint8Array);
}

/** Returns a value as a variable holds it: text as it is, bytes in base64, all else as JSON. */
export function textOf(value: unknown): string {
  if (typeof value === "string") return value;
  return value instanceof Uint8Array ? base64(value) : jsonOf(value);
}

/** Returns a value as JSON, in which bytes are text in base64. */
export function jsonOf(value: unknown): string {
  return JSON.stringify(value, (_key, member: unknown) =>
    member instanceof Uint8Array ? base64(member) : member,
  );
}

/** Returns the bytes, or undefined where the text is not base64 (RFC 4648, 4). It may have line ends. */
export function decodeBase64(text: string): Uint8Array | undefined {
  const encoded = text.replace(/\s+/g, "");
  // A plain Uint8Array, because a Buffer has a toJSON() of its own, which jsonOf() would get.
  const bytes = new Uint8Array(Buffer.from(encoded, "base64"));
  // Buffer skips what is not base64.
  return base64(bytes) === encoded ? bytes : undefined;
}

/** Returns the text that the bytes are in UTF-8, or undefined where they are not, or have a NUL. */
export function decodeUtf8(bytes: Uint8Array): string | undefined {
  const text = Buffer.from(bytes).toString();
  return Buffer.from(text).equals(bytes) && !text.includes("\0") ? text : undefined;
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("base64");
}
