// Question: what is the client, as one file that an image can carry?
// Input:    client/authproxy.ts, client/keystore/authproxy-java.ts and what they import: our own modules
//           and Node's, nothing else.
// Output:   dist/authproxy.js, and authproxy.d.ts for those who import it; dist/authproxy-java.js, the
//           same with client/keystore/ in it; on stdout their sizes and sha256.
// Promise:  the same source gives the same bytes on any machine and in any folder. Nothing is minified:
//           the layout is esbuild's, names are kept, and each module is under a line with its path. Types
//           and comments are left out.
//
// The format is CommonJS, because alone in an image, without a package.json, a `.js` file is that to
// every Node: it starts there as a program and can be imported as a module. (In this repository, which
// is "type": "module", dist/package.json says so.) The syntax is that of Node 20: an older one that
// cannot parse the file would show a syntax error in place of the client's own message.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";

const root = join(import.meta.dirname, "..");

/** The bundles, and their entries. */
export const bundles = {
  "dist/authproxy.js": "client/authproxy.ts",
  "dist/authproxy-java.js": "client/keystore/authproxy-java.ts",
} as const;

export type Bundle = { bytes: Uint8Array; sha256: string };

/** Makes a bundle in memory. */
export async function bundleClient(
  output: keyof typeof bundles = "dist/authproxy.js",
): Promise<Bundle> {
  const entry = bundles[output];
  const result = await build({
    absWorkingDir: root,
    entryPoints: [entry],
    outfile: output,
    bundle: true,
    write: false,
    metafile: true,
    platform: "node",
    target: "node20",
    format: "cjs",
    charset: "utf8",
    // Modules are strict by themselves, a CommonJS file is not.
    banner: { js: '"use strict";' },
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

/** The file is complete at any time: a container may be copying it at this moment. */
function replaceFile(path: string, content: Uint8Array | string): void {
  const unfinished = `${path}.${process.pid}`;
  writeFileSync(unfinished, content);
  renameSync(unfinished, path);
}

async function main(): Promise<void> {
  mkdirSync(join(root, "dist"), { recursive: true });
  replaceFile(join(root, "dist/package.json"), '{ "type": "commonjs" }\n');
  for (const output of Object.keys(bundles) as (keyof typeof bundles)[]) {
    const { bytes, sha256 } = await bundleClient(output);
    replaceFile(join(root, output), bytes);
    process.stdout.write(`${output} ${bytes.length} bytes sha256 ${sha256}\n`);
  }
  replaceFile(join(root, "dist/authproxy.d.ts"), readFileSync(join(root, "client/public.ts")));
}

if (import.meta.main) {
  main().catch((error: Error) => {
    process.stderr.write(`authproxy: error: build: ${error.message}\n`);
    process.exitCode = 1;
  });
}
