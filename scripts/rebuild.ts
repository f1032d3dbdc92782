// Question: do the same sources give the same bytes in another folder?
// Input:    this repository as it lies here, committed or not; node_modules, which the lock file pins.
// Output:   a copy in the given folder, in which scripts/prepare.sh has built all again.
import { execFileSync } from "node:child_process";
import { symlinkSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");

export function rebuild(directory: string): void {
  execFileSync("git", ["clone", "--quiet", root, directory]);
  // --deduplicate: a file in conflict stands there three times; one that was deleted, not at all.
  const changed = "git ls-files --modified --others --exclude-standard --deduplicate";
  const copy = `for file in $(${changed}); do
    if [ -e "$file" ]; then cp --parents "$file" "$1"; else rm "$1/$file"; fi
  done`;
  execFileSync("sh", ["-ec", copy, "sh", directory], { cwd: root });
  symlinkSync(join(root, "node_modules"), join(directory, "node_modules"));
  execFileSync("sh", ["scripts/prepare.sh"], {
    cwd: directory,
    stdio: ["ignore", "ignore", "inherit"],
  });
}
