// Question: where do tests that run the client on this machine let it write files of secrets?
// Output:   a directory on a tmpfs of its own. Not in /dev/shm, which the client refuses, as other
//           containers may have it too. Who may not mount takes the one that systemd makes for each user.
// Promise:  it is gone after the test file.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";

export function memoryDirectory(): string {
  const isRoot = process.getuid?.() === 0;
  const parent = isRoot ? tmpdir() : process.env.XDG_RUNTIME_DIR;
  if (!parent) throw new Error("a tmpfs is needed: run as root, or set XDG_RUNTIME_DIR");

  const directory = mkdtempSync(join(parent, "authproxy-memory-"));
  if (isRoot) execFileSync("mount", ["-t", "tmpfs", "-o", "mode=0755", "none", directory]);
  afterAll(() => {
    if (isRoot) execFileSync("umount", ["--lazy", directory]);
    rmSync(directory, { recursive: true, force: true });
  });
  return directory;
}
