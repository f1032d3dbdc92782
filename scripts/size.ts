// Question: how much must a reviewer read, and does each part keep its limit?
// Input:    the source files of each part. Where a part is a program, its files are found by following
//           the imports of its entry, so that no module is loaded uncounted.
// Output:   a table on standard output: tokens, lines of code, and the mean length of such a line.
//           Exit 1 where a part exceeds its limit, or loads code in a way that cannot be followed.
// Rules:    size is counted in tokens: layout, comments, types and the length of names cost nothing.
//           - TypeScript: acorn's tokens, once Node has erased the types as it does before it runs it.
//           - C: preprocessing tokens, without directives. Macros are not expanded.
//           - shell: words between white space, without lines that are comments.
//           A line of code is one that holds more than white space once types and comments are gone.
import { existsSync, globSync, readFileSync } from "node:fs";
import { stripTypeScriptTypes } from "node:module";
import { join } from "node:path";
import { type Token, tokenizer } from "acorn";
import { build, type Metafile } from "esbuild";

const root = join(import.meta.dirname, "..");

export type SourceFile = {
  path: string;
  tokens: number;
  linesOfCode: number;
  meanLineLength: number;
};
export type Part = {
  name: string;
  maxTokens: number;
  files: SourceFile[];
  /** Files that the part's list names and that do not exist. */
  missing: string[];
  tokens: number;
};

/** What must be read to answer "who gets a token?". */
const DECIDING_PATH = [
  "server/grant.ts",
  "server/facts.ts",
  "server/process.ts",
  "server/engine.ts",
  "server/policy.ts",
  "server/checks.ts",
  "server/writable.ts",
  "server/refusal.ts",
  "server/audit.ts",
];

/** The engine of Kubernetes: the daemon loads it only where it is configured. */
const CRI = "server/cri.ts";

/** Reads and counts each part. Throws where code is loaded in a way that cannot be followed. */
export async function measureParts(): Promise<Part[]> {
  const daemon = await modulesLoadedBy(["server/main.ts"], CRI);
  // Every module of client/, because neither of its bundles holds all of them.
  const client = await modulesLoadedBy(globSync("client/**/*.ts", { cwd: root }));
  // A module that the wrapper shares with the client is counted there.
  const wrapper = await modulesLoadedBy(["runtime/wrapper.ts"]);
  const onlyForRuntime = wrapper.filter((path) => !client.includes(path));
  const parts = [
    measurePart("deciding path", 8220, DECIDING_PATH),
    measurePart("daemon", 17_960, daemon),
    measurePart("peercred", 2400, ["server/peercred.c"]),
    measurePart("client", 18_000, client),
    measurePart("runtime", 1600, ["runtime/authproxy-runc", ...onlyForRuntime]),
  ];
  if (existsSync(join(root, CRI))) {
    const loaded = await modulesLoadedBy([CRI]);
    const onlyForCri = loaded.filter((path) => !daemon.includes(path));
    parts.push(measurePart("Kubernetes engine", 3120, onlyForCri));
  }
  return parts;
}

function measurePart(name: string, maxTokens: number, paths: string[]): Part {
  const missing = paths.filter((path) => !existsSync(join(root, path)));
  const present = paths.filter((path) => !missing.includes(path));
  const files = present.map((path) => measureSource(path, readFileSync(join(root, path), "utf8")));
  const tokens = files.reduce((sum, file) => sum + file.tokens, 0);
  return { name, maxTokens, files, missing, tokens };
}

/**
 * The source files that these modules load at run time, themselves included, sorted. A type-only
 * import loads nothing. The module `except` is left out, and so is whatever only that module imports.
 */
export async function modulesLoadedBy(entries: string[], except?: string): Promise<string[]> {
  const metafile = await metafileOf(entries);
  const loaded = new Set<string>();
  const waiting = [...entries];
  for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
    if (path === except || loaded.has(path)) continue;
    loaded.add(path);
    waiting.push(...importsOf(path, metafile));
  }
  return [...loaded].filter((path) => !path.endsWith(".json")).sort();
}

/** Our own modules that these load, and what each imports, as esbuild sees them. */
export async function metafileOf(entries: string[]): Promise<Metafile> {
  const { metafile } = await build({
    absWorkingDir: root,
    entryPoints: entries.map((path) => `./${path}`),
    bundle: true,
    write: false,
    metafile: true,
    outdir: "dist",
    platform: "node",
    format: "esm",
    packages: "external",
    treeShaking: false,
    logLevel: "silent",
  });
  return metafile;
}

/** What esbuild lists as an import where it adds functions of its own to a bundle. */
const ESBUILD_HELPERS = "<runtime>";

function importsOf(path: string, { inputs }: Metafile): string[] {
  const ours: string[] = [];
  for (const { external, path: imported } of inputs[path]?.imports ?? []) {
    const isAllowed = imported.startsWith("node:") || imported === ESBUILD_HELPERS;
    if (!external) ours.push(imported);
    else if (!isAllowed)
      throw new Error(`${path} imports ${imported}, which is neither ours nor Node's`);
  }
  return ours;
}

