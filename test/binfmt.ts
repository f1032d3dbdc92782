// Question: how does a test have the kernel run programs of a processor that is not this one?
// Input:    Linux's binfmt_misc, which root may mount. Its entries count for the whole machine, so that
//           each is for a number of a processor that does not exist, or a magic of the test's own.
// Output:   files of such formats, and handlers for them, which are gone with the test file.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import { compile } from "./programs.ts";

/** Bytes that no other test file has: for e_machine of elf(5), and as a magic. */
const OWN = Buffer.from([0xa0 + (process.pid & 0xf), (process.pid >> 4) & 0xff]);

/** Parts of the header that tell ELF files apart: elf(5). */
type Elf = { bits?: 32 | 64; littleEndian?: boolean; bytes?: number };

/** The head of a program for the processor that does not exist. Nothing else is in it. */
export function foreignProgram({ bits = 64, littleEndian = true, bytes = 4096 }: Elf = {}): Buffer {
  const program = Buffer.alloc(bytes);
  program.write("\x7fELF", "latin1");
  program[4] = bits === 64 ? 2 : 1;
  program[5] = littleEndian ? 1 : 2;
  program[6] = 1;
  program.writeUInt16LE(2, 16);
  OWN.copy(program, 18);
  return program;
}

/** A file of no format that Linux knows. */
export function foreignFormat(): Buffer {
  return Buffer.concat([Buffer.from("AP"), OWN, Buffer.alloc(64)]);
}

/** What binfmt_misc shows of the handlers: one instance, wherever it is mounted. */
let place: string | undefined;
const entries: string[] = [];

/** Registers the emulator for such programs, and for such files. `flags` as the kernel has them. */
export function registerEmulator(flags = "F"): void {
  if (!place) {
    place = mkdtempSync(join(tmpdir(), "authproxy-binfmt-"));
    execFileSync("mount", ["-t", "binfmt_misc", "none", place]);
  }
  const bytes = [...OWN].map((byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("");
  const magics = { program: `18:${bytes}`, format: `0:AP${bytes}` };
  for (const [kind, magic] of Object.entries(magics)) {
    const name = `authproxy-${process.pid}-${kind}`;
    const line = `:${name}:M:${magic}::${compile("emulator")}:${flags}`;
    writeFileSync(join(place, "register"), line);
    entries.push(name);
  }
}

/** What has no handler is no program again. */
export function removeEmulator(): void {
  for (const name of entries.splice(0)) writeFileSync(join(place ?? "", name), "-1");
}

/** As an administrator does who wants none for a while. */
export function disableEmulator(): void {
  for (const name of entries) writeFileSync(join(place ?? "", name), "0");
}

afterAll(() => {
  removeEmulator();
  if (!place) return;
  execFileSync("umount", [place]);
  rmSync(place, { recursive: true });
});
