// What does Vault answer on this connection? One TLS connection that carries requests one after the
// other, sent without waiting for the answer to the one before (RFC 9112, 9.3.2: a server answers in
// their order). The certificate is always verified, whatever the environment says.

import type { TLSSocket } from "node:tls";
import { codeOf, EXIT, Failure } from "./failure.ts";
import { type Response, readResponse } from "./http.ts";

/** Ended before the answer came. `sent`: Vault may have acted on the request. */
export class ConnectionLost extends Error {
  readonly sent: boolean;

  constructor(sent: boolean, message: string) {
    super(message);
    this.sent = sent;
  }
}

type Waiting = { resolve: (response: Response) => void; reject: (error: Error) => void };

export class Connection {
  /** False once nothing more can be asked here. */
  open = true;
  readonly #socket: TLSSocket;
  readonly #waiting: Waiting[] = [];
  #received: Buffer = Buffer.alloc(0);
  #secure = false;

  constructor(url: URL, ca: string | undefined) {
    this.#socket = connect(url, ca);
    this.#socket.setNoDelay(true);
    this.#socket.on("secureConnect", () => {
      this.#secure = true;
    });
    this.#socket.on("data", (chunk: Buffer) => this.#receive(chunk));
    this.#socket.on("error", (error) => this.#end(explain(url, this.#socket, error)));
    this.#socket.on("close", () => this.#end(new Error("connection closed")));
  }

  get idle(): boolean {
    return this.open && this.#waiting.length === 0;
  }

  exchange(request: string, timeoutMs: number): Promise<Response> {
    const { promise, resolve, reject } = Promise.withResolvers<Response>();
    const timer = setTimeout(() => this.#end(new Error("no answer in time")), timeoutMs);
    this.#waiting.push({ resolve, reject });
    this.#socket.write(request);
    return promise.finally(() => clearTimeout(timer));
  }

  close(): void {
    this.#end(new Error("connection closed"));
  }

  #receive(chunk: Buffer): void {
    this.#received = Buffer.concat([this.#received, chunk]);
    try {
      while (this.#received.length > 0 && this.open) {
        const [next] = this.#waiting;
        // Bytes that nobody asked for would be taken for the next answer.
        if (!next) {
          this.close();
          return;
        }
        const response = readResponse(this.#received);
        if (!response) return;
        this.#received = this.#received.subarray(response.length);
        this.#waiting.shift();
        next.resolve(response);
        if (response.close) this.close();
      }
    } catch (error) {
      this.#end(error instanceof Error ? error : new Error());
    }
  }

  #end(error: Error): void {
    this.open = false;
    this.#socket.destroy();
    for (const { reject } of this.#waiting.splice(0)) {
      reject(error instanceof Failure ? error : new ConnectionLost(this.#secure, error.message));
    }
  }
}

function connect(url: URL, ca: string | undefined): TLSSocket {
  const tls = process.getBuiltinModule("node:tls");
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
  const isAddress = process.getBuiltinModule("node:net").isIP(host) > 0;
  return tls.connect({
    host,
    port: Number(url.port || 443),
    // No server name is sent for an IP address (RFC 6066, 3); the certificate must name it still.
    servername: isAddress ? "" : host,
    // Named, because NODE_TLS_REJECT_UNAUTHORIZED, NODE_EXTRA_CA_CERTS and NODE_OPTIONS change
    // what is taken where nothing is named.
    rejectUnauthorized: true,
    ca: ca ?? [...tls.rootCertificates],
    minVersion: "TLSv1.2",
  });
}

/** A Failure where no further try can help. */
function explain(url: URL, socket: TLSSocket, error: Error): Error {
  const code = codeOf(error);
  // Set only where verification failed, by OpenSSL or by Node's look at the names.
  if (socket.authorizationError) {
    return new Failure(
      EXIT.vault,
      `the certificate of ${url.origin} is not trusted: ${code}`,
      "the CA comes from the server: ca_file, or for_clients.ca_file, in its configuration",
    );
  }
  if (/^(EPROTO|ERR_SSL_)/.test(code)) {
    return new Failure(EXIT.vault, `${url.origin} and this client agree on no TLS: ${code}`);
  }
  return new Error(code);
}
