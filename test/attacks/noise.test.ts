// Attacks by names and texts that a workload chooses, and by very many connections.
import { copyFileSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { JsonObject } from "../../server/types.ts";
import { app, until } from "../stage.ts";
import { decision, honest, imageWith, naive, newStage, ours, run, SOCKET, TOKEN } from "./arena.ts";
import { Naive } from "./naive.ts";
import { attack } from "./table.ts";

const DELETED = "trusted (deleted)";
const FORGED = "granted pid=1 exe=trusted";
const HOSTILE = `x"}\n${FORGED}\n{"event":"granted","forged":true}\u001b[2J`;
const image = imageWith(["trusted", "steal", "masked", "flood", "stall"], {
  arrange: (directory) => {
    copyFileSync(join(directory, "steal"), join(directory, DELETED));
    copyFileSync(join(directory, "steal"), join(directory, HOSTILE));
  },
});

describe("a process whose name looks like the fields after it", () => {
  const note = attack(25, "comm = `x) R 1 1\\nUid:\\t0`");
  const wanted = { image, command: ["/app/masked", "x) R 1 1\nUid:\t0", SOCKET] };
  const match: JsonObject = { ...app.match, process: { ppid: 1 } }; // whose parent is the host's init

  test("gets the token from a naive server", async () => {
    await using stage = newStage();
    await naive(stage, match);
    const thief = await run(stage, wanted);
    expect(await thief.says("thief: end")).toContain(TOKEN);
    note("naive", "falls");
  });

  test("gets nothing: no-match, its parent is another", async () => {
    await using stage = newStage();
    const { server } = await ours(stage, { match });
    const thief = await run(stage, wanted);
    expect(await thief.says("thief: end")).not.toContain(TOKEN);
    const line = await decision(server, thief);
    expect(line).toMatchObject({ event: "refused", reason: "no-match" });
    expect(line.detail).toMatchObject({ path: "process.ppid", wanted: 1 });
    note("defended", "no-match: process.ppid");
  });

  test("is served as what it is, where the policy says nothing of it, and watched", async () => {
    await using stage = newStage();
    const { server } = await ours(stage);
    const container = await run(stage, wanted);
    expect(await container.says("thief: end")).toContain(TOKEN);
    await container.kill();
    await server.until({ event: "revoked", container: container.id });
    note("honest", "served, and revoked");
  });
});

describe("a program whose file is named as if the trusted one had been deleted", () => {
  const note = attack("25b", "a file named `trusted (deleted)`");
  const wanted = { image, command: [`/app/${DELETED}`, SOCKET] };
  const match: JsonObject = { ...app.match, process: { exe: "/app/trusted" } };

  test("gets the token from a naive server", async () => {
    await using stage = newStage();
    await naive(stage, match);
    const thief = await run(stage, wanted);
    expect(await thief.says("thief: end")).toContain(TOKEN);
    note("naive", "falls");
  });

  test("gets nothing: no-match, the suffix is part of the name", async () => {
    await using stage = newStage();
    const { server } = await ours(stage, { match });
    const thief = await run(stage, wanted);
    expect(await thief.says("thief: end")).not.toContain(TOKEN);
    expect(await decision(server, thief)).toMatchObject({
      event: "refused",
      reason: "no-match",
      detail: { path: "process.exe", wanted: "/app/trusted", seen: `/app/${DELETED}` },
    });
    note("defended", "no-match: process.exe");
    await honest(stage, image, note);
  });
});

describe("names and labels with new lines, quotes and escape sequences", () => {
  const note = attack(26, "newlines and escapes in names and labels");
  const wanted = { image, command: [`/app/${HOSTILE}`, SOCKET], labels: { app: HOSTILE } };

  test("put a line of their own into a naive server's log", async () => {
    await using stage = newStage();
    const server = await Naive.start(stage, app.match);
    const thief = await run(stage, wanted);
    await thief.says("thief: end");
    expect(server.log.split("\n")).toContain(FORGED);
    expect(server.granted).toEqual([]);
    note("naive", "forged log line");
  });

  test("stay within one line of JSON", async () => {
    await using stage = newStage();
    const { server } = await ours(stage);
    const thief = await run(stage, wanted);
    expect(await thief.says("thief: end")).not.toContain(TOKEN);
    expect(await decision(server, thief)).toMatchObject({
      event: "refused",
      reason: "no-match",
      exe: `/app/${HOSTILE}`,
      detail: { path: "container.Config.Labels.app", seen: HOSTILE },
    });
    expect(server.events.map(({ event }) => event)).toEqual(["ready", "refused"]);
    expect(server.stdout).not.toMatch(/[^\n -\u007e]/);
    note("defended", "one JSON line each; no-match");
    await honest(stage, image, note);
  });
});

describe("a flood of connections from one container", () => {
  const note = attack(22, "a flood of connections from one container");
  const floodSeconds = 3;
  const labels = { app: "flood" };
  const wanted = { image, command: ["/app/flood", "4", String(floodSeconds), SOCKET], labels };
  const asking = { image, command: ["/app/trusted", SOCKET] };

  test("stalls an honest container at a naive server, for longer than it lasts", async () => {
    await using stage = newStage();
    await naive(stage);
    const flood = await run(stage, wanted);
    await flood.says("flooding");
    const container = await run(stage, asking);
    await flood.ended;
    expect(container.output).toBe("");
    note("naive", `stalled for more than ${floodSeconds - 1} s`);
  });

  test("does not keep an honest container from its token", async () => {
    await using stage = newStage();
    const file = join(stage.directory, "audit"); // the test itself reads a pipe too slowly
    const stdout = openSync(file, "w");
    stage.start(stage.configure(), { stdout });
    await until("it is ready", () => readFileSync(file, "utf8").includes('"ready"'));
    await honest(stage, image);
    const flood = await run(stage, wanted);
    await flood.says("flooding");
    const beganMs = performance.now();
    const container = await run(stage, asking);
    expect(await container.says("trusted: end")).toContain(TOKEN);
    expect(flood.output).not.toContain("connections:"); // it still lasts
    const tookMs = Math.round(performance.now() - beganMs);
    await flood.ended;
    const connections = [...flood.output.matchAll(/connections: (\d+)/g)].map(([, n]) => Number(n));
    const sum = connections.reduce((a, b) => a + b, 0);
    note("defended", `served in ${tookMs} ms beside ${sum} connections in ${floodSeconds} s`);
    note("honest", "served");
  });
});

describe("a process whose memory is locked while it is looked at", () => {
  const note = attack(42, "reading /proc/PID/cmdline waits for the peer's memory lock");
  const tries = 3;
  const patienceMs = 2000;

  test("does not keep an honest container from its token", async () => {
    await using stage = newStage();
    const { server } = await ours(stage);
    await honest(stage, image, note);
    const command = ["/app/stall", SOCKET];
    const stranger = { image, command, labels: { app: "stranger" } };
    const stall = await run(stage, stranger);
    await decision(server, stall);
    let longestMs = 0;
    for (let i = 0; i < tries; i++) {
      const beganMs = performance.now();
      await honest(stage, image);
      longestMs = Math.max(longestMs, Math.round(performance.now() - beganMs));
    }
    note("defended", longestMs < patienceMs ? "served" : `stalled for ${longestMs} ms`);
    expect(longestMs).toBeLessThan(patienceMs);
  });
});
