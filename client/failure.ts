// Question:   how does the client fail?
// Output:     one exit code, one line on standard error that says what is wrong and where, and a hint
//             where a person can do something about it.
// Guaranteed: messages name variables, references and paths. Whoever throws a Failure never puts a
//             token or the value of a secret in it (invariants 8 and 11).
//
// cli/terminal.ts takes EXIT and printable() from here.

import { writeSync } from "node:fs";

/** sysexits(3), and the two codes of a shell for a command that it cannot run. */
export const EXIT = {
  usage: 64,
  /** There is no such secret or key; in cli/, no such file or container. */
  noInput: 66,
  /** Vault cannot be reached or is not trusted; in cli/, the engine too. */
  unavailable: 69,
  internal: 70,
  tryAgain: 75,
  /** The wrapped token was opened or replaced by somebody else. */
  unwrapAlarm: 76,
  refused: 77,
  config: 78,
  cannotRun: 126,
  notFound: 127,
} as const;

/** Only the first part of a long line is printed. */
const LINE_CHARACTERS_MAX = 1000;

export class Failure extends Error {
  readonly exitCode: number;
  readonly hint: string | undefined;

  constructor(exitCode: number, message: string, hint?: string) {
    super(message);
    this.exitCode = exitCode;
    this.hint = hint;
  }
}

/** Throws a Failure with the exit code of this name. The hint says what to do. */
export function fail(exitName: keyof typeof EXIT, message: string, hint?: string): never {
  throw new Failure(EXIT[exitName], message, hint);
}

/**
 * Prints the failure and returns its exit code. Of an error that is not a Failure only the kind is
 * printed: the messages of Node's errors quote the arguments, which may be secrets.
 */
export function report(error: unknown): number {
  if (error instanceof Failure) {
    printLine(error.message);
    if (error.hint) printLine(`hint: ${error.hint}`);
    return error.exitCode;
  }

  const kind = error instanceof Error ? error.name : typeof error;
  printLine(`internal error: ${kind}, ${errorCode(error)}`);
  return EXIT.internal;
}

/**
 * Writes a line to standard error, synchronously: console and process.stderr would set O_NONBLOCK on
 * a pipe that the application inherits.
 */
export function printLine(line: string): void {
  try {
    writeSync(2, `authproxy: ${printable(line.slice(0, LINE_CHARACTERS_MAX))}\n`);
  } catch {
    // A closed or full standard error must not change the exit code.
  }
}

/** Returns the code of what a Node function threw, such as "ENOENT". */
export function errorCode(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "no code";
}

/**
 * Replaces control characters, line ends and marks that change the direction of writing by their
 * code. Names, paths and commands come from outside: they must not move the cursor, change colours or
 * begin a second line.
 */
export function printable(text: string): string {
  return text.replace(/[\p{C}\u2028\u2029]/gu, (character) => {
    return `\\u{${character.codePointAt(0)?.toString(16)}}`;
  });
}
