// Question: how does the demo speak, and what does it count as shown?
// Input:    sentences, and pairs of what must be and what was seen.
// Promise:  lines of at most 100 columns (a long word of a command aside: it is to be copied); a
//           little colour at a terminal, elsewhere plain text. The first pair that differs ends the
//           story.
import { isDeepStrictEqual } from "node:util";

const widthMax = 100;
const atTerminal = process.stdout.isTTY === true;
const inColour = atTerminal && !process.env.NO_COLOR && process.env.TERM !== "dumb";
const width = Math.min(widthMax, (atTerminal && process.stdout.columns) || widthMax);

let steps = 0;
let checks = 0;

/** A claim of the demo that does not hold. */
export class NotShown extends Error {
  constructor(why: string) {
    super(`not shown: ${why}`);
  }
}

export function told(): { steps: number; checks: number } {
  return { steps, checks };
}

export function title(text: string): void {
  write("", bold(text));
}

/** What is about to be shown. */
export function step(heading: string, explanation: string): void {
  steps++;
  write("", bold(`${steps}. ${heading}`));
  say(explanation, 3);
}

export function say(text: string, indent = 0): void {
  for (const line of wrap(text, width - indent)) write(" ".repeat(indent) + line);
}

/** A command as it could be typed, broken between its words. */
export function command(words: string[]): void {
  let line = "   $";
  for (const word of words) {
    if (line.length + word.length + 3 > width) {
      write(dim(`${line} \\`));
      line = "      ";
    }
    line += ` ${word}`;
  }
  write(dim(line));
}

/** Throws NotShown unless `seen` equals `wanted`; both are printed then, so neither is a secret. */
export function check(claim: string, { wanted, seen }: { wanted: unknown; seen: unknown }): void {
  const holds = isDeepStrictEqual(seen, wanted);
  const [first = "", ...rest] = wrap(claim, width - 6);
  write(`   ${mark(holds)} ${first}`, ...rest.map((line) => `      ${line}`));
  if (!holds) throw new NotShown(`${claim}\nexpected ${text(wanted)}\nsaw      ${text(seen)}`);
  checks++;
}

/** A check of one fact of several, in columns: its name, what of it is shown, and a remark. */
export function fact(
  name: string,
  shown: string | number,
  remark: string,
  wanted: unknown,
  seen: unknown,
): void {
  check(`${name.padEnd(18)} ${String(shown).padEnd(20)} ${remark}`, { wanted, seen });
}

export function complain(message: string): void {
  for (const line of wrap(`demo: ${message}`, widthMax)) process.stderr.write(`${line}\n`);
}

function text(value: unknown): string {
  return JSON.stringify(value) ?? String(value);
}

/** The story is broken off: what is still under way has nothing to say. */
export function fallSilent(): void {
  silent = true;
}
let silent = false;

function write(...lines: string[]): void {
  if (silent) return;
  for (const line of lines) process.stdout.write(`${line}\n`);
}

/** Breaks at spaces, inside a word only where it is longer than a line. Columns stay columns. */
function wrap(paragraph: string, columns: number): string[] {
  const line = new RegExp(`(.{1,${columns}})(?: +|$)|(.{${columns}})`, "gm");
  const lines = paragraph.matchAll(line);
  return [...lines].map(([, atSpace, insideWord]) => atSpace ?? insideWord ?? "");
}

function mark(holds: boolean): string {
  if (!atTerminal) return holds ? "ok" : "NO";
  const [sign, colour] = holds ? ["✓", 32] : ["✗", 31];
  return ` ${inColour ? `\x1b[${colour}m${sign}\x1b[0m` : sign}`;
}

function bold(words: string): string {
  return inColour ? `\x1b[1m${words}\x1b[0m` : words;
}

function dim(words: string): string {
  return inColour ? `\x1b[2m${words}\x1b[0m` : words;
}
