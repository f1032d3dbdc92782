// Question: what does a container get while the engine is away, slow or wrong? `unavailable`, and its
// token as soon as the engine answers as it should. Between it and the server stands a proxy.
import { describe, expect, test } from "vitest";
import { type Alter, EngineProxy } from "../engine-proxy.ts";
import { Stage } from "../stage.ts";
import { livingTokens, Patient } from "./patients.ts";
import { row } from "./table.ts";

const INSPECT_DEADLINE_MS = 10_000;

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
