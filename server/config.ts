// Question: what did root configure? Input: one JSON file, and config.schema.json, which is all of
// its shape. Guaranteed: only root or the server's own user can have written it; every key is known
// and stands once; every value is one that the schema allows.
import { closeSync, fstatSync, openSync, readFileSync } from "node:fs";
import type { Config, Json, Schema } from "./types.ts";

const SCHEMA: Schema = JSON.parse(
  readFileSync(new URL("config.schema.json", import.meta.url), "utf8"),
);

/** The first thing that is wrong with a value, if any: the keywords of JSON Schema (2020-12) that
 * our schema uses. A test holds this against a complete implementation. */
function flaw(value: Json, schema: Schema, at: string): string | undefined {
  const { type, pattern, required = [], anyOf, properties = {}, items } = schema;
  const children = typeof value === "object" && value !== null ? Object.entries(value) : [];
  const wrong =
    (type && type !== (Array.isArray(value) ? "array" : typeof value)) ||
    (pattern && !new RegExp(pattern).test(String(value))) ||
    anyOf?.every((any) => flaw(value, any, at)) ||
    children.length < (schema.minItems ?? schema.minProperties ?? 0);
  if (wrong) return `${at}: must be ${schema.description ?? type}`;
  const missing = required.find((key) => !children.some(([present]) => present === key));
  if (missing) return `${at}: needs "${missing}"`;
  for (const [key, child] of children) {
    const rule = properties[key] ?? items ?? schema.additionalProperties ?? {};
    const found = rule ? flaw(child, rule, `${at}.${key}`) : `${at}: unknown key "${key}"`;
    if (found) return found;
  }
  const referred = schema.$ref && SCHEMA.$defs?.[schema.$ref.replace("#/$defs/", "")];
  return referred ? flaw(value, referred, at) : undefined;
}

/** A file that only root or the server's own user can have written. */
export function readTrusted(file: string): string {
  const descriptor = openSync(file, "r");
  try {
    const { uid, mode } = fstatSync(descriptor);
    if (uid !== 0 && uid !== process.getuid?.())
      throw new Error(`${file}: belongs to uid ${uid}, must be root's or the server's user's`);
    if (mode & 0o022) throw new Error(`${file}: others can write it (try: chmod go-w ${file})`);
    return readFileSync(descriptor, "utf8");
  } finally {
    closeSync(descriptor);
  }
}

/** Throws one line that says what is wrong, and where; a SyntaxError where it is not JSON. */
export function loadConfig(file: string): Config {
  const text = readTrusted(file);
  const config = JSON.parse(text);
  // JSON.parse keeps the last of equal keys. What it drops shows when white space is taken out.
  if (JSON.stringify(config) !== text.replace(/("(?:[^"\\]|\\.)*")|\s+/g, "$1"))
    throw new Error(`${file}: a key stands twice or is a number, or an escape is unusual`);
  const wrong = flaw(config, SCHEMA, file);
  if (wrong) throw new Error(wrong);
  return { ...DEFAULTS, ...config };
}

const DEFAULTS = {
  socket: "/run/authproxy/authproxy.sock",
  state: "/run/authproxy-state",
  engine: "/var/run/docker.sock",
};
