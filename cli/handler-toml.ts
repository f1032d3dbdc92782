// Question: what is an engine's TOML configuration with tables of ours, and without them?
// Input:    its text. Pure. Guaranteed: everything else keeps its bytes, and what `withBlock` adds
//           `withoutBlock` takes out again to the byte.
// Source:   toml.io/en/v1.0.0: tables may stand in any order, so ours can come last.
import { isDeepStrictEqual } from "node:util";
import { parse, stringify, TomlError, type TomlTable, type TomlValue } from "smol-toml";
import { Failure } from "./terminal.ts";

export type { TomlTable, TomlValue } from "smol-toml";

const BEGIN =
  "# Written by `authproxy runtime install`; `authproxy runtime uninstall` takes it out.";
const END = "# The end of what `authproxy runtime install` has written.";
/** In containerd's tables of runtimes it means the same as an empty text. */
const DEFAULT_SANDBOXER = "podsandbox";

/** `place` is what a message calls the text. Throws the Failure "config". */
export function parseToml(text: string, place: string): TomlTable {
  try {
    return parse(text, { integersAsBigInt: "asNeeded" });
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    // The message quotes the text, which may hold a registry's password.
    const message = `${place}:${error.line}:${error.column}: is not TOML; nothing was changed`;
    throw new Failure("config", message);
  }
}

/** The text with these tables at its end, undefined being an absent file. */
export function withBlock(text: string | undefined, tables: TomlTable): string {
  const block = `${BEGIN}\n${stringify(tables).trim()}\n${END}\n`;
  return text === undefined ? block : `${text}\n${block}`;
}

export function hasBlock(text = ""): boolean {
  return text.includes(BEGIN) && text.includes(END);
}

/** What `withBlock` has added; undefined where it has not. */
export function blockIn(text = ""): string | undefined {
  return hasBlock(text) ? text.slice(text.indexOf(BEGIN)) : undefined;
}

/** The text without them; undefined where `withBlock` has made the file. */
export function withoutBlock(text: string): string | undefined {
  const begin = text.indexOf(BEGIN);
  const before = text.slice(0, begin).replace(/\n$/, "");
  const after = text.slice(text.indexOf(END, begin) + END.length).replace(/^\n/, "");
  if (begin === 0 && after === "") return undefined;
  // A line that was added below must not become part of the last line above.
  return after === "" || /^$|\n$/.test(before) ? before + after : `${before}\n${after}`;
}

/** A value without what says nothing: an engine shows each setting, the unset ones as empty. */
export function meaningful(value: TomlValue | undefined): TomlValue | undefined {
  if (value === "" || value === false || value === 0 || value === DEFAULT_SANDBOXER)
    return undefined;
  if (Array.isArray(value)) return value.length === 0 ? undefined : value;
  if (!isTable(value)) return value;
  const members = Object.entries(value).flatMap(([key, member]) => {
    const said = meaningful(member);
    return said === undefined ? [] : [[key, said] as const];
  });
  return members.length === 0 ? undefined : Object.fromEntries(members);
}

/** Where two values differ in what they say: paths without values, because a configuration may hold
 * passwords. */
export function differences(
  before: TomlValue | undefined,
  after: TomlValue | undefined,
  path: string[] = [],
): string[] {
  const [was, is] = [meaningful(before), meaningful(after)];
  if (isDeepStrictEqual(was, is)) return [];
  if (!isTable(was) || !isTable(is)) return [path.join(".")];
  const keys = new Set([...Object.keys(was), ...Object.keys(is)]);
  return [...keys].sort().flatMap((key) => differences(was[key], is[key], [...path, key]));
}

/** The table at this path; empty where there is none. */
export function tableAt(value: TomlTable, path: string[]): TomlTable {
  const [key, ...rest] = path;
  if (key === undefined) return value;
  const next = value[key];
  return isTable(next) ? tableAt(next, rest) : {};
}

/** A table that has nothing but this one, at this path. */
export function nested(path: string[], table: TomlTable): TomlTable {
  return path.reduceRight<TomlTable>((inner, key) => ({ [key]: inner }), table);
}

function isTable(value: TomlValue | undefined): value is TomlTable {
  return typeof value === "object" && !Array.isArray(value) && !(value instanceof Date);
}
