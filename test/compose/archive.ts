// Question: how does a test make an image without a base, and without a registry?
// Output:   a tar file of its content, which an engine imports.
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

const COMMANDS = ["sh", "base64", "cat", "env", "grep", "head", "ls", "sleep", "tr", "true"];
/** Of Debian's packages: what no service has a use for. */
const SUPERFLUOUS = ["share/doc", "share/locale", "share/man", "share/perl", "lib/llvm*"];

export type Image = {
  /** Lines of a Dockerfile. */
  says: string[];
  /** What lies below. */
  tree?: string;
  /** Puts files in place: at the path that it is given for one in the image. */
  fill: (place: (path: string) => string) => void;
};

/** A shell, and next to nothing. */
export const busybox: Image = {
  says: ["ENV PATH=/usr/bin"],
  fill: (place) => {
    copyFileSync("/usr/bin/busybox", place("usr/bin/busybox"));
    for (const command of COMMANDS) symlinkSync("busybox", place(`usr/bin/${command}`));
    if (!existsSync(place("bin"))) symlinkSync("usr/bin", place("bin"));
  },
};

/** Hands over the path of a tar file of what is in it, for as long as that takes. */
export async function archiveOf(
  { tree, fill }: Image,
  use: (archive: string) => Promise<unknown>,
): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "authproxy-image-"));
  try {
    const content = join(directory, "content");
    const archive = join(directory, "archive.tar");
    mkdirSync(content);
    if (tree) {
      const skipped = SUPERFLUOUS.map((path) => `--exclude=./usr/${path}`).join(" ");
      const copy = `tar --create -C "${tree}" ${skipped} --exclude="libLLVM*" .`;
      execFileSync("sh", ["-euc", `${copy} | tar --extract -C "${content}"`]);
    }
    fill((path) => {
      const target = join(content, path);
      mkdirSync(dirname(target), { recursive: true });
      return target;
    });
    execFileSync("tar", ["--create", "--numeric-owner", "-f", archive, "-C", content, "."]);
    await use(archive);
  } finally {
    rmSync(directory, { recursive: true });
  }
}
