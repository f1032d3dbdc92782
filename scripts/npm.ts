// Question: where does a script or a test get a package of npm's that nothing else needs?
// Input:    a package's name and exact version, and its hash as a lock file would have it.
// Output:   its directory in the cache folder.
// Promise:  it is unpacked only if the hash is right, put in place whole, and found again. None of its
//           scripts runs, and nothing that it depends on is fetched.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

const { AUTHPROXY_CACHE, XDG_CACHE_HOME, HOME = homeDirectory() } = process.env;
export const cache = AUTHPROXY_CACHE ?? join(XDG_CACHE_HOME ?? join(HOME, ".cache"), "authproxy");

/** A user of whom nothing is known has no home directory, and needs no cache. */
function homeDirectory(): string {
  try {
    return homedir();
  } catch {
    return "/";
  }
}

export function packageFromNpm(name: string, version: string, integrity: string): string {
  const place = join(cache, "npm", `${name.replace("/", "-")}-${version}`);
  if (existsSync(place)) return place;
  mkdirSync(join(cache, "npm"), { recursive: true });
  const unfinished = mkdtempSync(join(cache, "npm/unfinished-"));
  try {
    const words = ["pack", "--silent", "--json", `${name}@${version}`];
    const options = { cwd: unfinished, encoding: "utf8", stdio: "pipe" } as const;
    const [packed] = JSON.parse(execFileSync("npm", words, options));
    if (packed.integrity !== integrity) {
      throw new Error(`${name}@${version}: its hash is ${packed.integrity}, wanted ${integrity}`);
    }
    // --touch: npm gives the files of all versions the same time, by which two cannot be told apart.
    execFileSync("tar", ["-xzf", packed.filename, "--touch"], { cwd: unfinished });
    putInPlace(join(unfinished, "package"), place);
  } finally {
    rmSync(unfinished, { recursive: true, force: true });
  }
  return place;
}

/** Another test file may have been the first, and made the same. */
export function putInPlace(made: string, place: string): void {
  try {
    renameSync(made, place);
  } catch (error) {
    if (!existsSync(place)) throw error;
  }
}
