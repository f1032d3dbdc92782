// Question: what happens while the engine is away, slow or wrong?
// Input:    the machine's engine. Output: another socket that leads to it, and changes or delays its
//           answers as a test says.
import { once } from "node:events";
import { rmSync } from "node:fs";
import { createServer, type Server as HttpServer, type IncomingMessage, request } from "node:http";
import { join } from "node:path";
import type { Stage } from "./stage.ts";

const ENGINE = "/var/run/docker.sock";

export type Alter = (body: string) => string;

export class EngineProxy {
  readonly socket: string;
  delayMs = 0;
  alter: Alter = (body) => body;
  #server: HttpServer | undefined;

  constructor(stage: Stage) {
    this.socket = join(stage.directory, "engine.sock");
    stage.defer(() => this.stop());
  }

  async start(): Promise<void> {
    this.#server = createServer(async (asked, answer) => {
      const { method, url: path, headers } = asked;
      const passed = request({ socketPath: ENGINE, method, path, headers }).end();
      const [told]: IncomingMessage[] = await once(passed, "response");
      const body = this.alter((await told?.setEncoding("utf8").toArray())?.join("") ?? "");
      setTimeout(() => answer.writeHead(told?.statusCode ?? 500).end(body), this.delayMs);
    });
    await once(this.#server.listen(this.socket), "listening");
  }

  /** Connections are cut, and the socket is gone, as the engine's is. */
  async stop(): Promise<void> {
    if (!this.#server?.listening) return;
    const closed = once(this.#server, "close");
    this.#server.closeAllConnections();
    this.#server.close();
    await closed;
    rmSync(this.socket, { force: true });
  }
}
