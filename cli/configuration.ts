// Question: what does this host's configuration say? Guaranteed: what is wrong with a file is one
// line, with what to do about it.

import type { Config } from "../server/config.ts";
import { loadConfig } from "../server/config.ts";
import { Failure } from "./terminal.ts";

export const defaultFile = "/etc/authproxy/authproxy.json";

export function readConfig(file = defaultFile): Config {
  return read(file, loadConfig, elsewhere, `authproxy check --config ${file} says where`);
}

export const elsewhere = "try: --config FILE";

/** The server's modules, and Node's, say in one line what is wrong with a file. The hints: where there
 * is none, and for all else. */
export function read<T>(
  file: string,
  how: (file: string) => T,
  missing?: string,
  wrong?: string,
): T {
  try {
    return how(file);
  } catch (error) {
    const { message, code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") throw new Failure("noInput", message, missing);
    throw new Failure("config", message, wrong);
  }
}
