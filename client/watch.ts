// Question:   how does an application keep secrets that change?
// Input:      its secrets, and Vault's answers while it runs.
// Output:     the client stays as the application's parent. It starts it, hands on signals and its exit
//             code, renews leases, fetches again what cannot be renewed, and replaces what changed. The
//             server renews the token, which lives as long as this process.
// Guaranteed: a healthy application is never stopped because something fails here. It keeps what it
//             has, and one line says so.

import type { ChildProcess } from "node:child_process";
import { deliver } from "./deliver.ts";
import type { SecretVariable } from "./environment.ts";
import { requireSizes } from "./exec.ts";
import { EXIT, errorCode, Failure, printLine } from "./failure.ts";
import type { Options } from "./options.ts";
import {
  type FetchedSecrets,
  fetchSecrets,
  resolveVariable,
  type Secret,
  type SecretRequest,
  UnreadableSecret,
} from "./secrets.ts";
import type { Session } from "./token.ts";
import { jsonOf, textOf } from "./values.ts";
import { Vault } from "./vault.ts";
import { nowMs, sleep } from "./wait.ts";

/** What the client has when the application starts. */
export type WatchedApplication = {
  readonly program: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly options: Options;
  readonly secretVariables: readonly SecretVariable[];
  readonly requests: readonly SecretRequest[];
  readonly session: Session;
  readonly secrets: FetchedSecrets;
};

const SIGNALS: readonly NodeJS.Signals[] = [
  "SIGHUP",
  "SIGINT",
  "SIGQUIT",
  "SIGTERM",
  "SIGUSR1",
  "SIGUSR2",
  "SIGWINCH",
  "SIGCONT",
];
/** A terminal sends these to all processes of its foreground group: the child has them already. */
const TERMINAL_SIGNALS: readonly NodeJS.Signals[] = ["SIGINT", "SIGQUIT", "SIGWINCH"];

/** After a failure the next attempt comes after so long, or sooner where --refresh is shorter. */
const RETRY_MS = 10_000;
/** Requests that are due within this time are made together: a change of two is then seen at once. */
const TOGETHER_MS = 1000;
/** A write that has no end is never repeated: it would change Vault each time. */
const NEVER_MS = 1e12;

/** Starts the application and stays until it ends: then this process ends as the application did. */
export async function watch(application: WatchedApplication): Promise<never> {
  const { options, secretVariables, session } = application;
  const child = startChild(application);

  function valuesOf(secrets: FetchedSecrets): unknown[] {
    return secretVariables.map((each) => resolveVariable(each, secrets, session.token));
  }

  let values = valuesOf(application.secrets);
  return await refreshForever(application, (secrets) => {
    const newValues = valuesOf(secrets);
    const changed = replaceChanged(secretVariables, values, newValues, options);
    if (changed.length === 0) return;

    values = newValues;
    printLine(`changed: ${changed.join(" ")}`);
    signalChange(child, options.onChange);
  });
}

/** Delivers the values that differ, and returns the names of their variables. */
function replaceChanged(
  secretVariables: readonly SecretVariable[],
  oldValues: readonly unknown[],
  newValues: readonly unknown[],
  options: Options,
): string[] {
  const changed: string[] = [];
  for (const [index, secretVariable] of secretVariables.entries()) {
    const { variable, form } = secretVariable;
    const value = newValues[index];
    if (jsonOf(value) === jsonOf(oldValues[index])) continue;

    changed.push(variable);
    // The application is ended, and its next start fetches the value.
    if (options.onChange === "exit") continue;
    // An optional secret that is there no more: the application keeps what it has.
    if (value === undefined) continue;
    if (form === "value" || options.stdin) {
      printLine(
        `warning: the application keeps the old ${variable}: take a file or --on-change exit`,
      );
    } else {
      deliver(secretVariable, value, options.files);
    }
  }
  return changed;
}

function signalChange(child: ChildProcess, onChange: string): void {
  if (onChange === "none") return;
  if (onChange === "exit") {
    // To the restart policy this must be a failure, whatever the application makes of SIGTERM.
    child.prependListener("exit", () => process.exit(EXIT.tryAgain));
    child.kill();
    return;
  }
  child.kill(onChange as NodeJS.Signals);
}

/** Starts the application. When it ends this process ends: with its exit code, or 128+n as a shell. */
function startChild({ program, environment, options }: WatchedApplication): ChildProcess {
  const { spawn } = process.getBuiltinModule("node:child_process");
  const { signals } = process.getBuiltinModule("node:os").constants;
  const isTerminal = process.getBuiltinModule("node:tty").isatty(0);
  const [argv0 = "", ...argv] = options.command;
  requireSizes(options.command, environment);

  // The handlers come before the child: a signal that comes while it starts is handed on when this
  // function returns.
  for (const signal of SIGNALS) {
    process.removeAllListeners(signal);
    process.on(signal, () => {
      if (isTerminal && TERMINAL_SIGNALS.includes(signal)) return;
      child.kill(signal);
    });
  }

  const child = spawn(program, argv, { argv0, env: environment, stdio: "inherit" });
  child.on("error", (error) => {
    printLine(`${program}: cannot be run: ${errorCode(error)}`);
    process.exit(EXIT.cannotRun);
  });
  child.on("exit", (code, signal) => process.exit(signal ? 128 + signals[signal] : (code ?? 0)));
  return child;
}

/**
 * Calls `onFetched` with all secrets whenever some were fetched again. It never ends and never fails:
 * what goes wrong is printed once, and tried again.
 *
 * A lease is renewed after about two thirds of its time, and its secret fetched again where Vault does
 * not renew it; a certificate is fetched again by then. What has no end (KV) is fetched again every
 * `refreshMs`, or a little sooner.
 */
