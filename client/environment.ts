// What does the application's environment hold? Sorts the variables that the client was started
// with: its own (AUTHPROXY_…) are dropped, references are to be resolved, the rest passes
// (invariant 12). Pure.
//
// AUTHPROXY_SET_X=… becomes the application's X: for what the client must not be started with
// itself, as NODE_OPTIONS and LD_PRELOAD.
//
// VAULT_… variables point at Vault: an application that was given its secrets needs none. They are
// dropped too, unless it asks for a token (`vault:login`), `--keep` names them, or there is no
// reference at all: then the image runs elsewhere, with plain values, and all are its own.

import { fail } from "./failure.ts";
import { MalformedReference, type Part, parseValue } from "./reference.ts";

/** A variable whose value is to be resolved. */
export type Wanted = {
  readonly variable: string;
  /** X of X, X_FILE and X_DIR. */
  readonly name: string;
  /** What the application gets under `name`: its value, a file of it, a directory of files. */
  readonly form: "value" | "file" | "directory";
  readonly parts: readonly Part[];
};

export type Plan = {
  readonly plain: Record<string, string>;
  readonly wanted: readonly Wanted[];
  /** The application is to talk to Vault itself. */
  readonly login: boolean;
};

const SET = "AUTHPROXY_SET_";

type Variables = Readonly<Record<string, string | undefined>>;

export function planEnvironment(environment: Variables, keep: readonly string[]): Plan {
  const plain: Record<string, string> = {};
  const wanted: Wanted[] = [];
  const all = { ...environment };
  for (const variable of Object.keys(environment)) {
    if (variable.startsWith(SET)) all[variable.slice(SET.length)] = environment[variable];
  }
  for (const [variable, value = ""] of Object.entries(all)) {
    if (!variable || variable.startsWith("AUTHPROXY_")) continue;
    const parts = parse(variable, value);
    if (parts) wanted.push({ variable, parts, ...formOf(variable, parts) });
    else plain[variable] = value;
  }
  const login = wanted.some(({ parts }) =>
    parts.some((part) => typeof part !== "string" && part.kind === "login"),
  );
  if (wanted.length > 0 && !login) {
    for (const variable of Object.keys(plain)) {
      if (variable.startsWith("VAULT_") && !keep.includes(variable)) delete plain[variable];
    }
  }
  return { plain, wanted, login };
}

export function parse(variable: string, value: string): Part[] | undefined {
  try {
    return parseValue(value);
  } catch (error) {
    if (!(error instanceof MalformedReference)) throw error;
    return fail(
      "config",
      `${variable}: malformed reference at character ${error.index + 1}: ${error.message}`,
      "a reference is vault:PATH#KEY or vault:PATH#KEY#VERSION, as vault:secret/data/app#password",
    );
  }
}

/** X_FILE: the convention of the official Docker images. X_DIR=vault:PATH#* is ours. */
function formOf(variable: string, parts: readonly Part[]): Pick<Wanted, "name" | "form"> {
  const [only] = parts;
  const isWhole = typeof only === "object" && only.kind !== "login" && only.key === "*";
  const [, name = variable, ending] = /^(.*)_(FILE|DIR)$/.exec(variable) ?? [];
  const form = ending === "FILE" ? "file" : "directory";
  if (!ending || (form === "directory" && !(isWhole && parts.length === 1))) {
    return { name: variable, form: "value" };
  }
  if (/^[A-Za-z_]\w*$/.test(name)) return { name, form };
  return fail("config", `${variable}: a file's name is of letters, digits and _ only`);
}
