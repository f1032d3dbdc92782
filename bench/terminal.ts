// Question: how does the bench show what it does, and what came of it?
import type { Part, Spread } from "./figures.ts";

const LINE_COLUMNS = 100;

/** What is being done now, on one line of standard error that the next takes the place of. */
export function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text.slice(0, LINE_COLUMNS)}`);
}

/** A line that stays. */
export function say(text: string): void {
  progress("");
  process.stderr.write(`bench: ${text}\n`);
}

const range = ({ low, high, rounds }: Spread) => `${low} … ${high}, ${rounds} rounds`;

/** Ratios first; then what they are made of. */
export function table(name: string, part: Part): string {
  const rows = [
    ...Object.entries(part.ratios).map(([id, ratio]) => [
      id,
      `${ratio.median} x`,
      range(ratio),
      "",
    ]),
    ...Object.entries(part.figures).map(([id, figure]) => [
      id,
      `${figure.median} ${figure.unit}`,
      range(figure),
      figure.p99 === undefined ? "" : `p99 ${figure.p99}`,
    ]),
  ];
  const widths = [0, 1, 2].map((i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)));
  const lines = rows.map((row) =>
    row
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
      .join("  ")
      .trimEnd(),
  );
  const head = `${name}: ${part.question}${part.quick ? " (quick: too few to believe)" : ""}`;
  return [head, ...lines, ...part.notes.map((note) => `note: ${note}`), ""].join("\n");
}
