import { describe, expect, test } from "vitest";
import { judge } from "../server/checks.ts";
import type { Service } from "../server/config.ts";
import type { Container } from "../server/engine.ts";
import type { Facts } from "../server/facts.ts";
import type { JsonObject } from "../server/json.ts";
import type { Peer } from "../server/peercred.ts";
import type { Process } from "../server/process.ts";
import { Refusal } from "../server/refusal.ts";

const ID = "0123456789abcdef".repeat(4);
const bootMs = Date.parse("2026-01-01T00:00:00Z");
const ticks = 360_000; // an hour, at 100 a second
const startedAt = "2026-01-01T01:00:00.120Z"; // the engine says so a little later than the kernel

const peer: Peer = { id: "1", pid: 7, uid: 1001, gid: 1001, groups: [], label: "" };
const first: Process = {
  exe: "/usr/bin/node",
  cgroup: [`0::/docker/${ID}`],
  ppid: 6,
  uids: [1001, 1001, 1001, 1001],
  gids: [1001, 1001, 1001, 1001],
  dumpable: true,
  init: true,
  alone: true,
  pids: [7, 1],
  tracer: 0,
  start_ticks: ticks,
  namespaces: { user: "user:[1]", pid: "pid:[2]", mnt: "mnt:[2]" },
};
const container: Container = {
  Id: ID,
  Image: "sha256:1",
  Path: "node",
  Args: ["/app/main.js", "--port=80"],
  State: { Pid: 7, StartedAt: startedAt },
  Config: {
    WorkingDir: "/app",
    Env: ["PATH=/usr/bin:/bin"],
    Labels: { app: "app", stage: "test" },
  },
  HostConfig: { ReadonlyRootfs: true },
  Mounts: [{ Destination: "/run/authproxy", RW: false }],
};
const facts: Facts = {
  peer,
  process: first,
  container,
  init: first,
  imageLabels: { vendor: "us" },
  serverUserNamespace: "user:[1]",
  bootMs,
};
const service: Service = {
  match: { container: { Config: { Labels: { app: "app" } } } },
  token: { create: "auth/token/create/app" },
};

/** `spentBy`: why this start of the container can have no token. */
type Changes = Partial<Facts> & { spentBy?: string };
const spentBy = "this start of the container has had its token";

const ofProcess = (changes: Partial<Process>) => ({ process: { ...first, ...changes } });
const ofContainer = (changes: JsonObject) => ({
  container: { ...container, ...changes } as Container,
});
const started = (StartedAt: string) => ofContainer({ State: { Pid: 7, StartedAt } });
const mounted = (Destination: string, RW = true, more: JsonObject = {}) =>
  ofContainer({ Mounts: [{ Destination, RW }], ...more });
const searched = (variable: string) =>
  mounted("/data", true, { Config: { ...container.Config, Env: [variable] } });
/** Started by `docker exec`: it is in the container, and not its first process. */
const later = {
  peer: { ...peer, pid: 9 },
  process: { ...first, pids: [9, 3], init: false, start_ticks: ticks + 500, alone: false },
};

const labels = (Labels: JsonObject | null) => ofContainer({ Config: { WorkingDir: "", Labels } });

function judgeChanged({ spentBy, ...changes }: Changes, relax: string[] = []): string[] {
  return judge({ ...facts, ...changes }, spentBy, { ...service, relax });
}

/** The answer and the reason, or the relaxed checks that do not hold. */
function verdict(changes: Changes, relax?: string[]): string | string[] {
  try {
    return judgeChanged(changes, relax);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return `${error.canRetry ? "unavailable" : "refused"}: ${error.reason}`;
  }
}

test("a container's first process, alone, with a read-only root: allowed", () => {
  expect(verdict({})).toEqual([]);
});

