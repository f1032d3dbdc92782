// The client, from its arguments to the command that it becomes: read what is wanted, look whether
// it can be done, ask for the token, fetch, deliver, become.

import type { Grant } from "./answer.ts";
import { requireMemory, writeSecret } from "./deliver.ts";
import { type Plan, planEnvironment } from "./environment.ts";
import { become } from "./exec.ts";
import { fail, say } from "./failure.ts";
import { requireNoInspector } from "./inspector.ts";
import { type Options, readOptions } from "./options.ts";
import { findProgram } from "./program.ts";
import { type Asked, fetchSecrets, pick, requestOf, type Secret } from "./secrets.ts";
import { askForToken } from "./socket.ts";
import { unwrapToken } from "./unwrap.ts";
import { Vault } from "./vault.ts";

export async function main(argv: readonly string[]): Promise<never> {
  if (!process.execve) tooOld();
  const options = readOptions(argv, process.env);
  const plan = planEnvironment(process.env, options.keep);
  const program = findProgram(options.command[0], process.env.PATH);
  const environment = plan.wanted.length > 0 ? await resolve(options, plan) : plan.plain;
  return await become(program, options.command, environment);
}

/** The application's environment. */
async function resolve(options: Options, plan: Plan): Promise<Record<string, string>> {
  const { plain, wanted, login } = plan;
  const asked: Asked[] = [];
  for (const { variable, parts } of wanted) {
    for (const part of parts) {
      if (typeof part === "string" || part.kind === "login") continue;
      asked.push({ variable, reference: part });
    }
  }
  requireAllowedWrites(asked, options.allowWrite);
  if (wanted.some(({ file }) => file !== undefined)) requireMemory(options.files);
  requireNoInspector();

  const deadlineMs = performance.now() + options.waitMs;
  const grant = await askForToken(options.socket, options.socketOwner, deadlineMs, loadTls);
  const token = grant.wrapped ? await unwrapToken(grant, deadlineMs) : grant.token;
  const vault = new Vault(grant.vault, token, deadlineMs);
  const secrets = await fetchSecrets(asked, vault);
  vault.close();
  warnOfLeases(asked, secrets);

  const values = wanted.map(({ variable, parts }) =>
    parts.map((part) => {
      if (typeof part === "string") return part;
      if (part.kind === "login") return token;
      const secret = secrets.get(requestOf(part));
      return secret ? pick({ variable, reference: part }, secret) : "";
    }),
  );
  // Files last and together: where any reference fails, none is written.
  const environment = { ...(login && vaultVariables(grant)), ...plain };
  for (const [index, { variable, file }] of wanted.entries()) {
    const value = values[index]?.join("") ?? "";
    environment[variable] = file === undefined ? value : writeSecret(options.files, file, value);
  }
  return environment;
}

/** An application that talks to Vault itself has to know where it is, as the image does not. */
function vaultVariables({ vault }: Grant): Record<string, string> {
  const { address, ca, namespace } = vault;
  return {
    VAULT_ADDR: address,
    ...(ca !== undefined && { VAULT_CACERT_BYTES: ca }),
    ...(namespace !== undefined && { VAULT_NAMESPACE: namespace }),
  };
}

/** A write changes Vault: only to the paths that were named to the client. */
function requireAllowedWrites(asked: readonly Asked[], allowed: readonly string[]): void {
  for (const { variable, reference } of asked) {
    if (reference.kind !== "write" || allowed.includes(reference.path)) continue;
    fail(
      "config",
      `${variable}: a write to ${reference.path} is not allowed`,
      `allow it by --allow-write ${reference.path}`,
    );
  }
}

function warnOfLeases(asked: readonly Asked[], secrets: ReadonlyMap<string, Secret>): void {
  for (const { variable, reference } of asked) {
    const seconds = secrets.get(requestOf(reference))?.leaseSeconds ?? 0;
    if (seconds > 0) say(`warning: ${variable} ends after ${seconds} s, with its lease`);
  }
}

/** 5 ms, spent while the server and its Vault are at work. */
function loadTls(): void {
  process.getBuiltinModule("node:tls");
}

function tooOld(): never {
  fail(
    "config",
    `Node ${process.versions.node} cannot become another program: 22.15 or newer can`,
    "use a newer Node, or the client directory, which carries its own",
  );
}
