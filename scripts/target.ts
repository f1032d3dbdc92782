// Question: for which processor is this built, and from what?
// Input:    a name of Node's for it: this machine's, or one of `FOREIGN`.
// Output:   where its Node, its C library and its tools are. Of this machine's own: what is installed.
//           For another one: Node by package-lock.json's hash; the C library of Debian's packages of that
//           processor, which apt checks, unpacked in the cache folder; a cross compiler on the PATH.
import { existsSync, readFileSync, realpathSync } from "node:fs";
import { basename, join } from "node:path";
import { fetchTree, type Tree } from "./debian.ts";
import { type Package, packagesOf, termsOf } from "./licences.ts";
import { packageFromNpm } from "./npm.ts";

const root = join(import.meta.dirname, "..");

/** The names of Debian's tools begin with those of the system that they build for. */
const FOREIGN: Record<string, { suite: "trixie-arm64"; prefix: string }> = {
  arm64: { suite: "trixie-arm64", prefix: "aarch64-linux-gnu-" },
};
/** What a program is linked with, and what Node needs at its start. */
const LIBRARIES = ["libc6-dev", "libstdc++6"];
/** Debian's package of a file of these; of all others, libc6. */
const OWNERS: Record<string, string> = {
  "libc.a": "libc6-dev",
  "libgcc_s.so.1": "libgcc-s1",
  "libstdc++.so.6": "libstdc++6",
};

export type Target = {
  architecture: string;
  /** Where what is built for it is put, from the repository. */
  dist: string;
  /** The binary of Node. */
  node: string;
  /** A tool's name, such as aarch64-linux-gnu-strip. */
  tool: (name: string) => string;
  /** The C compiler, with what it must be told. */
  compiler: string[];
  /** Below it are the C library and its loader. */
  systemRoot: string;
  /** Whose the files of the C library are, and by the names that they are to have, the files that state
   * their terms. */
  ownersOf: (files: string[]) => { packages: Package[]; terms: Map<string, string> };
};

/** Throws an Error that says what is missing, and what to do. */
export async function targetOf(architecture: string): Promise<Target> {
  return architecture === process.arch ? ownTarget() : await foreignTarget(architecture);
}

export function ownTarget(): Target {
  const packaged = join(root, `node_modules/node-linux-${process.arch}/bin/node`);
  return {
    architecture: process.arch,
    dist: "dist",
    node: existsSync(packaged) ? packaged : realpathSync(process.execPath),
    tool: (name) => name,
    compiler: [process.env.CC ?? "cc"],
    systemRoot: "/",
    ownersOf(files) {
      const packages = packagesOf(files);
      return { packages, terms: termsOf(packages) };
    },
  };
}

async function foreignTarget(architecture: string): Promise<Target> {
  const foreign = FOREIGN[architecture];
  if (!foreign) {
    const known = [...new Set([process.arch, ...Object.keys(FOREIGN)])].join(" or ");
    throw new Error(`no archive for ${architecture} can be built here: take ${known}`);
  }
  const tool = (name: string) => foreign.prefix + name;
  const compiler = tool("gcc");
  if (!isOnPath(compiler))
    throw new Error(`there is no ${compiler}: install it (Debian: gcc-${tool("").slice(0, -1)})`);
  const tree = await fetchTree(foreign.suite, LIBRARIES);
  return {
    architecture,
    dist: `dist/${architecture}`,
    node: join(nodePackage(architecture), "bin/node"),
    tool,
    compiler: [compiler, `--sysroot=${tree.path}`],
    systemRoot: tree.path,
    ownersOf(files) {
      const names = new Set(files.map((file) => OWNERS[basename(file)] ?? "libc6"));
      const packages = [...names].map((name) => ({ name, version: versionIn(tree, name) }));
      return { packages, terms: termsOf(packages, tree.path) };
    },
  };
}

function versionIn({ versions }: Tree, name: string): string {
  const version = versions.get(name);
  if (!version) throw new Error(`${name} is not among the packages that were unpacked`);
  return version;
}

/** The one that npm would install on a machine of this kind. */
function nodePackage(architecture: string): string {
  const name = `node-linux-${architecture}`;
  const { packages } = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8"));
  const { version, integrity } = packages[`node_modules/${name}`];
  return packageFromNpm(name, version, integrity);
}

function isOnPath(program: string): boolean {
  const directories = (process.env.PATH ?? "").split(":");
  return directories.some((directory) => existsSync(join(directory, program)));
}
