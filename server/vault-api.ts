// Question: what does Vault answer to one call of its HTTP API?
//
// Input: Vault's address. Vault is trusted, but may be slow, sealed or gone, and what stands before it
// may answer in its place.
// Guaranteed: TLS is verified; every call ends 3 s after it was sent, and is sent within 3 s; only an
// answer in Vault's own form counts; a failure is a Refusal that says whether asking again can help.
// Source: Vault's API pages.
import { Agent, type RequestOptions, request } from "node:https";
import type { VaultAddress } from "./config.ts";
import { exchange, type HttpAnswer, HttpError } from "./http.ts";
import type { JsonObject } from "./json.ts";
import { Refusal, unavailable } from "./refusal.ts";

const CALL_DEADLINE_MS = 3000;
/** Of calls that a peer waits for. */
const SOCKETS_MAX = 64;
/** May pass: 403 when the server's own token has died, 412 on a standby that lags behind, 429 where
 * there are too many calls. */
const TRANSIENT_CLIENT_ERRORS = [403, 412, 429];

/** A token, as an answer's `auth` describes it. `lease_duration` is in seconds. */
export type Auth = {
  client_token: string;
  accessor: string;
  lease_duration: number;
  renewable: boolean;
  orphan: boolean;
  policies: string[];
  identity_policies?: string[] | null;
  token_type: string;
};

/** A token, as auth/token/lookup-… describes it. `ttl` is in seconds. */
export type TokenDescription = {
  orphan: boolean;
  policies: string[];
  identity_policies?: string[] | null;
  renewable: boolean;
  ttl: number;
  type: string;
};

export type VaultAnswer = {
  auth?: Auth | null;
  wrap_info?: { token: string; wrapped_accessor: string } | null;
  warnings?: string[] | null;
  /** A description of a token, or a secret. */
  data: TokenDescription & { creation_ttl: number } & Record<string, string> & {
      data?: Record<string, string>;
    };
};

export type CallOptions = {
  /** In place of the server's own. */
  token?: string;
  /** In place of the configured one; empty is the root namespace. */
  namespace?: string | undefined;
  /** Such as "60s": the token in the answer is wrapped. */
  wrapTtl?: string | undefined;
  /** Nobody waits for it, and the caller bounds how many there are: it has connections of its own, so
   * that neither starves the other. */
  isUpkeep?: boolean;
  /** A login's own connection, with its certificate where it has one. */
  tls?: Pick<RequestOptions, "agent" | "cert" | "key">;
};

export class VaultApi {
  /** The server's own token. */
  token = "";
  /** Called at each 403: perhaps the server's own token has died. */
  onDenied = (): void => {};
  readonly namespace: string;
  readonly #target: RequestOptions;
  readonly #agent;
  readonly #upkeepAgent;

  constructor({ address, ca, namespace = "" }: VaultAddress) {
    const { hostname, port } = new URL(address);
    const tls = { ca, rejectUnauthorized: true };
    this.#agent = new Agent({ keepAlive: true, maxSockets: SOCKETS_MAX, ...tls });
    this.#upkeepAgent = new Agent({ keepAlive: true, ...tls });
    // An IPv6 address stands in brackets in a URL only.
    this.#target = { hostname: hostname.replace(/^\[|\]$/g, ""), port, ...tls };
    this.namespace = namespace;
  }

  /** POST where there is a body, else GET; `path` is below /v1/. Throws the refusal "vault". */
  async call(path: string, body?: JsonObject, options: CallOptions = {}): Promise<VaultAnswer> {
    const answer = await this.#exchange(path, body, options);
    const { status, value } = answer;
    if (!isVaults(answer))
      throw unavailable("vault", `/v1/${path}: status ${status}, the answer is not Vault's`);
    if (status < 300) return value as VaultAnswer;

    if (status === 403) this.onDenied();
    const isFinal = status >= 400 && status < 500 && !TRANSIENT_CLIENT_ERRORS.includes(status);
    throw new Refusal("vault", { path, status, errors: value.errors ?? [] }, !isFinal);
  }

  async #exchange(path: string, body: JsonObject | undefined, options: CallOptions) {
    const { token = this.token, namespace = this.namespace, wrapTtl, isUpkeep, tls } = options;
    const outgoing = {
      ...this.#target,
      agent: isUpkeep ? this.#upkeepAgent : this.#agent,
      ...tls,
      method: body ? "POST" : "GET",
      path: `/v1/${path}`,
      headers: {
        "X-Vault-Token": token,
        "X-Vault-Namespace": namespace,
        ...(wrapTtl && { "X-Vault-Wrap-TTL": wrapTtl }),
      },
      deadlineMs: CALL_DEADLINE_MS,
    };
    try {
      return await exchange(request, outgoing, body);
    } catch (error) {
      if (error instanceof HttpError) throw unavailable("vault", error.message);
      throw error;
    }
  }
}

/** Vault's answers have a `request_id` (empty where the answer is wrapped), and those that are not a
 * success may have `errors` alone. A success that says nothing has no body; what stands before Vault
 * gives such an answer no type, or another. */
function isVaults({ status, type, value: { request_id, errors } }: HttpAnswer): boolean {
  if (status === 204) return type === "application/json";
  if (typeof request_id === "string") return true;
  return status >= 300 && Array.isArray(errors) && errors.every((text) => typeof text === "string");
}
