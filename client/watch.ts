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
  fetchSecret,
  forEachAtOnce,
  resolveVariables,
  type Secret,
  type SecretRequest,
  UnreadableSecret,
} from "./secrets.ts";
import { hasTerminal, SIGNALS_HANDED_ON, TERMINAL_SIGNALS } from "./signals.ts";
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

/** After a failure the next attempt comes after so long, or sooner where --refresh is shorter. */
const RETRY_MS = 10_000;
/** Requests that are due within this time are made together: a change of two is then seen at once. */
const TOGETHER_MS = 1000;
/** Whatever an answer says of its end, no request is made more often than this. */
const ROUND_MS_MIN = 1000;
/** What ends before it comes is fetched again after so long: the clocks differ, or its end is wrong. */
const OVER_MS = 60_000;
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
  const changed = resolved.filter(
    ({ value }, index) => jsonOf(value) !== jsonOf(current[index]?.value),
  );
  // With "exit" the application is ended, and its next start fetches the values. It keeps the last value
  // of an optional secret that Vault no longer has.
  const toReplace = changed.filter(
    ({ value }) => options.onChange !== "exit" && value !== undefined,
  );
  for (const each of toReplace) {
    if (each.form !== "value") deliver(each, options.files, place);
  }
  // After the files: where one of them cannot be written, this is done again and again.
  for (const { variable, form } of toReplace) {
    if (form !== "value") continue;
    printLine(
      `warning: the application keeps the old ${variable}: take a file or --on-change exit`,
    );
  }
  return changed.map(({ variable }) => variable);
}

/** Starts the application. When it ends this process ends: with its exit code, or 128+n as a shell. */
function startChild({ program, environment, options }: WatchedApplication): ChildProcess {
  const { spawn } = process.getBuiltinModule("node:child_process");
  const { signals } = process.getBuiltinModule("node:os").constants;
  const [argv0 = "", ...argv] = options.command;
  requireSizes(options.command, environment);
  if (/\/(init|systemd|s6-svscan)$/.test(program)) {
    printLine(`warning: ${program} may have to be process 1, which it is only without --watch`);
  }

  // A terminal sends its signals to the group of this process. Were the application in it too, it would
  // get them twice: nothing tells a signal of the terminal from one that was sent to this process alone,
  // such as the engine's when it stops the container. So the application gets a session of its own.
  const detached = hasTerminal();
  // The handlers come before the child: a signal that comes while it starts is handed on when this
  // function returns.
  for (const signal of SIGNALS_HANDED_ON) {
    process.removeAllListeners(signal);
    process.on(signal, () => {
      if (detached && TERMINAL_SIGNALS.includes(signal)) killGroup(child, signal);
      else child.kill(signal);
    });
  }

  const child = spawn(program, argv, { argv0, env: environment, stdio: "inherit", detached });
  child.on("error", (error) => {
    printLine(`${program}: cannot be run: ${errorCode(error)}`);
    process.exit(EXIT.cannotRun);
  });
  child.on("exit", (code, signal) => process.exit(signal ? 128 + signals[signal] : (code ?? 0)));
  return child;
}

/** As a terminal does: to the application and to those of its children that stayed in its group. */
function killGroup({ pid }: ChildProcess, signal: NodeJS.Signals): void {
  try {
    if (pid) process.kill(-pid, signal);
  } catch {
    // It has just ended, or became another user.
  }
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
 * Fetches what is due, and then calls `onFetched` with all secrets: at least every --refresh, so that
 * what it could not do before is tried again. It never ends and never fails: what goes wrong is printed
 * once for as long as it lasts.
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
    const dueMs = dueAfter(secret, endlessMs);
    tracked.set(request.requestKey, { request, endlessMs, secret, dueMs, problem: "" });
  }
  const all = [...tracked.values()];

  let known = new Set<string>();
  for (;;) {
    const nextMs = Math.min(...all.map(({ dueMs }) => dueMs));
    await sleep(Math.max(ROUND_MS_MIN, Math.min(options.refreshMs, nextMs - nowMs())));
    const untilMs = nowMs() + TOGETHER_MS;
    const due = all.filter(({ dueMs }) => dueMs <= untilMs);
    const retryMs = Math.min(options.refreshMs, RETRY_MS);

    const vault = new Vault(session.grant.vault, session.token, nowMs() + options.waitMs);
    await forEachAtOnce(due, async (each) => {
      each.problem = await problemOf(() => refresh(each, vault));
      if (each.problem) each.dueMs = randomlySooner(retryMs);
    });
    vault.close();

    const secrets = new Map(all.map(({ request, secret }) => [request.requestKey, secret]));
    const undelivered = await problemOf(() => onFetched(secrets));

    const problems = new Set([...all.map(({ problem }) => problem), undelivered]);
    for (const problem of problems) {
      if (!problem || known.has(problem)) continue;
      printLine(`warning: the application keeps what it has: ${problem}`);
    }
    known = problems;
  }
}

