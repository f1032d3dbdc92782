// Question: is this text a configuration that the server should run with?
//
// Input: the text, and config.schema.json beside this module, which is all of its shape (JSON Schema
// 2020-12; editors use the same file).
// Pure, and without a dependency. A test compares it with a complete implementation of JSON Schema.
import { readFileSync } from "node:fs";
import type { Json } from "./json.ts";

/** What is wrong with a configuration. `path` is the keys (and places in lists) that lead to it;
 * `message` says it in one line, with the path. Neither holds a value: the body of a login may be a
 * secret. */
export type Flaw = { path: string[]; message: string } & (
  | { kind: "not-json"; position: TextPosition | undefined }
  | { kind: "spelling" }
  /** `definition` is the name below $defs that the value does not fit, or "". */
  | { kind: "shape"; definition: string }
  | { kind: "missing-key"; key: string }
  | { kind: "unknown-key"; knownKeys: string[] }
);

/** Both count from 1. */
export type TextPosition = { line: number; column: number };

/** As much of JSON Schema as config.schema.json uses. */
type Schema = {
  $ref?: string;
  $defs?: Record<string, Schema>;
  type?: string;
  pattern?: string;
  description?: string;
  anyOf?: Schema[];
  required?: string[];
  properties?: Record<string, Schema>;
  additionalProperties?: Schema | false;
  minProperties?: number;
  items?: Schema;
  minItems?: number;
};

const root: Schema = JSON.parse(readFileSync(`${import.meta.dirname}/config.schema.json`, "utf8"));

/** The first flaw of a configuration's text, or undefined where it has none. */
export function findFlaw(text: string): Flaw | undefined {
  let config: Json;
  try {
    config = JSON.parse(text);
  } catch (error) {
    return notJson(error as SyntaxError);
  }
  // JSON.parse keeps the last of two equal keys, and puts keys that are numbers first. Either shows
  // when the result is written out and compared with the text without its white space.
  const withoutSpace = text.replace(/("(?:[^"\\]|\\.)*")|\s+/g, "$1");
  if (JSON.stringify(config) !== withoutSpace) {
    const message =
      "has a duplicate key, a key that is a number, or an unusual spelling of a value";
    return { kind: "spelling", path: [], message };
  }
  return flawIn(config, root, [], "");
}

/** Node's message quotes the text, so only the position in it is passed on. */
function notJson({ message }: SyntaxError): Flaw {
  const [where, line, column] = /\(line (\d+) column (\d+)\)/.exec(message) ?? [];
  const position = where ? { line: Number(line), column: Number(column) } : undefined;
  const positionText = where ? ` ${where}` : "";
  return { kind: "not-json", path: [], position, message: `is not JSON${positionText}` };
}

/** The first flaw in the value at this path. `definition` is the name of its schema below $defs. */
function flawIn(value: Json, schema: Schema, path: string[], definition: string): Flaw | undefined {
  const place = path.join(".") || "the configuration";
  const members = typeof value === "object" && value !== null ? Object.entries(value) : [];
  if (!hasShape(value, members.length, schema, path)) {
    const wanted = schema.description ?? `of type ${schema.type}`;
    return { kind: "shape", path, definition, message: `${place} must be ${wanted}` };
  }

  for (const key of schema.required ?? []) {
    if (members.some(([present]) => present === key)) continue;
    return { kind: "missing-key", path, key, message: `${place} needs "${key}"` };
  }
  for (const [key, member] of members) {
    const flaw = flawInMember(key, member, schema, [...path, key]);
    if (flaw) return flaw;
  }
  const reference = schema.$ref?.replace("#/$defs/", "") ?? "";
  const referred = root.$defs?.[reference];
  return referred ? flawIn(value, referred, path, reference) : undefined;
}

function hasShape(value: Json, memberCount: number, schema: Schema, path: string[]): boolean {
  const { type, pattern, anyOf, minItems, minProperties } = schema;
  if (type && type !== typeOf(value)) return false;
  if (pattern && !new RegExp(pattern).test(String(value))) return false;
  if (anyOf?.every((alternative) => flawIn(value, alternative, path, ""))) return false;
  return memberCount >= (minItems ?? minProperties ?? 0);
}

function typeOf(value: Json): string {
  if (value === null) return "null";
  return Array.isArray(value) ? "array" : typeof value;
}

function flawInMember(key: string, member: Json, schema: Schema, path: string[]): Flaw | undefined {
  const { properties = {}, items, additionalProperties } = schema;
  const named = Object.hasOwn(properties, key) ? properties[key] : undefined;
  const memberSchema = named ?? items ?? additionalProperties ?? {};
  if (memberSchema) return flawIn(member, memberSchema, path, "");

  const knownKeys = Object.keys(properties);
  const message = `${path.join(".")} is not a known key (known keys: ${knownKeys.join(", ")})`;
  return { kind: "unknown-key", path, knownKeys, message };
}
