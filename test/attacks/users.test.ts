// Attacks by user namespaces on an engine that maps users: "ordinary" containers have none of their own
// (--userns=host), the others one for each, with the same map.
//
// Each is played against a naive server with a rule of its own for user namespaces, which falls. Covered
// beside one another: a user namespace that the container's root makes, below the server's and below the
// container's; one that another container sends; one with a pid namespace of its own. test/lab plays
// bubblewrap, and test/peercred.test.ts asks the kernel about each of these.
import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import type { JsonObject } from "../../server/json.ts";
import { FIRST_MAPPED, MAPPED_USERS } from "../lab/engine.ts";
import { Scene } from "../runtime/scene.ts";
import { type Stage, until } from "../stage.ts";
import { compile, decision, newStage, ours, SOCKET, TOKEN } from "./arena.ts";
import { Naive } from "./naive.ts";
import { attack } from "./table.ts";

const scene = await Scene.open(undefined, MAPPED_USERS.changes, MAPPED_USERS.before);
afterAll(() => scene[Symbol.asyncDispose]());
const programs = ["trusted", "steal", "overmount", "lend"];
const image = scene.image(
  Object.fromEntries(programs.map((name) => [`app/${name}`, compile(name)])),
);
const TRUSTED = "/app/trusted";
const ORDINARY = ["--userns=host"];
const ROOT = ["--user", "0:0", "--security-opt", "seccomp=unconfined"];
const USER = ["--user", "1001:1001"];
const match: JsonObject = {
  container: { Config: { Labels: { app: "app" } } },
  process: { exe: TRUSTED },
};

type Started = { id: string; says: (text: string) => Promise<string> };

/** A container with the socket of this stage, the label of the service, and a directory for a channel. */
async function start(stage: Stage, words: string[], command: string[]): Promise<Started> {
  const { directory } = stage;
  const mounts = [`${directory}/run:/run/authproxy:ro`, `${directory}/channel:/channel`];
  const usual = ["--network", "none", "--read-only", "--label", "app=app"];
  const volumes = mounts.flatMap((mount) => ["--volume", mount]);
  const run = ["run", "--detach", ...usual, ...volumes, ...words, image, ...command];
  const { stdout, stderr } = await scene.docker(...run);
  const id = stdout.trim();
  if (!id) throw new Error(stderr);
  stage.defer(() => scene.docker("rm", "--force", id));
  const says = async (text: string) => {
    let output = "";
    await until(`it says ${text}`, async () => {
      const said = await scene.docker("logs", id);
      output = said.stdout + said.stderr;
      return output.includes(text);
    });
    return output;
  };
  return { id, says };
}

/** Mapped users have to reach what is in it. */
function stageForAll(): Stage {
  const stage = newStage();
  mkdirSync(join(stage.directory, "channel"));
  chmodSync(join(stage.directory, "channel"), 0o777);
  chmodSync(stage.directory, 0o711);
  return stage;
}

/** Holds of a process that a naive rule takes for one in its container's own user namespace. */
type Rule = (pid: number) => boolean;
const userNamespace = (pid: number | "self") => readlinkSync(`/proc/${pid}/ns/user`);

function kinOf(pid: number) {
  const told = execFileSync(compile("kin"), [`${pid}`], { encoding: "utf8" });
  const [parent, owner, ownerOfPids] = told.trim().split(" ");
  return { parent: `user:[${parent}]`, owner: Number(owner), ownerOfPids: `user:[${ownerOfPids}]` };
}

const isRootsChildOfOurs: Rule = (pid) => {
  const { parent, owner } = kinOf(pid);
  return parent === userNamespace("self") && owner === 0;
};
const hasMapOfEngine: Rule = (pid) => {
  const map = readFileSync(`/proc/${pid}/uid_map`, "utf8").trim().split(/ +/);
  return map.join(" ") === `0 ${FIRST_MAPPED} 65536`;
};
const ownsItsPids: Rule = (pid) => kinOf(pid).ownerOfPids === userNamespace(pid);

async function naiveWith(stage: Stage, rule: Rule): Promise<Naive> {
  return await Naive.start(stage, match, {
    find: async (pid) => {
      const id = /[0-9a-f]{64}/.exec(readFileSync(`/proc/${pid}/cgroup`, "utf8"))?.[0] ?? "";
      const [container] = JSON.parse((await scene.docker("inspect", id)).stdout);
      return { container };
    },
    look: async (pid) => {
      const isOurs = userNamespace(pid) === userNamespace("self");
      if (!isOurs && !rule(pid)) throw new Error("refused by the rule");
    },
  });
}

