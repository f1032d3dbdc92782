// Question: how much must somebody read who audits the server, and does it keep its budget?
// Inputs:   server/main.ts and every module that it loads, wherever it lies; server/peercred.c; the
//           built client.
// Output:   as a program a table on stdout, exit 1 when a budget is exceeded or a rule is broken.
// Rules:    a line of code is one that is neither blank nor comment once Node has erased the types,
//           as it does before it runs them: what is counted is what runs. No line is longer than 100
//           columns or holds two statements, so that layout saves nothing. The server loads its own
//           modules and Node's, no others, by imports that can be seen without running it.
import { readFileSync, statSync } from "node:fs";
import { stripTypeScriptTypes } from "node:module";
import { join } from "node:path";
import { build } from "esbuild";
import { bundleBytesMax } from "./build.ts";

const root = join(import.meta.dirname, "..");
const columnsMax = 100;
const tabColumns = 8;

export const budgets = { server: 400, serverGoal: 300, peercred: 200, bundleBytes: bundleBytesMax };

export type SourceFile = { path: string; codeLines: number; faults: string[] };

/** The source files that `entry` loads at run time, sorted; a type-only import loads nothing. */
export async function modulesLoadedBy(entry: string): Promise<string[]> {
  const { metafile } = await build({
    absWorkingDir: root,
    entryPoints: [entry],
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
  for (const [path, { imports }] of Object.entries(metafile.inputs)) {
    const foreign = imports.find(({ external, path }) => external && !path.startsWith("node:"));
    if (foreign) throw new Error(`${path} imports ${foreign.path}: not ours and not node:`);
  }
  return Object.keys(metafile.inputs).sort();
}

const comment = /\/\/[^\n]*|\/\*[\s\S]*?\*\//;
const quoted = /"(?:\\[\s\S]|[^"\\\n])*"|'(?:\\[\s\S]|[^'\\\n])*'|`(?:\\[\s\S]|[^`\\])*`/;
// A slash begins a regular expression where a value may stand; after a value it divides.
const beforeValue = /(?<=(?:^|[=(,;:!&|?{}[+\-*%<>~^]|\b(?:return|typeof|case|in|of|throw))\s*)/;
const regularExpression = /\/(?![*/])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\[\n])+\/\w*/;
const literal = new RegExp(
  `(${comment.source})|${quoted.source}|${beforeValue.source}${regularExpression.source}`,
  "g",
);

/** `source` with blanks for comments, and quotes for strings, templates and regular expressions. */
export function withoutComments(source: string): string {
  return source.replace(literal, (text, isComment) =>
    text.replace(/[^\n]/g, isComment ? " " : '"'),
  );
}

/**
 * Does this line, without comments and strings, hold code after a `;`? Not counted: inside
 * parentheses (the head of a `for`), and in TypeScript inside braces that the line itself opens (a
 * type, `{ pid: number; uid: number }`: the formatter gives each statement a line of its own).
 */
export function holdsTwoStatements(line: string, language: "ts" | "c"): boolean {
  let depth = 0;
  for (const [index, character] of [...line].entries()) {
    if (character === "(" || (language === "ts" && character === "{")) depth++;
    // Not below 0: the line may close what an earlier one opened.
    if (character === ")" || (language === "ts" && character === "}"))
      depth = Math.max(0, depth - 1);
    if (character === ";" && depth === 0 && line.slice(index + 1).trim() !== "") return true;
  }
  return false;
}

function columns(line: string): number {
  let count = 0;
  for (const character of line) {
    count += character === "\t" ? tabColumns - (count % tabColumns) : 1;
  }
  return count;
}

/** Counts the lines of code of `source`, and lists what breaks a rule. */
export function readSource(path: string, source: string): SourceFile {
  const language = path.endsWith(".c") ? "c" : "ts";
  const running = language === "ts" ? stripTypeScriptTypes(source) : source;
  const lines = source.split("\n");
  const code = withoutComments(running).split("\n");
  const faults: string[] = [];
  for (const [index, line] of lines.entries()) {
    const place = `${path}:${index + 1}`;
    if (columns(line) > columnsMax) faults.push(`${place}: more than ${columnsMax} columns`);
    if (holdsTwoStatements(code[index] ?? "", language)) faults.push(`${place}: two statements`);
  }
  if (language === "ts" && /\bimport\s*\(|\bcreateRequire\b|\bnew Worker\b/.test(code.join("\n"))) {
    faults.push(`${path}: loads code in a way that this counter cannot follow`);
  }
  return { path, codeLines: code.filter((line) => line.trim() !== "").length, faults };
}

export type Count = {
  server: SourceFile[];
  serverLines: number;
  peercred: SourceFile;
  /** Not loaded by the server: it runs in a process of its own when a configuration is read. */
  check: SourceFile;
};

export async function countLines(): Promise<Count> {
  const read = (path: string) => readSource(path, readFileSync(join(root, path), "utf8"));
  const server = (await modulesLoadedBy("./server/main.ts")).map(read);
  const serverLines = server.reduce((sum, { codeLines }) => sum + codeLines, 0);
  return {
    server,
    serverLines,
    peercred: read("server/peercred.c"),
    check: read("tools/check.ts"),
  };
}

async function main(): Promise<void> {
  const { server, serverLines, peercred, check } = await countLines();
  const bundleBytes = statSync(join(root, "dist/authproxy.js")).size;
  const print = (name: string, value: number, note = "") => {
    const line = `${name.padEnd(28)}${String(value).padStart(6)}  ${note}`;
    process.stdout.write(`${line.trimEnd()}
`);
  };
  for (const { path, codeLines } of server) print(path, codeLines);
  print("server", serverLines, `of ${budgets.server} lines of code, goal ${budgets.serverGoal}`);
  print(peercred.path, peercred.codeLines, `of ${budgets.peercred} lines of code`);
  print(check.path, check.codeLines, "run once at each load, in a process of its own");
  print("dist/authproxy.js", bundleBytes, `of ${budgets.bundleBytes} bytes`);
  const faults = [...server, peercred, check].flatMap((file) => file.faults);
  if (serverLines > budgets.server) faults.push("server: over budget");
  if (peercred.codeLines > budgets.peercred) faults.push(`${peercred.path}: over budget`);
  if (bundleBytes > budgets.bundleBytes) faults.push("dist/authproxy.js: over budget");
  for (const fault of faults) process.stderr.write(`authproxy: error: lines: ${fault}\n`);
  if (faults.length > 0) process.exitCode = 1;
}

if (import.meta.main) {
  main().catch((error: Error) => {
    process.stderr.write(`authproxy: error: lines: ${error.message}\n`);
    process.exitCode = 1;
  });
}
