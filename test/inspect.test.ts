// Question: what if an engine leaves out a member of its answer about a container, empties it, or gives
// it another type? No TypeError is a reason, and no container gets a token that it would not get
// otherwise.
// Input:    the recorded answers of test/fixtures/engines. Each member that the server reads is changed,
//           one after the other; the server's own code asks, matches and judges.
// Siblings: members at every depth, those of a mount and the words of lists included; absent, null, each
//           empty value, and values of each other type. What the engine alone knows (such as a seccomp
//           profile) is none where it is absent, because engines leave out what is empty.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { judge } from "../server/checks.ts";
import type { Service } from "../server/config.ts";
import { type Container, DockerEngine } from "../server/engine.ts";
import type { Facts } from "../server/facts.ts";
import type { Json, JsonObject } from "../server/json.ts";
import { choose } from "../server/policy.ts";
import type { Process } from "../server/process.ts";
import { Refusal } from "../server/refusal.ts";
import { StandIn } from "./engine-stand-in.ts";
import type { Capture } from "./lab/capture.ts";

const folder = join(import.meta.dirname, "fixtures/engines");
const SERVED = ["docker-20.10", "docker-28", "docker-28-containerd", "podman-4.3"];
const captures = readdirSync(folder)
  .map((file) => ({ file, ...(JSON.parse(readFileSync(join(folder, file), "utf8")) as Capture) }))
  .filter(({ file }) => SERVED.includes(file.replace(".json", "")));

/** An engine whose images declare no label, and one whose images declare that of the service. */
const engines: { standIn: StandIn; engine: DockerEngine }[] = [];
beforeAll(async () => {
  for (const Labels of [{}, { app: "app" }]) {
    const images = new Proxy({}, { get: () => ({ Config: { Labels } }) });
    const standIn = await StandIn.start({ images });
    engines.push({ standIn, engine: new DockerEngine(standIn.socket) });
  }
});
afterAll(async () => {
  for (const { standIn } of engines) await standIn[Symbol.asyncDispose]();
});

/** An answer of the engine, and what the kernel says beside it. */
type Case = {
  answer: JsonObject;
  kernel?: Partial<Process>;
  mounts?: string[];
  isDeclared?: boolean;
};

const service: Service = {
  match: { container: { Config: { Labels: { app: "app" } } } },
  token: { create: "auth/token/create/app" },
};

/** "granted", or the reason of the refusal. Whatever else is thrown fails the test. */
async function verdict(tried: Case): Promise<string> {
  const { answer, kernel, mounts: writable = [], isDeclared = false } = tried;
  const { standIn, engine } = engines[Number(isDeclared)] as (typeof engines)[number];
  const { Id } = answer;
  const { pid, startedAt } = kernelsWord.get(String(Id)) ?? { pid: 0, startedAt: "" };
  standIn.inspect = answer;
  const bootMs = Date.parse(startedAt) - 1000;
  const first: Process = {
    exe: "/app/ask",
    exe_mount: 1,
    cgroup: [],
    ppid: 1,
    uids: [1001, 1001, 1001, 1001],
    gids: [1001, 1001, 1001, 1001],
    uid_inside: 1001,
    dumpable: false,
    init: true,
    alone: true,
    others_in: null,
    pids: [pid, 1],
    tracer: 0,
    capabilities: [],
    start_ticks: 100,
    namespaces: { user: "user:[1]", pid: "pid:[2]", mnt: "mnt:[2]" },
    ...kernel,
  };
  const peer = { id: "1", pid, uid: 1001, gid: 1001, groups: [], label: "" };
  try {
    const container = await engine.inspect(String(Id));
    choose({ peer, process: first, container }, [["app", service]]);
    const imageLabels = await engine.imageLabels(container);
    const userNamespace = "user:[1]";
    const known = { peer, process: first, container, init: first, imageLabels };
    const mounts = { numbers: [1], writable };
    const facts: Facts = { ...known, mounts, userNamespace, bootMs };
    judge(facts, undefined, service);
    return "granted";
  } catch (error) {
    if (error instanceof Refusal) return error.reason;
    throw error;
  }
}

const kernelsWord = new Map(
  captures.map(({ pid, container }) => [
    container.Id,
    { pid, startedAt: container.State.StartedAt },
  ]),
);

