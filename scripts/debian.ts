// Question: where do other engines, kernels and an emulator come from?
// Input:    the Debian mirror that this machine's own apt uses; the names of packages of a suite.
// Output:   a tree: the packages and all that they depend on, unpacked, with a /usr of its own. It
//           is what programs see as /usr, or a root file system (test/lab).
// Promise:  nothing is installed, and the machine's apt configuration is not changed: apt works in
//           the cache folder, on an empty list of what is installed. It checks the archive's
//           signature. What was unpacked once is found again by its versions, and the last
//           version's goes when there is a newer one.
import { exec, execFile } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { cache as folder } from "./npm.ts";

const run = promisify(execFile);
const shell = promisify(exec);
const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";
const TOP = ["bin", "sbin", "lib", "lib64"];

/** Of this machine's architecture, unless another one is named. */
export type Suite = "bookworm" | "trixie" | "trixie-arm64" | "sid";
export type Tree = { path: string; versions: Map<string, string> };

const cache = join(folder, "lab");

/** What is under way in each suite: apt locks its folder. */
const queues = new Map<Suite, Promise<unknown>>();

/** These packages of a suite, with what they need, unpacked. Throws what apt said. */
export async function fetchTree(suite: Suite, packages: string[]): Promise<Tree> {
  const before = queues.get(suite) ?? openSuite(suite);
  const tree = before.then(() => makeTree(suite, packages));
  queues.set(
    suite,
    before.then(() => tree.catch(() => {})),
  );
  return await tree;
}

/** An apt that knows this suite only, and nothing of what is installed here. */
async function openSuite(suite: Suite): Promise<void> {
  const directory = join(cache, suite);
  mkdirSync(join(directory, "lists/partial"), { recursive: true });
  const [name] = suite.split("-");
  const source = `deb [signed-by=${KEYRING}] ${await mirror()} ${name} main\n`;
  writeFileSync(join(directory, "sources.list"), source);
  writeFileSync(join(directory, "status"), "");
  await apt(suite, "update");
}

/** The archive that this machine's own sources name. */
async function mirror(): Promise<string> {
  const { stdout } = await run("apt-get", ["indextargets", "--format", "$(REPO_URI)"]);
  const found = stdout.split("\n").find((uri) => /\/debian\/?$/.test(uri));
  if (!found) throw new Error("fetch: no source of this machine's apt is a Debian archive");
  return found;
}

async function apt(suite: Suite, ...words: string[]): Promise<string> {
  const directory = join(cache, suite);
  const [, architecture] = suite.split("-");
  const settings = {
    ...(architecture && { "APT::Architecture": architecture }),
    "Dir::State": directory,
    "Dir::State::status": join(directory, "status"),
    "Dir::Cache": directory,
    "Dir::Etc::sourcelist": join(directory, "sources.list"),
    "Dir::Etc::sourceparts": "/dev/null",
    "Dir::Etc::preferences": "/dev/null",
    "Dir::Etc::preferencesparts": "/dev/null",
    "Acquire::Languages": "none",
    "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
    "APT::Install-Recommends": "false",
    "APT::Sandbox::User": "root", // its usual user need not be able to enter the cache folder
  };
  const options = Object.entries(settings).flatMap(([key, value]) => ["-o", `${key}=${value}`]);
  const { stdout } = await run("apt-get", ["-q", ...options, ...words], { maxBuffer: 1 << 24 });
  return stdout;
}

async function makeTree(suite: Suite, packages: string[]): Promise<Tree> {
  // Its own: what another run has left there, apt would leave out of its plan.
  const archives = mkdtempSync(join(cache, suite, "archives-"));
  mkdirSync(join(archives, "partial"));
  try {
    return await makeTreeBy(archives, suite, packages);
  } finally {
    rmSync(archives, { recursive: true, force: true });
  }
}

async function makeTreeBy(archives: string, suite: Suite, packages: string[]): Promise<Tree> {
  const install = ["install", "--yes", "-o", `Dir::Cache::archives=${archives}`];
  // One line a package: 'URI' file_1.2-3_amd64.deb size hash
  const plan = await apt(suite, ...install, "--print-uris", ...packages);
  const files = [...plan.matchAll(/^'\S+' (\S+\.deb) /gm)].map(([, file = ""]) => file).sort();
  const words = files.map((file) => decodeURIComponent(file).split("_"));
  const versions = new Map(words.map(([name = "", version = ""]) => [name, version]));
  const hash = (words: string[]) => createHash("sha256").update(words.join("\n")).digest("hex");
  const name = `${suite}-${packages[0]}-${hash(packages).slice(0, 8)}-`;
  const path = join(cache, `${name}${hash(files).slice(0, 16)}`);
  if (existsSync(path)) return { path, versions };
  const old = readdirSync(cache).filter((entry) => entry.startsWith(name));
  for (const entry of old) rmSync(join(cache, entry), { recursive: true, force: true });
  await apt(suite, ...install, "--download-only", ...packages);
  const unfinished = `${path}.unfinished`;
  for (const name of TOP) {
    mkdirSync(join(unfinished, "usr", name), { recursive: true });
    symlinkSync(`usr/${name}`, join(unfinished, name));
  }
  // Bookworm's packages still have a /lib; dpkg-deb --extract would put it in the link's place.
  const unpack = `tar --extract --keep-directory-symlink --directory "${unfinished}"`;
  for (const file of files)
    await shell(`dpkg-deb --fsys-tarfile "${archives}/${file}" | ${unpack}`);
  renameSync(unfinished, path);
  return { path, versions };
}
