// Question: which token does a service get, and how long does it live? Input: Vault's HTTP API
// over TLS. Vault is trusted, but may be slow, sealed or gone. Guaranteed: every call ends in 3 s;
// a token that would end with ours, or has our rights, is never returned; each is revoked when its
// process has ended (invariant 7). Source: Vault's API page of auth/token.
import { Agent, type RequestOptions, request } from "node:https";
import { setTimeout as sleep } from "node:timers/promises";
import { exchange } from "../server/http.ts";
import { Refusal, Unavailable } from "../server/refusal.ts";
import type { Auth, JsonObject, Lease, TokenSource, VaultConfig } from "../types.ts";
import { logIn } from "./login.ts";

const RETRY_MS = 1000;

export type Headers = Record<string, string>;
export type VaultAnswer = {
  auth?: Auth | null;
  wrap_info?: { token: string; wrapped_accessor: string } | null;
  /** Of auth/token/lookup-…, or a secret. */
  data: Looked & Record<string, string> & { data?: Record<string, string> };
};
type Looked = {
  orphan: boolean;
  policies: string[];
  renewable: boolean;
  ttl: number;
  creation_ttl: number;
  type: string;
};
/** `more` are other headers; `how` is for login by a TLS certificate. */
export type Call = (
  path: string,
  body?: JsonObject,
  more?: Headers,
  how?: RequestOptions,
) => Promise<VaultAnswer>;
type Note = (event: string, fields: object) => void;

/** A third of a life and a little more, in milliseconds, of a day at most: what began together must
 * not renew together, and Vault may then be away for half of a life. */
export function part(seconds = 0): number {
  return Math.min(seconds || 3600, 86_400) * 1000 * (0.3 + 0.1 * Math.random());
}

export function connectVault({ address, ca, namespace = "", login }: VaultConfig, note: Note) {
  const { hostname, port } = new URL(address);
  const tls = { ca, rejectUnauthorized: true };
  const agent = new Agent({ keepAlive: true, maxSockets: 64, ...tls });
  const base = { whom: "vault", deadlineMs: 3000, hostname, port, ...tls };
  let own: Auth | undefined;
  let dead = new AbortController();
  const { promise: whenLoggedIn, resolve: loggedIn } = Promise.withResolvers<void>();

  const call: Call = async (path, body, more, how) => {
    const ours = { "X-Vault-Token": own?.client_token ?? "", "X-Vault-Namespace": namespace };
    const head = { path: `/v1/${path}`, headers: { ...ours, ...more } };
    const whole = { agent, ...base, method: body ? "POST" : "GET", ...head, ...how };
    const { status, value } = await exchange(request, whole, body);
    if (status < 300) return value as VaultAnswer;
    if (status === 403) dead.abort(); // perhaps our own token has died: see to it
    const cause = { path, status, errors: value.errors };
    const final = status >= 400 && status < 500 && ![403, 412, 429].includes(status);
    throw new (final ? Refusal : Unavailable)("vault", { cause }); // a standby, too busy …
  };

  /** Logs in, and sees to our token at a third of its life, or when Vault does not take it. */
  async function stayLoggedIn(): Promise<never> {
    for (let pauseMs = RETRY_MS; ; ) {
      dead = new AbortController();
      try {
        own = await logIn(call, login, own?.client_token);
        loggedIn();
        pauseMs = RETRY_MS;
        await sleep(part(own.lease_duration), undefined, { signal: dead.signal }).catch(() => {});
      } catch (error) {
        note("login", { detail: (error as Error).cause ?? (error as Error).message });
        await sleep(pauseMs); // more and more: Vault locks out who fails too often
        pauseMs = Math.min(2 * pauseMs, 60 * RETRY_MS);
      }
    }
  }

  /** A new token for a service. What ends it is in `lease` as soon as it is known, also where this
   * throws afterwards. */
  async function mint(source: TokenSource, lease: Lease): Promise<string> {
    if (!own) throw new Unavailable("vault", { cause: "not logged in yet" });
    const space = { "X-Vault-Namespace": source.namespace ?? namespace };
    if (source.read) return await ready(source.read, space);
    const { create = "", wrap_ttl, body } = source;
    const headers = wrap_ttl ? { ...space, "X-Vault-Wrap-TTL": wrap_ttl } : space;
    const named = { meta: lease.meta, display_name: `authproxy-${lease.meta.service}` };
    const { auth, wrap_info: wrap } = await call(create, { ...body, ...named }, headers);
    const token = auth?.client_token ?? wrap?.token;
    const accessor = auth ? auth.accessor : wrap?.wrapped_accessor;
    if (accessor) lease.accessor = accessor;
    // What is wrapped is hidden from us, but not what its accessor says of it.
    const about = auth
      ? asLooked(auth)
      : (await call("auth/token/lookup-accessor", { accessor: accessor ?? "" }, space)).data;
    const { orphan, policies, renewable, ttl, type } = about;
    Object.assign(lease, { wrapped: !auth, ttl, renewable, namespace: space["X-Vault-Namespace"] });
    const ours = own.policies.filter((name) => name !== "default" && policies.includes(name));
    if (token && accessor && orphan && ours.length === 0) return token;
    throw new Refusal("wrong-role", { cause: { create, orphan, type, ours } });
  }

  /** A token that is kept in Vault, PATH#KEY, by a KV engine of either version. */
  async function ready(read: string, space: Headers): Promise<string> {
    const [path = "", key = ""] = read.split("#");
    const { data } = await call(path, undefined, space);
    const token = data.data?.[key] ?? data[key];
    if (typeof token === "string") return token;
    throw new Refusal("no-token", { cause: { read } });
  }

  /** The new life in seconds, 0 where Vault knows no such token, undefined: ask again. */
  async function settle(verb: "renew" | "revoke", lease: Lease): Promise<number | undefined> {
    const { accessor = "", namespace: where = namespace, meta } = lease;
    try {
      const space = { "X-Vault-Namespace": where };
      const { auth } = await call(`auth/token/${verb}-accessor`, { accessor }, space);
      return auth?.lease_duration ?? 0;
    } catch (error) {
      note(`${verb}-failed`, { ...meta, accessor, detail: (error as Error).cause });
      return error instanceof Refusal ? 0 : undefined;
    }
  }

  /** Again and again, until Vault has answered or the token has died by itself. */
  async function revoke(lease: Lease): Promise<void> {
    const diesMs = performance.now() + (lease.ttl ?? 0) * 1000;
    while ((await settle("revoke", lease)) === undefined && performance.now() < diesMs)
      await sleep(RETRY_MS * (1 + Math.random()));
    note("revoked", { ...lease.meta, accessor: lease.accessor });
  }

  return { stayLoggedIn, whenLoggedIn, mint, settle, revoke };
}

function asLooked({ lease_duration: ttl, token_type: type, ...auth }: Auth) {
  return { ...auth, ttl, type };
}
