// Question: which token does a service get from Vault, and how does it end?
//
// Guaranteed: a token that would end with the server's own, or that has the server's rights, or that
// is wrapped where it should not be (or is not where it should), is never approved. A token is revoked
// again and again until Vault has done it or knows no such token, or the token has died by itself.
// Source: Vault's API page of auth/token.
import { setTimeout as sleep } from "node:timers/promises";
import { type AuditEvent, note } from "./audit.ts";
import type { LoginConfig, TokenSource, VaultConfig } from "./config.ts";
import type { Json, JsonObject } from "./json.ts";
import type { Lease } from "./lease-files.ts";
import { logIn } from "./login.ts";
import { Refusal, toRefusal, unavailable } from "./refusal.ts";
import { type Auth, type TokenDescription, type VaultAnswer, VaultApi } from "./vault-api.ts";

const RETRY_MS = 1000;
const LOGIN_RETRY_MAX_MS = 60 * RETRY_MS;
const REVOCATION_RETRY_MAX_MS = 10 * RETRY_MS;
/** A thousand containers may end in one moment, while others start. */
const REVOCATIONS_AT_ONCE_MAX = 8;
/** A role that Vault denies to this server is denied at each mint: that must not become as many
 * renewals of the server's own token. */
const DENIAL_PAUSE_MS = 5 * RETRY_MS;
const DAY_SECONDS = 86_400;
const UNKNOWN_TTL_SECONDS = 3600;
/** Vault's default of the longest life that it gives to a token. */
const LONGEST_TTL_SECONDS = 32 * DAY_SECONDS;
/** In the warnings of a revocation, or in its errors: versions differ. */
const NO_SUCH_TOKEN = /no token found with this accessor|invalid accessor/i;

/** What Vault has made. Of a wrapped token the accessor is known, but not what it may do. */
export type CreatedToken = {
  token: string;
  accessor: string | undefined;
  wrapped: boolean;
  /** Absent for a wrapped token. */
  description: TokenDescription | null | undefined;
  namespace: string;
};

/** How a token has ended, by Vault's own word. */
type Ended = "revoked" | "gone";

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
  /** The last revocation of each of so many queues. */
  readonly #queues: Promise<unknown>[] = [];
  #revocationCount = 0;

  constructor(config: VaultConfig) {
    this.#api = new VaultApi(config);
    this.#login = config.login;
  }

  /** Logs in, and renews the server's own token at a third of its life, or when Vault denies something,
   * but then not at once after the last time. Never rejects. */
  async stayLoggedIn(): Promise<never> {
    let token: string | undefined;
    let pauseMs = RETRY_MS;
    for (;;) {
      try {
        const auth = await logIn(this.#api, this.#login, token);
        token = auth.client_token;
        this.#api.token = token;
        this.#ownPolicies = policiesOf(auth);
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
    const pauseMs = Math.min(delayMs, DENIAL_PAUSE_MS);
    await sleep(pauseMs);
    await sleep(delayMs - pauseMs, undefined, { signal: denied.signal }).catch(() => {});
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
      wrapped: Boolean(wrap_info),
      description: auth && { ...auth, ttl: auth.lease_duration, type: auth.token_type },
      namespace,
    };
  }

  /** The description of a token that may be sent. Throws the refusal "wrapping" where it is wrapped and
   * should not be, or the other way round; "wrong-role" where it would end with the server's own token,
   * has the server's rights, or cannot be revoked; and "vault" where a wrapped token cannot be looked
   * at. */
  async requireOwn(created: CreatedToken, source: TokenSource): Promise<TokenDescription> {
    const { token, accessor = "", namespace, wrapped } = created;
    const { create = "", wrap_ttl = null } = source;
    if (wrapped !== Boolean(wrap_ttl)) throw new Refusal("wrapping", { create, wrap_ttl, wrapped });

    const lookUp = () => this.#api.call("auth/token/lookup-accessor", { accessor }, { namespace });
    const description = created.description ?? (await lookUp()).data;
    const { orphan, type } = description;
    const policies = policiesOf(description);
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

  /** Resolves when the token has ended, and notes how (invariant 7): Vault has "revoked" it; it was
   * "gone", because Vault knows no such token; or it is "expired", because Vault has said neither as long
   * as it could live. */
  async revoke(lease: Lease): Promise<void> {
    const diesAtMs = performance.now() + (lease.ttl || LONGEST_TTL_SECONDS) * 1000;
    for (let pauseMs = RETRY_MS; ; pauseMs = Math.min(2 * pauseMs, REVOCATION_RETRY_MAX_MS)) {
      const end = await this.#revokeInTurn(lease);
      if (end || performance.now() > diesAtMs) return noteLease(end ?? "expired", lease);
      await sleep(pauseMs * (1 + Math.random()));
    }
  }

  #revokeInTurn(lease: Lease): Promise<Ended | undefined> {
    const queue = this.#revocationCount++ % REVOCATIONS_AT_ONCE_MAX;
    const revocation = Promise.resolve(this.#queues[queue]).then(() => this.#revokeOnce(lease));
    this.#queues[queue] = revocation;
    return revocation;
  }

  /** Undefined where Vault did not do it, which is noted. */
  async #revokeOnce(lease: Lease): Promise<Ended | undefined> {
    try {
      const { warnings } = await this.#askFor("revoke", lease);
      if (!warnings) return "revoked";
      throw unavailable("vault", { errors: warnings });
    } catch (error) {
      const { detail } = toRefusal(error);
      const { errors = "" } = detail as JsonObject; // of an answer; else there are none
      if (NO_SUCH_TOKEN.test(JSON.stringify(errors))) return "gone";
      noteLease("revoke-failed", lease, detail);
      return undefined;
    }
  }

  /** Asks once. Resolves with the new life in seconds; 0 where Vault refuses for good, undefined where
   * it may do it later. Both are noted. */
  async renew(lease: Lease): Promise<number | undefined> {
    try {
      const { auth } = await this.#askFor("renew", lease);
      return auth?.lease_duration ?? 0;
    } catch (error) {
      const { detail, canRetry } = toRefusal(error);
      noteLease("renew-failed", lease, detail);
      return canRetry ? undefined : 0;
    }
  }

  #askFor(kind: "renew" | "revoke", { accessor = "", namespace }: Lease): Promise<VaultAnswer> {
    const path = `auth/token/${kind}-accessor`;
    return this.#api.call(path, { accessor }, { namespace, isUpkeep: true });
  }
}

function noteLease(event: AuditEvent, { meta, accessor }: Lease, detail?: Json): void {
  note(event, { ...meta, accessor, detail });
}

/** Those of its entity and groups too. */
function policiesOf({ policies, identity_policies }: Auth | TokenDescription): string[] {
  return [...(policies ?? []), ...(identity_policies ?? [])];
}