describe.each<[string, [string, Changes][], [string, Changes][]]>([
  [
    "refused: credentials",
    [
      ["the real uid is another", ofProcess({ uids: [0, 1001, 1001, 1001] })],
      ["the effective uid is another", ofProcess({ uids: [1001, 0, 1001, 1001] })],
      ["the saved uid is another", ofProcess({ uids: [1001, 1001, 0, 1001] })],
      ["the file system's uid is another", ofProcess({ uids: [1001, 1001, 1001, 0] })],
      ["all four are another than at connect()", ofProcess({ uids: [0, 0, 0, 0] })],
      ["a gid is another", ofProcess({ gids: [1001, 1001, 0, 1001] })],
    ],
    [],
  ],
  ["refused: traced", [["a tracer", ofProcess({ tracer: 9 })]], []],
  [
    "refused: user-namespace",
    [
      [
        "one of the container's own",
        {
          process: { ...first, namespaces: { ...first.namespaces, user: "user:[9]" } },
          init: { ...first, namespaces: { ...first.namespaces, user: "user:[9]" } },
        },
      ],
    ],
    [],
  ],
  [
    "refused: namespace",
    [
      [
        "another pid namespace",
        { init: { ...first, namespaces: { ...first.namespaces, pid: "x" } } },
      ],
      [
        "another mount namespace",
        { init: { ...first, namespaces: { ...first.namespaces, mnt: "x" } } },
      ],
      ["another cgroup below the same id", { init: { ...first, cgroup: [`0::/docker/${ID}/x`] } }],
      ["one cgroup of several", { init: { ...first, cgroup: [...first.cgroup, "1:pids:/x"] } }],
      [
        "two cgroups whose names, one after the other, are the other's one",
        {
          process: { ...first, cgroup: ["1:pids:/a", "b"] },
          init: { ...first, cgroup: ["1:pids:/ab"] },
        },
      ],
    ],
    [],
  ],
  [
    "unavailable: clock",
    [
      ["started 2.1 s after its container", started("2026-01-01T00:59:57.900Z")],
      ["a container that never started", started("0001-01-01T00:00:00Z")],
      ["a time that is none", started("soon")],
    ],
    [
      ["started 1.9 s after its container", started("2026-01-01T00:59:58.100Z")],
      ["started 2 s after its container", started("2026-01-01T00:59:58.000Z")],
      ["started long before its container says", started("2026-01-01T02:00:00Z")],
      ["by nanoseconds and another zone", started("2026-01-01T02:00:00.123456789+01:00")],
    ],
  ],
])("%s", (expected, denied, allowed) => {
  test.each(denied)("%s", (_, changes) => {
    expect(verdict(changes)).toBe(expected);
    const every = ["init", "alone", "once", "readonly", "labels"];
    expect(verdict(changes, every)).toBe(expected); // not to be relaxed
  });
  if (allowed.length > 0)
    test.each(allowed)("allowed: %s", (_, changes) => {
      expect(verdict(changes)).toEqual([]);
    });
});

describe.each<[string, string, [string, Changes][], [string, Changes][]]>([
  [
    "init",
    "refused: init",
    [
      ["another pid than State.Pid", { ...later, process: { ...later.process, alone: true } }],
      [
        "the engine's pid, and not the first of its namespace",
        ofProcess({ pids: [7, 3], init: false }),
      ],
      [
        "the first of its namespace, and not the engine's pid",
        { ...later, process: { ...later.process, init: true, alone: true } },
      ],
    ],
    [],
  ],
  ["alone", "unavailable: alone", [["company", ofProcess({ alone: false })]], []],
  ["once", "refused: once", [["this start has had its token", { spentBy }]], []],
  [
    "readonly",
    "refused: readonly",
    [
      ["a root that can be written", ofContainer({ HostConfig: { ReadonlyRootfs: false } })],
      ["no word about the root", ofContainer({ HostConfig: {} })],
      ["a writable mount over the program", mounted("/usr/bin")],
      ["a writable mount of the program alone", mounted("/usr/bin/node")],
      ["a writable mount over the script", mounted("/app")],
      ["a writable mount far above the script", mounted("/app", true, { Args: ["/app/a/b/c.js"] })],
      ["… over a relative script", mounted("/app", true, { Args: ["main.js"] })],
      ["… over a script by way of ..", mounted("/data", true, { Args: ["/app/../data/x.js"] })],
      ["… over a script in an option", mounted("/data", true, { Args: ["--require=/data/x.js"] })],
      ["… over a relative program", mounted("/app", true, { Path: "./run", Args: [] })],
      [
        "… over a script in a shell's command",
        mounted("/data", true, { Args: ["-c", "node /data/x"] }),
      ],
      ["… over a script in a URL", mounted("/data", true, { Args: ["--import=file:///data/x"] })],
      ["… over a place where programs are looked for", searched("PATH=/bin:/data:/usr/bin")],
      ["… over what Node is told to load", searched("NODE_OPTIONS=--import=/data/x.mjs")],
      ["… over what the loader is told to load", searched("LD_PRELOAD=/data/x.so")],
      ["… over what the loader asks for leave", searched("LD_AUDIT=/data/x.so")],
      ["… over where Lua looks", searched("LUA_PATH_5_4=/data/?.lua")],
      ["… over where Perl looks", searched("PERL5LIB=/data")],
      ["… over what Ruby is told", searched("RUBYOPT=-r/data/x")],
      ["… over what Java is told", searched("CATALINA_OPTS=-javaagent:/data/x.jar")],
      ["… over what a shell reads first", searched("ENV=/data/profile")],
      ["… over what bash reads first", searched("BASH_ENV=/data/profile")],
      ["… over what OpenSSL loads", searched("OPENSSL_CONF=/data/openssl.cnf")],
      ["one whose name begins the same: words are not parsed", mounted("/ap")],
      [
        "one of several mounts",
        ofContainer({
          Mounts: [
            { Destination: "/run/authproxy", RW: false },
            { Destination: "/app", RW: true },
          ],
        }),
      ],
    ],
    [
      ["no mount at all", ofContainer({ Mounts: [] })],
      ["a writable mount elsewhere", mounted("/data")],
      ["a writable mount below the script", mounted("/app/main.js.d")],
      ["a read-only mount over the script", mounted("/app", false)],
      ["no arguments", mounted("/data", true, { Args: [] })],
      ["a writable mount that the environment calls data", searched("PGDATA=/data")],
      ["… or a variable says where data lie", searched("DATA_DIR=/data")],
      ["… or a variable names after a search path's", searched("TEXT=PATH=/data")],
      [
        "no working directory: a relative script is looked for below the root, not below ours",
        mounted(process.cwd(), true, {
          Args: ["main.js"],
          Config: { ...container.Config, WorkingDir: "" },
        }),
      ],
      ["no environment", mounted("/data", true, { Config: { ...container.Config, Env: null } })],
    ],
  ],
  [
    "labels",
    "refused: labels",
    [
      ["the image declares the label, with that value", { imageLabels: { app: "app" } }],
      ["neither the image nor the container has the label that is matched on", labels(null)],
    ],
    [
      ["the image declares another value", { imageLabels: { app: "something" } }],
      ["the image declares a label that is not matched on", { imageLabels: { stage: "test" } }],
      ["an image without labels", { imageLabels: {} }],
    ],
  ],
])("the check `%s`", (name, expected, denied, allowed) => {
  test.each(denied)(`${expected}: %s`, (_, changes) => {
    expect(verdict(changes)).toBe(expected);
  });
  test.each(denied)("relaxed, and said: %s", (_, changes) => {
    expect(verdict(changes, [name])).toEqual([name]);
  });
  if (allowed.length > 0)
    test.each(allowed)("allowed: %s", (_, changes) => {
      expect(verdict(changes)).toEqual([]);
    });
});

