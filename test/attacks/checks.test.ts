// Attacks that got past a check, or had a check refuse somebody else, before it was as it is now.
import { execFileSync, spawn } from "node:child_process";
import {
  chownSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
} from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { JsonObject } from "../../server/json.ts";
import { readProcess } from "../../server/process.ts";
import { app, type Container, type Stage, image as served, until } from "../stage.ts";
import {
  compile,
  type Defended,
  decision,
  decisions,
  honest,
  imageOver,
  imageWith,
  naive,
  newStage,
  ours,
  pidOf,
  run,
  SOCKET,
  type Target,
  TOKEN,
  USER,
  unaccepted,
} from "./arena.ts";
import { Naive } from "./naive.ts";
import { attack } from "./table.ts";

const TRUSTED = "/app/trusted";
const image = imageWith(["trusted", "steal", "replace", "patch", "say", "escape", "nest"]);
const admin = { CapAdd: ["SYS_ADMIN"], CgroupnsMode: "host", Tmpfs: { "/mnt": "" } };

describe("a container with many cgroups below its own", () => {
  const note = attack("51", "not separable: the bounds have no switch");
  const CGROUPS = 2000;

  async function nest({ stage }: Pick<Target, "stage">) {
    const thief = await run(stage, {
      image,
      command: ["/app/nest", `${CGROUPS}`, "1", "60", SOCKET],
      labels: { app: "stranger" },
      user: 0,
      host: { ...admin, CgroupnsMode: "private" } as object,
    });
    const pid = await pidOf(thief);
    const cgroups = readdirSync("/sys/fs/cgroup")
      .map((name) => `/sys/fs/cgroup/${name}/docker/${thief.id}`)
      .filter(existsSync);
    stage.defer(async () => {
      await thief.kill();
      const find = ["-mindepth", "1", "-depth", "-type", "d", "-exec", "rmdir", "{}", "+"];
      await until("it has ended", () => !existsSync(`/proc/${pid}`));
      for (const cgroup of cgroups.filter(existsSync)) execFileSync("find", [cgroup, ...find]);
    });
    await thief.says("nested");
    return { pid, cgroups };
  }

  function countAll(directory: string): number {
    const below = readdirSync(directory, { withFileTypes: true }).filter((e) => e.isDirectory());
    const here = readFileSync(join(directory, "cgroup.procs"), "utf8").split("\n").length - 1;
    return below.reduce((sum, { name }) => sum + countAll(join(directory, name)), here);
  }

  function timed(look: () => unknown): number {
    const began = performance.now();
    look();
    return performance.now() - began;
  }

  test("costs a server that counts in all of them more than ten times what it costs ours", async () => {
    await using stage = newStage();
    const { pid, cgroups } = await nest({ stage });
    const naiveMs = timed(() => cgroups.map(countAll));
    const oursMs = timed(() => readProcess(pid, true));
    expect(readProcess(pid, true).alone).toBe(false);
    expect(naiveMs).toBeGreaterThan(10 * oursMs);
    note("naive", "each look counts in 2,000 cgroups, over ten times as long as ours");
  });

  test("does not keep an honest one from its token", async () => {
    await using stage = newStage();
    await ours(stage);
    await nest({ stage });
    await honest(stage, image, note);
    note("defended", "a look ends at 64 cgroups: not alone");
  });
});

describe("a health check that prints a secret", () => {
  const note = attack("57", "not separable: what is not written cannot be switched off");
  const secret = "the-secret-of-the-application";
  const match = { container: { ...app.match.container, State: { Health: null } } };

  /** Its output stands in the engine's answer when another process connects. */
  async function leak({ stage }: Pick<Target, "stage">) {
    const victim = await run(stage, {
      image,
      command: [TRUSTED, SOCKET],
      healthCheck: { test: ["CMD", "/app/say", secret], interval: 1000 },
    });
    await victim.says("trusted: end");
    await until("its health was checked", async () =>
      JSON.stringify((await victim.inspect()).State).includes(secret),
    );
    await victim.exec("/app/steal", SOCKET);
    return victim;
  }

  test("is in the log of a naive server, which logs what it was told", async () => {
    await using stage = newStage();
    const log: string[] = [];
    const look = async (pid: number) => {
      const id = /[0-9a-f]{64}/.exec(readFileSync(`/proc/${pid}/cgroup`, "utf8"))?.[0] ?? "";
      log.push(execFileSync("docker", ["inspect", id], { encoding: "utf8" }));
    };
    await Naive.start(stage, app.match, { look });
    await leak({ stage });
    await until("it was asked twice", () => log.length >= 2);
    expect(log.join()).toContain(secret);
    note("naive", "in the log");
  });

  test.each([{ match: app.match as JsonObject }, { match }])(
    "is in no line of ours, where the policy is $match",
    async ({ match }) => {
      await using stage = newStage();
      const { server } = await ours(stage, { match });
      const victim = await leak({ stage });
      const line = await decision(server, victim, 2);
      expect(line).toMatchObject({ event: "refused" });
      expect(server.stdout).not.toContain(secret);
      note("defended", `${line.reason}, without it`);
    },
  );

  test("keeps nobody from a token", async () => {
    await using stage = newStage();
    await ours(stage);
    await honest(stage, image, note);
  });
});

