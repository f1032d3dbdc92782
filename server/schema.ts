// Question: is this text a configuration that the server should run with?
//
// Input: the text, and config.schema.json beside this module, which is all of its shape (JSON Schema
// 2020-12; editors use the same file).
// Pure, and without a dependency. A test compares it with a complete implementation of JSON Schema.
import { readFileSync } from "node:fs";
import type { Json } from "./json.ts";

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

/** What is wrong with the text of a configuration, and where, in one line; undefined where nothing
 * is. Values are not shown: the body of a login may hold a secret. */
export function findFlaw(text: string): string | undefined {
  let config: Json;
  try {
    config = JSON.parse(text);
  } catch (error) {
    // Node's message quotes the text; only the position may be told.
    const position = /\(line \d+ column \d+\)/.exec((error as Error).message)?.[0] ?? "";
    return `is not JSON ${position}`.trimEnd();
  }
  // JSON.parse keeps the last of two equal keys. What it drops shows when white space is taken out.
  const withoutSpace = text.replace(/("(?:[^"\\]|\\.)*")|\s+/g, "$1");
  if (JSON.stringify(config) !== withoutSpace)
    return "a key stands twice or is a number, or an escape or a number is written unusually";
  return flawIn(config, root, "");
}

/** The first thing that is wrong with the value at this path. */
function flawIn(value: Json, schema: Schema, path: string): string | undefined {
  const members = typeof value === "object" && value !== null ? Object.entries(value) : [];
  if (!hasShape(value, members.length, schema, path))
    return `${path || "the configuration"} must be ${schema.description ?? schema.type}`;

  for (const key of schema.required ?? []) {
    if (!members.some(([present]) => present === key))
      return `${path || "the configuration"} needs "${key}"`;
  }
  for (const [key, member] of members) {
    const flaw = flawInMember(key, member, schema, path ? `${path}.${key}` : key);
    if (flaw) return flaw;
  }
  const referred = schema.$ref && root.$defs?.[schema.$ref.replace("#/$defs/", "")];
  return referred ? flawIn(value, referred, path) : undefined;
}

function hasShape(value: Json, memberCount: number, schema: Schema, path: string): boolean {
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

function flawInMember(key: string, member: Json, schema: Schema, path: string): string | undefined {
  const { properties = {}, items, additionalProperties } = schema;
  const named = Object.hasOwn(properties, key) ? properties[key] : undefined;
  const memberSchema = named ?? items ?? additionalProperties ?? {};
  if (memberSchema) return flawIn(member, memberSchema, path);
  return `${path} is not a known key; known are: ${Object.keys(properties).join(", ")}`;
}
