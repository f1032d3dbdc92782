// Question: with which token does the server speak to Vault?
//
// Input: how to log in (any login path, with any body, files, a TLS certificate), or the file of a
// ready token; and the server's token so far.
// Guaranteed: a token that Vault takes now. A credential that is read from a file is not kept; a
// token from `token_file` becomes the server's token.
// Sources: Vault's API pages of auth/token and of each login method.
import { readFileSync } from "node:fs";
import type { LoginConfig } from "./config.ts";
import { readTrustedFile } from "./trusted-file.ts";
import type { Auth, VaultApi } from "./vault-api.ts";

/** `token`: the server's own, where it has one. Throws the refusal "vault", and an Error about a file
 * that cannot be used. */
export async function logIn(api: VaultApi, login: LoginConfig, token?: string): Promise<Auth> {
  if (login.token_file) {
    const ready = readTrustedFile(login.token_file).trim();
    return (await renewSelf(api, ready)).auth;
  }
  // The token is renewed as long as that helps. Near its longest life, or where the renewal fails for
  // any reason, the server logs in again.
  const renewed = token ? await renewSelf(api, token).catch(() => undefined) : undefined;
  return renewed?.hasHalfItsLife ? renewed.auth : await logInAgain(api, login);
}

async function logInAgain(api: VaultApi, login: LoginConfig): Promise<Auth> {
  const { path = "", client_cert_file, client_key_file } = login;
  const body = { ...login.body };
  for (const [key, file] of Object.entries(login.body_files ?? {})) {
    body[key] = readTrustedFile(file).trim();
  }
  const certificate =
    client_cert_file && client_key_file
      ? { cert: readFileSync(client_cert_file), key: readTrustedFile(client_key_file) }
      : {};
  const tls = { ...certificate, agent: false } as const;
  const { auth } = await api.call(path, body, { token: "", tls });
  if (!auth) throw new Error(`${path}: Vault's answer has no token`);
  return auth;
}

/** This token, renewed where it can be. `hasHalfItsLife`: of its first life, ahead of it. */
async function renewSelf(
  api: VaultApi,
  token: string,
): Promise<{ auth: Auth; hasHalfItsLife: boolean }> {
  const own = { token, isUpkeep: true };
  const { data } = await api.call("auth/token/lookup-self", undefined, own);
  const { ttl, creation_ttl, renewable } = data;
  const asItIs = { ...data, client_token: token, lease_duration: ttl } as object as Auth;
  const renewal = renewable ? await api.call("auth/token/renew-self", {}, own) : undefined;
  const auth = renewal?.auth ?? asItIs;
  return { auth, hasHalfItsLife: auth.lease_duration * 2 >= creation_ttl };
}
