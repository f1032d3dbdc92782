// Question:   what does Vault answer on one TLS connection?
// Input:      bytes from the network. Until the certificate is verified anybody on the way wrote them,
//             and after that Vault did.
// Output:     responses, in the order of the requests. A request is sent without waiting for the answer
//             to the one before (RFC 9112, 9.3.2: a server answers in their order).
// Guaranteed: the certificate is always verified, whatever the environment says. The parser is strict:
//             what RFC 9112 allows a reader to repair is refused, so that no two readers can see
//             different responses in the same bytes.
//
// node:https would do this too, but loading it takes a tenth of the client's start.

import type { TLSSocket } from "node:tls";
import { EXIT, errorCode, Failure, fail } from "./failure.ts";

/** For TCP and TLS together. Without it a lost packet, or a host that is gone, takes up the whole wait. */
const CONNECT_MS_MAX = 10_000;
const HEAD_BYTES_MAX = 16 * 1024;
/**
 * Vault takes requests of up to 32 MiB (max_request_size), and writes a character as six bytes where
 * JSON escapes it. The rest is for what stands around the secret.
 */
const BODY_BYTES_MAX = 200 * 1024 * 1024;
/** The size of a chunk: eight hexadecimal digits at most. */
const CHUNK_SIZE_PATTERN = /^[\da-f]{1,8}$/i;

/** The connection ended before the answer came. */
export class ConnectionLost extends Error {
  /** TLS was set up, so Vault may have received the request and acted on it. */
  readonly mayBeReceived: boolean;

  constructor(mayBeReceived: boolean, message: string) {
    super(message);
    this.mayBeReceived = mayBeReceived;
  }
}

type PendingRequest = {
  readonly resolve: (response: HttpResponse) => void;
  readonly reject: (error: Error) => void;
};

export class Connection {
  /** False once no request can be sent any more. */
  isOpen = true;
  readonly #socket: TLSSocket;
  /** Sent and not answered, the oldest first. */
  readonly #pending: PendingRequest[] = [];
  /** The bytes that came and are not used up: the first #receivedBytes of the buffer. */
  #buffer = Buffer.alloc(64 * 1024);
  #receivedBytes = 0;
  #isSecure = false;
  readonly #connectTimer: NodeJS.Timeout;

