// Question: which token does this service get, and how is it kept and ended? Input: Vault's HTTP API
// over TLS. Vault is trusted, but may be slow, sealed or gone. Guaranteed: every call ends in 3 s; a
// token that would end with ours, or has our rights, is revoked and never returned.
// Sources: Vault's API pages of auth/token and of the login method.
import { readFileSync } from "node:fs";
import { Agent, request } from "node:https";
import { note } from "./audit.ts";
import { readTrusted } from "./config.ts";
import { exchange } from "./http.ts";
import { Refusal, Unavailable } from "./refusal.ts";
import type { Auth, JsonObject, TokenSource, VaultConfig } from "./types.ts";

const DEADLINE_MS = 3000;
const TRANSIENT = [403, 412, 429]; // and 5xx: our own token has died, a standby, too busy

/** About half of a life, in milliseconds: what began together must not renew together. */
export function half(seconds: number): number {
  return seconds * 1000 * (0.4 + 0.2 * Math.random());
}

export function connectVault({ address, ca_file, namespace = "", login }: VaultConfig) {
  const { hostname, port } = new URL(address);
  const ca = ca_file && readFileSync(ca_file);
  const agent = new Agent({ keepAlive: true, ca, rejectUnauthorized: true });
  let own: Auth | undefined;
  let dueMs = 0;

  async function call(path: string, body: JsonObject, token = own?.client_token): Promise<Auth> {
    const headers = { "X-Vault-Token": token ?? "", "X-Vault-Namespace": namespace };
    const place = { agent, hostname, port, path: `/v1/${path}`, method: "POST", headers };
    const { status, value } = await exchange("vault", DEADLINE_MS, request, place, body);
    if (status < 300) return value.auth as Auth;
    if (status === 403) dueMs = 0; // perhaps our own token has died: log in
    const cause = { path, status, errors: value.errors };
    if (status >= 500 || TRANSIENT.includes(status)) throw new Unavailable("vault", { cause });
    throw new Refusal("vault", { cause });
  }

  const revoke = (accessor: string) => call("auth/token/revoke-accessor", { accessor });

  return {
    revoke,
    renew: (accessor: string) => call("auth/token/renew-accessor", { accessor }),

    /** To be called each second: logs in, and again at about half of our own token's life. */
    async tend(): Promise<void> {
      if (Date.now() < dueMs) return;
      dueMs = Date.now() + half(4);
      try {
        const files = Object.entries(login.body_files ?? {});
        const secrets = files.map(([key, name]) => [key, readTrusted(name).trim()]);
        own = await call(login.path, { ...login.body, ...Object.fromEntries(secrets) }, "");
        dueMs = Date.now() + half(own.lease_duration);
      } catch (error) {
        note("login-failed", { detail: (error as Error).cause ?? (error as Error).message });
      }
    },

    /** A new token for a service. `meta` is what Vault's audit log will say at each use of it. */
    async mint({ create, body }: TokenSource, meta: JsonObject): Promise<Auth> {
      if (!own) throw new Unavailable("vault", { cause: "the server has not logged in yet" });
      const display_name = `authproxy-${meta.service}`;
      const auth = await call(create, { ...body, meta, display_name });
      const ours = own.policies.filter(
        (name) => name !== "default" && auth.policies.includes(name),
      );
      if (auth.orphan && ours.length === 0) return auth;
      await revoke(auth.accessor);
      throw new Refusal("wrong-role", { cause: { create, orphan: auth.orphan, ours } });
    },
  };
}
