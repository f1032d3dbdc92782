// Question: what happens while Vault is slow, or away, for just as long as a test wants?
// Input:    Vault's address. Output: another, that leads there while the gate is open.
// TLS goes through untouched: neither side can tell it from a slow network.
import { EventEmitter, once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

export class Gate {
  readonly #server;
  readonly #sockets = new Set<Socket>();
  readonly #held: (() => void)[] = [];
  readonly #heard = new EventEmitter();
  #holding = false;
  #port = 0;

  private constructor(target: URL) {
    this.#server = createServer((near) => {
      this.#heard.emit("connection");
      const far = connect(Number(target.port), target.hostname);
      this.#join(near, far);
      near.on("data", (bytes) => this.#pass(() => far.write(bytes)));
      far.on("data", (bytes) => near.write(bytes));
    });
  }

  static async before(address: string): Promise<Gate> {
    const gate = new Gate(new URL(address));
    await gate.raise();
    return gate;
  }

  get address(): string {
    return `https://127.0.0.1:${this.#port}`;
  }

  #join(near: Socket, far: Socket): void {
    for (const socket of [near, far]) {
      this.#sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => this.#sockets.delete(socket));
    }
    near.on("close", () => this.#pass(() => far.end()));
    far.on("close", () => near.end());
  }

  #pass(send: () => void): void {
    if (this.#holding) {
      this.#held.push(send);
      this.#heard.emit("held");
    } else send();
  }

  /** From now on requests wait here; resolves when one does. */
  async hold(): Promise<void> {
    this.#holding = true;
    await once(this.#heard, "held");
  }

  async nextConnection(): Promise<void> {
    await once(this.#heard, "connection");
  }

  /** What waits goes on its way. */
  release(): void {
    this.#holding = false;
    for (const send of this.#held.splice(0)) send();
  }

  /** Nobody listens any more, and connections are cut. */
  async shut(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, "close");
  }

  /** Listens, at the same address as before. */
  async raise(): Promise<void> {
    this.#server.listen(this.#port, "127.0.0.1");
    await once(this.#server, "listening");
    this.#port = (this.#server.address() as AddressInfo).port;
  }
}