/** What the server reads of an answer, and its type. "0" stands for the first of a list. */
const MEMBERS: Record<string, "list" | "object" | "string" | "boolean" | "number"> = {
  Image: "string",
  Path: "string",
  Args: "list",
  "Args.0": "string",
  Driver: "string",
  State: "object",
  "State.Pid": "number",
  "State.StartedAt": "string",
  Config: "object",
  "Config.WorkingDir": "string",
  "Config.Env": "list",
  "Config.Env.0": "string",
  "Config.Labels": "object",
  "Config.Labels.app": "string",
  "Config.Healthcheck": "object",
  "Config.Healthcheck.Test": "list",
  "Config.Healthcheck.Test.0": "string",
  HostConfig: "object",
  "HostConfig.ReadonlyRootfs": "boolean",
  "HostConfig.Privileged": "boolean",
  "HostConfig.CapAdd": "list",
  "HostConfig.CapAdd.0": "string",
  "HostConfig.SecurityOpt": "list",
  "HostConfig.SecurityOpt.0": "string",
  "HostConfig.Annotations": "object",
  "HostConfig.Tmpfs": "object",
  "HostConfig.PidMode": "string",
  Mounts: "list",
  "Mounts.0": "object",
  "Mounts.0.Type": "string",
  "Mounts.0.Destination": "string",
  "Mounts.0.RW": "boolean",
  pod: "object",
  ImageManifestDescriptor: "object",
  "ImageManifestDescriptor.digest": "string",
  "ImageManifestDescriptor.platform": "object",
};
const members = Object.keys(MEMBERS);

/** A copy in which this member is another one, or absent. Undefined where there is no such place. */
function changed(answer: JsonObject, member: string, value: Json | undefined) {
  const copy: JsonObject = structuredClone(answer);
  const keys = member.split(".");
  const last = keys.pop() ?? "";
  let parent: Json | undefined = copy;
  for (const key of keys) parent = (parent as JsonObject | null | undefined)?.[key];
  if (typeof parent !== "object" || parent === null) return undefined;
  if (value !== undefined) (parent as JsonObject)[last] = value;
  else if (Array.isArray(parent)) parent.splice(Number(last), 1);
  else delete parent[last];
  return copy;
}

const NOTHING: (Json | undefined)[] = [undefined, null];
const VALUES: Json[] = ["", [], {}, 0, false, "x", 7, true, ["x"], [7], [null], { x: 1 }, [{}]];

/** What the answer becomes where the member is left out, emptied, or of another type. */
function changesOf(answer: JsonObject, member: string) {
  return [...NOTHING, ...VALUES].flatMap((value) => {
    const isFull = typeOf(value) === MEMBERS[member] && !isEmpty(value); // that says something else
    const copy = isFull ? undefined : changed(answer, member, value);
    return copy ? [{ value, copy }] : [];
  });
}

function typeOf(value: Json | undefined): string {
  return Array.isArray(value) ? "list" : typeof value;
}

function isEmpty(value: Json | undefined): boolean {
  return !value || (typeof value === "object" && Object.keys(value).length === 0);
}

const withMembers = (answer: JsonObject, more: Record<string, Json>) => {
  let copy = structuredClone(answer);
  for (const [member, value] of Object.entries(more)) copy = changed(copy, member, value) ?? copy;
  return copy;
};
const onData = [{ Type: "volume", Destination: "/data", RW: true }];

/** Containers that get nothing, by another check each. */
const refused: Record<string, (answer: JsonObject) => Case> = {
  "readonly: a root that can be written": (answer) => ({
    answer: withMembers(answer, { "HostConfig.ReadonlyRootfs": false }),
  }),
  "readonly: a program on a volume": (answer) => ({
    answer: withMembers(answer, { Mounts: onData, Path: "/data/ask" }),
    kernel: { exe: "/data/ask" },
    mounts: ["/data"],
  }),
  "readonly: a script on a volume, which the kernel shows as its interpreter": (answer) => ({
    answer: withMembers(answer, { Mounts: onData, Path: "/data/run.sh", Args: [] }),
    kernel: { exe: "/bin/sh" },
    mounts: ["/data"],
  }),
  "readonly: a mount of which nobody says that it is read-only": (answer) => ({
    answer: withMembers(answer, { Mounts: [{ Type: "bind", Destination: "/app" }] }),
    mounts: ["/app"],
  }),
  "capabilities: by the kernel's word": (answer) => ({
    answer,
    kernel: { capabilities: ["SYS_ADMIN"] },
  }),
  "clock: started before its first process": (answer) => ({
    answer: withMembers(answer, { "State.StartedAt": "0001-01-01T00:00:00Z" }),
  }),
  "init: another first process": (answer) => ({ answer: withMembers(answer, { "State.Pid": 9 }) }),
  "labels: declared by the image": (answer) => ({ answer, isDeclared: true }),
  "alone: other processes": (answer) => ({ answer, kernel: { alone: false } }),
};