describe("the same variables in another order, as the docker CLI gives them", () => {
  const note = attack("60", "not separable: sorting has no switch");
  const environment = { MODE: "x", LEVEL: "y", NAME: "z" };
  const reversed = Object.fromEntries(Object.entries(environment).reverse());
  const command = [TRUSTED, SOCKET];

  async function environmentOf(container: Container): Promise<string[]> {
    return (await container.inspect()).Config.Env;
  }

  test("are another environment for a server that compares lists", async () => {
    await using stage = newStage();
    const one = await run(stage, { image, command: [TRUSTED], environment });
    const other = await run(stage, { image, command: [TRUSTED], environment: reversed });
    expect(await environmentOf(other)).not.toEqual(await environmentOf(one));
    expect((await environmentOf(other)).sort()).toEqual((await environmentOf(one)).sort());
    note("naive", "refuses equal starts");
  });

  test.each(["a list", "an object"])("are served, pinned by %s; others are not", async (form) => {
    await using stage = newStage();
    const model = await run(stage, { image, command: [TRUSTED], environment });
    const byName: JsonObject = { ...environment, NODE_OPTIONS: null };
    const Env = form === "a list" ? await environmentOf(model) : byName;
    const match = { container: { Config: { Labels: { app: "app" }, Env } } };
    const { server } = await ours(stage, { match });
    for (const order of [environment, reversed]) {
      const container = await run(stage, { image, command, environment: order });
      expect(await container.says("trusted: end")).toContain(TOKEN);
    }
    note("honest", "served, in any order");
    for (const change of [{ MODE: "other" }, { NODE_OPTIONS: "--import=/x" }]) {
      const changed = { ...reversed, ...change };
      const thief = await run(stage, { image, command, environment: changed });
      expect(await thief.says("trusted: end")).not.toContain(TOKEN);
      const line = await decision(server, thief);
      expect(line).toMatchObject({ event: "refused", reason: "no-match" });
      expect(JSON.stringify(line)).not.toMatch(/other|--import/);
    }
    note("defended", "another value: no-match");
  });
});

describe("another process that moved out of the container's cgroup, in one hierarchy", () => {
  const note = attack("62");
  const match: JsonObject = { ...app.match, process: { exe: TRUSTED } };

  async function moveOut(target: Target) {
    const thief = await unaccepted(target, async () => {
      const command = ["/app/escape", SOCKET, TRUSTED];
      const started = await run(target.stage, { image, command, user: 0, host: admin as object });
      const pid = await pidOf(started);
      await until("it is", () => readlinkSync(`/proc/${pid}/exe`) === TRUSTED);
      return started;
    });
    await thief.says("thief: end");
    return thief;
  }

  test("gets the token from a naive server", async () => {
    await using stage = newStage();
    expect((await moveOut(await naive(stage, match))).output).toContain(TOKEN);
    note("naive", "falls");
  });

  test.each([
    { relax: [], reason: "alone" },
    { relax: ["capabilities"], reason: "alone" },
    { relax: ["alone"], reason: "capabilities" },
  ])("gets nothing where $relax is relaxed: $reason", async ({ relax, reason }) => {
    await using stage = newStage();
    const target = await ours(stage, { match, relax });
    const thief = await moveOut(target);
    expect(thief.output).not.toContain(TOKEN);
    expect(await decision(target.server, thief)).toMatchObject({ reason });
    if (relax.length > 0) note("minus one", `without ${relax}: stopped by ${reason}`);
    else note("defended", reason);
    await honest(stage, image, note);
  });

  test("gets the token where both are relaxed, and the audit says so", async () => {
    await using stage = newStage();
    const relax = ["alone", "capabilities"];
    const target = await ours(stage, { match, relax });
    const thief = await moveOut(target);
    expect(thief.output).toContain(TOKEN);
    const line = { event: "granted", relaxed: relax };
    expect(await decision(target.server, thief)).toMatchObject(line);
    note("minus one", "without alone, capabilities: falls");
  });
});