describe("a refusal says what was seen:", () => {
  const startedMs = bootMs + 3_600_000;
  test.each<[string, Changes, unknown]>([
    [
      "the uids",
      ofProcess({ uids: [0, 1, 2, 3] }),
      { uids: [0, 1, 2, 3], gids: [1001, 1001, 1001, 1001] },
    ],
    [
      "the gids",
      ofProcess({ gids: [0, 1, 2, 3] }),
      { uids: [1001, 1001, 1001, 1001], gids: [0, 1, 2, 3] },
    ],
    ["the tracer", ofProcess({ tracer: 9 }), { tracer: 9 }],
    ["the user namespace", { serverUserNamespace: "user:[9]" }, "user:[1]"],
    [
      "the place",
      { init: { ...first, cgroup: [] } },
      expect.stringMatching(/^user:\[1\]\spid:\[2\]\smnt:\[2\]\s0::\/docker\/0123/),
    ],
    ["both times", started("2026-01-01T00:00:00Z"), { startedMs, latestMs: bootMs + 2000 }],
    [
      "the pids, and the engine's",
      ofProcess({ pids: [7, 3], init: false }),
      { pids: [7, 3], "State.Pid": 7 },
    ],
    ["company", ofProcess({ alone: false }), "other processes are in the container"],
    ["a second time", { spentBy }, spentBy],
    ["what can be written", mounted("/app/main"), "/app/main.js"],
    ["which variable, without its value", searched("NODE_OPTIONS=-r /data/x"), "NODE_OPTIONS"],
    ["what the image declares", { imageLabels: { app: "app" } }, "app"],
  ])("%s", (_, changes, detail) => {
    expect(() => judgeChanged(changes)).toThrow(expect.objectContaining({ detail }));
  });
});

describe("of several checks that do not hold", () => {
  test("the first that is not relaxed is the reason", () => {
    expect(verdict({ ...later, spentBy })).toBe("refused: init");
    expect(verdict({ ...later, spentBy }, ["init"])).toBe("unavailable: alone");
    expect(verdict({ ...later, spentBy }, ["init", "alone"])).toBe("refused: once");
  });

  test("all that are relaxed are said", () => {
    const relax = ["once", "alone", "init"];
    expect(verdict({ ...later, spentBy }, relax)).toEqual(["init", "alone", "once"]);
  });

  test("none is said that holds", () => {
    expect(verdict({}, ["init", "alone", "once", "readonly", "labels"])).toEqual([]);
  });
});

test("a container without labels, for a service that matches on its image: allowed", () => {
  const match = { container: { Image: "sha256:1" } };
  expect(judge({ ...facts, ...labels(null) }, undefined, { ...service, match })).toEqual([]);
});
