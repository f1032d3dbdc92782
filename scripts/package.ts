// Question: what does a host need that has neither npm nor a compiler?
// Usage:    package.ts [ARCHITECTURE]     x64 or arm64; this machine's, if none is named
// Input:    the sources; dist/ as `npm run prepare-machine` builds it; the packages that
//           package-lock.json pins; Node from npm's node-linux-<arch>. For another architecture than
//           this machine's, peercred and the client directory are built first (scripts/target.ts).
// Output:   dist/authproxy-<version>-<arch>.tar.gz; on stdout its size and sha256.
// Promise:  the same input gives the same bytes, whatever the folder, the user, the umask or the
//           day. What runs are the sources: their types are erased to white space, so that lines
//           and columns stay where they were read, and the imports of `.ts` say `.js`. Node would
//           do the same at each start, for 25 MB of memory a process.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { stripTypeScriptTypes } from "node:module";
import { tmpdir } from "node:os";
import { basename, dirname, isAbsolute, join } from "node:path";
import { gzipSync } from "node:zlib";
import { putClient } from "./build-directory.ts";
import { metafileOf } from "./size.ts";
import { ownTarget, type Target, targetOf } from "./target.ts";

const root = join(import.meta.dirname, "..");
const distribution = join(root, "dist");

/** What is run, and with it all that it imports. */
const ENTRIES = ["server/main.ts", "cli/authproxy.ts"];
/** As they are: [from the repository, to the archive]. */
const FILES: [string, string][] = [
  ["packaging/install", "install"],
  ["packaging/uninstall", "uninstall"],
  ["packaging/authproxy", "bin/authproxy"],
  ["packaging/authproxy.socket", "packaging/authproxy.socket"],
  ["packaging/authproxy.service", "packaging/authproxy.service"],
  ["packaging/sysusers.conf", "packaging/sysusers.conf"],
  ["packaging/container", "packaging/container"],
  ["packaging/selinux/authproxy.cil", "packaging/selinux/authproxy.cil"],
  ["packaging/Dockerfile.server", "packaging/Dockerfile.server"],
  ["server/peercred.c", "server/peercred.c"],
  ["dist/authproxy.js", "dist/authproxy.js"],
  ["dist/authproxy-java.js", "dist/authproxy-java.js"],
  ["dist/authproxy.d.ts", "dist/authproxy.d.ts"],
  ["dist/package.json", "dist/package.json"],
  ["Dockerfile.example", "Dockerfile.example"],
  [".dockerignore", ".dockerignore"],
  ["dist/runtime", "dist/runtime"],
  ["docs", "docs"],
  ["README.md", "README.md"],
  ["SECURITY.md", "SECURITY.md"],
  ["CHANGELOG.md", "CHANGELOG.md"],
  ["LICENSE", "LICENSE"],
];
/** So that the client is undumpable, see build-directory.ts. */
const EXECUTE_ONLY = "dist/authproxy/ld.so";
/** `install` goes by the sums. */
const RELINK = `cc -std=c17 -O2 -static-pie -fPIE -o dist/peercred server/peercred.c
sed -i "s|.*  dist/peercred$|$(sha256sum dist/peercred)|" SHA256SUMS`;
const MAX_BYTES = 1 << 28;
const MTIME_SECONDS = 1_000_000_000; // any: tar warns of 0

export type Archive = { file: string; bytes: number; sha256: string };

