// Question: what do the documents say that can be run?
// Output:   each of their code blocks, fenced or indented. In front of one that is not run stands
//           <!-- not run: REASON -->. A test that runs a block takes its text from here, so that the
//           two cannot part; documents.test.ts looks that no block is left.
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");
export const documents = globSync(["*.md", "{docs,examples,test}/**/*.md"], { cwd: root }).sort();

export type Block = {
  document: string;
  line: number;
  end: number;
  section: string;
  language: string;
  text: string;
  reason: string | undefined;
};

export function blocksIn(document: string, text = readDocument(document)): Block[] {
  const lines = text.split("\n");
  const found: Block[] = [];
  let section = "";
  let before = ""; // the last line that was not empty
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at] ?? "";
    const [, fence, language = ""] = /^ *(```+)(\w*)/.exec(line) ?? [];
    const isIndented = /^ {4}/.test(line) && /^$|^<!--.*-->$/.test(lines[at - 1] ?? "");
    if (fence || isIndented) {
      const begin = at;
      if (fence) while (!lines[++at]?.trim().startsWith(fence) && at < lines.length);
      else while (/^(?: {4}|$)/.test(lines[at + 1] ?? "end")) at++;
      const content = lines.slice(fence ? begin + 1 : begin, fence ? at : at + 1);
      const [, reason] = /^<!-- not run: (.+) -->$/.exec(before) ?? [];
      const text = `${dedent(content).join("\n").trimEnd()}\n`;
      found.push({ document, line: begin + 1, end: at + 1, section, language, text, reason });
    }
    section = /^#+ (.*)$/.exec(line)?.[1] ?? section;
    before = line || before;
  }
  return found;
}

function dedent(lines: string[]): string[] {
  const depths = lines.filter(Boolean).map((line) => line.search(/\S|$/));
  return lines.map((line) => line.slice(Math.min(...depths)));
}

/** Without what is code. */
export function proseOf(document: string): string {
  const lines = readDocument(document).split("\n");
  for (const { line, end } of blocksIn(document)) lines.fill("", line - 1, end);
  return lines.join("\n").replace(/`[^`]*`/g, "");
}

export function readDocument(document: string): string {
  return readFileSync(join(root, document), "utf8");
}

/** The text of the block of this document that holds these words. */
export function block(document: string, words: string): string {
  const found = blocksIn(document).filter(({ text }) => text.includes(words));
  const [only, ...others] = found;
  if (!only || others.length > 0)
    throw new Error(`${document}: ${found.length} blocks hold ${JSON.stringify(words)}`);
  return only.text;
}

/** All shell of a document that is run, in its order. */
export function shell(document: string): Block[] {
  return blocksIn(document).filter(({ language, reason }) => language === "sh" && !reason);
}

/** What stands in a terminal: the words behind each `$ authproxy`, and what it answers. */
export function terminal(text: string): { words: string[]; output: string }[] {
  const parts = text.split(/^\$ authproxy /m).slice(1);
  return parts.map((part) => {
    const [command = "", ...lines] = part.split("\n");
    return { words: command.replace(/ +#.*/, "").split(" "), output: lines.join("\n") };
  });
}

/** Text that says this, wherever its lines are broken; "…" stands for anything. */
export function asShown(text: string): RegExp {
  const literal = (part: string) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const words = (part: string) => part.split(/\s+/).map(literal).join("\\s+");
  return new RegExp(text.trim().split("…").map(words).join("[\\s\\S]*"));
}
