// Attacks that use the time between the decision and the answer, while Vault is slow.
import { execFileSync } from "node:child_process";
import { readlinkSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { client } from "../../scripts/openbao.ts";
import type { JsonObject } from "../../server/json.ts";
import { Gate } from "../gate.ts";
import { app, bao, type Container, type Stage, tokensOf, until, vaultAt } from "../stage.ts";
import {
  decision,
  honest,
  imageWith,
  newStage,
  ours,
  run,
  SOCKET,
  TOKEN,
  type Wanted,
} from "./arena.ts";
import { Naive, SlowMint } from "./naive.ts";
import { attack, type Note } from "./table.ts";

const image = imageWith(["trusted", "steal", "orphan", "become"]);

/** Our server, which has served an honest container, and a caller whose token Vault is slow to mint:
 * until `gate` is released. */
async function whileVaultIsSlow(stage: Stage, wanted: Wanted, changes: JsonObject, note: Note) {
  const gate = await Gate.before(bao.address);
  stage.defer(() => gate.shut());
  const target = await ours(stage, { vault: vaultAt(gate.address), ...changes });
  await honest(stage, image, note);
  const held = gate.hold();
  const caller = await run(stage, wanted);
  await held;
  return { ...target, gate, caller };
}

/** Makes /app/become the other program. */
async function becomeThief(thief: Container): Promise<void> {
  const pid = (await thief.inspect()).State.Pid;
  process.kill(pid, "SIGUSR1");
  await until("it is another program", () => readlinkSync(`/proc/${pid}/exe`) === "/app/steal");
}

/** The token that was minted for it is dead. */
async function noTokenOf(container: Container): Promise<void> {
  await until("its token is revoked", async () => (await tokensOf(container.id)).length === 0);
}

describe("a peer that dies between decision and answer, while its child reads", () => {
  const note = attack("5");
  const wanted = { image, command: ["/app/orphan", SOCKET] };

  test("gets the token from a naive server", async () => {
    await using stage = newStage();
    const slow = new SlowMint();
    const server = await Naive.start(stage, app.match, slow);
    const thief = await run(stage, wanted);
    await slow.asked;
    process.kill(server.granted[0] ?? 0, "SIGKILL");
    await thief.says("reaped");
    slow.release();
    expect(await thief.says("thief: end")).toContain(TOKEN);
    note("naive", "falls");
  });

  test("gets nothing, with init and alone relaxed: exited, just before the write", async () => {
    await using stage = newStage();
    const relax = ["init", "alone"];
    const { server, gate, caller: thief } = await whileVaultIsSlow(stage, wanted, { relax }, note);
    process.kill(server.helper, "SIGSTOP"); // it has told of the peer, and will hear the answer late
    gate.release();
    const { pid } = await server.until({ event: "granted", container: thief.id });
    process.kill(Number(pid), "SIGKILL");
    await thief.says("reaped");
    process.kill(server.helper, "SIGCONT");
    expect(await thief.says("thief: end")).not.toContain(TOKEN);
    await server.until({ event: "refused", reason: "exited", container: thief.id });
    await noTokenOf(thief);
    note("minus one", "without init, alone: stopped by exited");
  });

  test("gets nothing: init, before anything is minted", async () => {
    await using stage = newStage();
    const { server } = await ours(stage);
    const thief = await run(stage, wanted);
    expect(await thief.says("thief: end")).not.toContain(TOKEN);
    await server.until({ event: "refused", reason: "init", claimed: thief.id });
    note("defended", "init");
  });
});

describe("a container that is killed while Vault is slow", () => {
  const note = attack("31", "not separable: /proc, the pidfd and the socket each show the exit");
  const wanted = { image, command: ["/app/trusted", SOCKET] };

  test("leaves a living token that nobody has, with a naive server", async () => {
    await using stage = newStage();
    const slow = new SlowMint();
    await Naive.start(stage, app.match, {
      mint: async (container) => {
        await slow.mint();
        const minted = await client(bao).write("auth/token/create/app", { meta: { container } });
        return minted.auth.client_token;
      },
    });
    const victim = await run(stage, wanted);
    await slow.asked;
    await victim.kill();
    slow.release();
    await until("it is minted", async () => (await tokensOf(victim.id)).length === 1);
    const [orphaned] = await tokensOf(victim.id);
    await client(bao).write("auth/token/revoke-accessor", { accessor: orphaned?.accessor });
    note("naive", "token orphaned");
  });

  test("leaves none: revoked at once, and never sent", async () => {
    await using stage = newStage();
    const { server, gate, caller: victim } = await whileVaultIsSlow(stage, wanted, {}, note);
    await victim.kill();
    gate.release();
    await server.until({ event: "revoked", container: victim.id });
    await noTokenOf(victim);
    expect(server.find({ event: "granted", container: victim.id })).toBeUndefined();
    expect(await decision(server, victim)).toMatchObject({ reason: "exited" });
    note("defended", "exited; revoked");
  });
});

describe("company that arrives while Vault is slow", () => {
  const note = attack("39");
  const wanted = { image, command: ["/app/trusted", SOCKET] };
  const join = async ({ id }: Container) => {
    execFileSync("docker", ["exec", "--detach", id, "/app/trusted"]);
    const processes = () => execFileSync("docker", ["top", id], { encoding: "utf8" }).trim();
    await until("it has company", () => processes().split("\n").length > 2);
  };

  test("is there when a naive server sends the token", async () => {
    await using stage = newStage();
    const slow = new SlowMint();
    await Naive.start(stage, app.match, slow);
    const victim = await run(stage, wanted);
    await slow.asked;
    await join(victim);
    slow.release();
    expect(await victim.says("trusted: end")).toContain(TOKEN);
    note("naive", "falls (company)");
  });

  test("keeps the token from being sent, and it is revoked: alone", async () => {
    await using stage = newStage();
    const { server, gate, caller: victim } = await whileVaultIsSlow(stage, wanted, {}, note);
    await join(victim);
    gate.release();
    expect(await victim.says("trusted: end")).not.toContain(TOKEN);
    await server.until({ event: "unavailable", reason: "alone", container: victim.id });
    await noTokenOf(victim);
    note("defended", "alone (company)");
  });

  test("has the token beside it where alone is relaxed, and the audit says so", async () => {
    await using stage = newStage();
    const {
      server,
      gate,
      caller: victim,
    } = await whileVaultIsSlow(stage, wanted, { relax: ["alone"] }, note);
    await join(victim);
    gate.release();
    expect(await victim.says("trusted: end")).toContain(TOKEN);
    await server.until({ event: "granted", container: victim.id });
    note("minus one", "without alone: falls (company); changed has no switch");
  });

  const match: JsonObject = { ...app.match, process: { exe: "/app/become" } };
  const becoming = { image, command: ["/app/become", SOCKET, "/app/steal"] };

  test("is another program in the same process, and gets the token from a naive server", async () => {
    await using stage = newStage();
    const slow = new SlowMint();
    await Naive.start(stage, match, slow);
    const thief = await run(stage, becoming);
    await slow.asked;
    await becomeThief(thief);
    slow.release();
    expect(await thief.says("thief: end")).toContain(TOKEN);
    note("naive", "falls (program)");
  });

  test("is another program in the same process, and gets nothing: changed", async () => {
    await using stage = newStage();
    const { server, gate, caller: thief } = await whileVaultIsSlow(stage, becoming, {}, note);
    await becomeThief(thief);
    gate.release();
    expect(await thief.says("thief: end")).not.toContain(TOKEN);
    await server.until({ event: "refused", reason: "changed", container: thief.id });
    await noTokenOf(thief);
    note("defended", "changed (program)");
  });
});
