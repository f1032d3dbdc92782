// Question: which token does a service get from Vault, and how does it end?
//
// Guaranteed: a token that would end with the server's own, or that has the server's rights, is never
// approved. A token is revoked again and again until Vault does it or refuses for good, or the token
// has died by itself.
// Source: Vault's API page of auth/token.
import { setTimeout as sleep } from "node:timers/promises";
import { note } from "./audit.ts";
import type { LoginConfig, TokenSource, VaultConfig } from "./config.ts";
import type { Lease } from "./lease-files.ts";
import { logIn } from "./login.ts";
import { Refusal, toRefusal, unavailable } from "./refusal.ts";
import { type Auth, type TokenDescription, VaultApi } from "./vault-api.ts";

const RETRY_MS = 1000;
const LOGIN_RETRY_MAX_MS = 60 * RETRY_MS;
const DAY_SECONDS = 86_400;
const UNKNOWN_TTL_SECONDS = 3600;

/** What Vault has made. Of a wrapped token the accessor is known, but not what it may do. */
export type CreatedToken = {
  token: string;
  accessor: string | undefined;
  wrapped: boolean;
  /** Absent for a wrapped token. */
  description: TokenDescription | null | undefined;
  namespace: string;
};

/** Milliseconds until a token is renewed: 30 to 40 % of its life, where a life counts as a day at most
 * and an unknown one as an hour. Tokens that were made together must not be renewed together, and
 * Vault may be away for half of a life. */
export function renewalDelayMs(ttlSeconds: number | undefined): number {
  const lifeSeconds = Math.min(ttlSeconds || UNKNOWN_TTL_SECONDS, DAY_SECONDS);
  return lifeSeconds * 1000 * (0.3 + 0.1 * Math.random());
}

export class Vault {
  readonly #api: VaultApi;
  readonly #login: LoginConfig;
  readonly #firstLogin = Promise.withResolvers<void>();
  readonly whenLoggedIn = this.#firstLogin.promise;
  /** The policies of the server's own token. */
  #ownPolicies: string[] = [];

  constructor(config: VaultConfig) {
    this.#api = new VaultApi(config);
    this.#login = config.login;
  }

  /** Logs in, and renews the server's own token at a third of its life, or when Vault denies it. Never
   * rejects. */
  async stayLoggedIn(): Promise<never> {
    let token: string | undefined;
    let pauseMs = RETRY_MS;
    for (;;) {
      try {
        const auth = await logIn(this.#api, this.#login, token);
        token = auth.client_token;
        this.#api.token = token;
        this.#ownPolicies = auth.policies;
        this.#firstLogin.resolve();
        pauseMs = RETRY_MS;
        await this.#sleepUnlessDenied(renewalDelayMs(auth.lease_duration));
      } catch (error) {
        note("login", { detail: toRefusal(error).detail });
        await sleep(pauseMs); // longer each time: Vault locks out whoever fails too often
        pauseMs = Math.min(2 * pauseMs, LOGIN_RETRY_MAX_MS);
      }
    }
  }

  async #sleepUnlessDenied(delayMs: number): Promise<void> {
    const denied = new AbortController();
    this.#api.onDenied = () => denied.abort();
    await sleep(delayMs, undefined, { signal: denied.signal }).catch(() => {});
  }

  /** A new token for a service. Throws the refusal "vault". */
  async create(source: TokenSource, meta: Lease["meta"]): Promise<CreatedToken> {
    this.#requireLogin();
    const { create = "", namespace = this.#api.namespace, wrap_ttl: wrapTtl } = source;
    const body = { ...source.body, meta, display_name: `authproxy-${meta.service}` };
    const { auth, wrap_info } = await this.#api.call(create, body, { namespace, wrapTtl });
    return {
      token: auth?.client_token ?? wrap_info?.token ?? "",
      accessor: auth?.accessor || wrap_info?.wrapped_accessor,
      wrapped: !auth,
      description: auth && describe(auth),
      namespace,
    };
  }

  /** The description of a token that may be sent. Throws the refusal "wrong-role" where it would end
   * with the server's own token, has the server's rights, or cannot be revoked; and "vault" where a
   * wrapped token cannot be looked at. */
  async requireOwn(created: CreatedToken, { create = "" }: TokenSource): Promise<TokenDescription> {
    const { token, accessor = "", namespace } = created;
    const lookUp = () => this.#api.call("auth/token/lookup-accessor", { accessor }, { namespace });
    const description = created.description ?? (await lookUp()).data;
    const { orphan, policies, type } = description;
    const ours = this.#ownPolicies.filter(
      (policy) => policy !== "default" && policies.includes(policy),
    );
    if (token && accessor && orphan && ours.length === 0) return description;
    throw new Refusal("wrong-role", { create, orphan, type, ours });
  }

  /** A token that lies in Vault at PATH#KEY, in a KV engine of either version. Throws the refusals
   * "vault" and "no-token". */
  async readSharedToken(read: string, namespace: string | undefined): Promise<string> {
    this.#requireLogin();
    const [path = "", key = ""] = read.split("#");
    const { data } = await this.#api.call(path, undefined, { namespace });
    const token = data.data?.[key] ?? data[key];
    if (typeof token === "string") return token;
    throw new Refusal("no-token", { read });
  }

  #requireLogin(): void {
    if (!this.#api.token) throw unavailable("vault", "not logged in yet");
  }

  /** Resolves when Vault has done it or refuses for good, or when the token has died by itself
   * (invariant 7). */
  async revoke(lease: Lease): Promise<void> {
    const diesAtMs = performance.now() + (lease.ttl ?? UNKNOWN_TTL_SECONDS) * 1000;
    while ((await this.askFor("revoke", lease)) === undefined && performance.now() < diesAtMs)
      await sleep(RETRY_MS * (1 + Math.random()));
    note("revoked", { ...lease.meta, accessor: lease.accessor });
  }

  /** Asks once. Resolves with the new life in seconds; 0 where Vault refuses for good, undefined where
   * it may do it later. Both are noted. */
  async askFor(verb: "renew" | "revoke", lease: Lease): Promise<number | undefined> {
    const { accessor = "", namespace, meta } = lease;
    try {
      const path = `auth/token/${verb}-accessor`;
      const { auth } = await this.#api.call(path, { accessor }, { namespace });
      return auth?.lease_duration ?? 0;
    } catch (error) {
      const { detail, canRetry } = toRefusal(error);
      note(`${verb}-failed`, { ...meta, accessor, detail });
      return canRetry ? undefined : 0;
    }
  }
}

function describe(auth: Auth): TokenDescription {
  return { ...auth, ttl: auth.lease_duration, type: auth.token_type };
}
