// Question: which token does a service get from Vault, and how does it end?
//
// Guaranteed: a token that would end with the server's own, or that has the server's rights, is never
// approved; a token is revoked again and again until Vault has answered or it has died by itself.
// Source: Vault's API page of auth/token.
import { setTimeout as sleep } from "node:timers/promises";
import { note } from "./audit.ts";
import type { LoginConfig, TokenSource, VaultConfig } from "./config.ts";
import type { Lease, LeasedToken } from "./lease-files.ts";
import { logIn } from "./login.ts";
import { Refusal, toRefusal, unavailable } from "./refusal.ts";
import { type Auth, type TokenDescription, VaultApi } from "./vault-api.ts";

const RETRY_MS = 1000;
const LOGIN_RETRY_MAX_MS = 60 * RETRY_MS;
const DAY_SECONDS = 86_400;
const UNKNOWN_TTL_SECONDS = 3600;

/** What Vault has made. Of a wrapped token the accessor is known, but not what it may do. */
export type CreatedToken = {
  token: string | undefined;
  accessor: string | undefined;
  auth: Auth | undefined;
  namespace: string;
};

/** A third of a life and a little more, in milliseconds, of a day at most. Tokens that were made
 * together must not be renewed together, and Vault may then be away for half of a life. */
export function renewalDelayMs(ttlSeconds: number): number {
  const lifeSeconds = Math.min(ttlSeconds || UNKNOWN_TTL_SECONDS, DAY_SECONDS);
  return lifeSeconds * 1000 * (0.3 + 0.1 * Math.random());
}

export class Vault {
  readonly #api: VaultApi;
  readonly #login: LoginConfig;
  readonly #namespace: string;
  readonly #firstLogin = Promise.withResolvers<void>();
  /** The policies of the server's own token; undefined before its first login. */
  #ownPolicies: string[] | undefined;

  constructor(config: VaultConfig) {
    this.#api = new VaultApi(config);
    this.#login = config.login;
    this.#namespace = config.namespace ?? "";
  }

  get whenLoggedIn(): Promise<void> {
    return this.#firstLogin.promise;
  }

  /** Logs in, and renews the server's own token at a third of its life, or when Vault denies it. */
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
    if (!this.#ownPolicies) throw unavailable("vault", "not logged in yet");
    const namespace = source.namespace ?? this.#namespace;
    const headers: Record<string, string> = { "X-Vault-Namespace": namespace };
    if (source.wrap_ttl) headers["X-Vault-Wrap-TTL"] = source.wrap_ttl;
    const display_name = `authproxy-${meta.service}`;

    const body = { ...source.body, meta, display_name };
    const { auth, wrap_info } = await this.#api.call(source.create ?? "", body, { headers });
    return {
      token: auth?.client_token ?? wrap_info?.token,
      accessor: (auth ? auth.accessor : wrap_info?.wrapped_accessor) || undefined,
      auth: auth ?? undefined,
      namespace,
    };
  }

  /** What has to be known to keep a token that was created. Throws the refusal "wrong-role" where it
   * must not be sent: it would end with the server's own token, has the server's rights, or cannot
   * be revoked. */
  async approve(created: CreatedToken, create: string): Promise<LeasedToken> {
    const { token, accessor, auth, namespace } = created;
    const { orphan, policies, renewable, ttl, type } = auth
      ? { ...auth, ttl: auth.lease_duration, type: auth.token_type }
      : await this.#describe(accessor, namespace);
    const ours = (this.#ownPolicies ?? []).filter(
      (policy) => policy !== "default" && policies.includes(policy),
    );
    if (token && accessor && orphan && ours.length === 0)
      return { accessor, ttlSeconds: ttl, renewable, wrapped: !auth, namespace };
    throw new Refusal("wrong-role", { create, orphan, type, ours });
  }

  async #describe(accessor = "", namespace: string): Promise<TokenDescription> {
    const headers = { "X-Vault-Namespace": namespace };
    return (await this.#api.call("auth/token/lookup-accessor", { accessor }, { headers })).data;
  }

  /** A token that lies in Vault at PATH#KEY, in a KV engine of either version. Throws the refusals
   * "vault" and "no-token". */
  async readReady(read: string, namespace = this.#namespace): Promise<string> {
    if (!this.#ownPolicies) throw unavailable("vault", "not logged in yet");
    const [path = "", key = ""] = read.split("#");
    const headers = { "X-Vault-Namespace": namespace };
    const { data } = await this.#api.call(path, undefined, { headers });
    const token = data.data?.[key] ?? data[key];
    if (typeof token === "string") return token;
    throw new Refusal("no-token", { read });
  }

  /** The new life in seconds, 0 where Vault knows no such token; undefined where Vault did not
   * answer, which is noted. */
  async renew({ meta }: Lease, token: LeasedToken): Promise<number | undefined> {
    return await this.#tell("renew", meta, token);
  }

  /** Resolves when Vault has answered, or the token has died by itself. */
  async revoke({ meta }: Lease, token: LeasedToken): Promise<void> {
    const { accessor, ttlSeconds } = token;
    const diesAtMs = performance.now() + ttlSeconds * 1000;
    while ((await this.#tell("revoke", meta, token)) === undefined) {
      if (performance.now() >= diesAtMs) break;
      await sleep(RETRY_MS * (1 + Math.random()));
    }
    note("revoked", { ...meta, accessor });
  }

  async #tell(
    verb: "renew" | "revoke",
    meta: Lease["meta"],
    { accessor, namespace }: LeasedToken,
  ): Promise<number | undefined> {
    try {
      const headers = { "X-Vault-Namespace": namespace };
      const { auth } = await this.#api.call(
        `auth/token/${verb}-accessor`,
        { accessor },
        { headers },
      );
      return auth?.lease_duration ?? 0;
    } catch (error) {
      const { detail, canRetry } = toRefusal(error);
      note(`${verb}-failed`, { ...meta, accessor, detail });
      return canRetry ? undefined : 0;
    }
  }
}
