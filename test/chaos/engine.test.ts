// Question: what does a container get while the engine is away, slow or wrong? `unavailable`, and its
// token as soon as the engine answers as it should. Between it and the server stands a proxy.
import { once } from "node:events";
import { rmSync } from "node:fs";
import { createServer, type Server as HttpServer, type IncomingMessage, request } from "node:http";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Stage } from "../stage.ts";
import { livingTokens, Patient } from "./patients.ts";
import { row } from "./table.ts";

const ENGINE = "/var/run/docker.sock";
const INSPECT_DEADLINE_MS = 1500;

type Alter = (body: string) => string;

/** Leads to the machine's engine. */
class EngineProxy {
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

type Fault = { what: string; begin(proxy: EngineProxy): unknown; end(proxy: EngineProxy): unknown };
const honest: Alter = (body) => body;
const lie = (alter: Alter) => ({
  begin: (proxy: EngineProxy) => {
    proxy.alter = alter;
  },
  end: (proxy: EngineProxy) => {
    proxy.alter = honest;
  },
});
const faults: Fault[] = [
  { what: "stopped", begin: (proxy) => proxy.stop(), end: (proxy) => proxy.start() },
  {
    what: "slower than the deadline",
    begin: (proxy) => {
      proxy.delayMs = 2 * INSPECT_DEADLINE_MS;
    },
    end: (proxy) => {
      proxy.delayMs = 0;
    },
  },
  {
    what: "answering about another container",
    ...lie((body) => body.replace(/"Id":"../, '"Id":"00')),
  },
  { what: "answering half of its JSON", ...lie((body) => body.slice(0, body.length / 2)) },
  { what: "answering a list", ...lie((body) => `[${body}]`) },
  { what: "answering nothing", ...lie(() => "") },
];

describe.concurrent("an engine that is", () => {
  test.each(faults)(
    "$what gives nobody a token, and who waited gets one later",
    async ({ what, begin, end }) => {
      const beganMs = performance.now();
      await using stage = new Stage();
      const proxy = new EngineProxy(stage);
      await proxy.start();
      const server = await stage.server({ engine: proxy.socket });
      const before = await Patient.start(stage);
      expect((await before.ask()).token).toBeDefined();
      await begin(proxy);
      const patient = await Patient.start(stage);
      const answered = patient.ask();
      const line = await server.until({ event: "unavailable", pid: patient.pid });
      expect(line.reason).toBe("engine");
      expect(patient.answers).toEqual([]);
      expect([...(await livingTokens()).values()]).not.toContain(patient.id);
      await end(proxy);
      expect((await answered).token).toBeDefined();
      const lost = [before, patient].map(async (one) => !(await one.token()));
      const dead = (await Promise.all(lost)).filter(Boolean).length;
      await patient.die(); // the end of a process is the kernel's word, not the engine's
      await server.until({ event: "revoked", container: patient.id });
      const leaked = [...(await livingTokens()).values()].includes(patient.id) ? 1 : 0;
      row(`the engine is ${what}`, 1, leaked, dead, beganMs);
      expect([dead, leaked]).toEqual([0, 0]);
    },
  );
});
