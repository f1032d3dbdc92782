// The client, from its arguments to the command that it becomes: read what is wanted, look whether
// it can be done, ask for the token, fetch, deliver, become.

import type { Grant } from "./answer.ts";
import { deliver, putOnStandardInput, requireMemory, SHARED_MEMORY } from "./deliver.ts";
import { planEnvironment, type Wanted } from "./environment.ts";
import { become } from "./exec.ts";
import { fail, say } from "./failure.ts";
import { type Options, readOptions, usage } from "./options.ts";
import { findProgram } from "./program.ts";
import { type Asked, fetchSecrets, type Secrets, Unreadable } from "./secrets.ts";
import { askedBy, openSession, resolveValue } from "./session.ts";
import { Vault } from "./vault.ts";
import { nowMs } from "./wait.ts";
import { watch } from "./watch.ts";

export async function main(argv: readonly string[]): Promise<never> {
  if (!process.execve) tooOld();
  // Node's net looks at process.stderr whenever it closes a socket. That makes the stream, and the
  // stream sets O_NONBLOCK on a pipe that the application has too (measured on Node 22, 24, 26).
  delete (process as Partial<NodeJS.Process>).stderr;
  const options = readOptions(argv, process.env);
  const { command } = options;
  if (!command[0]) usage("no command to run");
  const { plain, wanted, login } = planEnvironment(process.env, options.keep);
  const program = findProgram(command[0], process.env.PATH);
  if (wanted.length === 0) return await become(program, command, plain);

  const asked = askedBy(wanted, options.allowWrite);
  requirePlaces(wanted, options);
  const deadlineMs = nowMs() + options.waitMs;
  const session = await openSession(options, deadlineMs);
  const vault = new Vault(session.grant.vault, session.token, deadlineMs);
  const secrets = await fetchSecrets(asked, vault);
  // All values before the first file: where any reference fails, none is written.
  const values = wanted.map((each) => resolveValue(each, secrets, session.token));
  const environment = { ...(login && vaultVariables(session.grant)), ...plain };
  if (options.stdin) {
    putOnStandardInput(
      JSON.stringify(Object.fromEntries(wanted.map(({ name }, index) => [name, values[index]]))),
    );
  } else {
    for (const [index, each] of wanted.entries()) {
      const value = values[index];
      if (value !== undefined) environment[each.variable] = deliver(each, value, options);
    }
  }
  if (options.watch) {
    vault.close(); // which execve does by itself, and in less time
    return await watch({ program, environment, options, wanted, asked, session, secrets });
  }
  warnOfLeases(asked, secrets);
  return await become(program, command, environment);
}

/** Nothing on a disk, and nothing twice in one place. */
function requirePlaces(wanted: readonly Wanted[], { stdin, files }: Options): void {
  const placed = wanted.filter(({ form }) => stdin || form !== "value");
  const names = placed.map(({ name }) => name);
  const twice = placed.find(({ name }, index) => names.indexOf(name) < index);
  if (twice) fail("config", `${twice.variable}: another variable has the name ${twice.name} too`);
  if (placed.length > 0) requireMemory(stdin ? SHARED_MEMORY : files);
}

/** An application that talks to Vault itself has to know where it is, as the image does not. */
function vaultVariables({ vault }: Grant): Record<string, string> {
  const { address, ca, namespace } = vault;
  return {
    VAULT_ADDR: address,
    ...(ca !== undefined && { VAULT_CACERT_BYTES: ca }),
    ...(namespace !== undefined && { VAULT_NAMESPACE: namespace }),
  };
}

function warnOfLeases(asked: readonly Asked[], secrets: Secrets): void {
  for (const { variable, request } of asked) {
    const secret = secrets.get(request);
    if (!secret || secret instanceof Unreadable || secret.leaseSeconds === 0) continue;
    say(`warning: ${variable} ends after ${secret.leaseSeconds} s; --watch would renew it`);
  }
}

function tooOld(): never {
  fail(
    "config",
    `Node ${process.versions.node} cannot become another program: 22.15 or newer can`,
    "use a newer Node, or the client directory, which carries its own",
  );
}
