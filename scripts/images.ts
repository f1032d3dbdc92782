// Question: on what are images built where no image registry can be reached?
// Input:    the Node binary that npm installed, or another; this machine's shell and coreutils. Or
//           all of an image's files, where that Node is of another C library.
// Output:   an image in the engine: Node, the libraries and the loader that `ldd` lists, a shell, a
//           few commands, and the user app (1001). Enough for Dockerfile.example as its BASE.
// Promise:  the image's tag is a hash of what is in it, so it is made once and found again.
import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

const base = ["cat", "chmod", "cp", "env", "id", "ls", "mkdir", "rm", "sleep", "test", "true"];
/** What every image has, besides sh. */
export const commands = [...base, "cut", "head", "sha256sum"];

const textFiles: Record<string, string> = {
  "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\napp:x:1001:1001:app:/app:/bin/sh\n",
  "/etc/group": "root:x:0:\napp:x:1001:\n",
};

/** Where each file of the image comes from, by its path in the image. */
export type Contents = Map<string, string>;

/** The name of the base image, made now if the engine does not have it. */
export function baseImage({ node = nodeFromNpm(), contents = contentsFor(node) } = {}): string {
  const name = `authproxy-base:${hashOf(contents)}`;
  if (spawnSync("docker", ["image", "inspect", name], { stdio: "ignore" }).status === 0)
    return name;
  const directory = mkdtempSync(join(tmpdir(), "authproxy-image-"));
  try {
    const rootDirectory = join(directory, "root");
    stage(contents, rootDirectory);
    const archive = join(directory, "root.tar");
    // Root's, and readable whatever our umask is.
    const attributes = ["--numeric-owner", "--owner=0", "--group=0", "--mode=u+rw,go+rX"];
    run("tar", "--create", ...attributes, "-f", archive, "-C", rootDirectory, ".");
    run("docker", "import", "--change", 'CMD ["node"]', archive, name);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
  return name;
}

function nodeFromNpm(): string {
  const packaged = join(import.meta.dirname, `../node_modules/node-linux-${process.arch}/bin/node`);
  return existsSync(packaged) ? packaged : process.execPath;
}

function contentsFor(node: string): Contents {
  const contents: Contents = new Map([["/usr/local/bin/node", node]]);
  contents.set("/usr/bin/sh", "/bin/sh");
  for (const command of commands) contents.set(`/usr/bin/${command}`, fileOnPath(command));
  for (const program of [...contents.values()]) {
    for (const library of librariesOf(program)) contents.set(library, library);
  }
  return contents;
}

function fileOnPath(command: string): string {
  const directories = (process.env.PATH ?? "").split(":");
  const file = directories.map((directory) => join(directory, command)).find(existsSync);
  if (!file) throw new Error(`images: no ${command} on the PATH`);
  return file;
}

/** The paths that the loader will look for, and the loader's own (ldd(1)). */
export function librariesOf(program: string): string[] {
  const lines = run("ldd", program).split("\n");
  return lines.flatMap((line) => /(?:^\s*|=> )(\/\S+) \(0x/.exec(line)?.[1] ?? []);
}

function hashOf(contents: Contents): string {
  const hash = createHash("sha256");
  for (const [path, source] of contents) hash.update(`${path}\0`).update(readFileSync(source));
  hash.update(JSON.stringify(textFiles));
  return hash.digest("hex").slice(0, 16);
}

function stage(contents: Contents, rootDirectory: string): void {
  const place = (path: string) => {
    const target = join(rootDirectory, path);
    mkdirSync(dirname(target), { recursive: true });
    return target;
  };
  for (const [path, source] of contents) copyFileSync(source, place(path));
  for (const [path, text] of Object.entries(textFiles)) writeFileSync(place(path), text);
  symlinkSync("usr/bin", place("/bin"));
  mkdirSync(place("/root"));
  mkdirSync(place("/tmp"));
  chmodSync(place("/tmp"), 0o1777);
}

function run(program: string, ...args: string[]): string {
  return execFileSync(program, args, { encoding: "utf8", maxBuffer: 1 << 24 });
}
