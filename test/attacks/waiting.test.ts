// Attacks on a client that waits for its answer: its socket is taken, or its memory is changed, by
// who has its uid, from inside, from another container, or from the host.
import { chmodSync, copyFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { JsonObject } from "../../server/json.ts";
import { app, type Container, type Stage } from "../stage.ts";
import {
  asHostUser,
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
  unaccepted,
} from "./arena.ts";
import { attack } from "./table.ts";

// Beside each program, one that its user may execute and not read: the kernel makes it undumpable.
const image = imageWith(["trusted", "become", "take", "patch"], {
  arrange: (directory) => {
    for (const name of ["trusted", "become"]) {
      copyFileSync(join(directory, name), join(directory, `unreadable-${name}`));
      chmodSync(join(directory, `unreadable-${name}`), 0o111);
    }
  },
});
const SecurityOpt = ["seccomp=unconfined"]; // the default profile has no pidfd_getfd
const DENIED = /thief: (Operation not permitted|Permission denied)/;
const undumpable: JsonObject = { ...app.match, process: { dumpable: false } };

/** Robs a container whose first process has connected and waits; gives what the thief has. */
type Rob = (stage: Stage, victim: Container) => Promise<() => Promise<string>>;

/** Nobody accepts until the thief has what it wants, or has ended without it. */
async function robbed(target: Target, command: string[], rob: Rob) {
  const { stage } = target;
  const { victim, loot } = await unaccepted(target, async () => {
    const victim = await run(stage, { image, command, host: { SecurityOpt } });
    return { victim, loot: await rob(stage, victim) };
  });
  return { victim, loot: await loot() };
}

/** Whoever takes the socket stays, to read the answer. */
async function taking(stage: Stage, command: string[]) {
  const thief = startThief(stage, ...command);
  await Promise.race([thief.says("taken"), thief.ended]);
  return () => thief.ended;
}

const byExec: Rob = (stage, victim) =>
  taking(stage, ["docker", "exec", victim.id, "/app/take", "1"]);
const byHostUser: Rob = async (stage, victim) =>
  taking(stage, asHostUser("take", `${await pidOf(victim)}`));
const bySidecar: Rob = async (stage, victim) => {
  const host = { SecurityOpt, PidMode: `container:${victim.id}` };
  const sidecar = await run(stage, { image, command: ["/app/take", "1"], labels: {}, host });
  await Promise.race([sidecar.says("taken"), sidecar.ended]);
  return async () => {
    await sidecar.ended;
    return sidecar.output;
  };
};
/** Attaches, changes what the program calls itself when it prints the answer, and leaves. */
const byPatch: Rob = async (_, victim) => {
  const { output } = await victim.exec("/app/patch", "trusted", "thief  ");
  return async () => {
    if (DENIED.test(output)) return output;
    expect(output).toMatch(/patched [1-9]/);
    return await victim.says(": end");
  };
};

const WAITING = ["/app/become", SOCKET, "/app/trusted"];
const UNREADABLE = ["/app/unreadable-become", SOCKET, "/app/trusted"];
const STOLEN = /thief *got: .*"token"/;

describe("docker exec that takes the socket", () => {
  const note = attack("10");

  test("gets the token from a naive server", async () => {
    await using stage = newStage();
    const { loot } = await robbed(await naive(stage), WAITING, byExec);
    expect(loot).toMatch(STOLEN);
    note("naive", "falls");
  });

  test("gets nothing: alone", async () => {
    await using stage = newStage();
    const target = await ours(stage);
    const { victim, loot } = await robbed(target, WAITING, byExec);
    expect(loot).toContain("unavailable");
    expect(await decision(target.server, victim)).toMatchObject({ reason: "alone" });
    note("defended", "alone");
    await honest(stage, image, note);
  });

  test("gets the token where alone is relaxed, and the audit says so", async () => {
    await using stage = newStage();
    const target = await ours(stage, { relax: ["alone"] });
    const { victim, loot } = await robbed(target, WAITING, byExec);
    expect(loot).toMatch(STOLEN);
    const wanted = { event: "granted", relaxed: ["alone"] };
    expect(await decision(target.server, victim)).toMatchObject(wanted);
    note("minus one", "without alone: falls");
  });

  test("gets nothing where alone is relaxed and the client's binary is execute-only", async () => {
    await using stage = newStage();
    const { loot } = await robbed(await ours(stage, { relax: ["alone"] }), UNREADABLE, byExec);
    expect(loot).toMatch(DENIED);
    note("minus one", "without alone, client undumpable: stopped by the kernel");
  });
});

describe.each([
  { number: "35" as const, who: "a host user of the same uid", rob: byHostUser, command: WAITING },
  {
    number: "35b" as const,
    who: "docker exec that attaches, patches, detaches and leaves",
    rob: byPatch,
    command: ["/app/trusted", SOCKET],
  },
  {
    number: "45" as const,
    who: "a container that shares the pid namespace",
    rob: bySidecar,
    command: WAITING,
  },
])("$who", ({ number, rob, command }) => {
  const note = attack(number);

  test("gets the token from a naive server", async () => {
    await using stage = newStage();
    const { loot } = await robbed(await naive(stage), command, rob);
    expect(loot).toMatch(STOLEN);
    note("naive", "falls");
  });

  test("gets the token where the policy does not say `dumpable`: every check holds", async () => {
    await using stage = newStage();
    const target = await ours(stage);
    const { victim, loot } = await robbed(target, command, rob);
    expect(loot).toMatch(STOLEN);
    const wanted = { event: "granted", relaxed: [] };
    expect(await decision(target.server, victim)).toMatchObject(wanted);
    note("minus one", "all checks, without process.dumpable in the policy: falls");
  });

  test("gets nothing where the policy does: no-match, process.dumpable", async () => {
    await using stage = newStage();
    const target = await ours(stage, { match: undumpable });
    const { victim, loot } = await robbed(target, command, rob);
    expect(loot).not.toMatch(STOLEN);
    expect(await decision(target.server, victim)).toMatchObject({
      event: "refused",
      reason: "no-match",
      detail: { path: "process.dumpable", wanted: false, seen: true },
    });
    note("defended", "no-match: process.dumpable");
  });

  test("gets nothing from an execute-only client, which is served", async () => {
    await using stage = newStage();
    const target = await ours(stage, { match: undumpable });
    const unreadable = command.with(0, command[0]?.replace("/app/", "/app/unreadable-") ?? "");
    const { victim, loot } = await robbed(target, unreadable, rob);
    expect(loot).toMatch(DENIED);
    expect(await decision(target.server, victim)).toMatchObject({ event: "granted", relaxed: [] });
    note("honest", "execute-only: served, not robbed");
  });
});
