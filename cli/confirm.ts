// Question: does a person want what was just shown? Guaranteed: where nobody can be asked the answer
// is no, unless --yes was given.
import { createInterface } from "node:readline/promises";
import { Failure } from "./terminal.ts";

export async function confirm(question: string, yes = false): Promise<void> {
  const hint = "--yes does it without asking, --dry-run only shows it";
  if (yes) return;
  if (!process.stdin.isTTY)
    throw new Failure("usage", "nothing is done: nobody can be asked", hint);
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  const answer = await terminal.question(`${question} [y/N] `);
  terminal.close();
  if (!/^y(es)?$/i.test(answer.trim())) throw new Failure("usage", "nothing is done");
}
