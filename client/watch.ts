// Question:   how does an application keep secrets that change?
// Input:      its secrets, and Vault's answers while it runs.
// Output:     the client stays as the application's parent. It starts it, hands on signals and its exit
//             code, renews leases, fetches again what cannot be renewed, and replaces what changed. The
//             server renews the token, which lives as long as this process.
// Guaranteed: a healthy application is never stopped because something fails here. It keeps what it
//             has, and one line says so.

import type { ChildProcess } from "node:child_process";
import { deliver } from "./deliver.ts";
import type { ResolvedVariable } from "./environment.ts";
import { requireSizes } from "./exec.ts";
import { EXIT, errorCode, Failure, printLine } from "./failure.ts";
import type { Options } from "./options.ts";
import {
  type FetchedSecrets,
  fetchSecrets,
  resolveVariables,
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
  /** From openPlace(). */
  readonly place: number;
  readonly requests: readonly SecretRequest[];
  readonly session: Session;
  readonly secrets: FetchedSecrets;
  readonly resolved: readonly ResolvedVariable[];
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
  const { options, session } = application;
  const child = startChild(application);
  let current = application.resolved;
  return await refreshForever(application, (secrets) => {
    const resolved = resolveVariables(current, secrets, session.token);
    const changed = replaceChanged(current, resolved, application);
    if (changed.length === 0) return;

    current = resolved;
    printLine(`changed: ${changed.join(" ")}`);
    if (options.onChange === "exit") {
      // To the restart policy this must be a failure, whatever the application makes of SIGTERM.
      child.prependListener("exit", () => process.exit(EXIT.tryAgain));
      child.kill();
    } else if (options.onChange !== "none") {
      child.kill(options.onChange as NodeJS.Signals);
    }
  });
}

/** Delivers the values that differ, and returns the names of their variables. */
function replaceChanged(
  current: readonly ResolvedVariable[],
  resolved: readonly ResolvedVariable[],
  { options, place }: WatchedApplication,
): string[] {
  const changed: string[] = [];
  for (const [index, each] of resolved.entries()) {
    const { variable, form, value } = each;
    if (jsonOf(value) === jsonOf(current[index]?.value)) continue;

    changed.push(variable);
    // The application is ended, and its next start fetches the value.
    if (options.onChange === "exit") continue;
    // An optional secret that is there no more: the application keeps what it has.
    if (value === undefined) continue;
    if (form === "value") {
      printLine(
        `warning: the application keeps the old ${variable}: take a file or --on-change exit`,
      );
    } else {
      deliver(each, options.files, place);
    }
  }
  return changed;
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

/** A request, what it gave last, and when it is due again. It stands for all variables that share it. */
type TrackedRequest = {
  readonly request: SecretRequest;
  /** After so long it is due again where nothing ends. */
  readonly endlessMs: number;
  secret: Secret | UnreadableSecret;
  /** On the clock of nowMs(). */
  dueMs: number;
  /** What went wrong last, or "". */
  problem: string;
};

/**
 * Calls `onFetched` with all secrets whenever some were fetched again. It never ends and never fails:
 * what goes wrong is printed once, and tried again.
 */
async function refreshForever(
  { options, requests, session, secrets }: WatchedApplication,
  onFetched: (secrets: FetchedSecrets) => void,
): Promise<never> {
  const tracked = new Map<string, TrackedRequest>();
  for (const request of requests) {
    const secret = secrets.get(request.requestKey);
    if (!secret) continue;
    const endlessMs = request.reference.kind === "write" ? NEVER_MS : options.refreshMs;
    const dueMs = dueAfter(secret.lifetimeSeconds, endlessMs);
    tracked.set(request.requestKey, { request, endlessMs, secret, dueMs, problem: "" });
  }
  const all = [...tracked.values()];

  for (;;) {
    const nextMs = Math.min(...all.map(({ dueMs }) => dueMs));
    await sleep(Math.max(0, nextMs - nowMs()));
    const untilMs = nowMs() + TOGETHER_MS;
    const due = all.filter(({ dueMs }) => dueMs <= untilMs);

    const vault = new Vault(session.grant.vault, session.token, nowMs() + options.waitMs);
    let problem = "";
    try {
      const ended = await renewLeases(due, vault);
      problem = await fetchEnded(ended, vault);
      if (ended.length > 0) {
        onFetched(new Map(all.map(({ request, secret }) => [request.requestKey, secret])));
      }
    } catch (error) {
      problem = error instanceof Failure ? error.message : `internal error: ${errorCode(error)}`;
    }
    vault.close();

    // A problem is printed once for as long as any request has it.
    if (problem && !all.some((each) => each.problem === problem)) {
      printLine(`warning: the application keeps what it has: ${problem}`);
    }
    for (const each of due) {
      each.problem = problem;
      if (problem) each.dueMs = randomlySooner(Math.min(options.refreshMs, RETRY_MS));
    }
  }
}

/** Renews what has a lease, and returns the requests whose secrets have to be fetched again. */
async function renewLeases(
  due: readonly TrackedRequest[],
  vault: Vault,
): Promise<TrackedRequest[]> {
  const ended: TrackedRequest[] = [];
  for (const each of due) {
    const leaseSeconds = await renewLease(each.secret, vault);
    if (leaseSeconds > 0) each.dueMs = dueAfter(leaseSeconds, each.endlessMs);
    else ended.push(each);
  }
  return ended;
}

/** Returns the seconds that the lease has from now on; 0 where the secret must be fetched again. */
async function renewLease(secret: TrackedRequest["secret"], vault: Vault): Promise<number> {
  if (!secret.leaseId) return 0;

  const body = JSON.stringify({ lease_id: secret.leaseId, increment: secret.lifetimeSeconds });
  const response = await vault.request({ path: "sys/leases/renew", body, returnsDenial: true });
  if (response.status !== 200) return 0;
  const leaseSeconds = Number(textOf(response.body.lease_duration ?? 0));
  // Near the end of its longest life Vault renews a lease for ever less.
  return leaseSeconds > secret.lifetimeSeconds / 2 ? leaseSeconds : 0;
}

/**
 * Fetches these secrets again. Where Vault gives none, the one before is kept, and what went wrong is
 * returned in words; but one that was never there may stay absent.
 */
async function fetchEnded(ended: readonly TrackedRequest[], vault: Vault): Promise<string> {
  const requests = ended.map(({ request }) => request);
  const fetched = await fetchSecrets(requests, vault);
  let problem = "";
  for (const each of ended) {
    const { requestKey, variable } = each.request;
    const secret = fetched.get(requestKey);
    if (secret && !(secret instanceof UnreadableSecret)) {
      each.secret = secret;
    } else if (!(each.secret instanceof UnreadableSecret)) {
      problem = `${variable}: ${secret?.message}; if the token is lost, a restart gets another`;
    }
    each.dueMs = dueAfter(each.secret.lifetimeSeconds, each.endlessMs);
  }
  return problem;
}

/**
 * Returns when a secret is due again. A lease is renewed, or a certificate fetched again, after about two
 * thirds of its time. What has no end (0 seconds, such as KV) is fetched again after `endlessMs`.
 */
function dueAfter(lifetimeSeconds: number, endlessMs: number): number {
  const twoThirdsMs = (lifetimeSeconds * 2000) / 3;
  return randomlySooner(twoThirdsMs || endlessMs);
}

/** Up to a fifth sooner: containers that start together do not ask together for ever. */
function randomlySooner(delayMs: number): number {
  return nowMs() + delayMs * (0.8 + Math.random() / 5);
}
