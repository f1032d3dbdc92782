// Question: does the password or a token lie in these bytes?
// Input:    streams of bytes, of any size; the password; for the token only its shape, since nobody
//           ever shows it: whatever has that shape is tried at Vault, which knows its own.
// Promise:  bytes as they are, not encoded or encrypted forms. Each search also looks for a text
//           that must be there: without it, it searched something else.
import { closeSync, createReadStream, openSync, readFileSync, readSync } from "node:fs";
import type { client } from "../scripts/openbao.ts";

type VaultClient = ReturnType<typeof client>;
export type Bytes = Iterable<Buffer> | AsyncIterable<Buffer>;
export type Found = { control: boolean; password: boolean; token: boolean };
export type Search = (bytes: Bytes, control: string) => Promise<Found & { size: number }>;

/** `specimen` is a token of the same Vault: it gives the shape. */
export function searchFor(password: string, specimen: string, vault: VaultClient): Search {
  const prefix = specimen.slice(0, specimen.indexOf(".") + 1);
  const rest = specimen.length - prefix.length;
  // The part in the lookahead is not consumed: the next candidate may begin within this one.
  const shape = new RegExp(`${prefix.replace(".", "\\.")}(?=([A-Za-z0-9_-]{${rest}}))`, "g");
  const rejected = new Set<string>();

  async function hasToken(text: string): Promise<boolean> {
    for (const [, candidate] of text.matchAll(shape)) {
      const token = `${prefix}${candidate}`;
      if (rejected.has(token)) continue;
      if (await isToken(token, vault)) return true;
      rejected.add(token);
    }
    return false;
  }

  return async (bytes, control) => {
    const found = { control: false, password: false, token: false, size: 0 };
    const overlap = Math.max(password.length, specimen.length, Buffer.byteLength(control)) - 1;
    const latinControl = Buffer.from(control).toString("latin1");
    let last = "";
    for await (const chunk of bytes) {
      const text = last + chunk.toString("latin1");
      found.control ||= text.includes(latinControl);
      found.password ||= text.includes(password);
      found.token ||= await hasToken(text);
      found.size += chunk.length;
      last = text.slice(-overlap);
    }
    return found;
  };
}

async function isToken(token: string, vault: VaultClient): Promise<boolean> {
  try {
    await vault.tokenLookup({ token });
    return true;
  } catch (error) {
    if (isUnknown(error)) return false;
    throw error;
  }
}

/** Vault does not know this token, or this accessor. Not told by the status: 403 is also the answer
 * to somebody who may not ask. */
export function isUnknown(error: unknown): boolean {
  return error instanceof Error && /bad token|invalid accessor/.test(error.message);
}

export function fileBytes(path: string): Bytes {
  return createReadStream(path);
}

/** All that a process may read of its own memory (proc(5): maps, mem). */
export function* memoryBytes(pid: number): Generator<Buffer> {
  const memory = openSync(`/proc/${pid}/mem`, "r");
  const buffer = Buffer.alloc(1 << 20);
  try {
    for (const range of readFileSync(`/proc/${pid}/maps`, "utf8").matchAll(/^(\w+)-(\w+) r/gm)) {
      const end = BigInt(`0x${range[2]}`);
      let position = BigInt(`0x${range[1]}`);
      for (let read = 1; position < end && read > 0; position += BigInt(read)) {
        const left = Number(end - position);
        read = readOrNothing(memory, buffer, Math.min(left, buffer.length), position);
        yield Buffer.from(buffer.subarray(0, read));
      }
    }
  } finally {
    closeSync(memory);
  }
}

/** Some pages the kernel shows to nobody: those of a device, or [vvar]. */
function readOrNothing(file: number, buffer: Buffer, length: number, position: bigint): number {
  try {
    return readSync(file, buffer, 0, length, position);
  } catch {
    return 0;
  }
}
