// Question: what did root configure? Input: one JSON file. Guaranteed: only root or the server's
// own user can have written it, and tools/check.ts, run in a process of its own, found it good:
// every key known and standing once, every value as tools/config.schema.json allows.
import { spawnSync } from "node:child_process";
import { closeSync, fstatSync, openSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Config } from "./types.ts";

const CHECK = join(import.meta.dirname, "../tools/check.ts");

/** A file that only root or the server's own user can have written. */
export function readTrusted(file: string): string {
  if (statSync(file).isDirectory()) throw new Error(`${file}: is a directory`);
  const descriptor = openSync(file, "r");
  const { uid, mode } = fstatSync(descriptor);
  const text = readFileSync(descriptor, "utf8");
  closeSync(descriptor);
  if (uid !== 0 && uid !== process.getuid?.())
    throw new Error(`${file}: belongs to uid ${uid}, must be root's or the server's user's`);
  if (mode & 0o022) throw new Error(`${file}: others can write it (try: chmod go-w ${file})`);
  return text;
}

/** Throws one line that says what is wrong, and where. */
export function loadConfig(file: string): Config {
  const input = readTrusted(file);
  const { status, stderr } = spawnSync(process.execPath, [CHECK], { input, encoding: "utf8" });
  if (status !== 0) throw new Error(`${file}: ${stderr.trim() || `${CHECK} failed`}`);
  return JSON.parse(input);
}