  /** Connects to the URL's host and port. `ca` is PEM; undefined stands for the public CAs. */
  constructor(url: URL, ca: string | undefined) {
    this.#socket = connect(url, ca);
    this.#socket.setNoDelay(true);
    const failConnect = () => this.#end(new Error("no connection in time"));
    this.#connectTimer = setTimeout(failConnect, CONNECT_MS_MAX);
    this.#socket.on("secureConnect", () => {
      this.#isSecure = true;
      clearTimeout(this.#connectTimer);
    });
    this.#socket.on("data", (chunk: Buffer) => this.#receive(chunk));
    this.#socket.on("error", (error) => this.#end(explain(url, this.#socket, error)));
    this.#socket.on("close", () => this.close());
  }

  get isIdle(): boolean {
    return this.isOpen && this.#pending.length === 0;
  }

  /**
   * Sends a request and returns its response. Rejects with a ConnectionLost, or with a Failure where
   * no further attempt can help.
   */
  async exchange(request: string, timeoutMs: number): Promise<HttpResponse> {
    const { promise, resolve, reject } = Promise.withResolvers<HttpResponse>();
    const timer = setTimeout(() => this.#end(new Error("no answer in time")), timeoutMs);
    this.#pending.push({ resolve, reject });
    this.#socket.write(request);
    return await promise.finally(() => clearTimeout(timer));
  }

  close(): void {
    this.#end(new Error("connection closed"));
  }

  #receive(chunk: Buffer): void {
    this.#append(chunk);
    try {
      while (this.#receivedBytes > 0 && this.isOpen) {
        // Bytes that nobody asked for would be taken for the next answer.
        if (this.#pending.length === 0) {
          this.close();
          return;
        }
        const response = parseResponse(this.#buffer.subarray(0, this.#receivedBytes));
        if (!response) return;

        this.#buffer.copyWithin(0, response.length, this.#receivedBytes);
        this.#receivedBytes -= response.length;
        this.#pending.shift()?.resolve(response);
        if (response.closes) this.close();
      }
    } catch (error) {
      // parseResponse throws nothing but an Error.
      this.#end(error as Error);
    }
  }

  /** The buffer grows to twice what is needed: each byte of a long answer is copied a few times only. */
  #append(chunk: Buffer): void {
    const neededBytes = this.#receivedBytes + chunk.length;
    if (neededBytes > this.#buffer.length) {
      const larger = Buffer.alloc(2 * neededBytes);
      this.#buffer.copy(larger, 0, 0, this.#receivedBytes);
      this.#buffer = larger;
    }
    chunk.copy(this.#buffer, this.#receivedBytes);
    this.#receivedBytes = neededBytes;
  }

  #end(error: Error): void {
    this.isOpen = false;
    clearTimeout(this.#connectTimer);
    this.#socket.destroy();
    for (const { reject } of this.#pending.splice(0)) {
      reject(error instanceof Failure ? error : new ConnectionLost(this.#isSecure, error.message));
    }
  }
}

// process.getBuiltinModule, because an import would load TLS in every start, also in those that need
// no secret.
function connect(url: URL, ca: string | undefined): TLSSocket {
  const tls = process.getBuiltinModule("node:tls");
  const net = process.getBuiltinModule("node:net");
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
  const isAddress = net.isIP(host) > 0;
  return tls.connect({
    host,
    port: Number(url.port || 443),
    // RFC 6066, 3: no server name is sent for an IP address. The certificate must still name it.
    servername: isAddress ? "" : host,
    // All three are set here, because NODE_TLS_REJECT_UNAUTHORIZED, NODE_EXTRA_CA_CERTS and
    // NODE_OPTIONS change what Node takes where they are not.
    rejectUnauthorized: true,
    ca: ca ?? [...tls.rootCertificates],
    minVersion: "TLSv1.2",
  });
}

/** Returns a Failure where no further attempt can help. */
function explain(url: URL, socket: TLSSocket, error: Error): Error {
  const code = errorCode(error);
  // Only a failed verification sets this: OpenSSL's, or Node's of the names.
  if (socket.authorizationError) {
    return new Failure(
      EXIT.unavailable,
      `the certificate of ${url.origin} is not trusted: ${code}`,
      "set its CA on the host, as ca_file or for_clients.ca_file in the server's configuration",
    );
  }
  if (/^(EPROTO|ERR_SSL_)/.test(code)) {
    return new Failure(
      EXIT.unavailable,
      `${url.origin} and this client cannot agree on TLS: ${code}`,
      "Vault must offer TLS 1.2 or newer at this address, and demand no client certificate: a container has none",
    );
  }
  return new Error(code);
}

export type HttpResponse = {
  readonly status: number;
  readonly body: string;
  /** The server closes the connection after this response. */
  readonly closes: boolean;
  /** How many of the bytes belong to it. */
  readonly length: number;
};

/**
 * Returns the first HTTP/1.1 response in the bytes, or undefined while it is incomplete. Throws a
 * Failure for one that is too long, and an Error for anything else. It does no input and output.
 */
export function parseResponse(bytes: Buffer): HttpResponse | undefined {
  const headEnd = bytes.indexOf("\r\n\r\n");
  const headBytes = headEnd < 0 ? bytes.length : headEnd;
  if (headBytes > HEAD_BYTES_MAX) malformed("its head is too long");
  if (headEnd < 0) return undefined;

  const [statusLine = "", ...headerLines] = bytes.toString("latin1", 0, headEnd).split("\r\n");
  const match = /^HTTP\/1\.1 ([2-5]\d\d)( |$)/.exec(statusLine);
  if (!match) malformed("it is not HTTP/1.1");
  const status = Number(match[1]);
  const headers = parseHeaders(headerLines);
  const closes = headers.get("connection")?.toLowerCase() === "close";
  const bodyStart = headEnd + 4;
  if (status === 204) return { status, body: "", closes, length: bodyStart };

  const block = readBody(bytes, bodyStart, headers);
  if (!block) return undefined;
  return { status, body: block.content.toString(), closes, length: block.end };
}

/** Returns the values by the names in lower case. */
function parseHeaders(lines: readonly string[]): Map<string, string> {
  const headers = new Map<string, string>();
  for (const line of lines) {
    const match = /^([^\s:]+):[ \t]*(.*?)[ \t]*$/.exec(line);
    if (!match) malformed("a header has no name");
    const [, name = "", value = ""] = match;
    const key = name.toLowerCase();
    // Repeated headers are one list (RFC 9110, 5.3). A list is not a length, and is refused below.
    const before = headers.get(key);
    headers.set(key, before === undefined ? value : `${before}, ${value}`);
  }
  return headers;
}

/** `end` is the index after the block. */
type Block = { readonly content: Buffer; readonly end: number };

function readBody(
  bytes: Buffer,
  start: number,
  headers: ReadonlyMap<string, string>,
): Block | undefined {
  const encoding = headers.get("transfer-encoding");
  const length = headers.get("content-length");
  if (encoding !== undefined) {
    if (encoding !== "chunked" || length) malformed("its encoding is not chunked alone");
    return readChunks(bytes, start);
  }
  if (!/^\d+$/.test(length ?? "")) malformed("it has no length");
  requireLength(Number(length));
  return readBlock(bytes, start, Number(length));
}

/** Returns the block of this length, or undefined while it is incomplete. */
function readBlock(bytes: Buffer, start: number, length: number): Block | undefined {
  const end = start + length;
  return end <= bytes.length ? { content: bytes.subarray(start, end), end } : undefined;
}

/** Chunk extensions and trailers are refused: Go's server, which Vault uses, sends none. */
function readChunks(bytes: Buffer, start: number): Block | undefined {
  const chunks: Buffer[] = [];
  let totalBytes = 0;
  let position = start;
  for (;;) {
    const lineEnd = bytes.indexOf("\r\n", position);
    if (lineEnd < 0 && bytes.length - position <= 8) return undefined;
    const size = bytes.toString("latin1", position, lineEnd);
    if (lineEnd < 0 || !CHUNK_SIZE_PATTERN.test(size)) malformed("a chunk has no size");
    const chunkBytes = Number.parseInt(size, 16);
    totalBytes += chunkBytes;
    requireLength(totalBytes);
    const chunk = readBlock(bytes, lineEnd + 2, chunkBytes);
    if (!chunk || bytes.length < chunk.end + 2) return undefined;

    position = chunk.end + 2;
    if (bytes.toString("latin1", chunk.end, position) !== "\r\n") {
      malformed("a chunk is longer than its size");
    }
    if (chunkBytes === 0) return { content: Buffer.concat(chunks), end: position };
    chunks.push(chunk.content);
  }
}

/** Throws a Failure (unavailable): another attempt would get the same answer. */
function requireLength(bodyBytes: number): void {
  if (bodyBytes <= BODY_BYTES_MAX) return;
  fail(
    "unavailable",
    `an answer of Vault is too long: more than ${BODY_BYTES_MAX} bytes`,
    "no request that Vault takes can hold such a secret: is there something else at this address?",
  );
}

function malformed(reason: string): never {
  throw new Error(`a malformed answer: ${reason}`);
}