/** Makes the archive, and puts it in place whole. */
export async function makeArchive(
  directory = distribution,
  target: Target = ownTarget(),
): Promise<Archive> {
  const { version } = readJson("package.json");
  const name = `authproxy-${version}`;
  const scratch = mkdtempSync(join(tmpdir(), "authproxy-package-"));
  try {
    const tree = join(scratch, name);
    mkdirSync(tree);
    await fill(tree, version, target);
    const attributes = ["--format=ustar", "--sort=name", `--mtime=@${MTIME_SECONDS}`];
    attributes.push("--owner=0", "--group=0", "--numeric-owner");
    const options = { maxBuffer: MAX_BYTES, env: { LC_ALL: "C", PATH: process.env.PATH ?? "" } };
    const tar = execFileSync("tar", [...attributes, "-C", scratch, "-cf", "-", name], options);
    const bytes = gzipSync(tar); // Node's own zlib, which is pinned; without a name or a time
    const file = join(directory, `${name}-${target.architecture}.tar.gz`);
    writeFileSync(`${file}.${process.pid}`, bytes);
    renameSync(`${file}.${process.pid}`, file);
    return { file, bytes: bytes.length, sha256: sha256(bytes) };
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

/** What `npm run prepare-machine` builds for this machine, for another one. */
export function buildFor(target: Target): void {
  mkdirSync(join(root, target.dist), { recursive: true });
  const output = join(root, target.dist, "peercred");
  const words = [join(root, "scripts/peercred.sh"), output, ...target.compiler];
  execFileSync("sh", words, { stdio: "inherit" });
  putClient(target);
}

/** What runs on a host, as it runs there: the daemon, and the command `authproxy`. `dist`: where its
 * peercred is. */
export async function placePrograms(tree: string, dist = "dist"): Promise<void> {
  const place = placeIn(tree);
  for (const path of Object.keys((await metafileOf(ENTRIES)).inputs))
    writeFileSync(
      place(path.replace(/\.ts$/, ".js")),
      erase(readFileSync(join(root, path), "utf8")),
    );
  cpSync(join(root, "server/config.schema.json"), place("server/config.schema.json"));
  cpSync(join(root, dist, "peercred"), place("dist/peercred"));
  writeFileSync(place("package.json"), '{ "type": "module" }\n');
}

function placeIn(tree: string): (path: string) => string {
  return (path) => {
    mkdirSync(dirname(join(tree, path)), { recursive: true });
    return join(tree, path);
  };
}

async function fill(tree: string, version: string, target: Target): Promise<void> {
  const place = placeIn(tree);
  await placePrograms(tree, target.dist);
  cpSync(target.node, place("bin/node"));
  cpSync(join(dirname(target.node), "../LICENSE"), place("licenses/node"));
  for (const [from, to] of [...FILES, [`${target.dist}/authproxy`, "dist/authproxy"]] as const) {
    if (!existsSync(join(root, from))) throw new Error(`no ${from}: run npm run prepare-machine`);
    cpSync(join(root, from), place(to), { recursive: true });
  }
  for (const path of packages()) {
    cpSync(join(root, path), place(path), { recursive: true });
    cpSync(license(join(root, path)), place(join("licenses", basename(path))));
  }
  putTermsOfLibc(place, target);
  writeFileSync(place("VERSION"), `${version}\n`);
  execFileSync("chmod", ["-R", "u=rwX,go=rX", tree]); // whatever our umask is
  chmodSync(place(EXECUTE_ONLY), 0o711);
  const files = readdirSync(tree, { recursive: true, encoding: "utf8" }).sort();
  const sums = files
    .filter((path) => statSync(join(tree, path)).isFile())
    .map((path) => `${sha256(readFileSync(join(tree, path)))}  ${path}\n`);
  writeFileSync(place("SHA256SUMS"), sums.join(""));
  chmodSync(place("SHA256SUMS"), 0o644);
}

/** A file of its own, or a section of what it says of itself. */
function license(directory: string): string {
  const files = readdirSync(directory).map((name) => join(directory, name));
  const isReadme = (file: string) => /^readme/i.test(basename(file));
  const found =
    files.find((file) => /^licen[cs]e/i.test(basename(file))) ??
    files.find((file) => isReadme(file) && /^licen[cs]e$/im.test(readFileSync(file, "utf8")));
  if (!found) throw new Error(`${directory} has no licence`);
  return found;
}

/** peercred holds a part of the C library, which it was linked with. */
function putTermsOfLibc(place: (path: string) => string, { compiler, ownersOf }: Target): void {
  const [cc = "", ...options] = compiler;
  const words = [...options, "-print-file-name=libc.a"];
  const library = execFileSync(cc, words, { encoding: "utf8" }).trim();
  const { packages, terms } = ownersOf(isAbsolute(library) ? [library] : []); // else "libc.a": there is none
  const listed = packages.map(({ name, version }) => `${name} ${version}`);
  const notice = `dist/peercred is server/peercred.c and what it needs of a C library, unchanged, of the package
${listed.join() || "unknown: add its licence before you hand this archive on"}
(its source is that of this package). With a C library of your own, here in the archive's directory:

${RELINK}
`;
  writeFileSync(place("licenses/peercred/README"), notice);
  for (const [name, file] of terms) cpSync(file, place(`licenses/peercred/${name}`));
}

/** Mode "strip" (node:module): what is erased leaves as much white space. */
export function erase(source: string): string {
  return stripTypeScriptTypes(source, { mode: "strip" }).replace(/\.ts(?=["`])/g, ".js");
}

/** What the command `authproxy` may import: all that the lock file pins, but for development. */
function packages(): string[] {
  const locked: Record<string, { dev?: boolean; optional?: boolean; devOptional?: boolean }> =
    readJson("package-lock.json").packages;
  const wanted = Object.entries(locked).filter(
    ([path, { dev, optional, devOptional }]) => path && !dev && !optional && !devOptional,
  );
  return wanted.map(([path]) => path);
}

function readJson(file: string) {
  return JSON.parse(readFileSync(join(root, file), "utf8"));
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

if (import.meta.main) {
  try {
    const target = await targetOf(process.argv[2] ?? process.arch);
    if (target.architecture !== process.arch) buildFor(target);
    const { file, bytes, sha256 } = await makeArchive(distribution, target);
    process.stdout.write(`dist/${basename(file)} ${bytes} bytes sha256 ${sha256}\n`);
  } catch (error) {
    process.stderr.write(`authproxy: error: package: ${(error as Error).message}\n`);
    process.exitCode = 1;
  }
}
