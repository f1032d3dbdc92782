// How does an application keep secrets that change? The client stays as its parent: starts it, hands
// on signals and its end, renews leases, fetches again what has none, and puts what changed in place.
// The token is the server's to renew: it lives as long as this process.
//
// A healthy application is never stopped because of what fails here: it keeps what it has, and one
// line says so.

import type { ChildProcess } from "node:child_process";
import { deliver } from "./deliver.ts";
import type { Wanted } from "./environment.ts";
import { requireSizes } from "./exec.ts";
import { codeOf, EXIT, say } from "./failure.ts";
import { type Kept, refresh } from "./refresh.ts";
import type { Secrets } from "./secrets.ts";
import { resolveValue } from "./session.ts";

export type Watched = Kept & {
  readonly program: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly wanted: readonly Wanted[];
};

const SIGNALS: NodeJS.Signals[] = [
  "SIGHUP",
  "SIGINT",
  "SIGQUIT",
  "SIGTERM",
  "SIGUSR1",
  "SIGUSR2",
  "SIGWINCH",
  "SIGCONT",
];
/** A terminal sends these to all processes at once. */
const OF_TERMINAL: NodeJS.Signals[] = ["SIGINT", "SIGQUIT", "SIGWINCH"];

export async function watch(watched: Watched): Promise<never> {
  const { options, wanted, session } = watched;
  const { onChange, stdin } = options;
  const child = startChild(watched);
  const valuesOf = (secrets: Secrets) =>
    wanted.map((each) => resolveValue(each, secrets, session.token));
  let before = valuesOf(watched.secrets);

  return await refresh(watched, (secrets) => {
    const values = valuesOf(secrets);
    let names = "";
    for (const [index, each] of wanted.entries()) {
      const value = values[index];
      if (JSON.stringify(value) === JSON.stringify(before[index])) continue;
      names += ` ${each.variable}`;
      if (onChange === "exit" || value === undefined) continue;
      if (!stdin && each.form !== "value") deliver(each, value, options);
      else
        say(`warning: what runs keeps the old ${each.variable}: take a file or --on-change exit`);
    }
    if (!names) return;
    before = values;
    say(`changed:${names}`);
    if (onChange === "exit") {
      // For the restart policy a failure, whatever the application makes of SIGTERM.
      child.prependListener("exit", () => process.exit(EXIT.tryAgain));
      child.kill();
    } else if (onChange !== "none") child.kill(onChange as NodeJS.Signals);
  });
}

/** Ends this process when the child does: with its code, or 128+n as a shell. */
function startChild({ program, environment, options }: Watched): ChildProcess {
  const { spawn } = process.getBuiltinModule("node:child_process");
  const { signals } = process.getBuiltinModule("node:os").constants;
  const isTerminal = process.getBuiltinModule("node:tty").isatty(0);
  const [name = "", ...rest] = options.command;
  requireSizes(options.command, environment);
  // Before the child is there: what comes while it starts is handed on when this function is done.
  for (const signal of SIGNALS) {
    process.removeAllListeners(signal);
    process.on(signal, () => {
      if (!(isTerminal && OF_TERMINAL.includes(signal))) child.kill(signal);
    });
  }
  const child = spawn(program, rest, { argv0: name, env: environment, stdio: "inherit" });
  child.on("error", (error) => {
    say(`${program}: cannot be run: ${codeOf(error)}`);
    process.exit(EXIT.cannotRun);
  });
  child.on("exit", (code, signal) => process.exit(signal ? 128 + signals[signal] : (code ?? 0)));
  return child;
}
