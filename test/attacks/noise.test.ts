// Attacks by names and texts that a workload chooses, and by very many connections.
import { execFileSync, spawn } from "node:child_process";
import { EventEmitter, once } from "node:events";
import { copyFileSync, existsSync, readdirSync, readFileSync } from "node:fs";
import { readFile as readFileLater } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { JsonObject } from "../../server/json.ts";
import { app, until } from "../stage.ts";
import {
  decision,
  honest,
  imageWith,
  naive,
  newStage,
  ours,
  oursToFile,
  pidOf,
  run,
  SOCKET,
  type Target,
  TOKEN,
} from "./arena.ts";
import { Naive, SlowMint } from "./naive.ts";
import { attack } from "./table.ts";

const PARSER = "not separable: one parser; its tests are in test/process.test.ts";
const PAUSE_SECONDS = 0.1; // of peercred, after an accept that failed
const DELETED = "trusted (deleted)";
const FORGED = "granted pid=1 exe=trusted";
const HOSTILE = `x"}\n${FORGED}\n{"event":"granted","forged":true}\u001b[2J`;
const image = imageWith(["trusted", "steal", "masked", "flood", "stall", "crowd"], {
  arrange: (directory) => {
    copyFileSync(join(directory, "steal"), join(directory, DELETED));
    copyFileSync(join(directory, "steal"), join(directory, HOSTILE));
  },
});

describe("a process whose name looks like the fields after it", () => {
  const note = attack("25", PARSER);
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
  const note = attack("25b", PARSER);
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
  const note = attack("26", "not separable: JSON is how every line is written");
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
  const note = attack("22", "not separable: no switch; the naive server is the arm");
  const floodOf = (seconds: number, processes = 4) => ({
    image,
    command: ["/app/flood", `${processes}`, `${seconds}`, SOCKET],
    labels: { app: "flood" },
  });

  test("stalls an honest container at a naive server, for longer than it lasts", async () => {
    await using stage = newStage();
    await naive(stage);
    const flood = await run(stage, floodOf(3));
    await flood.says("flooding");
    const container = await run(stage, { image, command: ["/app/trusted", SOCKET] });
    await flood.ended;
    expect(container.output).toBe("");
    note("naive", "stalled for longer than it lasts");
  });

  test.each([
    { processes: 4, title: "a few processes" },
    { processes: 400, title: "more processes than are looked at at once" },
  ])("by $title, does not keep an honest one from its token", async ({ processes }) => {
    await using stage = newStage();
    await oursToFile(stage);
    await honest(stage, image, note);
    const flood = await run(stage, floodOf(600, processes));
    await flood.says("flooding");
    await honest(stage, image);
    expect(flood.output).toBe("flooding\n"); // it still lasts
    await flood.kill();
    note("defended", `served while it lasts (${processes} processes)`);
  });
});

describe("a process whose memory is locked while it is looked at", () => {
  const note = attack("42", "not separable: what is not read cannot be switched off");
  const stalling = { image, command: ["/app/stall", SOCKET], labels: { app: "stranger" } };
  const tries = 5;

  test("keeps an honest container waiting at a naive server that reads its command line", async () => {
    await using stage = newStage();
    const reads = new EventEmitter();
    let reading = false;
    const look = async (pid: number) => {
      reading = true;
      reads.emit("begun");
      await readFileLater(`/proc/${pid}/cmdline`);
      reading = false;
      reads.emit("ended");
    };
    const server = await Naive.start(stage, app.match, { look });
    await run(stage, stalling);
    for (let waited = false; !waited; ) {
      if (!reading) await once(reads, "begun");
      const container = await run(stage, { image, command: ["/app/trusted", SOCKET] });
      const pid = await pidOf(container);
      await until("it has connected", () => server.accepted.includes(pid));
      waited = reading;
      if (waited) await once(reads, "ended");
      if (waited) expect(container.output).toBe("");
    }
    note("naive", "stalls others");
  });

  test("does not keep an honest container from its token, while who reads that waits", async () => {
    await using stage = newStage();
    const { server } = await ours(stage);
    await honest(stage, image, note);
    const stall = await run(stage, stalling);
    await decision(server, stall);
    const pid = await pidOf(stall);
    let waits = false;
    for (let i = 0; i < tries && !waits; i++) {
      waits = true;
      const read = readFileLater(`/proc/${pid}/cmdline`).finally(() => {
        waits = false;
      });
      read.catch(() => {}); // one that still waits at the end of the test fails with its process
      await honest(stage, image);
      if (!waits) await read;
    }
    expect(waits, "a reader waited all the time that an honest container took").toBe(true);
    note("defended", "served, while a reader waits");
  });
});

describe("a container that takes every descriptor of who accepts", () => {
  const note = attack("23", "not separable: the pause has no switch; the naive server is the arm");
  /** An even number: each connection takes two, its own and the process's. */
  const SPARE = 20;
  const crowd = { image, command: ["/app/crowd", "100", SOCKET], labels: { app: "crowd" } };

  /** The times, in seconds, of the accepts that failed, as strace(1) saw them. */
  function failures(file: string): number[] {
    if (!existsSync(file)) return [];
    const lines = readFileSync(file, "utf8").split("\n");
    return lines.filter((line) => line.includes("EMFILE")).map((line) => Number.parseFloat(line));
  }

  /** Limits who accepts, and looks at each of its calls. */
  async function watched({ stage, acceptor }: Target): Promise<string> {
    const open = readdirSync(`/proc/${acceptor}/fd`).map(Number);
    let limit = 0;
    for (let spare = 0; spare < SPARE; limit++) if (!open.includes(limit)) spare++;
    execFileSync("prlimit", ["--pid", `${acceptor}`, `--nofile=${limit}:`]);
    const file = join(stage.directory, "strace");
    const words = ["-ttt", "-e", "trace=accept,accept4", "-o", file, "-p", `${acceptor}`];
    const strace = spawn("strace", words, { stdio: ["ignore", "ignore", "pipe"] });
    stage.defer(() => strace.kill());
    await once(strace.stderr, "data"); // "attached"
    return file;
  }

  test("makes a naive server spin", async () => {
    await using stage = newStage();
    const slow = new SlowMint();
    const { acceptor } = await Naive.start(stage, app.match, { look: slow.mint });
    const file = await watched({ stage, acceptor });
    await run(stage, crowd);
    await until("a thousand accepts have failed", () => failures(file).length > 1000);
    slow.release();
    note("naive", "spins: over 1000 failed accepts a connection");
  });

  test("makes ours pause after each failure, and others are served afterwards", async () => {
    await using stage = newStage();
    const target = await ours(stage);
    const file = await watched(target);
    process.kill(target.server.pid, "SIGSTOP"); // nobody is answered: each keeps its descriptors
    const container = await run(stage, crowd);
    await container.says("connected");
    await until("five accepts have failed", () => failures(file).length >= 5);
    process.kill(target.server.pid, "SIGCONT");
    const times = failures(file).slice(0, 5);
    const pauses = times.slice(1).map((time, i) => time - (times[i] ?? 0));
    for (const pause of pauses) expect(pause).toBeGreaterThanOrEqual(PAUSE_SECONDS);
    await honest(stage, image, note);
    note("defended", "one failed accept in 100 ms; others are served afterwards");
  });
});