type Row = {
  number: Parameters<typeof attack>[0];
  where: string;
  rule: Rule;
  says: string;
  /** How overmount.c does it, and how its container is started. */
  how: string;
  words: string[];
  /** How an honest container is started. */
  honest: string[];
};
const rows: Row[] = [
  {
    number: "38b",
    where: "that the root of an ordinary container made",
    rule: isRootsChildOfOurs,
    says: "falls, where its parent is ours and root made it",
    how: "root",
    words: [...ORDINARY, ...ROOT],
    honest: [...ORDINARY, ...USER],
  },
  {
    number: "38c",
    where: "that the root of a mapped container made, with the same map",
    rule: hasMapOfEngine,
    says: "falls, where its map is the engine's",
    how: "root",
    words: ROOT,
    honest: USER,
  },
  {
    number: "38d",
    where: "of another container, which has sent it",
    rule: (pid) => isRootsChildOfOurs(pid) && hasMapOfEngine(pid),
    says: "falls, where its parent is ours, root made it and its map is the engine's",
    how: "adopted",
    words: [...ORDINARY, ...ROOT],
    honest: USER,
  },
  {
    number: "38e",
    where: "that owns a pid namespace, of which it is the first process",
    rule: ownsItsPids,
    says: "falls, where it owns the process's own pid namespace",
    how: "pids",
    words: [...ORDINARY, ...USER, "--security-opt", "seccomp=unconfined"],
    honest: [...ORDINARY, ...USER],
  },
];

describe.each(rows)("a program mounted over the trusted one in a user namespace $where", (row) => {
  const note = attack(row.number);

  async function steal(stage: Stage): Promise<Started> {
    const words = ["/app/overmount", row.how, "/app/steal", TRUSTED, SOCKET, "/channel"];
    const thief = await start(stage, row.words, words);
    if (row.how === "adopted") {
      await thief.says("listening");
      await start(stage, [...USER, "--label", "app=other"], ["/app/lend", "/channel"]);
    }
    return thief;
  }

  test("gets the token from a naive server with a rule of its own", async () => {
    await using stage = stageForAll();
    await naiveWith(stage, row.rule);
    const thief = await steal(stage);
    expect(await thief.says("thief: end")).toContain(TOKEN);
    note("naive", row.says);
  });

  test.each([{ relax: [] }, { relax: ["init", "alone", "once"] }])(
    "gets nothing, with $relax relaxed: user-namespace",
    async ({ relax }) => {
      await using stage = stageForAll();
      const engine = scene.engine.socket;
      const { server } = await ours(stage, { match, relax, engine, user_namespaces: true });
      const thief = await steal(stage);
      expect(await thief.says("thief: end")).not.toContain(TOKEN);
      const line = await decision(server, thief);
      expect(line).toMatchObject({ event: "refused", reason: "user-namespace", exe: TRUSTED });
      const { seen, wanted } = line.detail as JsonObject;
      expect([seen, wanted]).toEqual([
        expect.stringMatching(/^user:/),
        expect.stringMatching(/^user:/),
      ]);
      expect(seen).not.toBe(wanted);
      const which = "without init, alone, once: stopped by user-namespace";
      note(relax.length ? "minus one" : "defended", relax.length ? which : "user-namespace");

      const honest = await start(stage, row.honest, [TRUSTED, SOCKET]);
      expect(await honest.says("trusted: end")).toContain(TOKEN);
      note("honest", "served");
    },
  );
});

describe("the first process of a mapped container with CAP_SYS_ADMIN mounts over its program", () => {
  const note = attack("38f");
  const ROOT_WITH_CAPABILITY = ["--user", "0:0", "--cap-add", "SYS_ADMIN"];
  const command = ["/app/overmount", "mount", "/app/steal", TRUSTED, SOCKET];

  test("gets the token from a naive server", async () => {
    await using stage = stageForAll();
    await naiveWith(stage, () => true);
    const thief = await start(stage, ROOT_WITH_CAPABILITY, command);
    expect(await thief.says("thief: end")).toContain(TOKEN);
    note("naive", "falls");
  });

  test.each([
    { relax: [], reason: "capabilities" },
    { relax: ["capabilities"], reason: undefined },
  ])("with $relax relaxed: $reason", async ({ relax, reason }) => {
    await using stage = stageForAll();
    const engine = scene.engine.socket;
    const { server } = await ours(stage, { match, relax, engine, user_namespaces: true });
    const thief = await start(stage, ROOT_WITH_CAPABILITY, command);
    expect((await thief.says("thief: end")).includes(TOKEN)).toBe(reason === undefined);
    expect((await decision(server, thief)).reason).toBe(reason);
    note(reason ? "defended" : "minus one", reason ?? "without capabilities: falls");

    const honest = await start(stage, USER, [TRUSTED, SOCKET]);
    expect(await honest.says("trusted: end")).toContain(TOKEN);
    note("honest", "served");
  });
});
