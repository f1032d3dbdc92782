// Question:   what does Vault answer to this request?
// Input:      a request, the token, and where Vault is, which the server said.
// Output:     Vault's answer. What can pass by itself is tried again until the deadline: no connection,
//             a status of a standby, of an election or of overload, and an answer that is not in Vault's
//             form: what stands before Vault wrote it, and knows nothing of the secret. So is 403 for
//             2 s, in which a standby may not have the new token yet.
// Guaranteed: the token goes to the configured address only. Redirects are not followed, because they
//             would carry it to another place. What may make something is sent once and waited for until
//             the deadline: where its answer is lost, it is not sent again.

import { fail } from "./failure.ts";
import { Connection, ConnectionLost, type HttpResponse } from "./https.ts";
import type { VaultPlace } from "./public.ts";
import { parseVaultBody, type VaultBody } from "./values.ts";
import { attemptMs, nowMs, waitBeforeRetry } from "./wait.ts";

/** A read of KV may be sent again after so long: its connection may be dead, or its Vault stuck. */
const KV_EXCHANGE_MS_MIN = 10_000;
const NEW_TOKEN_MS = 2000;
/**
 * Besides 5xx: an index that a standby does not have yet, too many requests, and the standbys of
 * Vault Enterprise.
 */
const PASSING_STATUSES = [412, 429, 472, 473];
/** A gateway gave up while Vault was at work. */
const GATEWAY_TIMEOUT = 504;

export type VaultRequest = {
  readonly path: string;
  /** JSON. With a body the request is a POST, without one a GET. */
  readonly body?: string;
  /** Of a secret in KV version 2. */
  readonly version?: number | undefined;
  /**
   * It makes nothing, so it may be sent twice. Vault answers from its storage, in a fraction of a
   * handshake's time: one connection is shared.
   */
  readonly isRepeatable?: boolean;
  /** The token is not new: a 403 is returned at once. */
  readonly returnsDenial?: boolean;
  /** On the clock of nowMs(), where it is sooner than for the others. */
  readonly deadlineMs?: number;
};

export type VaultResponse = {
  readonly status: number;
  readonly body: VaultBody;
};

export class Vault {
  readonly #url: URL;
  readonly #vault: VaultPlace;
  readonly #token: string | undefined;
  readonly #deadlineMs: number;
  /** Requests that may be sent twice share this connection. */
  #shared: Connection | undefined;
  /** Each other request has one of these to itself. */
  #separate: Connection[] = [];

  /** Throws a Failure (config) where the address is not https://. Nothing is connected yet. */
  constructor(vault: VaultPlace, token: string | undefined, deadlineMs: number) {
    this.#url = parseAddress(vault.address);
    this.#vault = vault;
    this.#token = token;
    this.#deadlineMs = deadlineMs;
  }

  /**
   * Returns Vault's answer, with any status that does not pass by itself. Throws a Failure (unavailable)
   * at the deadline, for a permanent redirect, and where an answer is lost.
   */
  async request(request: VaultRequest): Promise<VaultResponse> {
    const deadlineMs = request.deadlineMs ?? this.#deadlineMs;
    const newTokenEndMs = request.returnsDenial ? 0 : nowMs() + NEW_TOKEN_MS;
    const denialEndMs = Math.min(newTokenEndMs, deadlineMs);
    for (let attempt = 0; ; attempt++) {
      const result = await this.#attempt(request, deadlineMs);
      const endedMs = nowMs();
      if (typeof result === "object") {
        if (result.status !== 403 || endedMs >= denialEndMs) return result;
      } else if (endedMs >= deadlineMs) {
        fail(
          "unavailable",
          `Vault at ${this.#url.origin} is unavailable: ${result}`,
          "is it sealed, or can it not be reached from here? for_clients.address is for containers, and HTTPS_PROXY is not used",
        );
      }
      await waitBeforeRetry(attempt, deadlineMs);
    }
  }

  close(): void {
    this.#shared?.close();
    for (const connection of this.#separate) connection.close();
  }

  /** Returns Vault's answer, or what went wrong and may pass. */
  async #attempt(request: VaultRequest, deadlineMs: number): Promise<VaultResponse | string> {
    const connection = this.#connectionFor(request);
    let timeoutMs = attemptMs(deadlineMs);
    if (request.isRepeatable)
      timeoutMs = Math.min(timeoutMs, Math.max(KV_EXCHANGE_MS_MIN, timeoutMs / 2));
    let response: HttpResponse;
    try {
      response = await connection.exchange(this.#format(request), timeoutMs);
    } catch (error) {
      if (!(error instanceof ConnectionLost)) throw error;
      if (request.isRepeatable || !error.mayBeReceived) return error.message;
      return failLost(request, error.message);
    }

    const { status } = response;
    if (status === 301 || status === 308) {
      fail(
        "unavailable",
        `Vault at ${this.#url.origin} redirects (${status}), which is not followed`,
        "configure the address of a Vault that answers itself, or forwards requests",
      );
    }
    // A standby redirects with 307 for as long as it does not know the leader's address.
    if (status < 400 && status >= 300) return `it redirects (${status}), which is not followed`;
    if (status === GATEWAY_TIMEOUT && !request.isRepeatable) failLost(request, `status ${status}`);
    if (status >= 500 || PASSING_STATUSES.includes(status)) return `status ${status}`;
    const body = status === 204 ? {} : parseVaultBody(response.body);
    return body ? { status, body } : `status ${status}, in an answer that is not Vault's`;
  }

  #connectionFor(request: VaultRequest): Connection {
    if (request.isRepeatable) {
      if (!this.#shared?.isOpen) this.#shared = new Connection(this.#url, this.#vault.ca);
      return this.#shared;
    }

    this.#separate = this.#separate.filter((connection) => connection.isOpen);
    const idle = this.#separate.find((connection) => connection.isIdle);
    if (idle) return idle;
    const connection = new Connection(this.#url, this.#vault.ca);
    this.#separate.push(connection);
    return connection;
  }

  /** Returns the request as HTTP/1.1. The token and the namespace were checked before: see token.ts. */
  #format({ path, body, version }: VaultRequest): string {
    const method = body === undefined ? "GET" : "POST";
    const base = this.#url.pathname.replace(/\/+$/, "");
    const encodedPath = path.split("/").map(encodeURIComponent).join("/");
    const query = version === undefined ? "" : `?version=${version}`;
    const lines = [
      `${method} ${base}/v1/${encodedPath}${query} HTTP/1.1`,
      `Host: ${this.#url.host}`,
      "X-Vault-Request: true",
    ];
    if (this.#token !== undefined) lines.push(`X-Vault-Token: ${this.#token}`);
    if (this.#vault.namespace !== undefined) {
      lines.push(`X-Vault-Namespace: ${this.#vault.namespace}`);
    }
    if (body !== undefined) lines.push(`Content-Length: ${Buffer.byteLength(body)}`);
    return `${lines.join("\r\n")}\r\n\r\n${body ?? ""}`;
  }
}

function failLost({ path, body }: VaultRequest, reason: string): never {
  const kind = body === undefined ? "read" : "write";
  fail(
    "unavailable",
    `no answer from Vault to a ${kind} at ${path}: ${reason}`,
    "Vault may have done it, so it is not sent again",
  );
}

function parseAddress(address: string): URL {
  const url = URL.parse(address);
  if (url?.protocol === "https:" && !url.username && !url.search && !url.hash) return url;
  return fail(
    "config",
    `the Vault address that the server gave is not https://HOST[:PORT]: ${address}`,
    "without TLS anybody on the way could read the token: correct it in the server's configuration",
  );
}
