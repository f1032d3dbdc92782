// Question: where does a busybox come from whose nc knows UNIX sockets?
// Input:    its source, from the Debian or Ubuntu archive that this machine's own apt uses: what they
//           build of it leaves the option out, what Alpine builds has it.
// Output:   the path of a static program, in the cache folder: a shell that has the others built in, so
//           that /bin/sh is all that an image needs.
// Promise:  the source has the hash below, and what was built once is found again.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { cache } from "../scripts/npm.ts";

const NAME = "busybox_1.37.0";
const SHA256 = "3311dff32e746499f4df0d5df04d7eb396382d7e108bb9250e7b519b837043a4";

const options = [
  ...["STATIC", "FEATURE_SH_STANDALONE", "FEATURE_PREFER_APPLETS", "SLEEP"],
  ...["FEATURE_UNIX_LOCAL", "NC", "NC_EXTRA", "NC_110_COMPAT"],
  ...["ASH_ECHO", "ASH_PRINTF", "ASH_TEST"], // built in: no secret in an argument list
];

export function busybox(): string {
  const variant = createHash("sha256").update(options.join()).digest("hex").slice(0, 8);
  const place = join(cache, `${NAME}-${variant}-${process.arch}`);
  if (existsSync(place)) return place;
  mkdirSync(cache, { recursive: true });
  const unfinished = mkdtempSync(join(cache, "busybox-"));
  const run = (program: string, ...words: string[]) =>
    execFileSync(program, words, { cwd: unfinished, encoding: "utf8", stdio: "pipe" });
  try {
    const archive = join(unfinished, "source");
    const source = `${archiveOf(run)}/pool/main/b/busybox/${NAME}.orig.tar.bz2`;
    // Checks the hash.
    run("/usr/lib/apt/apt-helper", "download-file", source, archive, `SHA256:${SHA256}`);
    run("tar", "-xjf", archive, "--strip-components=1");
    run("make", "allnoconfig");
    const file = join(unfinished, ".config");
    let text = readFileSync(file, "utf8");
    for (const name of options) {
      text = text.replace(`# CONFIG_${name} is not set`, `CONFIG_${name}=y`);
    }
    writeFileSync(file, text);
    run("make", "-j2", `CC=${process.env.CC ?? "cc"}`, "busybox");
    renameSync(join(unfinished, "busybox"), place);
  } finally {
    rmSync(unfinished, { recursive: true, force: true });
  }
  return place;
}

function archiveOf(run: (program: string, ...words: string[]) => string): string {
  const places = run("apt-get", "indextargets", "--format", "$(REPO_URI)").split("\n");
  const found = places.find((uri) => /\/(debian|ubuntu)\/?$/.test(uri));
  if (!found) throw new Error("busybox: this machine's apt uses no archive of Debian or Ubuntu");
  return found.replace(/\/$/, "");
}
