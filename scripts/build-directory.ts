// Question: what do hosts carry for images that nobody changes?
// Input:    the Node binary that npm installed, or the one that runs this; the loader and libraries of
//           this machine that it needs; dist/authproxy-java.js as scripts/build.ts makes it; runtime/. For
//           another processor, what scripts/target.ts has of these.
// Output:   dist/authproxy/ (dist/ARCHITECTURE/authproxy/), the client directory: started as
//             ld.so --inhibit-cache --library-path DIR DIR/node … DIR/authproxy.js -- COMMAND
//           it needs nothing of the image that it runs in. dist/runtime/, the OCI runtime wrapper.
// Promise:  each file is put in place whole, and only where it differs: containers may be starting
//           from it at this moment. LICENSES has the terms of all that is copied.
//
// The loader may be executed by all and read by root alone (0711): a program that its user cannot
// read starts undumpable (prctl(2), PR_SET_DUMPABLE), so nobody of that user traces the client or
// takes its descriptors. The loader reads node and the libraries like any file: they are 0644.
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { buildSync } from "esbuild";
import { ownTarget, type Target } from "./target.ts";

const root = join(import.meta.dirname, "..");
const runtime = join(root, "dist/runtime");

/** The client directory for a processor. */
export function putClient(target: Target): string {
  const client = join(root, target.dist, "authproxy");
  const { node } = target;
  const { loader, libraries } = neededBy(node, target);
  mkdirSync(join(client, "LICENSES"), { recursive: true, mode: 0o755 });
  putCopy(join(client, "node"), node, 0o644, [target.tool("strip"), "--strip-all"]);
  putCopy(join(client, "ld.so"), loader, 0o711);
  for (const library of libraries) putCopy(join(client, basename(library)), library, 0o644);
  // The one with keystores: nobody puts another in its place there.
  putCopy(join(client, "authproxy.js"), join(root, "dist/authproxy-java.js"), 0o644);
  // Without it Node would ask the image's own /package.json what a .js file is.
  put(join(client, "package.json"), '{ "type": "commonjs" }\n', 0o644);
  putLicences(join(client, "LICENSES"), [loader, ...libraries], target);
  return client;
}

/** It is the same for every processor. */
function putRuntime(): void {
  mkdirSync(runtime, { recursive: true, mode: 0o755 });
  putCopy(join(runtime, "authproxy-runc"), join(root, "runtime/authproxy-runc"), 0o755);
  put(join(runtime, "wrapper.mjs"), bundleWrapper(), 0o644);
}

/**
 * The runtime wrapper and its imports as one module of JavaScript. Node could erase the types itself,
 * but loading what does that takes 100 ms of each container's start, and each file takes more.
 */
function bundleWrapper(): string {
  const { outputFiles } = buildSync({
    absWorkingDir: root,
    entryPoints: ["./runtime/wrapper.ts"],
    bundle: true,
    write: false,
    platform: "node",
    target: "node24",
    format: "esm",
    charset: "utf8",
    tsconfigRaw: {},
    logLevel: "silent",
  });
  const [wrapper] = outputFiles;
  if (!wrapper) throw new Error("runtime/wrapper.ts: esbuild gave no output");
  return wrapper.text;
}

/** The loader that a program names (PT_INTERP), and the libraries that it needs (DT_NEEDED), with what
 * these need. They lie beside the loader: elf(5). */
function neededBy(program: string, { tool, systemRoot }: Target) {
  const read = (...words: string[]) => run(tool("readelf"), "--wide", ...words);
  const interpreter = /interpreter: (.+)\]/.exec(read("--program-headers", program))?.[1];
  if (!interpreter) throw new Error(`${program} names no loader: is it static?`);
  const loader = realpathSync(join(systemRoot, interpreter));
  const libraries = new Set<string>();
  const addNeeded = (file: string) => {
    const names = read("--dynamic", file).matchAll(/\(NEEDED\).*\[(.+)\]/g);
    for (const [, name = ""] of names) {
      if (name === basename(interpreter)) continue;
      const library = join(dirname(loader), name);
      if (!existsSync(library)) throw new Error(`${file} needs ${name}: there is no ${library}`);
      libraries.add(library);
    }
  };
  addNeeded(program);
  for (const library of libraries) addNeeded(library); // those that are added meanwhile, too
  return { loader, libraries: [...libraries] };
}

/** A copy with the source's time; where one is, nothing is done. `strip`: the command that makes it. */
function putCopy(path: string, source: string, mode: number, strip?: [string, string]): void {
  const { mtime } = statSync(source);
  const present = statSync(path, { throwIfNoEntry: false });
  if (present?.mtimeMs === mtime.getTime() && (present.mode & 0o777) === mode) return;
  const unfinished = `${path}.${process.pid}`;
  if (strip) run(...strip, "-o", unfinished, source);
  else copyFileSync(source, unfinished);
  finish(unfinished, path, mode, mtime);
}

function put(path: string, text: string, mode: number): void {
  if (existsSync(path) && readFileSync(path, "utf8") === text) return;
  const unfinished = `${path}.${process.pid}`;
  writeFileSync(unfinished, text);
  finish(unfinished, path, mode, new Date());
}

function finish(unfinished: string, path: string, mode: number, mtime: Date): void {
  chmodSync(unfinished, mode);
  utimesSync(unfinished, mtime, mtime);
  renameSync(unfinished, path);
}

/** Node's own, ours, and of each library what its package says, with the licences that it names. */
function putLicences(place: string, libraries: string[], { node, ownersOf }: Target): void {
  const { packages, terms } = ownersOf(libraries);
  const listed = packages.map(({ name, version }) => `${name} ${version}`);
  const notice = `ld.so and the libraries are unchanged, of the packages
${listed.join(", ") || "unknown: add their licences before you hand this directory on"}
(their source is that of these packages); node is of nodejs.org, without its symbols.
`;
  put(join(place, "README"), notice, 0o644);
  putCopy(join(place, "authproxy"), join(root, "LICENSE"), 0o644);
  putCopy(join(place, "node"), join(dirname(realpathSync(node)), "../LICENSE"), 0o644);
  for (const [name, file] of terms) putCopy(join(place, name), file, 0o644);
}

function filesIn(directory: string): string[] {
  const entries = readdirSync(directory, { recursive: true, withFileTypes: true });
  return entries.filter((e) => e.isFile()).map((e) => join(e.parentPath, e.name));
}

function run(program: string, ...args: string[]): string {
  return execFileSync(program, args, { encoding: "utf8", env: { ...process.env, LC_ALL: "C" } });
}

if (import.meta.main) {
  try {
    const client = putClient(ownTarget());
    putRuntime();
    const bytes = filesIn(client).reduce((sum, file) => sum + statSync(file).size, 0);
    process.stdout.write(`dist/authproxy ${(bytes / 1e6).toFixed(1)} MB, dist/runtime\n`);
  } catch (error) {
    process.stderr.write(`authproxy: error: build: ${(error as Error).message}\n`);
    process.exitCode = 1;
  }
}
