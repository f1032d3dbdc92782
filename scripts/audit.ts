// Question: are the claims of this repository true, here and now?
// Output:   on stdout the reviewer's three answers: how much to read, which attacks, which bytes. Exit 1
//           when one of them is not as it was claimed. Some minutes.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { rebuild } from "./rebuild.ts";

const root = join(import.meta.dirname, "..");
const BUILT = ["dist/authproxy.js", "dist/authproxy-java.js", "dist/peercred"];
const failed: string[] = [];

function title(text: string): void {
  process.stdout.write(`\n== ${text}\n`);
}

/** With its output as ours. */
function run(what: string, program: string, ...words: string[]): void {
  const { status } = spawnSync(program, words, { cwd: root, stdio: "inherit" });
  if (status !== 0) failed.push(what);
}

function sha256(file: string): string {
  return createHash("sha256").update(readFileSync(file)).digest("hex");
}

title("1. What must be read, in tokens and lines of code");
run("size", process.execPath, "--disable-warning=ExperimentalWarning", "scripts/size.ts");

title("2. The bytes that run, built once more in another folder");
const directory = mkdtempSync(join(tmpdir(), "authproxy-audit-"));
try {
  const copy = join(directory, "copy");
  rebuild(copy);
  for (const file of BUILT) {
    const [ours, theirs] = [root, copy].map((place) => sha256(join(place, file)));
    process.stdout.write(`${ours}  ${file}${ours === theirs ? "" : `  but there ${theirs}`}\n`);
    if (ours !== theirs) failed.push(file);
  }
} finally {
  rmSync(directory, { recursive: true });
}

title("3. The attacks, each against a naive server and against this one");
run("attacks", "vitest", "run", "test/attacks");

title(failed.length > 0 ? `not as claimed: ${failed.join(", ")}` : "all as claimed");
if (failed.length > 0) process.exitCode = 1;
