// Question: with which token do we speak to Vault? Input: how to log in (any login path, with any
// body, files, a TLS certificate), or the file of a ready token; and our token so far.
// Guaranteed: a token that Vault takes now. What is read from a file is kept nowhere.
// Sources: Vault's API pages of auth/token and of each login method.
import { readFileSync } from "node:fs";
import { readTrusted } from "../config/trusted.ts";
import type { Auth, VaultConfig } from "../types.ts";
import type { Call } from "./vault.ts";

export async function logIn(
  call: Call,
  login: VaultConfig["login"],
  token?: string,
): Promise<Auth> {
  const { path = "", body, body_files = {}, token_file } = login;
  const { client_cert_file: cert, client_key_file: key } = login;
  if (token_file) return (await keep(call, readTrusted(token_file).trim())).auth;
  // Renewed as long as that helps; near its longest life, or when it has died, there is a new one.
  const kept = token ? await keep(call, token).catch(() => undefined) : undefined;
  if (kept?.lasts) return kept.auth;
  const files = Object.entries(body_files).map(([key, file]) => [key, readTrusted(file).trim()]);
  const certificate = cert && key ? { cert: readFileSync(cert), key: readTrusted(key) } : {};
  const how = { ...certificate, agent: false as const };
  const whole = { ...body, ...Object.fromEntries(files) };
  const { auth } = await call(path, whole, { "X-Vault-Token": "" }, how);
  if (!auth) throw new Error(`${path}: gives no token`);
  return auth;
}

/** This token, renewed where it can be. `lasts`: half of its first life is ahead of it. */
async function keep(call: Call, token: string): Promise<{ auth: Auth; lasts: boolean }> {
  const own = { "X-Vault-Token": token };
  const { data } = await call("auth/token/lookup-self", undefined, own);
  const { ttl, creation_ttl, renewable, policies, orphan } = data;
  const asItIs = { client_token: token, lease_duration: ttl, policies, orphan } as Auth;
  const renewed = renewable ? (await call("auth/token/renew-self", {}, own)).auth : undefined;
  const auth = renewed ?? asItIs;
  return { auth, lasts: auth.lease_duration * 2 >= creation_ttl };
}
