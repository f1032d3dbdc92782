// Question: what does a Node application call that fetches its secrets itself?
// Input:    references that the application names; settings in its variables AUTHPROXY_….
// Output:   the functions of public.ts, which has their types.

import { parseVariable, type SecretVariable, warningsOf } from "./environment.ts";
import { printLine } from "./failure.ts";
import { type Options, readOptions } from "./options.ts";
import type * as Public from "./public.ts";
import { fetchSecrets, resolveVariables, secretRequests } from "./secrets.ts";
import { openSession, type Session } from "./token.ts";
import { textOf } from "./values.ts";
import { Vault } from "./vault.ts";
import { nowMs } from "./wait.ts";

let session: Promise<Session> | undefined;

/** A container gets one token a start: it is asked for once, and again only where that failed. */
function openSessionOnce(options: Options): Promise<Session> {
  session ??= openSession(options, nowMs() + options.waitMs).catch((error) => {
    session = undefined;
    throw error;
  });
  return session;
}

export const getToken: typeof Public.getToken = async () => {
  const { grant, token } = await openSessionOnce(readOptions([], process.env));
  return { service: grant.service, token, vault: grant.vault };
};

export const getSecrets: typeof Public.getSecrets = async (references) => {
  const options = readOptions([], process.env);
  const secretVariables = Object.entries<string>(references).map(secretVariableOf);
  const requests = secretRequests(secretVariables, options.allowWrite);

  const { grant, token } = await openSessionOnce(options);
  const vault = new Vault(grant.vault, token, nowMs() + options.waitMs);
  const secrets = await fetchSecrets(requests, vault).finally(() => vault.close());

  const values: Record<string, string | undefined> = {};
  for (const { name, value } of resolveVariables(secretVariables, secrets, token)) {
    values[name] = value === undefined ? undefined : textOf(value);
  }
  return values as Public.Secrets<typeof references>;
};

/** A value without a reference stands for itself. */
function secretVariableOf([name, value]: [string, string]): SecretVariable {
  const segments = parseVariable(name, value);
  warningsOf(name, value, segments).forEach(printLine);
  return { variable: name, name, form: "value", segments: segments ?? [value] };
}