describe("a container whose cgroup is below the victim's (--cgroup-parent)", () => {
  const note = attack("63");

  async function intrude(stage: Stage) {
    const victim = await honest(stage, image);
    const thief = await run(stage, {
      image,
      command: [TRUSTED],
      labels: { app: "stranger" },
      host: { CgroupParent: `/docker/${victim.id}` },
    });
    await victim.restart();
    return { victim, thief };
  }

  test("does not matter to a naive server", async () => {
    await using stage = newStage();
    const server = await Naive.start(stage, app.match);
    const { victim } = await intrude(stage);
    await until("it is served again", () => server.granted.length >= 2);
    expect(victim.id).toBeTruthy();
    note("naive", "has no such check");
  });

  test("keeps the victim from its token, and the audit names it", async () => {
    await using stage = newStage();
    const { server } = await ours(stage);
    const { victim, thief } = await intrude(stage);
    const line = await decision(server, victim, 2);
    expect(line).toMatchObject({ event: "unavailable", reason: "alone" });
    expect(JSON.stringify(line.detail)).toContain(`${victim.id}/${thief.id}`);
    note("defended", "FALLS, a known weakness: alone; its detail names the intruder's cgroup");
    await honest(stage, image, note);
  });

  test("does not matter where alone is relaxed, and the audit says so", async () => {
    await using stage = newStage();
    const { server } = await ours(stage, { relax: ["alone"] });
    const { victim } = await intrude(stage);
    const granted = { event: "granted", relaxed: ["alone"] };
    expect(await decision(server, victim, 2)).toMatchObject(granted);
    note("minus one", "without alone: served");
  });
});

/** Puts one program in the other's place, and starts the container again. */
async function overwrite(victim: Container, replace: string[], restart: () => Promise<void>) {
  await victim.says("trusted: end");
  const { exitCode, output } = await victim.exec(...replace);
  expect(exitCode, output).toBe(0);
  await victim.kill();
  await restart();
}

function logsOf({ id }: Container): string {
  return execFileSync("docker", ["logs", id], { encoding: "utf8" });
}

const STOLEN = /thief.* got: .*"token"/;

describe("a program on a writable mount below a read-only one, overwritten, restarted", () => {
  const note = attack("64");

  async function replaceBelow(target: Target, decided?: Defended) {
    const outer = join(target.stage.directory, "outer");
    const sub = join(outer, "sub");
    mkdirSync(sub, { recursive: true });
    execFileSync("mount", ["-t", "tmpfs", "none", sub]);
    target.stage.defer(() => execFileSync("umount", [sub]));
    for (const name of ["trusted", "steal", "replace"])
      copyFileSync(compile(name), join(sub, name));
    for (const name of ["", "trusted"]) chownSync(join(sub, name), USER, USER);
    const bind = { Type: "bind" as const, Source: outer, Target: "/x", ReadOnly: true };
    const command = ["/x/sub/trusted", SOCKET];
    const victim = await run(target.stage, { image, command, host: { Mounts: [bind] } });
    expect((await victim.inspect()).Mounts.some(({ RW }) => RW)).toBe(false);
    const words = ["/x/sub/replace", "/x/sub/steal", "/x/sub/trusted"];
    await overwrite(victim, words, () => victim.restart());
    await until("the thief has its answer", () => logsOf(victim).includes("thief: end"));
    return { log: logsOf(victim), line: decided && (await decision(decided.server, victim, 2)) };
  }

  test("gets the token from a naive server", async () => {
    await using stage = newStage();
    expect((await replaceBelow(await naive(stage))).log).toMatch(STOLEN);
    note("naive", "falls");
  });

  test("gets nothing: readonly", async () => {
    await using stage = newStage();
    const target = await ours(stage);
    const { log, line } = await replaceBelow(target, target);
    expect(log).not.toContain(TOKEN);
    const detail = { part: "exe", mount: "/x/sub" };
    expect(line).toMatchObject({ event: "refused", reason: "readonly", detail });
    note("defended", "readonly");
    await honest(stage, image, note);
  });

  test("gets nothing where the service declares that mount as data", async () => {
    await using stage = newStage();
    const target = await ours(stage, { data: ["/x/sub"] });
    const { log, line } = await replaceBelow(target, target);
    expect(log).not.toContain(TOKEN);
    expect(line).toMatchObject({ event: "refused", reason: "readonly" });
  });

  test("gets the token where readonly is relaxed, and the audit says so", async () => {
    await using stage = newStage();
    const target = await ours(stage, { relax: ["readonly"] });
    const { log, line } = await replaceBelow(target, target);
    expect(log).toMatch(STOLEN);
    expect(line).toMatchObject({ event: "granted", relaxed: ["readonly"] });
    note("minus one", "without readonly: falls");
  });
});

