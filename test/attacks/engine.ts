// Question: what does a server do whose engine is late?
// Input:    the real engine's answers. Output: a socket that gives them on, unless a test wants the
//           former ones again, or the times of another clock.
import { once } from "node:events";
import { createServer, request } from "node:http";
import { buffer } from "node:stream/consumers";
import type { Container, Stage } from "../stage.ts";

const REAL = "/var/run/docker.sock";

export class StandInEngine {
  readonly socket: string;
  readonly #known = new Map<string, Buffer>();
  readonly #stuck = new Set<string>();
  #stepMs = 0;
  #steppedAtMs = 0;

  private constructor(socket: string) {
    this.socket = socket;
  }

  static async start(stage: Stage): Promise<StandInEngine> {
    const engine = new StandInEngine(`${stage.directory}/engine.sock`);
    const server = createServer(async ({ url = "" }, response) => {
      const { status, body } = await engine.#answer(url);
      response.writeHead(status).end(body);
    });
    server.listen(engine.socket);
    await once(server, "listening");
    stage.defer(() => server.close());
    return engine;
  }

  /** From now on it says of this container what it said last. */
  stickTo(container: Container): void {
    this.#stuck.add(container.id);
  }

  /** Its wall clock is stepped: what starts from now on, starts by another time. */
  step(milliseconds: number): void {
    this.#stepMs = milliseconds;
    this.#steppedAtMs = Date.now();
  }

  async #answer(url: string): Promise<{ status: number; body: Buffer }> {
    const known = this.#known.get(url);
    if (known && [...this.#stuck].some((id) => url.includes(id)))
      return { status: 200, body: known };
    const sent = request({ socketPath: REAL, path: url }).end();
    const [answer] = await once(sent, "response");
    const body = this.#stepped(await buffer(answer));
    this.#known.set(url, body);
    return { status: answer.statusCode, body };
  }

  #stepped(body: Buffer): Buffer {
    const value = JSON.parse(body.toString());
    const startedMs = Date.parse(value.State?.StartedAt);
    if (!(startedMs > this.#steppedAtMs)) return body; // an image has no such time
    value.State.StartedAt = new Date(startedMs + this.#stepMs).toISOString();
    return Buffer.from(JSON.stringify(value));
  }
}
