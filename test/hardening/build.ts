// Question: how is the helper, or a target around it, built to be watched while it runs?
// Promise:  a program in dist/hardening, made again; what its compiler or sanitizers lack is an error
//           that says what to install.
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";

export const root = join(import.meta.dirname, "../..");
export const built = join(root, "dist/hardening");
export const helper = join(root, "server/peercred.c");

const warnings = ["-std=c17", "-g", "-O1", "-Wall", "-Wextra", "-Werror"];
/** A finding ends the program: nothing goes on as if it had not been. */
export const sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];

/** The output of a program that must succeed. `hint`: what to do where it is missing. */
export function run(program: string, words: string[], hint: string): string {
  try {
    return execFileSync(program, words, { cwd: root, encoding: "utf8", stdio: "pipe" });
  } catch (error) {
    const { code, stdout = "", stderr = "" } = error as { [key: string]: string | undefined };
    const why = code === "ENOENT" ? "is not installed" : `failed:\n${stdout}${stderr}`;
    throw new Error(`${program} ${why} (${hint})`);
  }
}

/** The path of the program of that name, made of these sources. */
export function build(
  name: string,
  sources: string[],
  flags: string[],
  cc = process.env.CC,
): string {
  const program = join(built, name);
  mkdirSync(built, { recursive: true });
  const hint = "for a missing compiler or sanitizer: sh scripts/prepare.sh hardening";
  run(cc ?? "cc", [...warnings, ...flags, "-o", program, ...sources], hint);
  return program;
}