async function refreshForever(
  { options, requests, session, secrets }: WatchedApplication,
  onFetched: (secrets: FetchedSecrets) => void,
): Promise<never> {
  const schedule = new Schedule(requests, secrets, options.refreshMs);
  const current = new Map(secrets);
  const warnings = new Warnings();

  for (;;) {
    await sleep(Math.max(0, schedule.nextMs() - nowMs()));
    const due = schedule.due();
    const vault = new Vault(session.grant.vault, session.token, nowMs() + options.waitMs);
    let problem = "";
    try {
      const ended = await renewLeases(due, current, schedule, vault);
      const fetched = await fetchSecrets(ended, vault);
      for (const request of ended) {
        const refusal = keepFetched(request, fetched, current);
        if (refusal) problem = refusal;
        schedule.planNext(request, current.get(request.requestKey));
      }
      if (ended.length > 0) onFetched(current);
    } catch (error) {
      problem = error instanceof Failure ? error.message : `internal error: ${errorCode(error)}`;
    }
    vault.close();

    warnings.print(due, problem);
    if (problem) schedule.retry(due);
  }
}

/** When each request is due. One request stands for all variables that share it. */
class Schedule {
  readonly #requests: readonly SecretRequest[];
  readonly #refreshMs: number;
  readonly #dueMs = new Map<string, number>();

  constructor(requests: readonly SecretRequest[], secrets: FetchedSecrets, refreshMs: number) {
    this.#refreshMs = refreshMs;
    this.#requests = [...new Map(requests.map((each) => [each.requestKey, each])).values()];
    for (const request of this.#requests) {
      this.planNext(request, secrets.get(request.requestKey));
    }
  }

  /** Returns when the next request is due, on the clock of nowMs(). */
  nextMs(): number {
    return Math.min(...this.#dueMs.values());
  }

  due(): SecretRequest[] {
    const untilMs = nowMs() + TOGETHER_MS;
    return this.#requests.filter(({ requestKey }) => (this.#dueMs.get(requestKey) ?? 0) <= untilMs);
  }

  /** Plans by the lifetime of what the request gave. */
  planNext(request: SecretRequest, secret: Secret | UnreadableSecret | undefined): void {
    const hasLifetime = secret && !(secret instanceof UnreadableSecret);
    this.planWithin(request, hasLifetime ? secret.lifetimeSeconds : 0);
  }

  /** Plans for two thirds of this time. 0 stands for what has no end. */
  planWithin(request: SecretRequest, lifetimeSeconds: number): void {
    const twoThirdsMs = (lifetimeSeconds * 2000) / 3;
    const endlessMs = request.reference.kind === "write" ? NEVER_MS : this.#refreshMs;
    this.#planIn(request, twoThirdsMs || endlessMs);
  }

  retry(requests: readonly SecretRequest[]): void {
    for (const request of requests) this.#planIn(request, Math.min(this.#refreshMs, RETRY_MS));
  }

  /** Up to a fifth sooner, at random: containers that start together do not stay together. */
  #planIn({ requestKey }: SecretRequest, delayMs: number): void {
    this.#dueMs.set(requestKey, nowMs() + delayMs * (0.8 + Math.random() / 5));
  }
}

/** Prints a problem once for as long as it lasts for any of the requests that it concerns. */
class Warnings {
  readonly #printed = new Map<string, string>();

  print(requests: readonly SecretRequest[], problem: string): void {
    if (problem && ![...this.#printed.values()].includes(problem)) {
      printLine(`warning: the application keeps what it has: ${problem}`);
    }
    for (const { requestKey } of requests) this.#printed.set(requestKey, problem);
  }
}

/** Renews what has a lease, and returns the requests whose secrets have to be fetched again. */
async function renewLeases(
  requests: readonly SecretRequest[],
  secrets: FetchedSecrets,
  schedule: Schedule,
  vault: Vault,
): Promise<SecretRequest[]> {
  const ended: SecretRequest[] = [];
  for (const request of requests) {
    const leaseSeconds = await renewLease(secrets.get(request.requestKey), vault);
    if (leaseSeconds > 0) schedule.planWithin(request, leaseSeconds);
    else ended.push(request);
  }
  return ended;
}

/** Returns the seconds that the lease has from now on; 0 where the secret must be fetched again. */
async function renewLease(
  secret: Secret | UnreadableSecret | undefined,
  vault: Vault,
): Promise<number> {
  if (!secret || secret instanceof UnreadableSecret || !secret.leaseId) return 0;

  const body = JSON.stringify({ lease_id: secret.leaseId, increment: secret.lifetimeSeconds });
  const response = await vault.request({ path: "sys/leases/renew", body, returnsDenial: true });
  if (response.status !== 200) return 0;
  const leaseSeconds = Number(textOf(response.body?.lease_duration ?? 0));
  // Near the end of its longest life Vault renews a lease for ever less.
  return leaseSeconds > secret.lifetimeSeconds / 2 ? leaseSeconds : 0;
}

/**
 * Puts what was fetched in place of the secret before. Returns a problem in words where Vault gave no
 * secret: then the one before is kept. One that was never there may stay absent.
 */
function keepFetched(
  { requestKey, variable }: SecretRequest,
  fetched: FetchedSecrets,
  current: Map<string, Secret | UnreadableSecret>,
): string | undefined {
  const secret = fetched.get(requestKey);
  if (secret && !(secret instanceof UnreadableSecret)) {
    current.set(requestKey, secret);
    return undefined;
  }
  if (current.get(requestKey) instanceof UnreadableSecret) return undefined;
  return `${variable}: ${secret?.message}; if the token is lost, a restart gets another`;
}
