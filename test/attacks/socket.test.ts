// Attacks by what a peer does with its connection: it speaks, hands it on, becomes another program.
import { chmodSync, copyFileSync, mkdirSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { JsonObject } from "../../server/json.ts";
import { Gate } from "../gate.ts";
import { app, bao, type Container, type Stage, tokensOf, until, vaultAt } from "../stage.ts";
import {
  decision,
  decisions,
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
  type Wanted,
  without,
} from "./arena.ts";
import { Naive, SlowMint } from "./naive.ts";
import { attack } from "./table.ts";

const image = imageWith(["trusted", "steal", "speak", "handoff", "overmount", "borrow"], {
  arrange: (directory) => {
    copyFileSync(join(directory, "trusted"), join(directory, "set-user-id"));
    chmodSync(join(directory, "set-user-id"), 0o4755);
  },
});
/** In which the trusted program is another one. */
const lenders = imageWith(["steal", "borrow"], {
  arrange: (directory) => copyFileSync(join(directory, "steal"), join(directory, "trusted")),
});
const TRUSTED = "/app/trusted";

/** Starts a container whose first process connects and then becomes `program`, before it is
 * accepted; gives it when its child has had the answer. */
async function becoming(target: Target, program: string, wanted: Partial<Wanted> = {}) {
  const command = ["/app/handoff", SOCKET, program];
  const thief = await unaccepted(target, async () => {
    const started = await run(target.stage, { image, command, ...wanted });
    const pid = await pidOf(started);
    await until(`it is ${program}`, () => readlinkSync(`/proc/${pid}/exe`) === program);
    return started;
  });
  await thief.says("thief: end");
  return thief;
}

describe("a deputy that speaks before it is accepted", () => {
  const note = attack("20");

  async function speak(target: Target) {
    const thief = await unaccepted(target, async () => {
      const started = await run(target.stage, { image, command: ["/app/speak", "early", SOCKET] });
      await started.says("spoken");
      return started;
    });
    await thief.says("thief: end");
    return thief;
  }

  test("gets the token from a naive server", async () => {
    await using stage = newStage();
    expect((await speak(await naive(stage))).output).toContain(TOKEN);
    note("naive", "falls");
  });

  test("gets nothing, not even a line: spoke", async () => {
    await using stage = newStage();
    const target = await ours(stage);
    const thief = await speak(target);
    expect(thief.output).toContain("thief got: \n");
    const { pid } = await target.server.until({ event: "refused", reason: "spoke" });
    expect(Number(pid)).toBeGreaterThan(0);
    expect(decisions(target.server, thief)).toEqual([]); // its container was never looked at
    note("defended", "spoke");
    await honest(stage, image, note);
  });

  test("gets the token where the kernel counts no byte: nothing else sees it", async () => {
    await using stage = newStage();
    const thief = await speak(await ours(stage, { under: without("queued") }));
    expect(thief.output).toContain(TOKEN);
    note("minus one", "without SIOCINQ: falls");
  });
});

describe("a deputy that speaks while Vault is slow", () => {
  const note = attack("37");

  test("gets the token from a naive server", async () => {
    await using stage = newStage();
    const slow = new SlowMint();
    await Naive.start(stage, app.match, slow);
    const thief = await run(stage, { image, command: ["/app/speak", "late", SOCKET] });
    await slow.asked;
    process.kill(await pidOf(thief), "SIGUSR1");
    await thief.says("spoken");
    slow.release();
    expect(await thief.says("thief: end")).toContain(TOKEN);
    note("naive", "falls");
  });

  /** It speaks while its token is being minted by our server. */
  async function speakLate(stage: Stage, under: string[]) {
    const gate = await Gate.before(bao.address);
    stage.defer(() => gate.shut());
    const { server } = await ours(stage, { vault: vaultAt(gate.address), under });
    await honest(stage, image, note);
    const held = gate.hold();
    const thief = await run(stage, { image, command: ["/app/speak", "late", SOCKET] });
    await held;
    process.kill(await pidOf(thief), "SIGUSR1");
    await thief.says("spoken");
    gate.release();
    await thief.says("thief: end");
    return { server, thief };
  }

  test("gets the token where the kernel counts no byte: nothing else sees it", async () => {
    await using stage = newStage();
    const { thief } = await speakLate(stage, without("queued"));
    expect(thief.output).toContain(TOKEN);
    note("minus one", "without SIOCINQ: falls");
  });

  test("gets nothing, and what was minted is revoked: spoke", async () => {
    await using stage = newStage();
    const { server, thief } = await speakLate(stage, []);
    expect(thief.output).not.toContain(TOKEN);
    await until("it was refused", () => decisions(server, thief).some((d) => d.reason === "spoke"));
    await server.until({ event: "revoked", container: thief.id });
    expect(await tokensOf(thief.id)).toEqual([]);
    note("defended", "spoke");
  });
});

describe("a program that connects, leaves the socket to its child, and becomes the trusted one", () => {
  const note = attack("3");
  const match: JsonObject = { ...app.match, process: { exe: TRUSTED } };

  test("gets the token from a naive server", async () => {
    await using stage = newStage();
    const thief = await becoming(await naive(stage, match), TRUSTED);
    expect(thief.output).toContain(TOKEN);
    note("naive", "falls");
  });

  test("gets nothing: alone", async () => {
    await using stage = newStage();
    const target = await ours(stage, { match });
    const thief = await becoming(target, TRUSTED);
    expect(thief.output).not.toContain(TOKEN);
    expect(await decision(target.server, thief)).toMatchObject({
      event: "unavailable",
      reason: "alone",
      exe: TRUSTED,
    });
    note("defended", "alone");
    await honest(stage, image, note);
  });

  test("gets the token where alone is relaxed: it is the first process, and its exe is right", async () => {
    await using stage = newStage();
    const target = await ours(stage, { match, relax: ["alone"] });
    const thief = await becoming(target, TRUSTED);
    expect(thief.output).toContain(TOKEN);
    expect(await decision(target.server, thief)).toMatchObject({ relaxed: ["alone"] });
    note("minus one", "without alone: falls");
  });
});

describe("a program that connects as another user and becomes a set-user-ID one", () => {
  const note = attack("6");
  const program = "/app/set-user-id";
  const user = 1002;

  test("gets the token from a naive server that reads the uid in /proc", async () => {
    await using stage = newStage();
    const { container } = app.match;
    const thief = await becoming(
      await naive(stage, { container, process: { euid: 1001 } }),
      program,
      {
        user,
      },
    );
    expect(thief.output).toContain(TOKEN);
    note("naive", "falls");
  });

  test("gets nothing: no-match, its uid is the one that connected", async () => {
    await using stage = newStage();
    const target = await ours(stage);
    const thief = await becoming(target, program, { user });
    expect(thief.output).not.toContain(TOKEN);
    expect(await decision(target.server, thief)).toMatchObject({
      event: "refused",
      reason: "no-match",
      uid: 1002,
      detail: { path: "peer.uid", wanted: 1001, seen: 1002 },
    });
    note("defended", "no-match: peer.uid");
    await honest(stage, image, note);
  });

  test("gets nothing where no uid is asked for, and all is relaxed: credentials", async () => {
    await using stage = newStage();
    const { container } = app.match;
    const target = await ours(stage, { match: { container }, relax: ["init", "alone", "once"] });
    const thief = await becoming(target, program, { user });
    expect(thief.output).not.toContain(TOKEN);
    expect(await decision(target.server, thief)).toMatchObject({
      event: "refused",
      reason: "credentials",
      detail: { uids: [1002, 1001, 1001, 1001] },
    });
    note("minus one", "no uid in the policy: stopped by credentials");
  });
});

const unconfined = { SecurityOpt: ["seccomp=unconfined"] };

/** Mounts a program over the trusted one, in namespaces of its own. */
async function overmount(stage: Stage): Promise<Container> {
  const command = ["/app/overmount", "user", "/app/steal", TRUSTED, SOCKET];
  return await run(stage, { image, command, host: unconfined });
}

/** Has a child that mounts and opens a program there, and is gone. */
async function openInChild(stage: Stage): Promise<Container> {
  const command = ["/app/borrow", "child", TRUSTED, SOCKET, "/app/steal"];
  return await run(stage, { image, command, host: unconfined });
}

/** Is sent the program by another container, in which it is the trusted one. */
async function receive(stage: Stage): Promise<Container> {
  const channel = join(stage.directory, "channel");
  mkdirSync(channel);
  chmodSync(channel, 0o777);
  const shared = { Type: "bind" as const, Source: channel, Target: "/channel" };
  const host = { ...unconfined, Mounts: [shared] };
  const command = ["/app/borrow", "sent", TRUSTED, SOCKET, "/channel"];
  const thief = await run(stage, { image, command, host });
  await thief.says("listening");
  const lender = ["/app/borrow", "send", TRUSTED, "/channel"];
  await run(stage, { image: lenders, command: lender, host });
  return thief;
}

describe.each([
  {
    number: "38" as const,
    what: "mounts a program over the trusted one, in its own namespaces",
    start: overmount,
    reason: "user-namespace",
  },
  {
    number: "38g" as const,
    what: "execs, by a descriptor, a program that a child of its own has mounted over it",
    start: openInChild,
    reason: "namespace",
  },
  {
    number: "38h" as const,
    what: "execs, by a descriptor, a program that another container has at that place",
    start: receive,
    reason: "namespace",
  },
])("a first process that $what", ({ number, start, reason }) => {
  const note = attack(number);
  const match: JsonObject = { ...app.match, process: { exe: TRUSTED } };

  test("gets the token from a naive server", async () => {
    await using stage = newStage();
    await naive(stage, match);
    const thief = await start(stage);
    expect(await thief.says("thief: end")).toContain(TOKEN);
    note("naive", "falls");
  });

  test.each([
    { relax: [], title: "" },
    { relax: ["init", "alone", "once"], title: ", with init, alone, once relaxed" },
  ])(`gets nothing: ${reason}$title`, async ({ relax }) => {
    await using stage = newStage();
    const { server } = await ours(stage, { match, relax, user_namespaces: true });
    const thief = await start(stage);
    expect(await thief.says("thief: end")).not.toContain(TOKEN);
    expect(await decision(server, thief)).toMatchObject({ event: "refused", reason, exe: TRUSTED });
    const which = `without init, alone, once: stopped by ${reason}`;
    note(relax.length ? "minus one" : "defended", relax.length ? which : reason);
    await honest(stage, image, note);
  });
});

describe.each([
  {
    number: "7" as const,
    where: "a user and a mount namespace",
    how: "user",
    reason: "user-namespace",
    host: {},
    exec: ["--user", `${USER}:${USER}`],
  },
  {
    number: "7b" as const,
    where: "a mount namespace alone",
    how: "mount",
    reason: "namespace",
    host: { CapAdd: ["SYS_ADMIN"] },
    exec: ["--user", "0"],
  },
])("docker exec that mounts a program over the trusted one, in $where", (row) => {
  const note = attack(row.number);
  const match: JsonObject = { ...app.match, process: { exe: TRUSTED } };
  const SecurityOpt = ["seccomp=unconfined", "apparmor=unconfined"];

  async function mountInside({ stage }: Target) {
    const command = [TRUSTED, SOCKET];
    const victim = await run(stage, { image, command, host: { ...row.host, SecurityOpt } });
    expect(await victim.says("trusted: end")).toContain(TOKEN);
    const words = ["/app/overmount", row.how, "/app/steal", TRUSTED, SOCKET];
    const thief = startThief(stage, "docker", "exec", ...row.exec, victim.id, ...words);
    return { victim, output: await thief.ended };
  }

  test("gets the token from a naive server", async () => {
    await using stage = newStage();
    const { output } = await mountInside(await naive(stage, match));
    expect(output).toContain(TOKEN);
    note("naive", "falls");
  });

  test.each([
    { relax: [], reason: "init" },
    { relax: ["init", "alone", "once"], reason: row.reason },
  ])("gets nothing, with $relax relaxed: $reason", async ({ relax, reason }) => {
    await using stage = newStage();
    // Of the second row the victim needs its capability, which is refused otherwise.
    const target = await ours(stage, { match, relax: [...relax, "capabilities"] });
    const { victim, output } = await mountInside(target);
    expect(output).not.toContain(TOKEN);
    expect(await decision(target.server, victim, 2)).toMatchObject({ event: "refused", reason });
    const which = relax.length ? `without init, alone, once: stopped by ${reason}` : reason;
    note(relax.length ? "minus one" : "defended", which);
    note("honest", "served");
  });
});
