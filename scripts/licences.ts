// Question: whose are the files of this machine that are handed on with ours, and on what terms?
// Input:    their paths; dpkg's database and the copyright files of Debian, and of what is made of it.
// Output:   the packages that own them, and the files that state their terms. Elsewhere: none.
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, realpathSync } from "node:fs";
import { basename, dirname, join } from "node:path";

export type Package = { name: string; version: string };

export function packagesOf(files: string[]): Package[] {
  if (!existsSync("/var/lib/dpkg/status")) return [];
  const found = new Map<string, Package>();
  for (const file of files) {
    const name = ownerOf(file);
    const version = run("dpkg-query", "--show", "--showformat", "$" + "{Version}", name);
    found.set(name, { name: name.replace(/:.*/, ""), version });
  }
  return [...found.values()];
}

/** By the names that they are to have: what a package says, with the licences that it names. `root`:
 * where the packages are unpacked. */
export function termsOf(packages: Package[], root = "/"): Map<string, string> {
  const terms = new Map<string, string>();
  for (const { name } of packages) {
    const file = join(root, "usr/share/doc", name, "copyright");
    terms.set(name, file);
    // Debian policy 12.5: licences that are common stand in one place, and are named by it.
    const named = readFileSync(file, "utf8").matchAll(
      /\/usr\/share\/common-licenses\/([\w.-]*\w)/g,
    );
    for (const [path, licence = ""] of named) terms.set(licence, path);
  }
  return terms;
}

/** "libc6:amd64". Where /usr is merged, dpkg knows a file by one of its two names. */
function ownerOf(file: string): string {
  const name = join(realpathSync(dirname(file)), basename(file)).replace(/^\/usr/, "");
  const said = run("sh", "-c", 'dpkg-query --search "$1" "/usr$1" 2>/dev/null || :', "sh", name);
  const owner = /^(\S+): /m.exec(said)?.[1];
  if (!owner) throw new Error(`${file}: dpkg knows no package that it is of`);
  return owner;
}

function run(program: string, ...args: string[]): string {
  return execFileSync(program, args, { encoding: "utf8" });
}
