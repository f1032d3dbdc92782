// Question: what does this host's configuration say? Guaranteed: whatever is wrong with a file is
// said in one line, with what to do about it.
import { type Config, loadConfig } from "../server/config.ts";
import { Failure } from "./terminal.ts";

export const DEFAULT_FILE = "/etc/authproxy/authproxy.json";
/** Where the server listens, unless the configuration says otherwise. */
export const DEFAULT_SOCKET = "/run/authproxy/authproxy.sock";
export const OTHER_FILE_HINT = "try: --config FILE";

/** The configuration as the server would run with it. Throws the Failures "noInput" and
 * "config". */
export function readConfig(file = DEFAULT_FILE): Config {
  return readOrFail(file, loadConfig, {
    missing: OTHER_FILE_HINT,
    wrong: `\`authproxy check --config ${file}\` shows where`,
  });
}

/** What `read` returns for a file. Its error, one line in the server's modules and in Node's,
 * becomes a Failure: "noInput" where there is no such file, else "config", each with its hint. */
export function readOrFail<T>(
  file: string,
  read: (file: string) => T,
  hints: { missing?: string; wrong?: string } = {},
): T {
  try {
    return read(file);
  } catch (error) {
    const { message, code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") throw new Failure("noInput", message, hints.missing);
    throw new Failure("config", message, hints.wrong);
  }
}
