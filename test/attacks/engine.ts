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
  /** By the container's id: how much earlier it is said to have started. */
  readonly #stuck = new Map<string, number>();
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

  /** From now on it says of this container what it said last, and that it started so much earlier. */
  stickTo(container: Container, earlierMs: number): void {
    this.#stuck.set(container.id, earlierMs);
  }

  /** Its wall clock is stepped: what starts from now on, starts by another time. */
  step(milliseconds: number): void {
    this.#stepMs = milliseconds;
    this.#steppedAtMs = Date.now();
  }

  async #answer(url: string): Promise<{ status: number; body: Buffer }> {
    const known = this.#known.get(url);
    const [, earlierMs = 0] = [...this.#stuck].find(([id]) => url.includes(id)) ?? [];
    if (known && earlierMs > 0) return { status: 200, body: moved(known, -earlierMs) };
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
    return moved(body, this.#stepMs);
  }
}

/** What it says of a container, started at another time. */
function moved(body: Buffer, milliseconds: number): Buffer {
  const value = JSON.parse(body.toString());
  const startedMs = Date.parse(value.State.StartedAt);
  value.State.StartedAt = new Date(startedMs + milliseconds).toISOString();
  return Buffer.from(JSON.stringify(value));
}