describe("the program of a health check on a volume, overwritten, restarted", () => {
  const note = attack("72");
  const healthCheck = {
    test: ["CMD", "/data/check", "trusted", "thief: "] as ["CMD", ...string[]],
    interval: 3000,
  };
  const match: JsonObject = {
    container: { Config: { Labels: { app: "app" }, Healthcheck: { Test: healthCheck.test } } },
  };

  async function replaceCheck(target: Target, decided?: Defended) {
    const data = join(target.stage.directory, "data");
    mkdirSync(data);
    copyFileSync(compile("say"), join(data, "check"));
    for (const name of ["", "check"]) chownSync(join(data, name), USER, USER);
    const victim = await run(target.stage, {
      image,
      command: [TRUSTED, SOCKET],
      healthCheck,
      host: { Mounts: [{ Type: "bind", Source: data, Target: "/data" }] },
    });
    const patched = async () => JSON.stringify((await victim.inspect()).State).includes("patched ");
    await overwrite(victim, ["/app/replace", "/app/patch", "/data/check"], () =>
      unaccepted(target, async () => {
        await victim.restart();
        await until("the client is patched", patched);
      }),
    );
    await until("it is answered", () => logsOf(victim).split(": end").length > 2);
    return { log: logsOf(victim), line: decided && (await decision(decided.server, victim, 2)) };
  }

  test("gets the token from a naive server", async () => {
    await using stage = newStage();
    expect((await replaceCheck(await naive(stage, match))).log).toMatch(STOLEN);
    note("naive", "falls");
  });

  test("gets nothing: readonly", async () => {
    await using stage = newStage();
    const target = await ours(stage, { match });
    const { log, line } = await replaceCheck(target, target);
    expect(log).not.toContain(TOKEN);
    const detail = { part: "Healthcheck", mount: "/data" };
    expect(line).toMatchObject({ event: "refused", reason: "readonly", detail });
    note("defended", "readonly");
    const checked = { ...healthCheck, test: ["CMD", "/app/say"] as ["CMD", string] };
    const plain = await ours(newStage());
    const container = await run(plain.stage, {
      image,
      command: [TRUSTED, SOCKET],
      healthCheck: checked,
    });
    expect(await container.says("trusted: end")).toContain(TOKEN);
    await plain.stage[Symbol.asyncDispose]();
    note("honest", "served");
  });

  test("gets the token where readonly is relaxed, and the audit says so", async () => {
    await using stage = newStage();
    const target = await ours(stage, { match, relax: ["readonly"] });
    const { log, line } = await replaceCheck(target, target);
    expect(log).toMatch(STOLEN);
    expect(line).toMatchObject({ event: "granted", relaxed: ["readonly"] });
    note("minus one", "without readonly: falls");
  });
});

describe("a tracer of a thread that is not the first", () => {
  const note = attack("65");
  const readable = imageOver(
    served,
    ["USER 0", "RUN chmod 0755 /usr/local/bin/node", `USER ${USER}:${USER}`],
    { programs: ["tracethread"] },
  );

  /** It is attached before anybody judges the connection. */
  async function trace(target: Target): Promise<Container> {
    const { stage } = target;
    return await unaccepted(target, async () => {
      const victim = await stage.container({ image: await readable });
      const pid = await pidOf(victim);
      await until("it has threads", () => readdirSync(`/proc/${pid}/task`).length > 3);
      const words = ["exec", "-u", `${USER}`, victim.id, "/app/tracethread"];
      const tracer = spawn("docker", words, { stdio: ["ignore", "pipe", "inherit"] });
      stage.defer(() => void tracer.kill());
      let said = "";
      tracer.stdout.setEncoding("utf8").on("data", (text) => {
        said += text;
      });
      await until("it is attached", () => said.includes("attached"));
      return victim;
    });
  }

  test("is not seen by a naive server", async () => {
    await using stage = newStage();
    const server = await Naive.start(stage, app.match);
    const victim = await trace({ stage, acceptor: server.acceptor });
    const pid = await pidOf(victim);
    await until("it is judged", () => server.granted.includes(pid));
    note("naive", "falls");
  });

  test.each([
    { relax: [], reason: "traced" },
    { relax: ["alone"], reason: "traced" },
  ])("is seen where $relax is relaxed: $reason", async ({ relax, reason }) => {
    await using stage = newStage();
    const target = await ours(stage, { relax });
    const victim = await trace(target);
    expect(await decision(target.server, victim)).toMatchObject({ event: "refused", reason });
    note(
      relax.length > 0 ? "minus one" : "defended",
      relax.length > 0 ? `without ${relax}: stopped by ${reason}` : reason,
    );
    expect(decisions(target.server, victim)).toHaveLength(1);
    await honest(stage, image, note);
  });
});
