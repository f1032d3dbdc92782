// Attacks that ask once more: after the server has started again, after the token is used up, and for
// a token that was wrapped.
import { once } from "node:events";
import { chmodSync, mkdirSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { client } from "../../scripts/openbao.ts";
import { app, bao, type Container, lookUp, Stage, until } from "../stage.ts";
import {
  type Defended,
  decision,
  honest,
  imageWith,
  naive,
  newStage,
  ours,
  run,
  SOCKET,
  type Target,
  TOKEN,
  unaccepted,
} from "./arena.ts";
import { attack } from "./table.ts";

const UNWRAP_ALARM = 76;
const root = client(bao);
const image = imageWith(["trusted", "steal", "puppet"]);

/** A debugger makes the first process connect, and has left before anybody judges it. */
async function askAgain(victim: Container, target: Target, decided?: () => Promise<unknown>) {
  await unaccepted(target, async () => {
    const { exitCode, output } = await victim.exec("/app/puppet", "connect", SOCKET);
    expect(exitCode, output).toBe(0);
  });
  await decided?.();
  const { output } = await victim.exec("/app/puppet", "read");
  expect(output).toContain("thief got: {");
  return output;
}

describe("a debugger that makes the first process connect again, after a restart", () => {
  const note = attack("9b");

  async function restarted(stage: Stage, relax: string[]) {
    const { server } = await ours(stage, { relax });
    const victim = await honest(stage, image);
    await stage.crash(server, victim);
    const target: Defended = await ours(stage, { relax });
    const last = () => decision(target.server, victim);
    return { output: await askAgain(victim, target, last), line: await last() };
  }

  test("gets the token from a naive server", async () => {
    await using stage = newStage();
    const target = await naive(stage);
    const victim = await honest(stage, image);
    expect(await askAgain(victim, target)).toContain(TOKEN);
    note("naive", "falls, remembering nothing");
  });

  test("gets nothing: once", async () => {
    await using stage = newStage();
    const { output, line } = await restarted(stage, []);
    expect(output).not.toContain(TOKEN);
    expect(line).toMatchObject({ event: "refused", reason: "once" });
    note("defended", "once");
    note("honest", "served");
  });

  test("gets the token where once is relaxed", async () => {
    await using stage = newStage();
    const { output, line } = await restarted(stage, ["once"]);
    expect(output).toContain(TOKEN);
    expect(line).toMatchObject({ event: "granted", relaxed: ["once"] });
    note("minus one", "without once: falls");
  });
});

describe("a container whose token is used up, and asks again", () => {
  const note = attack("41");

  /** Vault ends the token; the process that had it lives on. */
  async function usedUp(stage: Stage, relax: string[]) {
    const target = await ours(stage, { relax });
    const victim = await honest(stage, image);
    const { accessor } = await decision(target.server, victim);
    await root.write("auth/token/revoke-accessor", { accessor });
    expect(await lookUp(accessor)).toBeUndefined();
    const second = () => decision(target.server, victim, 2);
    return { output: await askAgain(victim, target, second), line: await second() };
  }

  test("gets another from a naive server", async () => {
    await using stage = newStage();
    const target = await naive(stage);
    const victim = await honest(stage, image);
    expect(await askAgain(victim, target)).toContain(TOKEN);
    note("naive", "falls");
  });

  test("gets nothing: once", async () => {
    await using stage = newStage();
    const { output, line } = await usedUp(stage, []);
    expect(output).not.toContain(TOKEN);
    expect(line).toMatchObject({ event: "refused", reason: "once" });
    note("defended", "once");
    note("honest", "served");
  });

  test("gets another where once is relaxed", async () => {
    await using stage = newStage();
    const { output } = await usedUp(stage, ["once"]);
    expect(output).toContain(TOKEN);
    note("minus one", "without once: falls");
  });
});

describe("a thief who opens a wrapped token first", () => {
  const note = attack("32");
  const token = { ...app.token, wrap_ttl: "60s" };

  /** What a container was sent, taken from it. */
  async function stolen(stage: Stage): Promise<{ line: string; wrapping: string }> {
    await stage.server({ services: { app: { ...app, token } } });
    const victim = await run(stage, { image, command: ["/app/trusted", SOCKET] });
    const [line = ""] = /\{.*\}/.exec(await victim.says("trusted: end")) ?? [];
    return { line, wrapping: JSON.parse(line).token };
  }

  /** The container's client, which gets that line. */
  async function clientGets(line: string): Promise<{ container: Container; stage: Stage }> {
    const stage = new Stage();
    mkdirSync(join(stage.directory, "run"), { mode: 0o755 });
    const socket = join(stage.directory, "run/authproxy.sock");
    const server = createServer((connection) => connection.end(`${line}\n`)).listen(socket);
    stage.defer(() => server.close());
    await once(server, "listening");
    chmodSync(socket, 0o666);
    return { container: await stage.container(), stage };
  }

  test("has a living token, and a client that only reads its line does not notice", async () => {
    await using stage = newStage();
    const { wrapping } = await stolen(stage);
    const { auth } = await client({ ...bao, rootToken: wrapping }).write("sys/wrapping/unwrap", {});
    const own = await client({ ...bao, rootToken: auth.client_token }).tokenLookupSelf();
    expect(own.data.meta).toMatchObject({ service: "app" });
    note("naive", "unnoticed");
    note("minus one", "not separable: the wrapping can be opened once, by whoever is first");
  });

  test("is an alarm of the client's: exit 76, and no command", async () => {
    await using stage = newStage();
    const { line, wrapping } = await stolen(stage);
    await client({ ...bao, rootToken: wrapping }).write("sys/wrapping/unwrap", {});
    const { container, stage: other } = await clientGets(line);
    await using _ = other;
    expect(await container.ended).toBe(UNWRAP_ALARM);
    expect(container.output).toContain("ALARM");
    note("defended", "exit 76");
  });

  test("leaves a client alone that is first", async () => {
    await using stage = newStage();
    const { line } = await stolen(stage);
    const { container, stage: other } = await clientGets(line);
    await using _ = other;
    await until("it runs its command", () => container.output.includes("started with a password"));
    note("honest", "served");
  });
});