/** Returns what went wrong in words, or "". */
async function problemOf(action: () => unknown): Promise<string> {
  try {
    await action();
    return "";
  } catch (error) {
    return error instanceof Failure ? error.message : `internal error: ${errorCode(error)}`;
  }
}

/**
 * Renews the lease, or fetches the secret again where there is none or Vault renews it no more. Rejects
 * with a Failure where Vault gives none, but what was never there may stay absent.
 */
async function refresh(each: TrackedRequest, vault: Vault): Promise<void> {
  const { reference, variable } = each.request;
  const leaseSeconds = await renewLease(each.secret, vault);
  if (leaseSeconds > 0) {
    each.dueMs = dueAfter({ lifetimeSeconds: leaseSeconds, rotates: false }, each.endlessMs);
    return;
  }

  const fetched = await fetchSecret(reference, vault);
  if (!(fetched instanceof UnreadableSecret)) {
    each.secret = keepFields(each.secret, fetched);
  } else if (!(each.secret instanceof UnreadableSecret)) {
    const advice = "if the token is lost, a restart gets another";
    throw new Failure(fetched.exitCode, `${variable}: ${fetched.message}; ${advice}`);
  }
  each.dueMs = dueAfter(each.secret, each.endlessMs);
}

/** Returns the seconds that the lease has from now on; 0 where the secret must be fetched again. */
async function renewLease(secret: TrackedRequest["secret"], vault: Vault): Promise<number> {
  const { leaseId, lifetimeSeconds = 0 } = secret;
  if (!leaseId) return 0;

  const body = JSON.stringify({ lease_id: leaseId, increment: lifetimeSeconds });
  const response = await vault.request({ path: "sys/leases/renew", body, returnsDenial: true });
  if (response.status !== 200) return 0;
  const leaseSeconds = Number(textOf(response.body.lease_duration ?? 0));
  // Near the end of its longest life Vault renews a lease for ever less.
  return leaseSeconds > lifetimeSeconds / 2 ? leaseSeconds : 0;
}

/** Returns the secret; where only its `ttl` counts down, with the fields before: nothing has changed. */
function keepFields(before: TrackedRequest["secret"], secret: Secret): Secret {
  if (!secret.rotates || before instanceof UnreadableSecret) return secret;
  const withoutTtl = ({ fields }: Secret) => jsonOf({ ...fields, ttl: 0 });
  return withoutTtl(before) === withoutTtl(secret) ? { ...secret, fields: before.fields } : secret;
}

/**
 * Returns when a secret is due again: a lease to be renewed, and what Vault made to be made again, after
 * about two thirds of its time; a password that Vault rotates at its end, or after `endlessMs` where that
 * is sooner; what has no end, such as KV, after `endlessMs`.
 */
function dueAfter(
  { lifetimeSeconds, rotates }: Pick<Secret, "lifetimeSeconds" | "rotates">,
  endlessMs: number,
): number {
  if (lifetimeSeconds === undefined) return randomlySooner(endlessMs);
  if (rotates) return randomlySooner(Math.min(endlessMs, lifetimeSeconds * 1000));
  return randomlySooner(lifetimeSeconds > 0 ? (lifetimeSeconds * 2000) / 3 : OVER_MS);
}

/** Up to a fifth sooner: containers that start together do not ask together for ever. */
function randomlySooner(delayMs: number): number {
  return nowMs() + delayMs * (0.8 + Math.random() / 5);
}
