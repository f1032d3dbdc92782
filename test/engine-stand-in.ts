// Question: what does the server make of an engine's answers? Output: an engine on a socket of its own
// that says what a test wants, and offers the API versions that it wants.
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const id = "a".repeat(64);
export const TOO_OLD = (asked: string, oldest: string) =>
  `client version ${asked} is too old. Minimum supported API version is ${oldest}, please upgrade your client to a newer version`;

/** An engine that offers these API versions, and refuses others in the words of Docker's. */
export class StandIn {
  readonly directory = mkdtempSync(join(tmpdir(), "authproxy-engine-"));
  readonly socket = join(this.directory, "engine.sock");
  readonly asked: string[] = [];
  /** Members of a container's inspect, beside the id. */
  container: object = {};
  /** All of a container's inspect, in place of the usual one. */
  inspect: object | undefined;
  /** The answers about images, by what stands behind /images/; others are 404. */
  images: Record<string, object> = {};
  /** Of the engine's info. */
  driverStatus: string[][] | null = [["Backing Filesystem", "extfs"]];
  oldest = "1.24";
  newest = "1.51";
  /** In place of the usual answer to GET /version. */
  versions: string | undefined;
  readonly #server: Server;

  private constructor() {
    this.#server = createServer((request, answer) => {
      const { url = "" } = request;
      this.asked.push(url);
      const [, version = ""] = /^\/v(1\.\d+)\//.exec(url) ?? [];
      const minor = (text: string) => Number(text.split(".")[1]);
      if (url === "/version") {
        const usual = JSON.stringify({ ApiVersion: this.newest, MinAPIVersion: this.oldest });
        answer.end(this.versions ?? usual);
      } else if (minor(version) < minor(this.oldest) || minor(version) > minor(this.newest)) {
        answer.statusCode = 400;
        answer.end(JSON.stringify({ message: TOO_OLD(version, this.oldest) }));
      } else if (url.endsWith("/info")) {
        answer.end(JSON.stringify({ DriverStatus: this.driverStatus }));
      } else if (url.includes("/images/")) {
        const image = this.images[decodeURIComponent(url.split("/images/")[1] ?? "")];
        answer.statusCode = image ? 200 : 404;
        answer.end(JSON.stringify(image ?? { message: "No such image" }));
      } else {
        const usual = { Id: id, State: { Pid: 1 }, Config: {}, ...this.container };
        answer.end(JSON.stringify(this.inspect ?? usual));
      }
    });
  }

  static async start(changes: Partial<StandIn> = {}): Promise<StandIn> {
    const engine = Object.assign(new StandIn(), changes);
    await engine.listen();
    return engine;
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(this.socket, resolve));
  }

  /** Closes every connection, as an engine that ends does. */
  async stop(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.#server.closeAllConnections();
    await closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    rmSync(this.directory, { recursive: true });
  }
}
