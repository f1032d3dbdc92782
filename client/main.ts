// Question: how does the client, as a program, become the command?
// Input:    arguments and environment, which the image or whoever starts the container chose.
// Output:   the command, in this process, with its secrets. Or one line of failure and an exit code.
//
// main() is a straight line: read what is wanted, check that it can be done, ask for the token, fetch,
// deliver, become. A container gets one token a start, so all that can fail without a token is tried
// before there is one.

import { deliver, openPlace, putOnStandardInput } from "./deliver.ts";
import { planEnvironment } from "./environment.ts";
import { becomeProgram, findProgram } from "./exec.ts";
import { fail, printLine, report } from "./failure.ts";
import { readOptions, usage } from "./options.ts";
import type { VaultPlace } from "./public.ts";
import {
  type FetchedSecrets,
  fetchSecrets,
  resolveVariables,
  type SecretRequest,
  secretRequests,
} from "./secrets.ts";
import { ENDING_SIGNALS, hasTerminal } from "./signals.ts";
import { openSession } from "./token.ts";
import { jsonOf } from "./values.ts";
import { Vault } from "./vault.ts";
import { nowMs } from "./wait.ts";
import { watch } from "./watch.ts";

/** What the client needs where its program is read from the disk for this container: 64 MB was enough. */
const MEMORY_MEGABYTES = 64;

/** Runs the client as a program, until this process is the command or has ended. */
export function start(): void {
  // As process 1 of a container, a process ignores a signal for which it has no handler.
  const endBySignal = (_name: string, number: number) => process.exit(128 + number);
  for (const signal of ENDING_SIGNALS) process.on(signal, endBySignal);
  // Apache's images are stopped by SIGWINCH. With a terminal it says that the window has another size.
  process.on("SIGWINCH", (name: string, number: number) => {
    if (!hasTerminal()) endBySignal(name, number);
  });
  const exitWithReport = (error: unknown) => process.exit(report(error));
  process.on("uncaughtException", exitWithReport);
  // Node's warnings, such as that on NODE_TLS_REJECT_UNAUTHORIZED, are for the application to print.
  process.removeAllListeners("warning");
  main(process.argv.slice(2)).then(() => process.exit(0), exitWithReport);
}

async function main(argv: readonly string[]): Promise<never> {
  if (!process.execve) requireNewerNode();
  // Whenever node:net closes a socket it reads process.stderr. That makes the stream, and the stream
  // sets O_NONBLOCK on a pipe that the application has too (measured on Node 22, 24 and 26).
  delete (process as Partial<NodeJS.Process>).stderr;

  // A copy, because process.env asks the C library at each access.
  const variables = { ...process.env };
  const options = readOptions(argv, variables);
  const command = options.command;
  if (!command[0]) usage("no command to run");
  const plan = planEnvironment(variables, options.keep, options.plain);
  const { plain, asksForToken } = plan;
  plan.warnings.forEach(printLine);
  // On standard input there are no files, but values under the same names.
  const asValues = plan.secretVariables.map((each) => ({ ...each, form: "value" as const }));
  const secretVariables = options.stdin ? asValues : plan.secretVariables;
  const program = findProgram(command[0], plain.PATH);
  if (secretVariables.length === 0) return await becomeProgram(program, command, plain);

  warnOfMemory();
  const requests = secretRequests(secretVariables, options.allowWrite);
  const place = openPlace(secretVariables, options);

  const deadlineMs = nowMs() + options.waitMs;
  const session = await openSession(options, deadlineMs);
  const vault = new Vault(session.grant.vault, session.token, deadlineMs);
  const secrets = await fetchSecrets(requests, vault);

  // All values come before the first file: where any reference fails, no file is written.
  const resolved = resolveVariables(secretVariables, secrets, session.token);
  const environment = asksForToken ? vaultVariables(session.grant.vault) : {};
  Object.assign(environment, plain);
  if (options.stdin) {
    const entries = resolved.map(({ name, value }) => [name, value]);
    putOnStandardInput(place, jsonOf(Object.fromEntries(entries)));
  } else {
    for (const each of resolved) {
      if (each.value === undefined) continue;
      environment[each.variable] = deliver(each, options.files, place);
    }
  }

  if (options.watch) {
    // execve closes the connections by itself, and in less time.
    vault.close();
    return await watch({
      program,
      environment,
      options,
      place,
      requests,
      session,
      secrets,
      resolved,
    });
  }
  warnOfLifetimes(requests, secrets);
  return await becomeProgram(program, command, environment);
}

function requireNewerNode(): never {
  fail(
    "config",
    `Node ${process.versions.node} cannot become another program: 22.15 or newer can`,
    "use a newer Node, or the client directory, which has its own",
  );
}

/** An application that talks to Vault itself has to know where it is: the image does not. */
function vaultVariables({ address, ca, namespace }: VaultPlace): Record<string, string> {
  const variables: Record<string, string> = { VAULT_ADDR: address };
  if (ca !== undefined) variables.VAULT_CACERT_BYTES = ca;
  if (namespace !== undefined) variables.VAULT_NAMESPACE = namespace;
  return variables;
}

/** Whoever is killed for memory says nothing: this line is what a person finds then. */
function warnOfMemory(): void {
  // The smaller of limit and reservation (cgroup v1: its soft limit). 0: Node cannot tell.
  const limitMegabytes = Math.floor(process.constrainedMemory() / 2 ** 20);
  if (limitMegabytes === 0 || limitMegabytes >= MEMORY_MEGABYTES) return;
  printLine(
    `warning: the memory limit or reservation is ${limitMegabytes} MB: if the container is killed (137), give it ${MEMORY_MEGABYTES} MB`,
  );
}

function warnOfLifetimes(requests: readonly SecretRequest[], secrets: FetchedSecrets): void {
  for (const { variable, requestKey } of requests) {
    const seconds = secrets.get(requestKey)?.lifetimeSeconds;
    if (!seconds) continue;
    printLine(`warning: ${variable} ends after ${seconds} s; --watch would renew it`);
  }
}
