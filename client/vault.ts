// What does Vault say to this request? Sends it with the token, and tries again what passes by
// itself: no connection, 429 and 5xx (sealed, standby, overload) until the deadline; 403 and 412 for
// 2 s, in which a standby may not know a fresh token yet. Redirects are not followed: they would
// carry the token to a place that nobody configured.

import type { VaultPlace } from "./answer.ts";
import { Connection, ConnectionLost } from "./connection.ts";
import { fail } from "./failure.ts";
import type { Response } from "./http.ts";
import { nowMs, triesMs, waitForTry } from "./wait.ts";

const EXCHANGE_MS = 10_000;
const FRESH_TOKEN_MS = 2000;

export type Request = {
  readonly path: string;
  /** JSON; with it the request is a POST. */
  readonly body?: string;
  readonly version?: number | undefined;
  /** Answered from storage in a fraction of a handshake's time: shares one connection. */
  readonly quick?: boolean;
  /** A 403 or 412 is taken for an answer at once. */
  readonly impatient?: boolean;
};

export class Vault {
  readonly #url: URL;
  readonly #place: VaultPlace;
  readonly #token: string | undefined;
  readonly #deadlineMs: number;
  #shared: Connection | undefined;
  #own: Connection[] = [];

  constructor(place: VaultPlace, token: string | undefined, deadlineMs: number) {
    this.#url = parseAddress(place.address);
    this.#place = place;
    this.#token = token;
    this.#deadlineMs = deadlineMs;
  }

  /** Every status but 3xx, 429 and 5xx. */
  async request(request: Request): Promise<Response> {
    const freshMs = request.impatient ? 0 : nowMs() + FRESH_TOKEN_MS;
    for (let attempt = 0; ; attempt++) {
      const outcome = await this.#try(request);
      const triedMs = nowMs();
      if (typeof outcome === "object") {
        const isLate = triedMs >= Math.min(freshMs, this.#deadlineMs);
        if (isLate || ![403, 412].includes(outcome.status)) return outcome;
      } else if (triedMs >= this.#deadlineMs) {
        fail(
          "vault",
          `Vault at ${this.#url.origin} is unavailable: ${outcome}`,
          "is it sealed, or not to be reached from here? for_clients.address is for containers",
        );
      }
      await waitForTry(attempt, this.#deadlineMs);
    }
  }

  close(): void {
    for (const connection of [this.#shared, ...this.#own]) connection?.close();
  }

  /** An answer, or in words what may pass. */
  async #try(request: Request): Promise<Response | string> {
    const connection = this.#connectionFor(request);
    try {
      const timeoutMs = Math.min(EXCHANGE_MS, triesMs(this.#deadlineMs));
      const response = await connection.exchange(this.#format(request), timeoutMs);
      const { status } = response;
      if (status >= 300 && status < 400) {
        fail(
          "vault",
          `Vault at ${this.#url.origin} redirects (${status}), which is not followed`,
          "the address must be of a Vault that answers itself, or forwards",
        );
      }
      return status === 429 || status >= 500 ? `status ${status}` : response;
    } catch (error) {
      if (!(error instanceof ConnectionLost)) throw error;
      if (!error.sent || request.body === undefined) return error.message;
      return fail(
        "vault",
        `no answer from Vault to a write at ${request.path}: ${error.message}`,
        "it may have been done, so it is not sent again",
      );
    }
  }

  #connectionFor({ quick }: Request): Connection {
    if (quick && this.#shared?.open) return this.#shared;
    this.#own = this.#own.filter((connection) => connection.open);
    const idle = quick ? undefined : this.#own.find((connection) => connection.idle);
    if (idle) return idle;
    const connection = new Connection(this.#url, this.#place.ca);
    if (quick) this.#shared = connection;
    else this.#own.push(connection);
    return connection;
  }

  #format({ path, body, version }: Request): string {
    const base = this.#url.pathname.replace(/\/+$/, "");
    const encoded = path.split("/").map(encodeURIComponent).join("/");
    const query = version === undefined ? "" : `?version=${version}`;
    const headers = {
      Host: this.#url.host,
      "X-Vault-Request": "true",
      "X-Vault-Token": this.#token,
      "X-Vault-Namespace": this.#place.namespace,
      "Content-Length": body === undefined ? undefined : Buffer.byteLength(body),
    };
    let text = `${body === undefined ? "GET" : "POST"} ${base}/v1/${encoded}${query} HTTP/1.1\r\n`;
    for (const [name, value] of Object.entries(headers)) {
      if (value !== undefined) text += `${name}: ${value}\r\n`;
    }
    return `${text}\r\n${body ?? ""}`;
  }
}

function parseAddress(address: string): URL {
  const url = URL.canParse(address) ? new URL(address) : undefined;
  if (url?.protocol === "https:" && !url.username && !url.search && !url.hash) return url;
  return fail(
    "config",
    `the Vault address that the server gave is not https://HOST[:PORT]: ${address}`,
    "without TLS anybody on the way could read the token: correct it in the server's configuration",
  );
}
