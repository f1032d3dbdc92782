// Attacks by who starts a container with the right labels, or the right image, and a program of his
// own. What is not pinned in the policy, he may choose.
import { chmodSync, mkdirSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { getContainerRuntimeClient } from "testcontainers";
import { describe, expect, test } from "vitest";
import type { JsonObject } from "../../server/json.ts";
import { app, base, type Container, type Stage, until } from "../stage.ts";
import {
  compile,
  type Defended,
  decision,
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
  unaccepted,
  type Wanted,
} from "./arena.ts";
import { attack } from "./table.ts";

const TRUSTED = "/app/trusted";
const image = imageWith(["trusted", "relay", "supervise"]);
const PINNED = ["Image", "Path", "Args"];

/** A directory that two containers share. */
function sharedDirectory(stage: Stage) {
  const source = join(stage.directory, "shared");
  mkdirSync(source);
  chmodSync(source, 0o777);
  return { Type: "bind" as const, Source: source, Target: "/shared" };
}

/** A policy that pins these members of an honest container, as they are now. */
async function pin(stage: Stage, wanted: Wanted, names: string[]): Promise<JsonObject> {
  const model = await run(stage, wanted);
  const seen: JsonObject = JSON.parse(JSON.stringify(await model.inspect()));
  const Config: JsonObject = { Labels: { app: "app" } };
  const container: JsonObject = { Config };
  for (const name of names) {
    const inner = name.replace("Config.", "");
    const place = inner === name ? container : Config;
    place[inner] = (inner === name ? seen : (seen.Config as JsonObject))[inner] ?? null;
  }
  return { ...app.match, container };
}

describe.each([
  {
    number: "4" as const,
    what: "sends its connection",
    thief: ["/app/relay"],
    decoy: ["/app/relay", SOCKET, TRUSTED],
  },
  {
    number: "43" as const,
    what: "has a seccomp supervisor",
    thief: ["/app/supervise"],
    decoy: ["/app/supervise", TRUSTED, SOCKET],
  },
])("a first process that $what in another container, and becomes the trusted program", (row) => {
  const note = attack(row.number);
  const match: JsonObject = { ...app.match, process: { exe: TRUSTED } };

  async function relay(target: Target, decided?: Defended) {
    const { stage } = target;
    const environment = { CHANNEL: "/shared/channel" };
    const shared = { image, environment, host: { Mounts: [sharedDirectory(stage)] } };
    const thief = await run(stage, { ...shared, command: row.thief, labels: { app: "other" } });
    await thief.says("listening");
    // Nobody looks before it has become the trusted program.
    const decoy = await unaccepted(target, async () => {
      const started = await run(stage, { ...shared, command: row.decoy });
      const pid = await pidOf(started);
      await until("it is", () => readlinkSync(`/proc/${pid}/exe`) === TRUSTED);
      return started;
    });
    await thief.says("thief: end");
    const line = decided && (await decision(decided.server, decoy));
    return { output: thief.output, line };
  }

  test("gets the token from a naive server", async () => {
    await using stage = newStage();
    const { output } = await relay(await naive(stage, match));
    expect(output).toContain(TOKEN);
    note("naive", "falls");
  });

  test("gets the token where only exe is asked for: every check holds", async () => {
    await using stage = newStage();
    const target = await ours(stage, { match });
    const { output, line } = await relay(target, target);
    expect(output).toContain(TOKEN);
    expect(line).toMatchObject({ event: "granted", exe: TRUSTED, relaxed: [] });
    note("minus one", "all checks and exe, without Image, Path, Args in the policy: falls");
  });

  test("gets nothing where Image, Path and Args are pinned: no-match, container.Path", async () => {
    await using stage = newStage();
    const pins = await pin(stage, { image, command: [TRUSTED, SOCKET] }, PINNED);
    const target = await ours(stage, { match: { ...match, ...pins } });
    const { output, line } = await relay(target, target);
    expect(output).not.toContain(TOKEN);
    expect(line).toMatchObject({
      event: "refused",
      reason: "no-match",
      detail: { path: "container.Path", wanted: TRUSTED },
    });
    note("defended", "no-match: container.Path");
    await honest(stage, image, note);
  });
});

/** A program that asks as it should, but says who it is. */
const script = (who: string) => `
  const socket = require("node:net").connect("${SOCKET}").setEncoding("utf8");
  socket.toArray().then((parts) => {
    console.log("${who} got: " + parts.join("").trim());
    console.log("${who}: end");
  });
  setInterval(() => {}, 60000);`;

const scripted = await imageOver(base, ["COPY srv /srv", "WORKDIR /srv"], {
  arrange: (directory) => {
    mkdirSync(join(directory, "srv"));
    writeFileSync(join(directory, "srv/server.cjs"), script("trusted"));
  },
});

type Pinning = {
  number: "33" | "33b" | "44" | "47";
  what: string;
  honest: Wanted;
  /** How the thief starts what the policy has pinned. */
  thief: (stage: Stage) => Partial<Wanted> | Promise<Partial<Wanted>>;
  /** Nobody accepts until then. */
  first?: (started: Container) => Promise<void>;
  /** What was pinned before this attack was known. */
  pins: string[];
  /** What stops it. */
  missing: string;
};
const served: Wanted = { image: scripted, command: ["node", "server.cjs"] };
const IMPORT = `data:text/javascript,${encodeURIComponent(`
  import { createRequire } from "node:module"; const require = createRequire("/");
  ${script("thief")}; await new Promise(() => {});`)}`;

/** An image that says of itself what a policy can pin: there is no selector for what is not there. */
const unchecked = imageWith(["trusted", "patch"], {
  changes: ["ENV PATH=/app", "WORKDIR /app", "HEALTHCHECK NONE"],
});

/** A container that leaves a program in its shared memory, for who joins that. */
async function evilMemory(stage: Stage): Promise<Container> {
  const write = `fs.writeFileSync("/dev/shm/server.cjs", ${JSON.stringify(script("thief"))})`;
  const stay = 'console.log("left"); setInterval(() => {}, 60000)';
  const evil = await run(stage, {
    image: base,
    command: ["node", "-e", `${write}; ${stay}`],
    labels: {},
    host: { IpcMode: "shareable" },
  });
  await evil.says("left");
  return evil;
}

describe.each<Pinning>([
  {
    number: "33",
    what: "a module in NODE_OPTIONS",
    honest: served,
    thief: () => ({ environment: { NODE_OPTIONS: `--import=${IMPORT}` } }),
    pins: PINNED,
    missing: "Config.Env",
  },
  {
    number: "33b",
    what: "a program mounted over the trusted one",
    honest: { image, command: [TRUSTED, SOCKET] },
    thief: () => ({
      host: {
        Mounts: [{ Type: "bind", Source: compile("steal"), Target: TRUSTED, ReadOnly: true }],
      },
    }),
    pins: PINNED,
    missing: "Mounts",
  },
  {
    number: "44",
    what: "a working directory in another container's memory",
    honest: served,
    thief: async (stage) => ({
      workingDirectory: "/dev/shm",
      host: { IpcMode: `container:${(await evilMemory(stage)).id}` },
    }),
    pins: [...PINNED, "Config.Env", "Mounts"],
    missing: "Config.WorkingDir",
  },
  {
    number: "47",
    what: "a health check",
    honest: { image: unchecked, command: [TRUSTED, SOCKET] },
    thief: () => ({
      healthCheck: { test: ["CMD", "/app/patch", "trusted", "thief: "], interval: 3000 },
    }),
    first: async (started) => {
      const { container } = await getContainerRuntimeClient();
      const patched = async () => {
        const { State } = await container.getById(started.id).inspect();
        return State.Health?.Log.some(({ Output }) => Output.startsWith("patched ")) ?? false;
      };
      await until("its health was checked", patched);
    },
    pins: [...PINNED, "Config.Env", "Mounts", "Config.WorkingDir"],
    missing: "Config.Healthcheck",
  },
])("$what, under the pinned image", ({ number, honest: wanted, thief, first, pins, missing }) => {
  const note = attack(number);
  const STOLEN = /thief.* got: .*"token"/;

  async function start(target: Target, decided?: Defended) {
    const { stage } = target;
    const changed = { ...wanted, ...(await thief(stage)) };
    const started = await unaccepted(target, async () => {
      const waiting = await run(stage, changed);
      await first?.(waiting);
      return waiting;
    });
    await started.says(": end");
    const line = decided && (await decision(decided.server, started));
    return { output: started.output, line };
  }

  test("gets the token from a naive server that pins as much", async () => {
    await using stage = newStage();
    const { output } = await start(await naive(stage, await pin(stage, wanted, pins)));
    expect(output).toMatch(STOLEN);
    note("naive", "falls");
  });

  test(`gets the token where ${missing} is not pinned: every check holds`, async () => {
    await using stage = newStage();
    const target = await ours(stage, { match: await pin(stage, wanted, pins) });
    const { output, line } = await start(target, target);
    expect(output).toMatch(STOLEN);
    expect(line).toMatchObject({ event: "granted", relaxed: [] });
    note("minus one", `all checks and ${pins.join(", ")}, without ${missing}: falls`);
  });

  test(`gets nothing: no-match, container.${missing}`, async () => {
    await using stage = newStage();
    const target = await ours(stage, { match: await pin(stage, wanted, [...pins, missing]) });
    const { output, line } = await start(target, target);
    expect(output).not.toContain(TOKEN);
    expect(line).toMatchObject({ event: "refused", reason: "no-match" });
    expect(line?.detail).toMatchObject({ path: expect.stringContaining(`container.${missing}`) });
    note("defended", `no-match: container.${missing}`);
    const container = await run(stage, wanted);
    expect(await container.says("trusted: end")).toContain(TOKEN);
    note("honest", "served");
  });
});
