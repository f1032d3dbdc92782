// How does the client fail? With one exit code, one line that says what and where, and a hint
// where a person can act. Messages name variables, references and paths; whoever throws a Failure
// never puts a token or a secret's value in it (invariants 8 and 11).

import { writeSync } from "node:fs";

/** sysexits(3), and what a shell uses for a command that it cannot run. */
export const EXIT = {
  usage: 64,
  noSuchSecret: 66,
  vault: 69,
  internal: 70,
  tryAgain: 75,
  unwrapAlarm: 76,
  refused: 77,
  config: 78,
  cannotRun: 126,
  notFound: 127,
} as const;

export class Failure extends Error {
  readonly exitCode: number;
  readonly hint: string | undefined;

  constructor(exitCode: number, message: string, hint?: string) {
    super(message);
    this.exitCode = exitCode;
    this.hint = hint;
  }
}

export function fail(exitCode: keyof typeof EXIT, message: string, hint?: string): never {
  throw new Failure(EXIT[exitCode], message, hint);
}

/** Prints the failure and gives its exit code. Of anything that is no Failure only the kind is
 * printed: the messages of Node's own errors quote the arguments, which may be secrets. */
export function report(error: unknown): number {
  if (!(error instanceof Failure)) {
    say(`internal error: ${error instanceof Error ? error.name : typeof error}, ${codeOf(error)}`);
    return EXIT.internal;
  }
  say(error.message);
  if (error.hint) say(`hint: ${error.hint}`);
  return error.exitCode;
}

/** Standard error, synchronously: console and process.stderr set O_NONBLOCK on the pipe that the
 * application will inherit. */
export function say(line: string): void {
  try {
    writeSync(2, `authproxy: ${printable(line)}\n`);
  } catch {
    // A closed or full standard error must not change the exit code.
  }
}

/** The code of what a Node call threw, as "ENOENT". */
export function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "no code";
}

/** Names, paths and commands come from outside: no terminal sequences, no second line. */
function printable(text: string): string {
  return text.slice(0, 1000).replace(/[\p{C}\u2028\u2029]/gu, (character) => {
    return `\\u{${character.codePointAt(0)?.toString(16)}}`;
  });
}
