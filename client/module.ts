// What does a Node application call that fetches its secrets itself? Settings are the AUTHPROXY_…
// variables; the types for applications are in authproxy.d.ts beside the bundle.

import { parse, type Wanted } from "./environment.ts";
import { textOf } from "./json.ts";
import { readOptions } from "./options.ts";
import type * as Public from "./public.ts";
import { fetchSecrets } from "./secrets.ts";
import { askedBy, openSession, resolveValue, type Session } from "./session.ts";
import { Vault } from "./vault.ts";
import { nowMs } from "./wait.ts";

let opening: Promise<Session> | undefined;

/** A container gets one token a start: it is asked for once, and again only where that failed. */
function openOnce(): Promise<Session> {
  const options = readOptions([], process.env);
  opening ??= openSession(options, nowMs() + options.waitMs).catch((error) => {
    opening = undefined;
    throw error;
  });
  return opening;
}

export const getToken: typeof Public.getToken = async () => {
  const { grant, token } = await openOnce();
  return { service: grant.service, token, vault: grant.vault };
};

export const getSecrets: typeof Public.getSecrets = async (references) => {
  const { allowWrite, waitMs } = readOptions([], process.env);
  const wanted = Object.entries<string>(references).map(([name, value]): Wanted => {
    return { variable: name, name, form: "value", parts: parse(name, value) ?? [value] };
  });
  const asked = askedBy(wanted, allowWrite);
  const { grant, token } = await openOnce();
  const vault = new Vault(grant.vault, token, nowMs() + waitMs);
  const secrets = await fetchSecrets(asked, vault).finally(() => vault.close());
  const values: Record<string, string | undefined> = {};
  for (const each of wanted) {
    const value = resolveValue(each, secrets, token);
    values[each.name] = value === undefined ? value : textOf(value);
  }
  return values as Public.Secrets<typeof references>;
};
