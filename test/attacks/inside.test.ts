// Attacks by code that runs inside an allowed container, beside its first process.
import { describe, expect, test } from "vitest";
import {
  type Defended,
  decision,
  decisions,
  honest,
  imageWith,
  naive,
  newStage,
  ours,
  SOCKET,
  type Target,
  TOKEN,
  unaccepted,
} from "./arena.ts";
import { attack } from "./table.ts";

const image = imageWith(["trusted", "steal", "puppet"]);

describe("docker exec", () => {
  const note = attack("8");

  async function connectInside({ stage }: Target) {
    const victim = await honest(stage, image);
    const { output } = await victim.exec("/app/steal", SOCKET);
    return { victim, output };
  }

  test("gets the token from a naive server", async () => {
    await using stage = newStage();
    const { output } = await connectInside(await naive(stage));
    expect(output).toContain(TOKEN);
    note("naive", "falls");
  });

  test.each([
    { relax: [], title: "", event: "refused", reason: "init" },
    {
      relax: ["alone", "once"],
      title: ", with alone, once relaxed",
      event: "refused",
      reason: "init",
    },
    {
      relax: ["init", "once"],
      title: ", with init, once relaxed",
      event: "unavailable",
      reason: "alone",
    },
    {
      relax: ["init", "alone"],
      title: ", with init, alone relaxed",
      event: "refused",
      reason: "once",
    },
  ])("gets nothing$title: $reason", async ({ relax, event, reason }) => {
    await using stage = newStage();
    const target = await ours(stage, { relax });
    const { victim, output } = await connectInside(target);
    expect(output).not.toContain(TOKEN);
    expect(output).toContain(event);
    expect(await decision(target.server, victim, 2)).toMatchObject({ event, reason });
    note(
      relax.length ? "minus one" : "defended",
      relax.length ? `only ${reason}: stopped` : reason,
    );
    note("honest", "served");
  });

  test("gets the token where all three checks are relaxed, and the audit says so", async () => {
    await using stage = newStage();
    const target = await ours(stage, { relax: ["init", "alone", "once"] });
    const { victim, output } = await connectInside(target);
    expect(output).toContain(TOKEN);
    const relaxed = ["init", "alone", "once"];
    expect(await decision(target.server, victim, 2)).toMatchObject({ event: "granted", relaxed });
    note("minus one", "none of init, alone, once: falls");
  });
});

describe("a debugger that makes the first process connect again", () => {
  const note = attack("9");

  /** The debugger has left before anybody judges the connection, and comes back for the answer. */
  async function hitAndRun(target: Target, decided?: Defended) {
    const victim = await honest(target.stage, image);
    await unaccepted(target, async () => {
      const { exitCode, output } = await victim.exec("/app/puppet", "connect", SOCKET);
      expect(exitCode, output).toBe(0);
    });
    if (decided) await decision(decided.server, victim, 2);
    const { output } = await victim.exec("/app/puppet", "read");
    expect(output).toContain("thief got: {");
    return { victim, output };
  }

  test("gets the token from a naive server", async () => {
    await using stage = newStage();
    const { output } = await hitAndRun(await naive(stage));
    expect(output).toContain(TOKEN);
    note("naive", "falls");
  });

  test("gets nothing when it has left: once", async () => {
    await using stage = newStage();
    const target = await ours(stage);
    const { victim, output } = await hitAndRun(target, target);
    expect(output).not.toContain(TOKEN);
    expect(decisions(target.server, victim)[1]).toMatchObject({ event: "refused", reason: "once" });
    note("defended", "once");
    note("honest", "served");
  });

  test("gets the token when it has left, where once is relaxed: only once sees it", async () => {
    await using stage = newStage();
    const target = await ours(stage, { relax: ["once"] });
    const { victim, output } = await hitAndRun(target, target);
    expect(output).toContain(TOKEN);
    expect(decisions(target.server, victim)[1]).toMatchObject({
      event: "granted",
      relaxed: ["once"],
    });
    note("minus one", "without once: falls");
  });

  test("gets nothing while it stays, with init, alone and once relaxed: traced", async () => {
    await using stage = newStage();
    const target = await ours(stage, { relax: ["init", "alone", "once"] });
    const victim = await honest(stage, image);
    const { output } = await victim.exec("/app/puppet", "both", SOCKET);
    expect(output).toContain("refused");
    expect(await decision(target.server, victim, 2)).toMatchObject({ reason: "traced" });
    note("minus one", "the tracer stays, init, alone, once relaxed: stopped by traced");
  });
});
