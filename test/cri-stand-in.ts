// Question: what does the server make of a CRI's answers? Output: an engine on a socket of its own,
// which speaks gRPC and says what a test wants.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import {
  createServer,
  type Http2Server,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A message; an error of gRPC; or what is done with the call. */
export type Reply =
  | Buffer
  | { status: number; message: string }
  | ((stream: ServerHttp2Stream) => void);

const HEADERS = { ":status": 200, "content-type": "application/grpc" };

/** The message with its prefix. */
export function framed(body: Buffer): Buffer {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(body.length, 1);
  return Buffer.concat([prefix, body]);
}

/** Sends these bytes as they are, and the status. */
export function send(stream: ServerHttp2Stream, bytes: Buffer, status = "0"): void {
  stream.respond(HEADERS, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": status }));
  stream.end(bytes);
}

export class CriStandIn {
  readonly directory = mkdtempSync(join(tmpdir(), "authproxy-cri-"));
  readonly socket = join(this.directory, "s");
  /** By the method, such as "RuntimeService/ContainerStatus". */
  readonly replies = new Map<string, Reply>();
  /** The methods that were called. */
  readonly asked: string[] = [];
  readonly sessions = new Set<ServerHttp2Session>();
  #server: Http2Server | undefined;

  static async start(replies: Record<string, Reply> = {}): Promise<CriStandIn> {
    const engine = new CriStandIn();
    for (const [method, reply] of Object.entries(replies)) engine.replies.set(method, reply);
    await engine.listen();
    return engine;
  }

  async listen(): Promise<void> {
    const server = createServer();
    this.#server = server;
    server.on("session", (session) => this.sessions.add(session));
    server.on("sessionError", () => {});
    server.on("stream", (stream, headers) => {
      stream.on("error", () => {}); // a test resets it
      const method = String(headers[":path"]).replace("/runtime.v1.", "");
      this.asked.push(method);
      const reply = this.replies.get(method) ?? { status: 12, message: `unknown ${method}` };
      if (typeof reply === "function") reply(stream);
      else if (Buffer.isBuffer(reply)) send(stream, framed(reply));
      else {
        // As gRPC's own servers answer an error: with headers alone.
        const { status, message } = reply;
        const error = { "grpc-status": String(status), "grpc-message": encodeURI(message) };
        stream.respond({ ...HEADERS, ...error }, { endStream: true });
      }
    });
    await new Promise<void>((resolve) => server.listen(this.socket, resolve));
  }

  /** As an engine that ends: every connection is closed. */
  async stop(): Promise<void> {
    const closed = new Promise((resolve) => this.#server?.close(resolve));
    for (const session of this.sessions) session.destroy();
    this.sessions.clear();
    await closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    rmSync(this.directory, { recursive: true });
  }
}

/** What a real engine said of a container, its sandbox and its image (containerd.lab.ts). */
export type Recording = {
  version: string;
  id: string;
  uid: string;
  image: string;
  manifest: string;
  answers: Record<string, string>;
};

const folder = join(import.meta.dirname, "fixtures/cri");

export const recordings: Recording[] = readdirSync(folder).map((name) =>
  JSON.parse(readFileSync(join(folder, name), "utf8")),
);

export function repliesOf({ answers }: Recording): Record<string, Reply> {
  const decoded = Object.entries(answers).map(([method, text]): [string, Reply] => [
    method,
    Buffer.from(text, "base64"),
  ]);
  return Object.fromEntries(decoded);
}
