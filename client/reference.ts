// Question: which references to secrets does a value hold?
// Input:    the value of a variable. Whoever starts the container, or the image, chose it.
// Output:   its segments, in order: text and references. This module is pure.
//
//   value     = reference / *( text / "${" reference "}" )
//   reference = "vault:login"
//             / "vault:" PATH "#" KEY [ "#" VERSION ] [ "#base64" ] [ "#?" OTHERWISE ]
//             / ">>vault:" PATH "#" KEY [ "#" JSON ] [ "#base64" ]
//
// PATH is the literal API path ("secret/data/app"). VERSION is 1, 2, 3 and so on. JSON is an object,
// "{}" where it is left out. KEY "*" stands for all fields of the secret. "#base64" decodes the value.
// OTHERWISE is the text to use where there is no such secret or key; where it is empty, the variable is
// left out. Inside "${…}" PATH, KEY and OTHERWISE end at "}". JSON ends at its own closing brace.
//
// A value is meant as a reference if it is "vault:login", or begins with "vault:" or ">>vault:", a PATH and
// "#". Then it is an error if the rest does not follow the grammar. Any other value is the application's
// own text, such as vault://host, vault:8200, vault:1.13 or a ciphertext vault:v1:….
//
// The client, the runtime wrapper (does this container want secrets?) and `authproxy suggest` (which
// values may a policy show?) all decide by parseValue(). test/vectors has a file for each case.
//
// The grammar is that of bank-vaults' vault-env, without its Go templates. "#?", "#base64" and "*" are
// ours: vault-env takes them for a version that is not a number and for a key, and fails.

export type ReadReference = {
  readonly kind: "read";
  readonly path: string;
  readonly key: string;
  readonly version?: number | undefined;
  /** The value is text in base64, and stands for the bytes. */
  readonly isBase64?: boolean | undefined;
  readonly otherwise?: string | undefined;
};
export type WriteReference = {
  readonly kind: "write";
  readonly path: string;
  readonly key: string;
  /** A JSON object. */
  readonly body: string;
  readonly isBase64?: boolean | undefined;
};
export type LoginReference = { readonly kind: "login" };

/** A reference that a request to Vault resolves. */
export type VaultReference = ReadReference | WriteReference;
export type Reference = LoginReference | VaultReference;
export type ValueSegment = string | Reference;

/**
 * Thrown for a value that is meant as a reference and does not follow the grammar. `index` counts
 * UTF-16 units from 0. The message does not quote the value: the text around a reference may be a
 * secret.
 */
export class MalformedReference extends Error {
  readonly index: number;

  constructor(index: number, message: string) {
    super(message);
    this.index = index;
  }
}

/**
 * Returns the segments of a value in their order, or undefined where nothing in it is meant as a
 * reference. Throws a MalformedReference.
 */
