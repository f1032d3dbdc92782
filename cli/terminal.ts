// Question: how do the commands for people speak?
// Guaranteed: what a container chose (names, labels, paths) reaches a terminal without control
// characters; colours only where util.styleText finds a terminal that wants them (NO_COLOR).
import { stripVTControlCharacters, styleText } from "node:util";
import { EXIT, printable } from "../client/failure.ts";
import type { Json } from "../server/json.ts";

export { EXIT, printable };

export class Failure extends Error {
  readonly exitCode: number;
  readonly hint: string | undefined;

  constructor(exitCode: keyof typeof EXIT, message: string, hint?: string) {
    super(message);
    this.exitCode = EXIT[exitCode];
    this.hint = hint;
  }
}

export type Colour = "bold" | "dim" | "red" | "green" | "yellow";

export const paint = (colour: Colour, text: string) => styleText(colour, text);

const valueMax = 160;

/** A value as JSON; a long one is cut, --json has it whole. */
export function shown(value: Json | undefined): string {
  const text = value === undefined ? "nothing" : printable(JSON.stringify(value));
  return text.length > valueMax ? `${text.slice(0, valueMax)}…` : text;
}

/** Rows as lines; every column but the last is as wide as its widest cell, within reason. */
export function columns(rows: string[][], indent = "  "): string[] {
  const widthMax = 56;
  const length = (cell = "") => stripVTControlCharacters(cell).length;
  const widths = rows.reduce<number[]>(
    (all, row) => row.map((cell, i) => Math.max(all[i] ?? 0, Math.min(length(cell), widthMax))),
    [],
  );
  return rows.map((row) => {
    const cells = row.map(
      (cell, i) => cell + " ".repeat(Math.max(0, (widths[i] ?? 0) - length(cell))),
    );
    return `${indent}${cells.join("  ")}`.trimEnd();
  });
}

export function print(lines: string[]): void {
  process.stdout.write(`${lines.join("\n")}\n`);
}

export function printJson(value: object): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}

/** On standard error, beside what is on standard output. */
export function remark(kind: "error" | "warning" | "hint" | "note", text: string): void {
  process.stderr.write(`authproxy: ${kind}: ${printable(text)}\n`);
}
