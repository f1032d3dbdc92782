// What does the application's environment hold? Sorts the variables that the client was started
// with: its own (AUTHPROXY_…) are dropped, references are to be resolved, the rest passes. Pure.
//
// VAULT_… variables point at Vault: an application that was given its secrets needs none. They are
// dropped too, unless it asks for a token (`vault:login`), `--keep` names them, or there is no
// reference at all: then the image runs elsewhere, with plain values, and all are its own.

import { fail } from "./failure.ts";
import { MalformedReference, type Part, parseValue } from "./reference.ts";

/** A variable whose value is to be resolved; with `file`, to be written to a file of that name. */
export type Wanted = {
  readonly variable: string;
  readonly file: string | undefined;
  readonly parts: readonly Part[];
};

export type Plan = {
  readonly plain: Record<string, string>;
  readonly wanted: readonly Wanted[];
  /** The application is to talk to Vault itself. */
  readonly login: boolean;
};

export function planEnvironment(
  environment: Readonly<Record<string, string | undefined>>,
  keep: readonly string[],
): Plan {
  const plain: Record<string, string> = {};
  const wanted: Wanted[] = [];
  for (const [variable, value = ""] of Object.entries(environment)) {
    if (variable.startsWith("AUTHPROXY_")) continue;
    const parts = parse(variable, value);
    if (parts) wanted.push({ variable, file: fileName(variable), parts });
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

function parse(variable: string, value: string): Part[] | undefined {
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

/** X for X_FILE: the convention of the official Docker images. */
function fileName(variable: string): string | undefined {
  if (!variable.endsWith("_FILE")) return undefined;
  const name = variable.slice(0, -"_FILE".length);
  if (/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) return name;
  return fail("config", `${variable}: a file's name is of letters, digits and _ only`);
}
