// Question: which lines do these files hold, one after the other? Input: names of files, of logs that
// were rotated and compressed too; - is standard input. Guaranteed: no more than one line is kept in
// memory; a line that is too long to be one, and a file that ends within its compression, are passed
// over and told to `skipped`.
import { closeSync, createReadStream, openSync, readSync } from "node:fs";
import { pipeline } from "node:stream";
import { createGunzip } from "node:zlib";
import { Failure } from "./terminal.ts";

const LINE_BYTES_MAX = 4 * 1024 * 1024; // Vault's requests have at most 32 MiB, its audit hashes them
const NEWLINE = 10;

export async function* linesOf(
  files: string[],
  skipped: (why: string, file: string) => void,
): AsyncGenerator<string> {
  for (const file of files) {
    const zipped = file !== "-" && isGzip(file);
    const source = file === "-" ? process.stdin : createReadStream(file);
    const chunks = zipped ? pipeline(source, createGunzip(), () => {}) : source; // told below
    try {
      yield* split(chunks, () => skipped("is too long", file));
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (!code?.startsWith("Z_")) throw new Failure("noInput", `${file}: ${message}`);
      skipped(`cannot be decompressed: ${message}`, file);
    }
  }
}

/** RFC 1952, 2.3.1 */
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

export async function* split(
  chunks: AsyncIterable<Buffer>,
  tooLong: () => void,
  max = LINE_BYTES_MAX,
): AsyncGenerator<string> {
  let begun: Buffer[] = [];
  let size = 0;
  const line = (rest: Buffer): string | undefined => {
    const whole = size + rest.length <= max ? Buffer.concat([...begun, rest]) : undefined;
    begun = [];
    size = 0;
    return whole?.toString();
  };
  for await (const chunk of chunks) {
    let from = 0;
    for (let to = chunk.indexOf(NEWLINE); to >= 0; to = chunk.indexOf(NEWLINE, from)) {
      const text = line(chunk.subarray(from, to));
      if (text === undefined) tooLong();
      else yield text;
      from = to + 1;
    }
    size += chunk.length - from;
    begun = size <= max ? [...begun, chunk.subarray(from)] : [];
  }
  if (size > max) tooLong();
  else if (size > 0) yield Buffer.concat(begun).toString();
}
