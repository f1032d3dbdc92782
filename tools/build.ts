// Question: what is the client, as one file that an image can carry?
// Input:    client/authproxy.ts and what it imports: our own modules and Node's, nothing else.
// Output:   dist/authproxy.js; on stdout its size and sha256.
// Promise:  the same source gives the same bytes on any machine; never more than `bundleBytesMax`.
//
// CommonJS, because alone in an image, without a package.json, a `.js` file is that to every Node:
// it starts there as a program and can be imported as a module. (In this repository, which is
// "type": "module", dist/package.json says so.) A Node that cannot parse the result would show a
// syntax error in place of the client's own message, so the syntax is that of Node 20.
import { createHash } from "node:crypto";
import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";

export const bundleBytesMax = 40_000;

const root = join(import.meta.dirname, "..");

export type Bundle = { bytes: Uint8Array; sha256: string };

/** The client's bundle, in memory. */
export async function bundleClient(entry = "./client/authproxy.ts"): Promise<Bundle> {
  const result = await build({
    absWorkingDir: root,
    entryPoints: [entry],
    outfile: "dist/authproxy.js",
    bundle: true,
    write: false,
    metafile: true,
    platform: "node",
    target: "node20",
    format: "cjs",
    charset: "utf8",
    legalComments: "inline",
    // CommonJS has no import.meta; this is the one member that the client needs.
    define: { "import.meta.main": "isMain" },
    banner: { js: "const isMain = require.main === module;" },
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
  const bytes = result.outputFiles[0]?.contents;
  if (!bytes) throw new Error(`${entry}: esbuild gave no output`);
  return { bytes, sha256: createHash("sha256").update(bytes).digest("hex") };
}

/** Put in place whole: a container may be copying the file at this moment. */
function replaceFile(path: string, content: Uint8Array | string): void {
  const unfinished = `${path}.${process.pid}`;
  writeFileSync(unfinished, content);
  renameSync(unfinished, path);
}

async function main(): Promise<void> {
  const { bytes, sha256 } = await bundleClient();
  if (bytes.length > bundleBytesMax) {
    throw new Error(`the client has ${bytes.length} bytes, at most ${bundleBytesMax} are allowed`);
  }
  mkdirSync(join(root, "dist"), { recursive: true });
  replaceFile(join(root, "dist/package.json"), '{ "type": "commonjs" }\n');
  replaceFile(join(root, "dist/authproxy.js"), bytes);
  process.stdout.write(`dist/authproxy.js ${bytes.length} bytes sha256 ${sha256}\n`);
}

if (import.meta.main) {
  main().catch((error: Error) => {
    process.stderr.write(`authproxy: error: build: ${error.message}\n`);
    process.exitCode = 1;
  });
}
