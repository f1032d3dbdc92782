// Question: what is in this file, and can only root or the server's own user have written it?
//
// Input: a path from the configuration, or of a lease. Guaranteed: the text is of the very file whose
// owner and mode were looked at.
import { closeSync, fstatSync, openSync, readFileSync, statSync } from "node:fs";

const WRITABLE_BY_OTHERS = 0o022;

/** The file's text. Throws an Error of one line that names the file and says what to do. */
export function readTrustedFile(file: string): string {
  if (statSync(file).isDirectory()) throw new Error(`${file}: is a directory`);
  const descriptor = openSync(file, "r");
  try {
    const { uid, mode } = fstatSync(descriptor);
    if (uid !== 0 && uid !== process.getuid?.())
      throw new Error(`${file}: belongs to uid ${uid}, must belong to root or the server's user`);
    if (mode & WRITABLE_BY_OTHERS)
      throw new Error(`${file}: others can write it (try: chmod go-w ${file})`);
    return readFileSync(descriptor, "utf8");
  } finally {
    closeSync(descriptor);
  }
}
