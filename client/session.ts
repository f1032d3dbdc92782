// Which token, and which secrets? From references to values: asks the server once, opens what is
// wrapped, fetches, and puts together what each variable is to hold.

import type { Grant } from "./answer.ts";
import type { Wanted } from "./environment.ts";
import { fail } from "./failure.ts";
import { requirePrivate } from "./inspector.ts";
import { textOf } from "./json.ts";
import type { Options } from "./options.ts";
import { type Asked, ask, pick, type Secrets } from "./secrets.ts";
import { askForToken } from "./socket.ts";
import { unwrapToken } from "./unwrap.ts";

export type Session = { readonly grant: Grant; readonly token: string };

export async function openSession(options: Options, deadlineMs: number): Promise<Session> {
  requirePrivate();
  const grant = await askForToken(options.socket, options.socketOwner, deadlineMs, loadTls);
  const token = grant.wrapped ? await unwrapToken(grant, deadlineMs) : grant.token;
  return { grant, token };
}

/** What is to be fetched; a write, which changes Vault, only where the path was named to the client. */
export function askedBy(wanted: readonly Wanted[], allowed: readonly string[]): Asked[] {
  const asked: Asked[] = [];
  for (const { variable, parts } of wanted) {
    for (const part of parts) {
      if (typeof part === "string" || part.kind === "login") continue;
      asked.push(ask(variable, part));
      if (part.kind === "read" || allowed.includes(part.path)) continue;
      fail(
        "config",
        `${variable}: a write to ${part.path} is not allowed`,
        `allow it by --allow-write ${part.path}`,
      );
    }
  }
  return asked;
}

/** Undefined where the variable is to be left out. */
export function resolveValue(
  { variable, parts }: Wanted,
  secrets: Secrets,
  token: string,
): unknown {
  const values = parts.map((part) => {
    if (typeof part === "string") return part;
    return part.kind === "login" ? token : pick(ask(variable, part), secrets);
  });
  if (values.length === 1) return values[0];
  return values.map((value) => (value === undefined ? "" : textOf(value))).join("");
}

/** 5 ms, spent while the server and its Vault are at work. */
function loadTls(): void {
  process.getBuiltinModule("node:tls");
}
