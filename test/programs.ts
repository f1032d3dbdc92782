// Question: how does a test run a small C program?
// Promise:  compiled once for each test file that wants it, in a directory that goes away with it.
import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";

const directory = mkdtempSync(join(tmpdir(), "authproxy-programs-"));
chmodSync(directory, 0o755); // some run as other users
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** The path of the program that was made of <folder>/<name>.c; static, so that any image runs it. */
export function compile(name: string, folder = join(import.meta.dirname, "programs")): string {
  const program = join(directory, name);
  const flags = ["-std=gnu17", "-Wall", "-Wextra", "-Werror", "-O1", "-static", "-pthread"];
  if (!existsSync(program))
    execFileSync(process.env.CC ?? "cc", [...flags, "-o", program, join(folder, `${name}.c`)]);
  return program;
}
