// Question: does the person at the terminal want what was just shown? Guaranteed: where nobody can
// be asked the answer is no, unless --yes was given.
import { createInterface } from "node:readline/promises";
import { Failure } from "./terminal.ts";

/** Returns where the answer is yes, else throws the Failure "usage". */
export async function confirm(question: string, isConfirmed = false): Promise<void> {
  if (isConfirmed) return;
  if (!process.stdin.isTTY) {
    throw new Failure(
      "usage",
      "nothing is done, because standard input is not a terminal to ask at",
      "--yes does it without asking, --dry-run only shows it",
    );
  }
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  const answer = await terminal.question(`${question} [y/N] `);
  terminal.close();
  if (!/^y(es)?$/i.test(answer.trim())) throw new Failure("usage", "nothing is done");
}
