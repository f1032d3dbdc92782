// Which references to secrets does a value hold? A pure parser of
//
//   value     = reference / *( text / "${" reference "}" )
//   reference = "vault:login" / "vault:" PATH "#" KEY [ "#" VERSION ] [ "#?" OTHERWISE ]
//             / ">>vault:" PATH "#" KEY [ "#" JSON ]
//
// PATH is the literal API path ("secret/data/app"); VERSION is 1, 2, 3 …; JSON is an object, "{}"
// where it is left out. KEY "*" is the whole secret. OTHERWISE is the text to be used where there is
// no such secret or key; where it is empty, the variable is left out. Inside "${…}" PATH, KEY and
// OTHERWISE end at "}", and JSON at its own closing brace.
//
// The grammar is that of bank-vaults' vault-env, without its Go templates. "#?" and "*" are ours:
// vault-env takes them for a version that is no number and for a key, and fails.

export type Stored =
  | {
      readonly kind: "read";
      readonly path: string;
      readonly key: string;
      readonly version?: number;
      readonly otherwise?: string | undefined;
    }
  | { readonly kind: "write"; readonly path: string; readonly key: string; readonly body: string };
export type Reference = { readonly kind: "login" } | Stored;
export type Part = string | Reference;

/** A value that means to be a reference and is none. `index` counts UTF-16 units from 0. The value
 * is not in the message: what stands around a reference may be a secret in plain text. */
export class MalformedReference extends Error {
  readonly index: number;

  constructor(index: number, message: string) {
    super(message);
    this.index = index;
  }
}

/** The parts of a value in their order, or undefined where it holds no reference. */
export function parseValue(value: string): Part[] | undefined {
  if (/^(>>)?vault:/.test(value)) {
    const { reference, end } = parseReference(value, 0, false);
    if (end < value.length) malformed(end, "nothing may follow the reference");
    return [reference];
  }
  const parts: Part[] = [];
  let textStart = 0;
  for (const opening of value.matchAll(/\$\{(?=(>>)?vault:)/g)) {
    if (opening.index < textStart) continue; // inside the JSON of the reference before
    if (opening.index > textStart) parts.push(value.slice(textStart, opening.index));
    const { reference, end } = parseReference(value, opening.index + 2, true);
    if (value[end] !== "}") malformed(end, "} must follow the reference");
    parts.push(reference);
    textStart = end + 1;
  }
  if (parts.length === 0) return undefined;
  if (textStart < value.length) parts.push(value.slice(textStart));
  return parts;
}

/** The reference as it would be written alone in a variable. */
export function printReference(reference: Reference): string {
  if (reference.kind === "login") return "vault:login";
  const { kind, path, key } = reference;
  if (kind === "write") return `>>vault:${path}#${key}#${reference.body}`;
  const { version, otherwise } = reference;
  const optional = otherwise === undefined ? "" : `#?${otherwise}`;
  return `vault:${path}#${key}${version === undefined ? "" : `#${version}`}${optional}`;
}

type Parsed = { reference: Reference; end: number };

function parseReference(value: string, start: number, inline: boolean): Parsed {
  const ends = inline ? /[#}]|$/g : /#|$/g;
  const endOf = (from: number): number => {
    ends.lastIndex = from;
    return ends.exec(value)?.index ?? value.length;
  };
  const write = value[start] === ">";
  const pathStart = value.indexOf(":", start) + 1;
  const pathEnd = endOf(pathStart);
  const path = value.slice(pathStart, pathEnd);
  const isPair = value[pathEnd] === "#";
  if (path === "login" && !write && !isPair) return { reference: { kind: "login" }, end: pathEnd };
  // \p{Cc} and \p{Cs}, whose tables take 0.3 ms to load. Half of a surrogate pair has no form in UTF-8.
  const bad = /(^|\/)\.{0,2}(\/|$)|\$\{|[\0-\x1f\x7f-\x9f\ud800-\udfff]/u.exec(path);
  if (bad) {
    malformed(
      pathStart + bad.index,
      "a path has no empty, . or .. segment, ${ or control character",
    );
  }
  if (!isPair) malformed(pathEnd, "# and a key must follow the path");

  const keyStart = pathEnd + 1;
  const keyEnd = endOf(keyStart);
  const key = value.slice(keyStart, keyEnd);
  if (!/^(?!\$\{)[^\0-\x1f\x7f-\x9f\ud800-\udfff]+$/u.test(key)) {
    malformed(keyStart, "a key is not empty, no template, and has no control character");
  }
  const hasThird = value[keyEnd] === "#";
  if (write) {
    const [body, end] = hasThird ? parseBody(value, keyEnd + 1, inline) : ["{}", keyEnd];
    return { reference: { kind: "write", path, key, body }, end };
  }
  const versionEnd = hasThird && value[keyEnd + 1] !== "?" ? endOf(keyEnd + 1) : keyEnd;
  const version = value.slice(keyEnd + 1, versionEnd);
  if (versionEnd > keyEnd && !/^[1-9]\d{0,14}$/.test(version)) {
    malformed(keyEnd + 1, "a version is a number from 1");
  }
  const optional = value.startsWith("#?", versionEnd);
  const closing = inline ? value.indexOf("}", versionEnd) : -1;
  const end = optional ? (closing < 0 ? value.length : closing) : versionEnd;
  const reference = {
    kind: "read" as const,
    path,
    key,
    ...(version && { version: Number(version) }),
    ...(optional && { otherwise: value.slice(versionEnd + 2, end) }),
  };
  return { reference, end };
}

function parseBody(value: string, start: number, inline: boolean): [string, number] {
  const end = inline ? endOfObject(value, start) : value.length;
  try {
    const body: unknown = JSON.parse(value.slice(start, end));
    if (body instanceof Object && !Array.isArray(body)) return [JSON.stringify(body), end];
  } catch {
    // Its message would quote the value.
  }
  return malformed(start, "a JSON object must follow the second #");
}

/** The index after the brace that closes the object: braces in strings do not count. */
function endOfObject(value: string, start: number): number {
  let depth = 0;
  for (const token of value.slice(start).matchAll(/"([^"\\]|\\.)*"|[{}]/g)) {
    if (token[0] === "{") depth++;
    if (token[0] === "}" && --depth <= 0) return start + token.index + 1;
  }
  return value.length;
}

function malformed(index: number, message: string): never {
  throw new MalformedReference(index, message);
}
