// Attacks on the time at which a process started: the number of a first process is used again while
// the engine has not noticed its end, and the wall clock is stepped.
import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { type Container, type Stage, until } from "../stage.ts";
import {
  compile,
  decision,
  honest,
  imageWith,
  naive,
  newStage,
  ours,
  pidOf,
  run,
  SOCKET,
  startThief,
  type Target,
  TOKEN,
  USER,
  unaccepted,
} from "./arena.ts";
import { delegated } from "./cgroups.ts";
import { StandInEngine } from "./engine.ts";
import { attack } from "./table.ts";

const image = imageWith(["trusted"]);
const HOUR_MS = 3_600_000;
const TOLERANCE_MS = 30_000;
const ROUNDING_MS = 100; // of start ticks and uptime, 10 ms each, and more

/** A wall clock that the test steps, and that only the server under it reads. */
class Clock {
  readonly under: string[];
  readonly #file: string;

  constructor(stage: Stage) {
    const library = join(stage.directory, "step.so");
    const source = join(import.meta.dirname, "programs/step.c");
    const flags = ["-std=gnu17", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"];
    execFileSync(process.env.CC ?? "cc", [...flags, "-o", library, source]);
    this.#file = join(stage.directory, "step");
    this.step(0);
    this.under = ["env", `LD_PRELOAD=${library}`, `STEP=${this.#file}`];
  }

  step(milliseconds: number): void {
    const bytes = Buffer.alloc(8);
    bytes.writeBigInt64LE(BigInt(milliseconds / 1000));
    writeFileSync(this.#file, bytes, { flag: existsSync(this.#file) ? "r+" : "w" });
  }
}

describe("a process that got the number of a first process, which the engine thinks alive", () => {
  const note = attack("2");

  /** A container is served and dies; then its number is the first process's of another pid
   * namespace, in a cgroup of its name. Gives what that is answered. */
  async function reborn({ stage }: Target, engine: StandInEngine) {
    const victim = await honest(stage, image);
    const number = await pidOf(victim);
    const { State } = await victim.inspect();
    const [cgroup = ""] = await delegated(stage, victim);
    // As if it had started so much earlier that the tolerance has passed.
    engine.stickTo(victim, TOLERANCE_MS);
    await victim.kill();
    await until("its number is free", () => !existsSync(`/proc/${number}`));
    const latestMs = Date.parse(State.StartedAt) + ROUNDING_MS;
    await until("its number is used again later", () => Date.now() > latestMs);
    chmodSync(stage.directory, 0o755);
    const path = join(stage.directory, "run/authproxy.sock");
    const words = [`${number}`, `${USER}`, cgroup, path];
    const thief = startThief(stage, compile("reborn"), ...words);
    return { victim, number, output: await thief.ended };
  }

  test("gets the token from a naive server", async () => {
    await using stage = newStage();
    const { output } = await reborn(await naive(stage), await StandInEngine.start(stage));
    expect(output).toContain(TOKEN);
    note("naive", "falls");
  });

  test.each([
    { relax: [], title: "" },
    { relax: ["init", "alone", "once"], title: ", with init, alone, once relaxed" },
  ])("gets nothing: clock$title", async ({ relax }) => {
    await using stage = newStage();
    const engine = await StandInEngine.start(stage);
    const target = await ours(stage, { engine: engine.socket, relax });
    const { victim, number, output } = await reborn(target, engine);
    expect(output).toContain("unavailable");
    const wanted = { event: "unavailable", reason: "clock", pid: number };
    expect(await decision(target.server, victim, 2)).toMatchObject(wanted);
    const which = relax.length ? "without init, alone, once: stopped by clock" : "clock";
    note(relax.length ? "minus one" : "defended", which);
    note("honest", "served");
  });

  test("gets the token where the server's clock is an hour late: nothing else sees it", async () => {
    await using stage = newStage();
    const engine = await StandInEngine.start(stage);
    const clock = new Clock(stage);
    const relax = ["capabilities"]; // a process of the host has them
    const target = await ours(stage, { engine: engine.socket, under: clock.under, relax });
    clock.step(-HOUR_MS);
    const { victim, output } = await reborn(target, engine);
    expect(output).toContain(TOKEN);
    expect(await decision(target.server, victim, 2)).toMatchObject({ event: "granted" });
    note("minus one", "without clock (the server's is an hour late) and capabilities: falls");
  });
});

describe("a step of the wall clock", () => {
  const note = attack("46", "not separable: it is the check that is put to the test");

  /** Our server and its engine read one clock, which the test can step. */
  async function stepping(stage: Stage) {
    const engine = await StandInEngine.start(stage);
    const clock = new Clock(stage);
    const target = await ours(stage, { engine: engine.socket, under: clock.under });
    const step = (milliseconds: number) => {
      engine.step(milliseconds);
      clock.step(milliseconds);
    };
    return { target, step };
  }

  /** A container that starts and connects before the step, and is judged after it. */
  async function startedBefore(target: Target, step: () => void): Promise<Container> {
    const container = await unaccepted(target, async () => {
      const started = await run(target.stage, { image, command: ["/app/trusted", SOCKET] });
      step();
      return started;
    });
    await container.says("trusted: end");
    return container;
  }

  test.each([
    { way: "forward", stepMs: HOUR_MS },
    { way: "back", stepMs: -HOUR_MS },
  ])("$way by an hour: who starts after it is served", async ({ way, stepMs }) => {
    await using stage = newStage();
    const { step } = await stepping(stage);
    await honest(stage, image);
    note("naive", "has no such check");
    step(stepMs);
    await honest(stage, image);
    note("honest", `served after a step ${way}`);
  });

  test("back by an hour: who started before it is served", async () => {
    await using stage = newStage();
    const { target, step } = await stepping(stage);
    const container = await startedBefore(target, () => step(-HOUR_MS));
    expect(container.output).toContain(TOKEN);
    note("honest", "served over a step back");
  });

  test("forward by an hour: who started before it waits, not refused: clock", async () => {
    await using stage = newStage();
    const { target, step } = await stepping(stage);
    const container = await startedBefore(target, () => step(HOUR_MS));
    expect(container.output).toContain("unavailable");
    expect(await decision(target.server, container)).toMatchObject({ reason: "clock" });
    await container.restart();
    expect(await decision(target.server, container, 2)).toMatchObject({ event: "granted" });
    note("defended", "over a step forward: clock, until it is started again");
  });
});
