// Is there a whole HTTP/1.1 response in these bytes, and what does it say? Pure, and strict: what
// RFC 9112 lets a reader repair is refused, so that no two readers can see different responses.
//
// Here instead of node:https because loading that takes a tenth of the client's whole time.

const HEAD_BYTES = 16 * 1024;
const BODY_BYTES = 1024 * 1024;

export type Response = {
  readonly status: number;
  readonly body: string;
  /** The server closes the connection after this response. */
  readonly close: boolean;
  /** How many of the bytes it takes. */
  readonly length: number;
};

/** The first response, or undefined while it is not whole; throws where it is none. */
export function readResponse(bytes: Buffer): Response | undefined {
  const headEnd = bytes.indexOf("\r\n\r\n");
  if (Math.max(headEnd, headEnd < 0 ? bytes.length : 0) > HEAD_BYTES) bad("its head is too long");
  if (headEnd < 0) return undefined;
  const [statusLine = "", ...lines] = bytes.toString("latin1", 0, headEnd).split("\r\n");
  const status = Number(/^HTTP\/1\.1 ([2-5]\d\d)( |$)/.exec(statusLine)?.[1] ?? bad("no HTTP/1.1"));
  const headers = new Map<string, string>();
  for (const line of lines) {
    const [, name, value = ""] = /^([^\s:]+):[ \t]*(.*?)[ \t]*$/.exec(line) ?? bad("a bad header");
    const known = String(name).toLowerCase();
    // Repeated headers are one list (RFC 9110, 5.3), and a list is no length: refused below.
    const before = headers.get(known);
    headers.set(known, before === undefined ? value : `${before}, ${value}`);
  }
  const close = headers.get("connection")?.toLowerCase() === "close";
  const start = headEnd + 4;
  if (status === 204) return { status, body: "", close, length: start };
  const encoding = headers.get("transfer-encoding");
  const length = headers.get("content-length");
  if ((encoding ?? "chunked") !== "chunked" || (encoding && length)) bad("an unknown encoding");
  const body = encoding ? readChunks(bytes, start) : readBlock(bytes, start, length ?? "", 10);
  return body && { status, close, body: body.bytes.toString(), length: body.end };
}

type Block = { readonly bytes: Buffer; readonly end: number };

function readBlock(bytes: Buffer, start: number, size: string, radix: 10 | 16): Block | undefined {
  const form = radix === 10 ? /^\d{1,8}$/ : /^[\da-f]{1,8}$/i;
  const length = form.test(size) ? Number.parseInt(size, radix) : bad("no length");
  if (length > BODY_BYTES) bad("it is too long");
  const end = start + length;
  return end <= bytes.length ? { bytes: bytes.subarray(start, end), end } : undefined;
}

/** No chunk extensions and no trailers: Go's server, which Vault is, sends none. */
function readChunks(bytes: Buffer, start: number): Block | undefined {
  const chunks: Buffer[] = [];
  let total = 0;
  for (let index = start; ; ) {
    const lineEnd = bytes.indexOf("\r\n", index);
    if (lineEnd < 0) return bytes.length - index > 8 ? bad("no chunk") : undefined;
    const chunk = readBlock(bytes, lineEnd + 2, bytes.toString("latin1", index, lineEnd), 16);
    if (!chunk || bytes.length < chunk.end + 2) return undefined;
    index = chunk.end + 2;
    if (bytes.toString("latin1", chunk.end, index) !== "\r\n") bad("no chunk");
    total += chunk.bytes.length;
    if (total > BODY_BYTES) bad("it is too long");
    if (chunk.bytes.length === 0) return { bytes: Buffer.concat(chunks), end: index };
    chunks.push(chunk.bytes);
  }
}

function bad(what: string): never {
  throw new Error(`a malformed answer: ${what}`);
}