test("the captures of several engines are among those that are tried", () => {
  expect(captures.map(({ file }) => file.replace(".json", "")).sort()).toEqual(SERVED.sort());
});

describe.each(captures)("of $file", ({ container }) => {
  const answer = container as JsonObject;

  test("the container of the answer as it is is served", async () => {
    expect(await verdict({ answer })).toBe("granted");
  });

  test.each(members)("%s: its absence or another type is judged, and no error", async (member) => {
    for (const { value, copy } of changesOf(answer, member))
      expect(await verdict({ answer: copy }), JSON.stringify(value)).not.toBe("internal");
  });

  test.each(Object.entries(refused))(
    "who gets nothing gets nothing either where a member is missing, empty or odd: %s",
    async (name, make) => {
      const { answer: whole, ...more } = make(answer);
      expect(await verdict({ answer: whole, ...more })).toBe(name.split(":")[0]);
      for (const member of members)
        for (const { value, copy } of changesOf(whole, member))
          expect(
            await verdict({ answer: copy, ...more }),
            `${member}: ${JSON.stringify(value)}`,
          ).not.toBe("granted");
    },
  );

  test.each([
    ["a list in a list", [["seccomp=SCMP_ACT_NOTIFY"]], "seccomp"],
    ["a text in place of a list", "seccomp=SCMP_ACT_NOTIFY", "seccomp"],
  ])("the starter's word counts as well as %s", async (_, SecurityOpt, reason) => {
    const tried = withMembers(answer, { "HostConfig.SecurityOpt": SecurityOpt });
    expect(await verdict({ answer: tried })).toBe(reason);
  });

  test.each([undefined, null, "", 0, "x"])(
    "a mount that the engine alone shows is writable where its RW is %j",
    async (RW) => {
      const Mounts = [{ Destination: "/app", ...(RW !== undefined && { RW }) }];
      expect(await verdict({ answer: withMembers(answer, { Mounts }) })).toBe("readonly");
    },
  );

  test("a mount over the root hides no other, and is writable", async () => {
    for (const Mounts of [
      [{ Destination: "/", RW: true }],
      [{ Destination: "//", RW: true }, ...onData],
    ])
      expect(await verdict({ answer: withMembers(answer, { Mounts }) })).toBe("readonly");
  });
});

test("every member that a check reads is among those that are changed", () => {
  const read = new Set<string>();
  const recording = <What>(value: What, path: string[] = []): What => {
    if (typeof value !== "object" || value === null) return value;
    return new Proxy(value, {
      get(target, key) {
        const member = Reflect.get(target, key);
        if (typeof key === "symbol" || typeof member === "function") return member;
        const at = [...path, /^\d+$/.test(key) ? "0" : key];
        if (key !== "length") read.add(at.join("."));
        return recording(member, at);
      },
    });
  };
  const [{ container }] = captures as Capture[] as [Capture];
  const HostConfig = {
    ...container.HostConfig,
    SecurityOpt: ["no-new-privileges"],
    CapAdd: ["BPF"],
  };
  const Config = { ...container.Config, Healthcheck: { Test: ["CMD", "/app/x"] } };
  const Mounts = [{ Type: "bind", Destination: "/data", RW: true }];
  const seen = recording({ ...container, Config, HostConfig, Mounts } as Container);
  const first = {
    cgroup: [],
    uids: [1],
    gids: [1],
    pids: [1, 1],
    namespaces: {},
    capabilities: [],
    exe: "/a",
    exe_mount: 1,
  };
  const mounts = { numbers: [1], writable: [] };
  const process = first as object as Process;
  const peer = { id: "1", pid: 1, uid: 1, gid: 1, groups: [], label: "" };
  const known = { peer, process, container: seen, init: process, mounts, bootMs: 0 };
  const facts: Facts = { ...known, imageLabels: undefined, userNamespace: "" };
  const relax = ["init", "readonly", "labels", "capabilities", "seccomp"];
  expect(() => judge(facts, undefined, { ...service, relax })).toThrow(Refusal);
  const tried = new Set(members);
  expect([...read].filter((path) => !tried.has(path))).toEqual([]);
  expect(read.size).toBeGreaterThan(15);
});
