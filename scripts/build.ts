// Question: what is the client, as one file that an image can carry?
// Input:    client/authproxy.ts and what it imports: our own modules and Node's, nothing else.
// Output:   dist/authproxy.js, and authproxy.d.ts for who imports it; dist/authproxy-java.js, the same
//           with client/keystore/ in it; on stdout their sizes and sha256.
// Promise:  the same source gives the same bytes on any machine; never more than `bundleBytesMax`,
//           `javaBundleBytesMax`.
//
// Names and texts are kept, and the order: one line for each function and class, and for each source
// file its name. White space and comments are not: what is to be read is the source.
//
// CommonJS, because alone in an image, without a package.json, a `.js` file is that to every Node:
// it starts there as a program and can be imported as a module. (In this repository, which is
// "type": "module", dist/package.json says so.) A Node that cannot parse the result would show a
// syntax error in place of the client's own message, so the syntax is that of Node 20.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build, transform } from "esbuild";

export const bundleBytesMax = 40_000;
export const javaBundleBytesMax = 46_000;

const root = join(import.meta.dirname, "..");

export type Bundle = { bytes: Uint8Array; sha256: string };

/** The client's bundle, in memory. */
export async function bundleClient(
  entry = "./client/authproxy.ts",
  { keystores = false } = {},
): Promise<Bundle> {
  const result = await build({
    absWorkingDir: root,
    entryPoints: [entry],
    outfile: "dist/authproxy.js",
    bundle: true,
    write: false,
    metafile: true,
    platform: "node",
    target: "node20",
    format: "esm",
    charset: "utf8",
    minifySyntax: true,
    // CommonJS has no import.meta; these are the members that the client needs. What is behind a
    // false one is left out.
    define: { "import.meta.main": "isMain", "import.meta.keystores": String(keystores) },
    packages: "external",
    tsconfigRaw: {},
    logLevel: "silent",
  });
  const problem = result.errors[0] ?? result.warnings[0];
  if (problem) throw new Error(`${problem.location?.file ?? entry}: ${problem.text}`);
  for (const [path, input] of Object.entries(result.metafile.inputs)) {
    const foreign = input.imports.find(
      (imported) => imported.external && !imported.path.startsWith("node:"),
    );
    if (foreign) throw new Error(`${path} imports ${foreign.path}: the client has no dependencies`);
  }
  const module = result.outputFiles[0]?.text;
  if (!module) throw new Error(`${entry}: esbuild gave no output`);
  const bytes = Buffer.from(await toCommonJs(module));
  return { bytes, sha256: createHash("sha256").update(bytes).digest("hex") };
}

/** As CommonJS, one line a statement. esbuild's own costs 1.5 kB: a lookup at each use of an import,
 * and getters for exports. */
async function toCommonJs(module: string): Promise<string> {
  const imported = new Map<string, Set<string>>();
  const renamed = new Map<string, string>();
  const body = module
    .replace(/^import \{([^}]*)\} from ("node:\w+");$/gm, (_, list: string, from: string) => {
      const names = imported.get(from) ?? new Set();
      for (const [, name = "", alias] of list.matchAll(/(\w+)(?: as (\w+))?/g)) {
        names.add(name);
        if (alias) renamed.set(alias, name);
      }
      imported.set(from, names);
      return "";
    })
    .replace(/^export (\{[^}]*\});$/m, "module.exports = $1;")
    // A second file's import of the same name got a number.
    .replace(/\b\w+\d\b/g, (name) => renamed.get(name) ?? name);
  const imports = [...imported].map(
    ([from, names]) => `const { ${[...names]} } = require(${from});\n`,
  );
  const program = `"use strict";\nconst isMain = require.main === module;\n${imports.join("")}${body}`;
  // What begins at the first column begins a statement, the rest of a template's text aside.
  const lines: string[] = [];
  for (const statement of program.split(/\n(?=(?:\/\/|\w)[^`]*$)/m)) {
    const source = /^\/\/ client\/(.*)\.ts/.exec(statement)?.[1];
    if (source && lines.at(-1)?.startsWith("//")) lines.pop();
    if (source) lines.push(`//${source}`);
    const options = { minifySyntax: true, minifyWhitespace: true, charset: "utf8" } as const;
    const { code } = await transform(statement, options);
    if (code.trim()) lines.push(code.trim());
  }
  return `${lines.join("\n")}\n`;
}

/** Put in place whole: a container may be copying the file at this moment. */
function replaceFile(path: string, content: Uint8Array | string): void {
  const unfinished = `${path}.${process.pid}`;
  writeFileSync(unfinished, content);
  renameSync(unfinished, path);
}

async function main(): Promise<void> {
  mkdirSync(join(root, "dist"), { recursive: true });
  replaceFile(join(root, "dist/package.json"), '{ "type": "commonjs" }\n');
  place("dist/authproxy.js", await bundleClient(), bundleBytesMax);
  const java = await bundleClient(undefined, { keystores: true });
  place("dist/authproxy-java.js", java, javaBundleBytesMax);
  replaceFile(join(root, "dist/authproxy.d.ts"), readFileSync(join(root, "client/public.ts")));
}

function place(path: string, { bytes, sha256 }: Bundle, bytesMax: number): void {
  if (bytes.length > bytesMax) {
    throw new Error(`${path} has ${bytes.length} bytes, at most ${bytesMax} are allowed`);
  }
  replaceFile(join(root, path), bytes);
  process.stdout.write(`${path} ${bytes.length} bytes sha256 ${sha256}\n`);
}

if (import.meta.main) {
  main().catch((error: Error) => {
    process.stderr.write(`authproxy: error: build: ${error.message}\n`);
    process.exitCode = 1;
  });
}
