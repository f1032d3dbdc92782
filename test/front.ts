// Question: what happens where something else answers in Vault's place: a proxy without a route, a
// maintenance page, a balancer that changes headers?
// Input:    a real OpenBao. Output: another address, with a certificate of its own, that passes each
//           request on and each answer back, unless a test says otherwise.
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import type { IncomingHttpHeaders } from "node:http";
import { Agent, createServer, request } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { OpenBao } from "../scripts/openbao.ts";

/** An answer that Vault did not give. With `length` it says that its body has so many bytes. */
export type ForeignAnswer = { status: number; type?: string; body?: string; length?: number };

export class Front {
  /** Each request that came, such as "POST auth/token/create/app". */
  readonly requests: string[] = [];
  /** The answer to this request, where Vault is not to be asked; "none" for ever, or a "cut". */
  answer: (path: string) => ForeignAnswer | "none" | "cut" | undefined = () => undefined;
  /** Vault is asked only after this. */
  delay: (path: string) => Promise<unknown> | undefined = () => undefined;
  /** Changes the headers that Vault gets. */
  change: (headers: IncomingHttpHeaders, path: string) => void = () => {};
  readonly #directory = mkdtempSync(join(tmpdir(), "authproxy-front-"));
  readonly #agent = new Agent({ keepAlive: true });
  readonly #bao: OpenBao;
  readonly #server;

  private constructor(bao: OpenBao) {
    this.#bao = bao;
    const files = ["-keyout", join(this.#directory, "key.pem"), "-out", this.caFile];
    const subject = ["-subj", "/CN=front", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "1"];
    const kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    execFileSync("openssl", ["req", ...kind, ...files, ...subject], { stdio: "pipe" });
    const key = readFileSync(join(this.#directory, "key.pem"));
    this.#server = createServer({ key, cert: readFileSync(this.caFile) }, (asked, response) => {
      const path = (asked.url ?? "").replace("/v1/", "");
      this.requests.push(`${asked.method} ${path}`);
      const foreign = this.answer(path);
      if (foreign === "none") return;
      if (foreign === "cut") {
        asked.socket.destroy();
        return;
      }
      if (foreign) {
        const { status, type, body = "", length } = foreign;
        asked.resume();
        if (type) response.setHeader("Content-Type", type);
        if (length) response.setHeader("Content-Length", length);
        response.writeHead(status).end(body);
        return;
      }
      const headers = { ...asked.headers };
      delete headers.host;
      this.change(headers, path);
      const options = { method: asked.method ?? "GET", headers, ca: bao.ca, agent: this.#agent };
      const pass = () => {
        const passed = request(`${bao.address}${asked.url}`, options, (got) => {
          response.writeHead(got.statusCode ?? 0, got.headers);
          got.pipe(response);
        });
        passed.on("error", () => response.destroy());
        asked.pipe(passed);
      };
      const delay = this.delay(path);
      if (delay) void delay.then(pass);
      else pass();
    });
  }

  static async before(bao: OpenBao): Promise<Front> {
    const front = new Front(bao);
    await once(front.#server.listen(0, "127.0.0.1"), "listening");
    return front;
  }

  get address(): string {
    return `https://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  get caFile(): string {
    return join(this.#directory, "front.pem");
  }

  /** As if the front were Vault itself. */
  get bao(): OpenBao {
    const ca = readFileSync(this.caFile, "utf8");
    return { ...this.#bao, address: this.address, caFile: this.caFile, ca };
  }

  async stop(): Promise<void> {
    this.#server.close();
    this.#server.closeAllConnections();
    this.#agent.destroy();
    await once(this.#server, "close");
    rmSync(this.#directory, { recursive: true });
  }
}
