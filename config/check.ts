// Question: is this configuration one that the server should run with? Input: its text, and
// config.schema.json beside this module, which is all of its shape (JSON Schema 2020-12; editors
// use the same file). Pure, without dependencies. Output: what is wrong, and where, in one line.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Json } from "../types.ts";

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

const schemaFile = join(import.meta.dirname, "config.schema.json");
const root: Schema = JSON.parse(readFileSync(schemaFile, "utf8"));

/** What is wrong with the text of a configuration, in one line, or nothing. Values are not shown: a
 * login's body may hold a secret. */
export function check(text: string): string | undefined {
  let config: Json;
  try {
    config = JSON.parse(text);
  } catch (error) {
    // The message quotes the text; only its place is ours to tell.
    const place = /\(line \d+ column \d+\)/.exec((error as Error).message)?.[0] ?? "";
    return `is not JSON ${place}`.trimEnd();
  }
  // JSON.parse keeps the last of equal keys. What it drops shows when white space is taken out.
  if (JSON.stringify(config) !== text.replace(/("(?:[^"\\]|\\.)*")|\s+/g, "$1"))
    return "a key stands twice or is a number, or an escape or a number is written unusually";
  return flaw(config, root, "");
}

/** The first thing wrong with a value. A test holds it against a complete implementation. */
function flaw(value: Json, schema: Schema, at: string): string | undefined {
  const { type, pattern, required = [], anyOf, properties = {}, items } = schema;
  const where = at || "the configuration";
  const children = typeof value === "object" && value !== null ? Object.entries(value) : [];
  const wrong =
    (type && type !== (Array.isArray(value) ? "array" : value === null ? "null" : typeof value)) ||
    (pattern && !new RegExp(pattern).test(String(value))) ||
    anyOf?.every((any) => flaw(value, any, at)) ||
    children.length < (schema.minItems ?? schema.minProperties ?? 0);
  if (wrong) return `${where} must be ${schema.description ?? type}`;
  const missing = required.find((key) => !children.some(([present]) => present === key));
  if (missing) return `${where} needs "${missing}"`;
  for (const [key, child] of children) {
    const place = at ? `${at}.${key}` : key;
    const own = Object.hasOwn(properties, key) ? properties[key] : undefined;
    const rule = own ?? items ?? schema.additionalProperties ?? {};
    const known = Object.keys(properties).join(", ");
    const found = rule ? flaw(child, rule, place) : `${place} is not known here, but: ${known}`;
    if (found) return found;
  }
  const referred = schema.$ref && root.$defs?.[schema.$ref.replace("#/$defs/", "")];
  return referred ? flaw(value, referred, at) : undefined;
}