export function parseValue(value: string): ValueSegment[] | undefined {
  // Most values hold none, and compiling the patterns below takes 0.4 ms.
  if (!value.includes("vault:")) return undefined;

  const whole = /^(>>)?vault:/.test(value) && parseReference(value, 0, false);
  if (whole) {
    if (whole.end < value.length) malformed(whole.end, "nothing may follow the reference");
    return [whole.reference];
  }

  const segments: ValueSegment[] = [];
  let textStart = 0;
  for (const opening of value.matchAll(/\$\{(?=(>>)?vault:)/g)) {
    // This "${" is inside the JSON of the reference before.
    if (opening.index < textStart) continue;
    const parsed = parseReference(value, opening.index + 2, true);
    if (!parsed) continue;

    const { reference, end } = parsed;
    if (opening.index > textStart) segments.push(value.slice(textStart, opening.index));
    if (value[end] !== "}") malformed(end, "} must follow the reference");
    segments.push(reference);
    textStart = end + 1;
  }
  if (segments.length === 0) return undefined;

  if (textStart < value.length) segments.push(value.slice(textStart));
  return segments;
}

/**
 * Returns why a value is not the reference that seems to be meant, or undefined. The answer quotes
 * nothing of it. `segments` is what parseValue() returned.
 */
export function findMistake(
  value: string,
  segments: readonly ValueSegment[] | undefined,
): string | undefined {
  if (!/vault:/i.test(value)) return undefined;

  // The engine's --env-file keeps quotes, and YAML keeps those within a text.
  if (segments && /^(["']).*\1$/s.test(value)) return "the quotes around it are part of the value";
  const text = (segments ?? [value]).find((each) => typeof each === "string" && isLookAlike(each));
  if (typeof text !== "string") return undefined;
  const isQuoted = !segments && /^["'\s]|["'\s]$/.test(text);
  const problem = isQuoted
    ? "quotes or white space stand around it"
    : "a reference is vault:PATH#KEY, and within a text it stands in braces behind $";
  return `it looks like a reference and is plain text (--plain confirms that): ${problem}`;
}

/**
 * A path and "#", a path with "/", or the token, behind nothing but marks such as quotes; a write; a path
 * with "/" and "#" within a text. Others use some of these forms for what is theirs: vault://HOST,
 * vault:PORT, vault:/DIRECTORY, vault:v1:CIPHERTEXT, https://vault:PASSWORD@HOST.
 */
const LOOK_ALIKES = [
  /^\W*vault:(?!\/\/)([^#]*#|login\W*$)/i,
  /^\W*vault:(?!\/|\d+\b|v\d+:)[^\s#]+\//i,
  /^[^\w>]*>\W*vault:/i,
  /(?<![\w/.-])vault:(?!\/\/|\d+\b)[^\s#"'{}]{1,200}\/[^\s#"'{}]{0,200}#/i,
];

function isLookAlike(text: string): boolean {
  return LOOK_ALIKES.some((pattern) => pattern.test(text));
}

/** Returns the reference as it would be written alone in a variable. */
export function printReference(reference: Reference): string {
  if (reference.kind === "login") return "vault:login";

  const { path, key, isBase64 } = reference;
  const decoding = isBase64 ? "#base64" : "";
  if (reference.kind === "write") return `>>vault:${path}#${key}#${reference.body}${decoding}`;

  const version = reference.version === undefined ? "" : `#${reference.version}`;
  const otherwise = reference.otherwise === undefined ? "" : `#?${reference.otherwise}`;
  return `vault:${path}#${key}${version}${decoding}${otherwise}`;
}

/** `end` is the index after the reference. */
type Parsed = { readonly reference: Reference; readonly end: number };

/** Returns undefined where what stands there is not meant as a reference. */
function parseReference(value: string, start: number, isInline: boolean): Parsed | undefined {
  // A key and a version end at the next "#", inline also at the next "}".
  const endPattern = isInline ? /[#}]|$/ : /#|$/;
  const findEnd = (from: number) => from + value.slice(from).search(endPattern);
  /** Returns "#" and what follows it, or "" where there is no "#". */
  const partAt = (from: number) =>
    value[from] === "#" ? value.slice(from, findEnd(from + 1)) : "";

  const isWrite = value[start] === ">";
  const pathStart = value.indexOf(":", start) + 1;
  // "${" ends a path too, so that each character of a long value is looked at once.
  const pathEnd = pathStart + value.slice(pathStart).search(isInline ? /[#}]|\$\{|$/ : /#|\$\{|$/);
  const path = value.slice(pathStart, pathEnd);
  const mark = value[pathEnd];
  if (path === "login" && !isWrite && mark === (isInline ? "}" : undefined)) {
    return { reference: { kind: "login" }, end: pathEnd };
  }
  if (mark !== "#" || !isPath(path)) return undefined;

  const keyStart = pathEnd + 1;
  let end = findEnd(keyStart);
  const key = value.slice(keyStart, end);
  requireKey(key, keyStart);
  const detail = partAt(end);
  const hasDetail = detail !== "" && detail !== "#base64" && (isWrite || !detail.startsWith("#?"));

  let body = "{}";
  let version: number | undefined;
  if (hasDetail && isWrite) {
    const bodyStart = end + 1;
    end = findObjectEnd(value, bodyStart);
    const object = normalizeObject(value.slice(bodyStart, end));
    if (object === undefined) malformed(bodyStart, "a JSON object must follow the second #");
    body = object;
  } else if (hasDetail) {
    if (!/^#[1-9]\d{0,14}$/.test(detail)) {
      malformed(end + 1, "after a key comes a version (a number from 1), base64 or ?");
    }
    version = Number(detail.slice(1));
    end += detail.length;
  }

  const isBase64 = partAt(end) === "#base64" || undefined;
  if (isBase64 && key === "*") malformed(end + 1, "base64 is for one key, not for *");
  if (isBase64) end += "#base64".length;
  if (isWrite) return { reference: { kind: "write", path, key, body, isBase64 }, end };

  let otherwise: string | undefined;
  if (value.startsWith("#?", end)) {
    const otherwiseStart = end + 2;
    const brace = isInline ? value.indexOf("}", end) : -1;
    end = brace < 0 ? value.length : brace;
    otherwise = value.slice(otherwiseStart, end);
  }
  return { reference: { kind: "read", path, key, version, isBase64, otherwise }, end };
}

/**
 * Says whether this can be the path of an API: without an empty, "." or ".." segment, and without
 * characters of \p{Cc} and \p{Cs}, whose tables would take 0.3 ms to load. These are control characters,
 * and halves of a surrogate pair, which cannot be written in UTF-8.
 */
function isPath(path: string): boolean {
  return !/(^|\/)\.{0,2}(\/|$)|[\0-\x1f\x7f-\x9f\ud800-\udfff]/u.test(path);
}

function requireKey(key: string, keyStart: number): void {
  if (/^(?!\$\{)[^\0-\x1f\x7f-\x9f\ud800-\udfff]+$/u.test(key)) return;
  malformed(keyStart, "a key must not be empty, begin with ${ or have a control character");
}

/** Returns the JSON object without white space, or undefined where the text is not one. */
function normalizeObject(text: string): string | undefined {
  try {
    const parsed: unknown = JSON.parse(text);
    const isObject = parsed instanceof Object && !Array.isArray(parsed);
    return isObject ? JSON.stringify(parsed) : undefined;
  } catch {
    // The error's message would quote the value.
    return undefined;
  }
}

/**
 * Returns the index after the brace that closes the object, and after white space that follows it.
 * Braces in strings do not count.
 */
function findObjectEnd(value: string, start: number): number {
  let depth = 0;
  for (const { 0: token, index } of value.slice(start).matchAll(/"([^"\\]|\\.)*"|\{|\}\s*/g)) {
    if (token === "{") depth++;
    if (token.startsWith("}") && --depth <= 0) return start + index + token.length;
  }
  return value.length;
}

function malformed(index: number, message: string): never {
  throw new MalformedReference(index, message);
}
