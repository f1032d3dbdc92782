// What is the token in this wrapping? A wrapped token can be opened once: if it is open already,
// somebody else has the token, and that is an alarm. The wrapping is looked at first: one that was
// not made by creating a token was put in its place, by somebody who wants his own token used.

import type { Grant } from "./answer.ts";
import { fail } from "./failure.ts";
import { parseJson } from "./json.ts";
import { Vault } from "./vault.ts";

export async function unwrapToken(grant: Grant, deadlineMs: number): Promise<string> {
  // A wrapping token authorizes itself: lookup takes it as the body, unwrap as the caller's token.
  const anonymous = new Vault(grant.vault, undefined, deadlineMs);
  const body = JSON.stringify({ token: grant.token });
  const lookup = await anonymous.request({ path: "sys/wrapping/lookup", body });
  anonymous.close();
  if (lookup.status !== 200) alarm("it was opened before, or never was a wrapping");
  const origin = String(parseJson(lookup.body)?.data?.creation_path);
  if (!/^auth\/token\/create\/[^/]+$/.test(origin)) alarm("it was not made by auth/token/create");
  const wrapping = new Vault(grant.vault, grant.token, deadlineMs);
  const opened = await wrapping.request({ path: "sys/wrapping/unwrap", body: "{}" });
  wrapping.close();
  const token = String(parseJson(opened.body)?.auth?.client_token ?? "");
  if (opened.status !== 200 || !/^[\x21-\x7e]+$/.test(token)) alarm("another opened it just now");
  return token;
}

function alarm(reason: string): never {
  fail(
    "unwrapAlarm",
    `ALARM: the wrapped token cannot be trusted: ${reason}`,
    "another may hold this container's token: revoke it, by its accessor in the server's audit log",
  );
}