/** Counts one source file; its name says the language. */
export function measureSource(path: string, source: string): SourceFile {
  const { tokens, code } = readSource(path, source);
  const lines = code
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");
  const characters = lines.reduce((sum, line) => sum + line.length, 0);
  const meanLineLength = lines.length === 0 ? 0 : characters / lines.length;
  return { path, tokens, linesOfCode: lines.length, meanLineLength };
}

/** `code` is the source without comments and types. */
type Reading = { tokens: number; code: string };

function readSource(path: string, source: string): Reading {
  if (path.endsWith(".ts")) return readTypeScript(path, source);
  if (path.endsWith(".c")) return readC(path, source);
  return readShell(source);
}

function readTypeScript(path: string, source: string): Reading {
  const running = stripTypeScriptTypes(source.replace(/^#!.*/, ""), { mode: "strip" });
  let code = running;
  const tokens = [
    ...tokenizer(running, {
      ecmaVersion: "latest",
      sourceType: "module",
      onComment: (_isBlock, _text, start, end) => {
        const blank = running.slice(start, end).replace(/[^\n]/g, " ");
        code = code.slice(0, start) + blank + code.slice(end);
      },
    }),
  ];
  refuseHiddenLoading(path, tokens, running);
  return { tokens: tokens.length, code };
}

/** esbuild follows `import("./file.ts")`, but not a path that is known only when the program runs. */
function refuseHiddenLoading(path: string, tokens: Token[], source: string): void {
  const texts = tokens.map(({ start, end }) => source.slice(start, end));
  for (const [index, text] of texts.entries()) {
    const isCall = (text === "import" || text === "require") && texts[index + 1] === "(";
    const isLiteral = tokens[index + 2]?.type.label === "string" && texts[index + 3] === ")";
    const isLoader = text === "createRequire" || text === "Worker";
    if (isLoader || (isCall && !isLiteral))
      throw new Error(`${path} loads code in a way that this counter cannot follow: ${text}`);
  }
}

const C_STRING = /"(?:\\[\s\S]|[^"\\\n])*"|'(?:\\[\s\S]|[^'\\\n])*'/;
const C_COMMENT = /\/\/(?:\\\n|[^\n])*|\/\*[\s\S]*?\*\//;
const C_COMMENTS = new RegExp(`(${C_STRING.source})|${C_COMMENT.source}`, "g");
const C_DIRECTIVES = /^[ \t]*#(?:\\\n|[^\n])*/gm;
// C17 6.4: identifiers, numbers, strings and characters, punctuators (the longest first).
const C_NAME = /[A-Za-z_]\w*/;
const C_NUMBER = /\.?\d(?:[eEpP][+-]|[\w.])*/;
const C_PUNCTUATOR =
  /\.{3}|<<=|>>=|->|\+\+|--|<<|>>|&&|\|\||[<>=!*/%+\-&^|]=|[[\](){}.&*+\-~!/%<>^|?:;=,]/;
const C_TOKENS = new RegExp(
  [C_STRING, C_NAME, C_NUMBER, C_PUNCTUATOR].map(({ source }) => source).join("|"),
  "g",
);

/** A comment counts as one space, whether it is in a directive or not (C17 5.1.1.2). */
function readC(path: string, source: string): Reading {
  const code = source.replace(C_COMMENTS, (_comment, string) => string ?? " ");
  const counted = code.replace(C_DIRECTIVES, "");
  const rest = counted.replace(C_TOKENS, "").trim();
  if (rest !== "") throw new Error(`${path}: not a token of C: ${rest.slice(0, 20)}`);
  return { tokens: counted.match(C_TOKENS)?.length ?? 0, code };
}

function readShell(source: string): Reading {
  const code = source.replace(/^[ \t]*#.*/gm, "");
  return { tokens: code.match(/\S+/g)?.length ?? 0, code };
}

function tableOf({ name, maxTokens, files, missing, tokens }: Part): string {
  const linesOfCode = files.reduce((sum, file) => sum + file.linesOfCode, 0);
  const characters = files.reduce((sum, file) => sum + file.linesOfCode * file.meanLineLength, 0);
  const meanLineLength = linesOfCode === 0 ? 0 : characters / linesOfCode;
  const sum = { path: `sum, of at most ${maxTokens}`, tokens, linesOfCode, meanLineLength };
  const rows = [...files, sum].map(
    (row) =>
      `  ${row.path.padEnd(34)}${String(row.tokens).padStart(7)}` +
      `${String(row.linesOfCode).padStart(7)}${row.meanLineLength.toFixed(0).padStart(7)}\n`,
  );
  const absent = missing.map((path) => `  ${path.padEnd(34)}missing\n`);
  return `${name.padEnd(36)} tokens  lines  chars per line\n${[...absent, ...rows].join("")}\n`;
}

async function main(): Promise<void> {
  for (const part of await measureParts()) {
    process.stdout.write(tableOf(part));
    if (part.tokens > part.maxTokens) {
      complain(`${part.name}: ${part.tokens} tokens, at most ${part.maxTokens} are allowed`);
    }
    for (const path of part.missing) complain(`${part.name}: ${path} does not exist`);
  }
}

function complain(message: string): void {
  process.stderr.write(`authproxy: error: size: ${message}\n`);
  process.exitCode = 1;
}

if (import.meta.main) {
  main().catch((error: Error) => complain(error.message));
}
