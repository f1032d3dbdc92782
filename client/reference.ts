// Question: which references to secrets does a value hold?
// Input:    the value of a variable. Whoever starts the container, or the image, chose it.
// Output:   its segments, in order: text and references. This module is pure.
//
//   value     = reference / *( text / "${" reference "}" )
//   reference = "vault:login" / "vault:" PATH "#" KEY [ "#" VERSION ] [ "#?" OTHERWISE ]
//             / ">>vault:" PATH "#" KEY [ "#" JSON ]
//
// PATH is the literal API path ("secret/data/app"). VERSION is 1, 2, 3 and so on. JSON is an object,
// "{}" where it is left out. KEY "*" stands for all fields of the secret. OTHERWISE is the text to use
// where there is no such secret or key; where it is empty, the variable is left out. Inside "${…}"
// PATH, KEY and OTHERWISE end at "}", and JSON ends at its own closing brace.
//
// The grammar is that of bank-vaults' vault-env, without its Go templates. "#?" and "*" are ours:
// vault-env takes them for a version that is not a number and for a key, and fails.

export type ReadReference = {
  readonly kind: "read";
  readonly path: string;
  readonly key: string;
  readonly version?: number | undefined;
  readonly otherwise?: string | undefined;
};
export type WriteReference = {
  readonly kind: "write";
  readonly path: string;
  readonly key: string;
  /** A JSON object. */
  readonly body: string;
};
export type LoginReference = { readonly kind: "login" };

/** A reference that a request to Vault resolves. */
export type VaultReference = ReadReference | WriteReference;
export type Reference = LoginReference | VaultReference;
export type ValueSegment = string | Reference;

/**
 * Thrown for a value that begins like a reference and does not follow the grammar. `index` counts
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
 * Returns the segments of a value in their order, or undefined where it holds no reference. Throws a
 * MalformedReference.
 */
export function parseValue(value: string): ValueSegment[] | undefined {
  // Most values hold none, and compiling the patterns below takes 0.4 ms.
  if (!value.includes("vault:")) return undefined;

  if (/^(>>)?vault:/.test(value)) {
    const { reference, end } = parseReference(value, 0, false);
    if (end < value.length) malformed(end, "nothing may follow the reference");
    return [reference];
  }

  const segments: ValueSegment[] = [];
  let textStart = 0;
  for (const opening of value.matchAll(/\$\{(?=(>>)?vault:)/g)) {
    // This "${" is inside the JSON of the reference before.
    if (opening.index < textStart) continue;

    if (opening.index > textStart) segments.push(value.slice(textStart, opening.index));
    const { reference, end } = parseReference(value, opening.index + 2, true);
    if (value[end] !== "}") malformed(end, "} must follow the reference");
    segments.push(reference);
    textStart = end + 1;
  }
  if (segments.length === 0) return undefined;

  if (textStart < value.length) segments.push(value.slice(textStart));
  return segments;
}

/** Returns the reference as it would be written alone in a variable. */
export function printReference(reference: Reference): string {
  if (reference.kind === "login") return "vault:login";

  const { path, key } = reference;
  if (reference.kind === "write") return `>>vault:${path}#${key}#${reference.body}`;

  const version = reference.version === undefined ? "" : `#${reference.version}`;
  const otherwise = reference.otherwise === undefined ? "" : `#?${reference.otherwise}`;
  return `vault:${path}#${key}${version}${otherwise}`;
}

/** `end` is the index after the reference. */
type Parsed = { readonly reference: Reference; readonly end: number };

function parseReference(value: string, start: number, isInline: boolean): Parsed {
  // A path, a key and a version end at the next "#", inline also at the next "}".
  const endPattern = isInline ? /[#}]|$/ : /#|$/;
  const findEnd = (from: number) => from + value.slice(from).search(endPattern);

  const isWrite = value[start] === ">";
  const pathStart = value.indexOf(":", start) + 1;
  const pathEnd = findEnd(pathStart);
  const path = value.slice(pathStart, pathEnd);
  const hasKey = value[pathEnd] === "#";
  if (path === "login" && !isWrite && !hasKey) {
    return { reference: { kind: "login" }, end: pathEnd };
  }
  requirePath(path, pathStart);
  if (!hasKey) malformed(pathEnd, "# and a key must follow the path");

  const keyStart = pathEnd + 1;
  const keyEnd = findEnd(keyStart);
  const key = value.slice(keyStart, keyEnd);
  requireKey(key, keyStart);
  const afterKey = keyEnd + 1;
  const hasMore = value[keyEnd] === "#";

  if (isWrite) {
    if (!hasMore) return { reference: { kind: "write", path, key, body: "{}" }, end: keyEnd };
    const end = isInline ? findObjectEnd(value, afterKey) : value.length;
    const body = normalizeObject(value.slice(afterKey, end));
    if (body === undefined) malformed(afterKey, "a JSON object must follow the second #");
    return { reference: { kind: "write", path, key, body }, end };
  }

  let end = keyEnd;
  let version: number | undefined;
  if (hasMore && value[afterKey] !== "?") {
    end = findEnd(afterKey);
    const digits = value.slice(afterKey, end);
    if (!/^[1-9]\d{0,14}$/.test(digits)) malformed(afterKey, "a version is a number from 1");
    version = Number(digits);
  }

  let otherwise: string | undefined;
  if (value.startsWith("#?", end)) {
    const otherwiseStart = end + 2;
    const brace = isInline ? value.indexOf("}", end) : -1;
    end = brace < 0 ? value.length : brace;
    otherwise = value.slice(otherwiseStart, end);
  }
  return { reference: { kind: "read", path, key, version, otherwise }, end };
}

/**
 * The characters are \p{Cc} and \p{Cs}, whose tables would take 0.3 ms to load: control characters,
 * and halves of a surrogate pair, which cannot be written in UTF-8.
 */
function requirePath(path: string, pathStart: number): void {
  const found = /(^|\/)\.{0,2}(\/|$)|\$\{|[\0-\x1f\x7f-\x9f\ud800-\udfff]/u.exec(path);
  if (!found) return;
  malformed(
    pathStart + found.index,
    "a path must not have an empty, . or .. segment, ${ or a control character",
  );
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

/** Returns the index after the brace that closes the object: braces in strings do not count. */
function findObjectEnd(value: string, start: number): number {
  let depth = 0;
  for (const token of value.slice(start).matchAll(/"([^"\\]|\\.)*"|[{}]/g)) {
    if (token[0] === "{") depth++;
    if (token[0] === "}") depth--;
    if (token[0] === "}" && depth <= 0) return start + token.index + 1;
  }
  return value.length;
}

function malformed(index: number, message: string): never {
  throw new MalformedReference(index, message);
}
