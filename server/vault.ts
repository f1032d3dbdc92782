// Question: which token does this service get, and how long does it live? Input: Vault's HTTP API
// over TLS. Vault is trusted, but may be slow, sealed or gone. Guaranteed: every call ends in 3 s;
// a token that would end with ours, or has our rights, is revoked and never returned; a token
// lives as long as its process (invariant 7). Sources: Vault's API pages of auth/token and the
// login method.
import { readFileSync } from "node:fs";
import { Agent, request } from "node:https";
import { setTimeout as sleep } from "node:timers/promises";
import { note } from "./audit.ts";
import { readTrusted } from "./config.ts";
import { exchange } from "./http.ts";
import { Refusal, Unavailable } from "./refusal.ts";
import type { Auth, JsonObject, TokenSource, VaultConfig } from "./types.ts";

const RETRY_MS = 1000;

/** About half of a life, in milliseconds, a day at most: what began together must not renew
 * together. */
function half(seconds: number): number {
  return Math.min(seconds || 3600, 86_400) * 1000 * (0.4 + 0.2 * Math.random());
}

export function connectVault({ address, ca_file, namespace = "", login }: VaultConfig) {
  const { hostname, port } = new URL(address);
  const ca = ca_file && readFileSync(ca_file);
  const agent = new Agent({ keepAlive: true, ca, rejectUnauthorized: true });
  const place = { whom: "vault", deadlineMs: 3000, agent, hostname, port, method: "POST" };
  let own: Auth | undefined;
  let dead = new AbortController();

  async function call(path: string, body: JsonObject, token = own?.client_token): Promise<Auth> {
    const headers = { "X-Vault-Token": token ?? "", "X-Vault-Namespace": namespace };
    const how = { ...place, path: `/v1/${path}`, headers };
    const { status, value } = await exchange(request, how, body);
    if (status < 300) return value.auth as Auth;
    if (status === 403) dead.abort(`${path}: 403`); // perhaps our own token has died: log in
    const cause = { path, status, errors: value.errors };
    const passing = status >= 500 || [403, 412, 429].includes(status); // a standby, too busy …
    throw new (passing ? Unavailable : Refusal)("vault", { cause });
  }

  /** Logs in, and again at about half of our token's life, or when Vault does not take it. */
  async function stayLoggedIn(): Promise<never> {
    for (let pauseMs = RETRY_MS; ; pauseMs = Math.min(2 * pauseMs, 60 * RETRY_MS)) {
      dead = new AbortController();
      try {
        const files = Object.entries(login.body_files ?? {});
        const secrets = files.map(([key, name]) => [key, readTrusted(name).trim()]);
        own = await call(login.path, { ...login.body, ...Object.fromEntries(secrets) }, "");
        await sleep(half(own.lease_duration), undefined, { signal: dead.signal });
        pauseMs = RETRY_MS;
      } catch (error) {
        note("login", { detail: (error as Error).cause ?? (error as Error).message });
        await sleep(pauseMs); // more and more: Vault locks out who fails too often
      }
    }
  }

  /** A new token for a service. `meta` is what Vault's audit log will say at each use of it. */
  async function mint({ create, body }: TokenSource, meta: JsonObject): Promise<Auth> {
    if (!own) throw new Unavailable("vault", { cause: "the server has not logged in yet" });
    const auth = await call(create, { ...body, meta, display_name: `authproxy-${meta.service}` });
    const ours = own.policies.filter((name) => name !== "default" && auth.policies.includes(name));
    if (auth.orphan && ours.length === 0) return auth;
    await call("auth/token/revoke-accessor", { accessor: auth.accessor });
    throw new Refusal("wrong-role", { cause: { create, orphan: auth.orphan, ours } });
  }

  /** Renews a token until its process has exited (or never got it), then revokes it, again and
   * again until Vault has answered or the token has died by itself. */
  async function tend(auth: Auth, exit: AbortSignal, about: JsonObject): Promise<void> {
    const { accessor, renewable, lease_duration: ttl } = auth;
    const settled = async (verb: "renew" | "revoke") => {
      const failure = await call(`auth/token/${verb}-accessor`, { accessor }).catch((e) => e);
      if (failure instanceof Error) note(`${verb}-failed`, { ...about, detail: failure.cause });
      return !(failure instanceof Unavailable); // a refusal settles it: there is no such token
    };
    for (let seconds = ttl; !exit.aborted; ) {
      await sleep(half(seconds), undefined, { signal: exit }).catch(() => {});
      if (renewable && !exit.aborted) seconds = (await settled("renew")) ? ttl : ttl / 10;
    }
    const diesMs = Date.now() + ttl * 1000;
    while (!(await settled("revoke")) && Date.now() < diesMs) await sleep(RETRY_MS);
    note("revoked", { ...about, accessor });
  }

  return { stayLoggedIn, mint, tend };
}
