// Question: what does a gRPC service on a UNIX socket answer to one call?
//
// Guaranteed: one message of at most 1 MiB (or as the caller says) before the deadline, or a GrpcError. A connection that has
// ended, as when the service restarts, is made again for the next call. No error quotes an answer's
// message, because that may hold a container's environment.
// Source: grpc/doc/PROTOCOL-HTTP2.md
import { type ClientHttp2Session, connect, type IncomingHttpHeaders } from "node:http2";
import { connect as connectSocket } from "node:net";

/** As of Docker's API: engine.ts. */
const DEADLINE_MS = 10_000;
const ANSWER_BYTES_MAX = 1 << 20;
/** A byte that says whether the message is compressed, and its length. */
const PREFIX_BYTES = 5;

/** There is no answer. */
export class GrpcError extends Error {
  /** gRPC's code; NaN where the service has said none. */
  readonly status: number;

  constructor(message: string, status = Number.NaN) {
    super(message);
    this.status = status;
  }
}

export class AnswerTooLong extends GrpcError {}

export class GrpcClient {
  readonly #socketPath: string;
  readonly #answerBytesMax: number;
  #session: ClientHttp2Session | undefined;

  constructor(socketPath: string, answerBytesMax = ANSWER_BYTES_MAX) {
    this.#socketPath = socketPath;
    this.#answerBytesMax = answerBytesMax;
  }

  /** `method` is PACKAGE.SERVICE/METHOD. */
  async call(method: string, request: Buffer): Promise<Buffer> {
    const stream = this.#connection().request({
      ":method": "POST",
      ":path": `/${method}`,
      "content-type": "application/grpc",
      te: "trailers",
    });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const headers: IncomingHttpHeaders = {};
    const chunks: Buffer[] = [];
    let length = 0;
    stream.on("data", (chunk: Buffer) => {
      length += chunk.length;
      chunks.push(chunk);
      if (length > this.#answerBytesMax)
        stream.destroy(new AnswerTooLong("the answer is too long"));
    });
    // An error without an answer has its status in the only headers.
    stream.on("response", (received) => Object.assign(headers, received));
    stream.on("trailers", (received) => Object.assign(headers, received));
    stream.on("error", reject).on("close", resolve);
    const timer = setTimeout(() => stream.destroy(new GrpcError("no answer in time")), DEADLINE_MS);
    const prefix = Buffer.alloc(PREFIX_BYTES);
    prefix.writeUInt32BE(request.length, 1);
    stream.end(Buffer.concat([prefix, request]));

    await promise.finally(() => clearTimeout(timer));
    const { "grpc-status": status, "grpc-message": message = "the answer has no status" } = headers;
    if (status !== "0") throw new GrpcError(String(message), Number(status));
    const answer = Buffer.concat(chunks);
    prefix.writeUInt32BE(Math.max(length - PREFIX_BYTES, 0), 1);
    if (!answer.subarray(0, PREFIX_BYTES).equals(prefix))
      throw new GrpcError("the answer is not one message");
    return answer.subarray(PREFIX_BYTES);
  }

  #connection(): ClientHttp2Session {
    const current = this.#session;
    if (current && !current.closed && !current.destroyed) return current;
    const session = connect("http://localhost", {
      createConnection: () => connectSocket(this.#socketPath),
    });
    session.on("error", () => {}); // each of its calls says so
    session.unref();
    this.#session = session;
    return session;
  }
}
