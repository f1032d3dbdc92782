// Question: what is the engine's daemon.json with the runtime `authproxy`, and without it?
// Input: its text. Pure. Guaranteed: everything else keeps its content and layout, and what
// `withRuntime` adds `withoutRuntime` takes out again to the byte.
// Source: dockerd's documentation, "Daemon configuration file".
import { applyEdits, modify, type ParseError, parse } from "jsonc-parser";
import type { JsonObject } from "../server/json.ts";
import { Failure } from "./terminal.ts";

export const RUNTIME_NAME = "authproxy";

/** What the engine is told to run. */
export type Runtime = { path: string; runtimeArgs?: string[] };
export type Daemon = JsonObject & { runtimes?: Record<string, Runtime> };

/** The text with the runtime, undefined being an absent file. Throws the Failure "config" where
 * another runtime has the name. */
export function withRuntime(text: string | undefined, runtime: Runtime): string {
  const daemon = parseDaemon(text);
  const present = daemon.runtimes?.[RUNTIME_NAME];
  if (present && present.path !== runtime.path) {
    throw new Failure(
      "config",
      `another runtime is named ${RUNTIME_NAME}: ${present.path}`,
      "if it is an older version of this one, uninstall it first",
    );
  }
  if (text === undefined || Object.keys(daemon).length === 0)
    return `${JSON.stringify({ runtimes: { [RUNTIME_NAME]: runtime } }, null, 2)}\n`;
  if (JSON.stringify(present) === JSON.stringify(runtime)) return text;
  return edit(text, ["runtimes", RUNTIME_NAME], runtime);
}

/** The text without the runtime; undefined where nothing is left to be in the file. With `keepKey`
 * the key "runtimes" stays, even if it is then empty. Throws the Failure "config" where the runtime
 * is the engine's default. */
export function withoutRuntime(
  text: string | undefined,
  { keepKey = false } = {},
): string | undefined {
  const { runtimes = {}, "default-runtime": defaultRuntime } = parseDaemon(text);
  if (text === undefined || !runtimes[RUNTIME_NAME]) return text;
  if (defaultRuntime === RUNTIME_NAME) {
    const message = `"default-runtime" is ${RUNTIME_NAME}`;
    throw new Failure("config", message, "remove that line first");
  }
  const isOnly = Object.keys(runtimes).length === 1;
  const path = isOnly && !keepKey ? ["runtimes"] : ["runtimes", RUNTIME_NAME];
  const rest = edit(text, path, undefined);
  return Object.keys(parseDaemon(rest)).length === 0 ? undefined : rest;
}

/** An absent or empty file is an empty object. Throws the Failure "config". */
export function parseDaemon(text = "{}"): Daemon {
  const errors: ParseError[] = [];
  const value: unknown = parse(text.trim() || "{}", errors, { disallowComments: true });
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  if (errors.length === 0 && isObject) return value as Daemon;
  throw new Failure("config", "daemon.json is not one JSON object: nothing was changed");
}

/** Where the file has lines, a new member is put on a line of its own after the last one, so that
 * its removal leaves the text as it was. */
function edit(text: string, path: string[], value: Runtime | undefined): string {
  const edits = modify(text, path, value, {}).map(({ offset, length, content }) => {
    const [, lineBreak = ""] = /(\r?\n[ \t]*)[^\n]*$/.exec(text.slice(0, offset)) ?? [];
    return { offset, length, content: content.replace(/^,/, `,${lineBreak}`) };
  });
  return applyEdits(text, edits);
}
