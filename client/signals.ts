// Question: which signals can reach this process, and what does each want?
// Output:   lists for main.ts, which ends by them while it waits, and for watch.ts, which hands them on.
//           Not in them: those that cannot be caught; SIGSEGV, SIGBUS, SIGILL, SIGFPE and SIGTRAP, after
//           which no code can go on; SIGPIPE, SIGXFSZ and SIGCHLD, which are about this process's own
//           writes and child; and real-time signals, to which Node cannot listen.

import { readFileSync } from "node:fs";

/** By default they end a process, but not process 1 of a container, which has to ask for that. */
export const ENDING_SIGNALS: readonly NodeJS.Signals[] = [
  "SIGHUP",
  "SIGINT",
  "SIGQUIT",
  "SIGABRT",
  "SIGUSR2",
  "SIGALRM",
  "SIGTERM",
  "SIGSTKFLT",
  "SIGXCPU",
  "SIGVTALRM",
  "SIGPROF",
  "SIGIO",
  "SIGPWR",
  "SIGSYS",
];

/** SIGUSR1 comes only where Node was started with --inspect-port: see inspector.ts. */
export const SIGNALS_HANDED_ON: readonly NodeJS.Signals[] = [
  ...ENDING_SIGNALS,
  "SIGUSR1",
  "SIGCONT",
  "SIGTSTP",
  "SIGTTIN",
  "SIGTTOU",
  "SIGURG",
  "SIGWINCH",
];

/** A terminal sends these to all processes of its foreground group. */
export const TERMINAL_SIGNALS: readonly NodeJS.Signals[] = [
  "SIGINT",
  "SIGQUIT",
  "SIGTSTP",
  "SIGWINCH",
];

/** Says whether this process has a controlling terminal: tty_nr of proc_pid_stat(5). */
export function hasTerminal(): boolean {
  const stat = readFileSync("/proc/self/stat", "latin1");
  // The name of the program, in parentheses, may hold any character.
  const [, , , , terminal] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return terminal !== "0";
}
