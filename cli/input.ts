// Question: which lines do these files hold, one after the other? Input: names of files, of logs
// that were rotated and compressed too; "-" is standard input.
// Guaranteed: no more than one line is kept in memory. A line that is too long to be an entry, and
// a file that ends within its compression, are passed over and reported.
import { closeSync, createReadStream, openSync, readSync } from "node:fs";
import { pipeline } from "node:stream";
import { createGunzip } from "node:zlib";
import { Failure } from "./terminal.ts";

/** Vault's requests have at most 32 MiB, and its audit log hashes them. */
const LINE_BYTES_MAX = 4 * 1024 * 1024;
const NEWLINE = 10;

/** `reportSkipped` hears why a line was passed over, such as "is too long". Throws the Failure
 * "noInput" where a file cannot be read. */
export async function* linesOf(
  files: string[],
  reportSkipped: (why: string, file: string) => void,
): AsyncGenerator<string> {
  for (const file of files) {
    const isCompressed = file !== "-" && isGzip(file);
    const source = file === "-" ? process.stdin : createReadStream(file);
    // The error that pipeline's callback gets is thrown below as well.
    const chunks = isCompressed ? pipeline(source, createGunzip(), () => {}) : source;
    try {
      yield* splitLines(chunks, () => reportSkipped("is too long", file));
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      const isZlibError = code?.startsWith("Z_");
      if (!isZlibError) throw new Failure("noInput", `${file}: ${message}`);
      reportSkipped(`cannot be decompressed: ${message}`, file);
    }
  }
}

/** RFC 1952, 2.3.1: the two bytes that a gzip file begins with. */
function isGzip(file: string): boolean {
  try {
    const descriptor = openSync(file, "r");
    const head = Buffer.alloc(2);
    readSync(descriptor, head);
    closeSync(descriptor);
    return head[0] === 0x1f && head[1] === 0x8b;
  } catch (error) {
    throw new Failure("noInput", (error as Error).message);
  }
}

/** The lines of these chunks, without their newlines. `reportTooLong` is called for each line of
 * more than `bytesMax`, which is left out. */
export async function* splitLines(
  chunks: AsyncIterable<Buffer>,
  reportTooLong: () => void,
  bytesMax = LINE_BYTES_MAX,
): AsyncGenerator<string> {
  /** The line so far; empty, too, where it is too long already. */
  let parts: Buffer[] = [];
  let byteCount = 0;
  for await (const chunk of chunks) {
    let begin = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, begin)) {
      const rest = chunk.subarray(begin, end);
      if (byteCount + rest.length <= bytesMax) yield Buffer.concat([...parts, rest]).toString();
      else reportTooLong();
      parts = [];
      byteCount = 0;
      begin = end + 1;
    }
    byteCount += chunk.length - begin;
    parts = byteCount <= bytesMax ? [...parts, chunk.subarray(begin)] : [];
  }
  if (byteCount > bytesMax) reportTooLong();
  else if (byteCount > 0) yield Buffer.concat(parts).toString();
}
