// Question: how much must somebody read who audits the server, and does it keep its budget?
// Inputs:   server/main.ts and keeper/main.ts, which are processes of their own, and every module that
//           each loads, wherever it lies; server/peercred.c; config/load.ts; the OCI runtime; the
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

export const budgets = {
  server: 400,
  serverGoal: 300,
  keeper: 280,
  config: 120,
  peercred: 200,
  runtime: 150,
  bundleBytes: bundleBytesMax,
};

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
  const language = path.endsWith(".c") ? "c" : path.endsWith(".ts") ? "ts" : "sh";
  const lines = source.split("\n");
  const running = language === "ts" ? stripTypeScriptTypes(source) : source;
  const isShell = language === "sh";
  const code = (isShell ? source.replace(/^\s*#.*/gm, "") : withoutComments(running)).split("\n");
  const faults: string[] = [];
  for (const [index, line] of lines.entries()) {
    const place = `${path}:${index + 1}`;
    if (columns(line) > columnsMax) faults.push(`${place}: more than ${columnsMax} columns`);
    if (!isShell && holdsTwoStatements(code[index] ?? "", language))
      faults.push(`${place}: two statements`);
  }
  if (language === "ts" && /\bimport\s*\(|\bcreateRequire\b|\bnew Worker\b/.test(code.join("\n"))) {
    faults.push(`${path}: loads code in a way that this counter cannot follow`);
  }
  return { path, codeLines: code.filter((line) => line.trim() !== "").length, faults };
}

export type Program = { files: SourceFile[]; lines: number };
export type Count = {
  server: Program;
  /** Less what it shares with the server. */
  keeper: Program;
  /** It runs when a configuration is read, and ends. */
  config: Program;
  peercred: Program;
  /** Rewrites how a container starts; the server knows nothing of it. */
  runtime: Program;
};

export async function countLines(): Promise<Count> {
  const read = (path: string) => readSource(path, readFileSync(join(root, path), "utf8"));
  const program = (paths: string[]): Program => {
    const files = paths.map(read);
    return { files, lines: files.reduce((sum, { codeLines }) => sum + codeLines, 0) };
  };
  const [server = [], keeper = [], config = []] = await Promise.all(
    ["./server/main.ts", "./keeper/main.ts", "./config/load.ts"].map(modulesLoadedBy),
  );
  const others = keeper.filter((path) => !server.includes(path) && !config.includes(path));
  return {
    server: program(server),
    keeper: program(others),
    config: program(config),
    peercred: program(["server/peercred.c"]),
    runtime: program(["runtime/authproxy-runc", "runtime/wrapper.ts"]),
  };
}

const questions = {
  server: `of ${budgets.server} lines of code, goal ${budgets.serverGoal}: who is it, and does it get a token?`,
  keeper: `of ${budgets.keeper}: a process of its own that mints, renews and revokes`,
  config: `of ${budgets.config}: runs when the configuration is read, and ends`,
  peercred: `of ${budgets.peercred}: owns the socket and every client's descriptor`,
  runtime: `of ${budgets.runtime}: puts the client in front of images that nobody changed`,
};

async function main(): Promise<void> {
  const count = await countLines();
  const faults: string[] = [];
  const print = (name: string, value: number, note = "") => {
    process.stdout.write(
      `${`${name.padEnd(28)}${String(value).padStart(6)}  ${note}`.trimEnd()}\n`,
    );
  };
  for (const [name, { files, lines }] of Object.entries(count)) {
    for (const { path, codeLines } of files) print(path, codeLines);
    print(name, lines, questions[name as keyof Count]);
    faults.push(...files.flatMap((file) => file.faults));
    if (lines > budgets[name as keyof Count]) faults.push(`${name}: over budget`);
  }
  const bundleBytes = statSync(join(root, "dist/authproxy.js")).size;
  print("dist/authproxy.js", bundleBytes, `of ${budgets.bundleBytes} bytes`);
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
