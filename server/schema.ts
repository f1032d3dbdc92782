// Question: is this text a configuration that the server should run with?
//
// Input: the text, and config.schema.json beside this module, which is all of its shape (JSON
// Schema 2020-12; editors use the same file).
// Pure, and without a dependency. A test compares it with a complete implementation of JSON Schema.
import { readFileSync } from "node:fs";
import type { Json } from "./json.ts";

/** What is wrong with a configuration. `message` says it in one line, with the place, and without
 * any value: the body of a login may be a secret. */
export type Flaw = TextFlaw | ContentFlaw;
type TextFlaw = { kind: "not-json" | "spelling"; message: string };
export type ContentFlaw = {
  /** "shape": the value does not fit its schema. */
  kind: "shape" | "missing-key" | "unknown-key";
  message: string;
  /** The keys (and places in lists) that lead to the value, or to the key that is missing. */
  path: string[];
  /** Of the value; of a key, that of its object. */
  schema: Schema;
};

/** As much of JSON Schema as config.schema.json uses. */
export type Schema = {
  $ref?: string;
  $defs?: Record<string, Schema>;
  type?: string;
  pattern?: string;
  description?: string;
  anyOf?: Schema[];
  if?: Schema;
  then?: Schema;
  else?: Schema;
  required?: string[];
  properties?: Record<string, Schema | false>;
  additionalProperties?: Schema | false;
  minProperties?: number;
  items?: Schema;
  minItems?: number;
};

export const configSchema: Schema = JSON.parse(
  readFileSync(`${import.meta.dirname}/config.schema.json`, "utf8"),
);

/** The first flaw of a configuration's text, or undefined where it has none. */
export function findFlaw(text: string): Flaw | undefined {
  let config: Json;
  try {
    config = JSON.parse(text);
  } catch (error) {
    // Node's message quotes the text, so only the position in it is passed on.
    const position = / \(line \d+ column \d+\)/.exec((error as Error).message)?.[0] ?? "";
    return { kind: "not-json", message: `is not JSON${position}` };
  }
  // JSON.parse keeps the last of two equal keys, and puts keys that are numbers first. Either shows
  // when the result is written out and compared with the text without its white space.
  const withoutSpace = text.replace(/("(?:[^"\\]|\\.)*")|\s+/g, "$1");
  if (JSON.stringify(config) !== withoutSpace) {
    const message =
      "has a duplicate key, a key that is a number, or an unusual spelling of a value";
    return { kind: "spelling", message };
  }
  return flawIn(config, configSchema, []);
}

function flawAt(
  path: string[],
  kind: ContentFlaw["kind"],
  problem: string,
  schema: Schema,
): ContentFlaw {
  return { kind, message: `${path.join(".") || "the configuration"} ${problem}`, path, schema };
}

/** The first flaw in the value at this path. */
function flawIn(value: Json, schema: Schema, path: string[]): ContentFlaw | undefined {
  const members = typeof value === "object" && value !== null ? Object.entries(value) : [];
  if (!hasShape(value, members.length, schema, path))
    return flawAt(path, "shape", `must be ${schema.description ?? schema.type}`, schema);

  for (const key of schema.required ?? []) {
    if (!members.some(([present]) => present === key))
      return flawAt([...path, key], "missing-key", "is missing", schema);
  }
  for (const [key, member] of members) {
    const flaw = flawInMember(key, member, schema, [...path, key]);
    if (flaw) return flaw;
  }
  const { $ref = "", if: condition } = schema;
  const branch = condition && (flawIn(value, condition, path) ? schema.else : schema.then);
  const more = [configSchema.$defs?.[$ref.replace("#/$defs/", "")], branch];
  return more.map((also) => also && flawIn(value, also, path)).find(Boolean);
}

function hasShape(value: Json, memberCount: number, schema: Schema, path: string[]): boolean {
  const { type, pattern, anyOf, minItems, minProperties } = schema;
  if (type && type !== typeOf(value)) return false;
  if (pattern && !new RegExp(pattern).test(String(value))) return false;
  if (anyOf?.every((alternative) => flawIn(value, alternative, path))) return false;
  return memberCount >= (minItems ?? minProperties ?? 0);
}

function typeOf(value: Json): string {
  if (value === null) return "null";
  return Array.isArray(value) ? "array" : typeof value;
}

function flawInMember(
  key: string,
  member: Json,
  schema: Schema,
  path: string[],
): ContentFlaw | undefined {
  const { properties = {}, items, additionalProperties } = schema;
  const named = Object.hasOwn(properties, key) ? properties[key] : undefined;
  const memberSchema = named ?? items ?? additionalProperties ?? {};
  if (memberSchema) return flawIn(member, memberSchema, path);
  const knownKeys = Object.keys(properties).join(", ");
  return flawAt(path, "unknown-key", `is not a known key (known keys: ${knownKeys})`, schema);
}
