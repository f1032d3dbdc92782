// Question: which branches of the server's modules have been taken?
//
// V8 counts how often each block of the running code was entered. Types are erased by white space, so
// its offsets are those of the source, in which acorn finds the branches: of `if` and `?:` both sides, of `&&`,
// `||` and `??` both outcomes, each `case` and `catch`. A side without code of its own (no `else`, a right
// side that is passed over) counts as taken where the other side was entered less often than the block:
// after an `await` that may reject this says too much.
import { readdirSync, readFileSync } from "node:fs";
import { Session } from "node:inspector";
import { stripTypeScriptTypes } from "node:module";
import { basename, join } from "node:path";
import { pathToFileURL } from "node:url";
import { type Node, parse } from "acorn";

type Range = { startOffset: number; endOffset: number; count: number };
type Functions = { ranges: Range[] }[];
type Branch = { offset: number; isTaken: boolean };

/** The exploration has its own in their place. */
const NOT_LOADED = ["config.ts", "http.ts", "main.ts", "schema.ts"];

export class BranchCoverage {
  readonly #directory: string;
  readonly #session = new Session();

  /** Begins to count. */
  constructor(directory: string) {
    this.#directory = directory;
    this.#session.connect();
    this.#session.post("Profiler.enable");
    this.#session.post("Profiler.startPreciseCoverage", { callCount: true, detailed: true });
  }

  /** Ends the counting. One line a module, with the numbers of the lines that have a branch that was not taken. */
  finish(): string {
    const functionsByUrl = new Map<string, Functions>();
    this.#session.post("Profiler.takePreciseCoverage", (_error, { result }) => {
      for (const { url, functions } of result) functionsByUrl.set(url, functions);
    });

    this.#session.post("Profiler.stopPreciseCoverage");
    this.#session.disconnect();

    const lines: string[] = [];
    let [taken, all] = [0, 0];
    for (const name of readdirSync(this.#directory).sort()) {
      if (!name.endsWith(".ts") || NOT_LOADED.includes(name)) continue;
      const file = join(this.#directory, name);
      const functions = functionsByUrl.get(pathToFileURL(file).href) ?? [];
      const source = readFileSync(file, "utf8");
      const branches = branchesOf(source, functions);
      if (branches.length === 0) continue;
      const missed = branches.filter(({ isTaken }) => !isTaken);
      taken += branches.length - missed.length;
      all += branches.length;
      const missedLines = missed.map(({ offset }) => source.slice(0, offset).split("\n").length);
      const where = missed.length > 0 ? `  not: ${[...new Set(missedLines)].join(" ")}` : "";
      const part = `${branches.length - missed.length}/${branches.length}`;
      lines.push(`  ${basename(name).padEnd(16)} ${part.padStart(7)}${where}`);
    }
    const percent = ((100 * taken) / all).toFixed(1);
    return [`branches taken: ${taken} of ${all} (${percent} %)`, ...lines].join("\n");
  }
}

function branchesOf(source: string, functions: Functions): Branch[] {
  const text = stripTypeScriptTypes(source);
  const ranges = functions.flatMap((each) => each.ranges);
  const branches: Branch[] = [];
  const add = (offset: number, count: number) => branches.push({ offset, isTaken: count > 0 });

  walk(parse(text, { ecmaVersion: "latest", sourceType: "module" }), (node) => {
    const { start } = node;
    const count = countAt(ranges, start);
    if (node.type === "IfStatement" || node.type === "ConditionalExpression") {
      const { consequent, alternate } = node as unknown as Record<string, Node | null>;
      const thenCount = consequent ? countAt(ranges, consequent.start) : 0;
      add(start, thenCount);
      add(start, alternate ? countAt(ranges, alternate.start) : count - thenCount);
    } else if (node.type === "LogicalExpression") {
      const { left, right } = node as unknown as Record<"left" | "right", Node>;
      const rightCount = countAt(ranges, right.start);
      add(right.start, rightCount);
      add(right.start, countAt(ranges, left.start) - rightCount);
    } else if (node.type === "SwitchCase" || node.type === "CatchClause") add(start, count);
  });
  return branches;
}

/** How often the innermost block that V8 knows around this place was entered. */
function countAt(ranges: Range[], offset: number): number {
  let innermost: Range | undefined;
  for (const range of ranges) {
    const { startOffset, endOffset } = range;
    if (startOffset > offset || offset >= endOffset) continue;
    const size = endOffset - startOffset;
    if (!innermost || size <= innermost.endOffset - innermost.startOffset) innermost = range;
  }
  return innermost?.count ?? 0;
}

function walk(node: Node, visit: (node: Node) => void): void {
  visit(node);
  for (const value of Object.values(node)) {
    for (const child of Array.isArray(value) ? value : [value]) {
      if (typeof child?.type === "string") walk(child, visit);
    }
  }
}
