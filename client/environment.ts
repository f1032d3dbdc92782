// Question:   which variables does the application get, and which of them hold secrets?
// Input:      the environment that the client was started with. The image, and whoever starts the
//             container, chose it.
// Guaranteed: the application gets none of the client's variables (invariant 12). This module is pure.
//
// AUTHPROXY_… is the client's and is dropped, but AUTHPROXY_SET_X=… becomes the application's X: this
// is for variables that must not act on the client, such as NODE_OPTIONS and LD_PRELOAD.
//
// VAULT_… points at Vault. An application that was given its secrets needs none of these variables, so
// they are dropped too, except where it asks for a token (`vault:login`), where `--keep` names them, or
// where there is no reference at all: the image then runs elsewhere, with plain values.
//
// A variable that `--plain` names is never a reference.

import { fail } from "./failure.ts";
import { findMistake, MalformedReference, parseValue, type ValueSegment } from "./reference.ts";

/** A variable whose value holds references. */
export type SecretVariable = {
  readonly variable: string;
  /** X, where the variable is X, X_FILE, X__FILE, FILE__X or X_DIR. */
  readonly name: string;
  /** What the application gets under `name`: the value, a file of it, or a directory of files. */
  readonly form: "value" | "file" | "directory";
  readonly segments: readonly ValueSegment[];
};

/** Its value is undefined where the variable is to be left out. */
export type ResolvedVariable = SecretVariable & { readonly value: unknown };

export type EnvironmentPlan = {
  /** Variables that pass as they are. */
  readonly plain: Record<string, string>;
  readonly secretVariables: readonly SecretVariable[];
  /** The application gets the token itself, to talk to Vault. */
  readonly asksForToken: boolean;
  /** A line for each value that seems to be meant as a reference and is not one. */
  readonly warnings: readonly string[];
};

type Environment = Readonly<Record<string, string | undefined>>;

const SET_PREFIX = "AUTHPROXY_SET_";

/**
 * Sorts the variables. `keep` names those with the prefix VAULT_ that are kept, and `plainNames` those
 * that are the application's own text. Throws a Failure (config) for a malformed reference.
 */
export function planEnvironment(
  environment: Environment,
  keep: readonly string[],
  plainNames: readonly string[] = [],
): EnvironmentPlan {
  const plain: Record<string, string> = {};
  const secretVariables: SecretVariable[] = [];
  const warnings: string[] = [];
  for (const [variable, value = ""] of Object.entries(withSetVariables(environment))) {
    if (variable === "" || variable.startsWith("AUTHPROXY_")) continue;

    const isPlain = plainNames.includes(variable);
    const segments = isPlain ? undefined : parseVariable(variable, value);
    if (!isPlain) warnings.push(...warningsOf(variable, value, segments));
    if (segments) secretVariables.push(describeVariable(variable, segments));
    else plain[variable] = value;
  }

  const asksForToken = secretVariables.some(({ segments }) => segments.some(isLogin));
  if (secretVariables.length > 0 && !asksForToken) {
    for (const variable of Object.keys(plain)) {
      if (variable.startsWith("VAULT_") && !keep.includes(variable)) delete plain[variable];
    }
  }
  return { plain, secretVariables, asksForToken, warnings };
}

/**
 * Says whether there is a reference in an environment of entries "NAME=VALUE", well formed or not, also
 * where AUTHPROXY_SET_ replaces it: only the client does that. The runtime wrapper asks this before the
 * client runs: AUTHPROXY_PLAIN stands for --plain.
 */
export function mayAskForSecrets(entries: readonly string[]): boolean {
  const variables = entries.map((entry) => entry.split(/=(.*)/s, 2));
  const replaced = variables.filter(([variable = ""]) => !variable.startsWith(SET_PREFIX));
  return [variables, replaced].some((each) => hasReference(Object.fromEntries(each)));
}

function hasReference(environment: Environment): boolean {
  try {
    const plan = planEnvironment(environment, [], environment.AUTHPROXY_PLAIN?.split(","));
    return plan.secretVariables.length > 0;
  } catch {
    return true;
  }
}

/**
 * Returns the segments of a variable's value, or undefined where it holds no reference. Throws a
 * Failure (config) that names the variable and the place, and does not quote the value.
 */
export function parseVariable(variable: string, value: string): ValueSegment[] | undefined {
  try {
    return parseValue(value);
  } catch (error) {
    if (!(error instanceof MalformedReference)) throw error;
    return fail(
      "config",
      `${variable}: malformed reference at character ${error.index + 1}: ${error.message}`,
      `write vault:PATH#KEY or vault:PATH#KEY#VERSION; if it is not a reference: --plain ${variable} (AUTHPROXY_PLAIN)`,
    );
  }
}

/** Returns a line where the value seems to be meant as a reference and is not one, or else none. */
export function warningsOf(
  variable: string,
  value: string,
  segments: readonly ValueSegment[] | undefined,
): string[] {
  const mistake = findMistake(value, segments);
  return mistake ? [`warning: ${variable}: ${mistake}`] : [];
}

function withSetVariables(environment: Environment): Environment {
  const variables: Record<string, string | undefined> = { ...environment };
  for (const [variable, value] of Object.entries(variables)) {
    if (variable.startsWith(SET_PREFIX)) variables[variable.slice(SET_PREFIX.length)] = value;
  }
  return variables;
}

function isLogin(segment: ValueSegment): boolean {
  return typeof segment !== "string" && segment.kind === "login";
}

/**
 * X_FILE is the convention of Docker's official images, X__FILE of Grafana's, FILE__X of linuxserver.io's;
 * X_DIR=vault:PATH#* is ours. Letters of either case will do: an application that expects a path would
 * print the secret in its place as a file that it cannot find.
 */
function describeVariable(variable: string, segments: readonly ValueSegment[]): SecretVariable {
  const file = /^FILE__(.+)$|^(.+?)__?FILE$/is.exec(variable);
  if (file) return { variable, name: file[1] ?? file[2] ?? "", form: "file", segments };

  const directory = isOneSecret(segments) ? /^(.+?)__?DIR$/is.exec(variable)?.[1] : undefined;
  if (directory) return { variable, name: directory, form: "directory", segments };
  return { variable, name: variable, form: "value", segments };
}

/** Says whether the value is one reference to all fields of a secret. */
function isOneSecret(segments: readonly ValueSegment[]): boolean {
  const [first, second] = segments;
  if (typeof first !== "object" || second !== undefined) return false;
  return first.kind !== "login" && first.key === "*";
}
