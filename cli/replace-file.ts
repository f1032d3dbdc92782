// Question: how does a file of the host change as a whole, so that whoever reads it finds the old text
// or the new one? Guaranteed: owner and mode stay; of a link, what it leads to is replaced.
import {
  chmodSync,
  chownSync,
  existsSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname } from "node:path";
import { Failure } from "./terminal.ts";

/** Undefined where there is no such file. */
export function readText(file: string): string | undefined {
  return existsSync(file) ? readFileSync(file, "utf8") : undefined;
}

/** Removes the file where there is no text. `check` sees the new file before it takes the old one's
 * place, and throws if it is not good. */
export function replaceFile(
  file: string,
  text: string | undefined,
  { newMode = 0o644, check = (_temporary: string) => {} } = {},
): void {
  const target = existsSync(file) ? realpathSync(file) : file;
  if (text === undefined) {
    rmSync(target, { force: true });
    return;
  }
  if (!existsSync(dirname(target))) {
    const message = `there is no directory ${dirname(target)}`;
    throw new Failure("noInput", message, "check that the engine is installed");
  }

  const temporary = `${target}.authproxy`;
  const { mode = newMode, uid = 0, gid = 0 } = statSync(target, { throwIfNoEntry: false }) ?? {};
  rmSync(temporary, { force: true });
  try {
    writeFileSync(temporary, text, { flag: "wx", flush: true });
    chmodSync(temporary, mode);
    chownSync(temporary, uid, gid);
    check(temporary);
    renameSync(temporary, target);
  } finally {
    rmSync(temporary, { force: true });
  }
}
