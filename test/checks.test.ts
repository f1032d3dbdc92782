import { describe, expect, test } from "vitest";
import { judge, needsCloseLook } from "../server/checks.ts";
import type { Service } from "../server/config.ts";
import type { Container } from "../server/engine.ts";
import type { Facts } from "../server/facts.ts";
import type { JsonObject } from "../server/json.ts";
import type { Spent } from "../server/leases.ts";
import type { Peer } from "../server/peercred.ts";
import type { Process } from "../server/process.ts";
import { Refusal } from "../server/refusal.ts";
import { writablePart } from "../server/writable.ts";

const ID = "0123456789abcdef".repeat(4);
const RELAXABLE = ["init", "alone", "once", "readonly", "labels", "capabilities", "seccomp"];
const bootMs = Date.parse("2026-01-01T00:00:00Z");
const ticks = 360_000; // an hour, at 100 a second
const startedAt = "2026-01-01T01:00:00.120Z"; // the engine says so a little later than the kernel

const peer: Peer = { id: "1", pid: 7, uid: 1001, gid: 1001, groups: [], label: "" };
const first: Process = {
  exe: "/usr/bin/node",
  exe_mount: 1,
  cgroup: [`0::/docker/${ID}`],
  ppid: 6,
  uids: [1001, 1001, 1001, 1001],
  gids: [1001, 1001, 1001, 1001],
  uid_inside: 1001,
  dumpable: true,
  init: true,
  alone: true,
  others_in: null,
  pids: [7, 1],
  tracer: 0,
  capabilities: [],
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
  mounts: { numbers: [1], writable: [] },
  imageLabels: { labels: { vendor: "us" }, areOfManifest: true },
  userNamespace: "user:[1]",
  bootMs,
};
const service: Service = {
  match: { container: { Config: { Labels: { app: "app" } } } },
  token: { create: "auth/token/create/app" },
};

/** `spentBy`: why this start of the container can have no token. */
type Changes = Partial<Facts> & { spentBy?: Spent };
const spentBy = { why: "this start of the container has had its token", mayPass: false };

const ofProcess = (changes: Partial<Process>) => ({ process: { ...first, ...changes } });
const ofContainer = (changes: JsonObject) => ({
  container: { ...container, ...changes } as Container,
});
const started = (StartedAt: string) => ofContainer({ State: { Pid: 7, StartedAt } });
const mounted = (Destination: string, RW = true, more: JsonObject = {}) =>
  ofContainer({ Mounts: [{ Destination, RW }], ...more });
/** A container with a writable volume on /data, whose first process runs this. */
const command = (exe: string, Path: string, Args: string[], more: JsonObject = {}): Changes => ({
  process: { ...first, exe },
  ...mounted("/data", true, { Path, Args, ...more }),
});
/** A container with a writable volume on /data, and a health check. */
const checked = (...Test: string[]) =>
  mounted("/data", true, { Config: { ...container.Config, Healthcheck: { Test } } });
const host = (HostConfig: JsonObject) =>
  ofContainer({ HostConfig: { ReadonlyRootfs: true, ...HostConfig } });
const optioned = (...SecurityOpt: string[]) => host({ SecurityOpt });
const profile = (action: string) =>
  `{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/x","syscalls":[{"names":["socket"],"action":"${action}"}]}`;
/** Capabilities by the kernel's word, of the peer and of the container's first process. */
const capable = (...capabilities: string[]): Changes => ({
  process: { ...first, capabilities },
  init: { ...first, capabilities },
});
/** Peer and first process are in this one; `owner` is that of the container's pid namespace. */
const inUserNamespace = (user: string, owner: string | undefined): Changes => ({
  process: { ...first, namespaces: { ...first.namespaces, user } },
  init: { ...first, namespaces: { ...first.namespaces, user } },
  userNamespace: owner,
});
const seenMounts = (...writable: string[]): Changes => ({ mounts: { numbers: [1], writable } });
const searched = (...Env: string[]) =>
  mounted("/data", true, { Config: { ...container.Config, Env } });
/** A compiled program whose working directory is a writable volume. */
const inData = (...Env: string[]): Changes =>
  command("/bin/db", "db", [], { Config: { ...container.Config, WorkingDir: "/data", Env } });
/** Started by `docker exec`: it is in the container, and not its first process. */
const later = {
  peer: { ...peer, pid: 9 },
  process: { ...first, pids: [9, 3], init: false, start_ticks: ticks + 500, alone: false },
};

const declared = (labels: JsonObject, areOfManifest = true) => ({
  imageLabels: { labels, areOfManifest },
});
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

test("a token that is being made for this start may not be sent: ask again", () => {
  const making = { spentBy: { ...spentBy, mayPass: true } };
  expect(verdict(making)).toBe("unavailable: once");
  expect(verdict(making, ["once"])).toEqual(["once"]);
});

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
  [
    "refused: traced",
    [
      ["a tracer", ofProcess({ tracer: 9 })],
      ["more threads than are looked at", ofProcess({ tracer: -1 })],
    ],
    [],
  ],
  [
    "refused: user-namespace",
    [
      ["another than owns the container's pid namespace", inUserNamespace("user:[9]", "user:[8]")],
      ["one of its own, and nobody can say whose that is", inUserNamespace("user:[9]", undefined)],
    ],
    [["the one that owns the container's pid namespace", inUserNamespace("user:[9]", "user:[9]")]],
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
      ["a program opened in another mount namespace", ofProcess({ exe_mount: 9 })],
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
      ["started 30.1 s after its container", started("2026-01-01T00:59:29.900Z")],
      ["a container that never started", started("0001-01-01T00:00:00Z")],
      ["a time that is none", started("soon")],
    ],
    [
      ["started 29.9 s after its container", started("2026-01-01T00:59:30.100Z")],
      ["started 30 s after its container", started("2026-01-01T00:59:30.000Z")],
      ["started long before its container says", started("2026-01-01T02:00:00Z")],
      ["by nanoseconds and another zone", started("2026-01-01T02:00:00.123456789+01:00")],
    ],
  ],
])("%s", (expected, denied, allowed) => {
  test.each(denied)("%s", (_, changes) => {
    expect(verdict(changes)).toBe(expected);
    expect(verdict(changes, RELAXABLE)).toBe(expected); // not to be relaxed
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
      ["… that ends in a slash", mounted("/app/", true, { Args: ["/app/a/b/c.js"] })],
      ["… that ends in two", mounted("/app//", true, { Args: ["/app/a/b/c.js"] })],
      [
        "… over a script whose name the kernel writes otherwise",
        mounted("/data", true, { Args: ["//data/./x"] }),
      ],
      ["… over a script in quotes", mounted("/data", true, { Args: ["-c", "exec '/data/x'"] })],
      [
        "… over a script behind an option's letter",
        mounted("/data", true, { Args: ["-r/data/x"] }),
      ],
      [
        "… over a script with an escape in a URL",
        mounted("/data", true, { Args: ["--import=file:///d%61ta/x"] }),
      ],
      ["… over a script of a shell", command("/bin/busybox", "sh", ["/data/run.sh"])],
      ["… over a script of Python 3.11", command("/usr/bin/python3.11", "python3", ["/data/x.py"])],
      ["… over what a script is given", command("/opt/odd", "/app/run.odd", ["/data/x.odd"])],
      [
        "… over what a loader is given",
        command("/lib/ld-linux-x86-64.so.2", "/lib/ld-linux-x86-64.so.2", ["/data/x"]),
      ],
      ["… over a compiled program", command("/data/server", "/data/server", [])],
      [
        "… over a compiled program, by the kernel's word alone",
        command("/data/server", "server", []),
      ],
      [
        "… over a compiled program, by the engine's word alone",
        command("/app/server", "/data/server", []),
      ],
      ["a writable mount that the kernel alone shows", seenMounts("/app")],
      ["… at a file", seenMounts("/app/main.js")],
      ["… after the root, which is none of them", seenMounts("/", "/app")],
      [
        "… below a read-only one",
        { ...mounted("/x", false, { Args: ["/x/sub/main.js"] }), ...seenMounts("/x/sub") },
      ],
      ["more mounts than are looked at", { mounts: undefined }],
      ["no word about the command", ofContainer({ Path: undefined as never })],
      ["an empty command", ofContainer({ Path: "" })],
      ["a command that is no text", ofContainer({ Path: ["node"] })],
      [
        "a tmpfs over the program",
        { ...host({ Tmpfs: { "/usr/bin": "" } }), ...seenMounts("/usr/bin") },
      ],
      [
        "a tmpfs over the program, as a mount",
        mounted("/usr/bin", true, {
          Mounts: [{ Type: "tmpfs", Destination: "/usr/bin", RW: true }],
        }),
      ],
      ["… over a health check's program", checked("CMD", "/data/check")],
      [
        "… over a health check's program, relative to the working directory",
        {
          ...mounted("/app", true, {
            Args: [],
            Config: { ...container.Config, Healthcheck: { Test: ["CMD", "./check"] } },
          }),
        },
      ],
      [
        "… over a health check's program, for a shell",
        checked("CMD-SHELL", " /data/check --quick || exit 1"),
      ],
      ["… over a health check's script", checked("CMD", "python3", "/data/check.py")],
      ["… over a health check's script, for a shell", checked("CMD-SHELL", "sh /data/check.sh")],
      [
        "… over where an empty entry of a path leads",
        {
          ...mounted("/app", true, {
            Args: [],
            Config: { ...container.Config, Env: ["PATH=/bin:"] },
          }),
        },
      ],
      [
        "… over where a relative entry of a path leads",
        {
          ...mounted("/app", true, {
            Args: [],
            Config: { ...container.Config, Env: ["NODE_OPTIONS=--require ./x.js"] },
          }),
        },
      ],
      ...[
        "PATH=:/bin",
        "PATH=/bin::/usr/bin",
        "PATH=/bin:",
        "PATH=",
        "PATH=.",
        "PATH=node_modules/.bin:/bin",
        "PATH=/bin:tools",
        "PATH=/bin:../data",
        "PATH=/bin/../data/tools",
        "PYTHONPATH=:/lib",
        "OPT_PATH=tools",
        "PATH_OLD_2=tools",
        "PYTHONHOME=python",
        "PERL5LIB=lib",
        "BASH_ENV=profile",
        "ENV=./profile",
        "OPENSSL_CONF=openssl.cnf",
        "LUA_PATH_5_4=/lib/?.lua;./?.lua",
        "LD_LIBRARY_PATH=lib",
        "LD_PRELOAD=lib/x.so",
        "NODE_OPTIONS=-r ./x",
        "NODE_OPTIONS=--require=tools/register",
        "JAVA_OPTS=-javaagent:agent/x.jar",
      ].map((variable): [string, Changes] => [
        `… over where ${variable} leads from the working directory`,
        inData(variable),
      ]),
      [
        "… over where a variable leads from the root, which is the working directory",
        mounted("/data", true, {
          Args: [],
          Config: { ...container.Config, WorkingDir: "", Env: ["PATH=/bin:data/tools"] },
        }),
      ],
      ["… over Python's own library", searched("PYTHONHOME=/data")],
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
      ["a writable mount whose name begins the same", mounted("/ap")],
      [
        "… or is in the middle of a path",
        mounted("/data", true, { Args: ["/srv/data/x.js", "http://host/data/x"] }),
      ],
      [
        "… or is the beginning of a component",
        mounted("/data", true, { Args: ["/database/x", "/data-old/x", "/data.d/x", "/dataé/x"] }),
      ],
      ["… or is in another case", mounted("/data", true, { Args: ["/DATA/x"] })],
      [
        "prom/prometheus: its volume's name is in the program's",
        command("/bin/prometheus", "/bin/prometheus", ["--storage.tsdb.path=/data"], {
          Mounts: [{ Destination: "/prometheus", RW: true }],
        }),
      ],
      [
        "a compiled program whose data directory stands in its arguments",
        command("/usr/bin/postgres", "postgres", ["-D", "/data"]),
      ],
      [
        "… in its working directory",
        command("/usr/bin/redis-server", "redis-server", ["--port", "80"], {
          Config: {
            ...container.Config,
            WorkingDir: "/data",
            Healthcheck: { Test: ["CMD", "redis-cli", "ping"] },
          },
        }),
      ],
      ["a health check that reads data", checked("CMD", "cat", "/data/healthy")],
      ["a health check that reads data, by a shell", checked("CMD-SHELL", "test -f /data/healthy")],
      ["a container that is to have no health check", checked("NONE")],
      ["a health check that the engine leaves empty", checked()],
      [
        "variables that do not lead to the working directory, which is a mount",
        inData(
          "NODE_PATH=/srv/lib.d:/srv/x.js",
          "PATH=/bin:/usr/bin",
          "NODE_OPTIONS=--max-old-space-size=4096 --title=x.js --import=file:///srv/x.js",
          "LD_PRELOAD=libjemalloc.so.2",
          "LD_BIND_NOW=1",
          "ENV=production",
          "OPTIONAL=./x",
          "LIBRARY=./x",
          "MY_BASH_ENV=./x",
          "MY_OPENSSL_CONF=./x",
          "BUILD_ENV=./x",
          "ENVIRONMENT=./x",
          "OLD_PYTHONHOME=./x",
          "PYTHONHOMES=./x",
          "BUILD_LD_X=./x",
          "path=./x",
        ),
      ],
      [
        "a tmpfs mount that a shell's command names",
        mounted("/data", true, {
          Args: ["/data/x"],
          Mounts: [{ Type: "tmpfs", Destination: "/data", RW: true }],
        }),
      ],
      [
        "… by a name that ends in a slash, where the kernel shows it without",
        {
          ...ofContainer({
            Args: ["/data/x"],
            HostConfig: { ReadonlyRootfs: true, Tmpfs: { "/data/": "" } },
          }),
          ...seenMounts("/data"),
        },
      ],
      [
        "a tmpfs that a shell's command names: it is empty at each start",
        {
          ...host({ Tmpfs: { "/tmp": "rw" } }),
          process: { ...first, exe: "/bin/sh" },
          ...{
            container: {
              ...container,
              Path: "sh",
              Args: ["-c", "x >/tmp/log"],
              HostConfig: { ReadonlyRootfs: true, Tmpfs: { "/tmp": "rw" } },
            },
          },
          ...seenMounts("/tmp"),
        },
      ],
      [
        "our own secrets, in a shell's command",
        {
          ...ofContainer({ Args: ["-c", "cat /run/authproxy-secrets/DB"] }),
          ...seenMounts("/run/authproxy-secrets"),
        },
      ],
      [
        "devices, in a shell's command",
        {
          ...ofContainer({ Args: ["-c", "x >/dev/null </proc/self/status"] }),
          ...seenMounts("/proc", "/dev", "/dev/shm", "/sys/fs/cgroup", "/etc/hosts", "/"),
        },
      ],
      [
        "Podman's own tmpfs, in a shell's command",
        {
          ...ofContainer({
            Args: ["-c", "x >/tmp/log 2>/run/err"],
            HostConfig: {
              ReadonlyRootfs: true,
              Tmpfs: { "/run": "rw,rprivate,nosuid,nodev,tmpcopyup", "/tmp": "rw,tmpcopyup" },
            },
          }),
          ...seenMounts("/run", "/tmp"),
        },
      ],
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
    "capabilities",
    "refused: capabilities",
    [
      ["by the kernel's word, of the peer", ofProcess({ capabilities: ["SYS_ADMIN"] })],
      [
        "by the kernel's word, of the first process",
        { init: { ...first, capabilities: ["SYS_ADMIN"] } },
      ],
      ["by the engine's word, as Docker writes it", host({ CapAdd: ["SYS_ADMIN"] })],
      ["by the engine's word, as Podman writes it", host({ CapAdd: ["CAP_SYS_ADMIN"] })],
      ["by the engine's word, in small letters", host({ CapAdd: ["cap_sys_admin"] })],
      ["by the engine's word, beside others", host({ CapAdd: ["NET_ADMIN", "BPF"] })],
      ["all of them", host({ CapAdd: ["ALL"] })],
      ["all of them, in small letters", host({ CapAdd: ["all"] })],
      ["a privileged container", host({ Privileged: true })],
      ...[
        "SYS_MODULE",
        "SYS_RAWIO",
        "DAC_READ_SEARCH",
        "BPF",
        "SYS_RESOURCE",
        "CHECKPOINT_RESTORE",
      ].map((name): [string, Changes] => [name, capable(name)]),
      [
        "SYS_PTRACE, in the host's pid namespace",
        { ...host({ CapAdd: ["SYS_PTRACE"], PidMode: "host" }) },
      ],
      [
        "SYS_PTRACE, in another container's pid namespace",
        { ...host({ PidMode: `container:${ID}` }), ...capable("SYS_PTRACE") },
      ],
    ],
    [
      ["SYS_PTRACE, in a pid namespace of its own", capable("SYS_PTRACE")],
      ["… as Podman writes it", host({ CapAdd: ["CAP_SYS_PTRACE"], PidMode: "private" })],
      ["others that are added", host({ CapAdd: ["NET_ADMIN", "SYS_NICE", "IPC_LOCK"] })],
      [
        "what the engine leaves empty, as Docker and Podman do",
        host({ CapAdd: null, Privileged: false, PidMode: "" }),
      ],
      ["… and Podman does", host({ CapAdd: [], PidMode: "private" })],
      ["others' pids without SYS_PTRACE", host({ PidMode: "host" })],
    ],
  ],
  [
    "seccomp",
    "refused: seccomp",
    [
      ["a profile that asks an agent", optioned(`seccomp=${profile("SCMP_ACT_NOTIFY")}`)],
      ["… after a colon", optioned(`seccomp:${profile("SCMP_ACT_NOTIFY").replaceAll("=", "")}`)],
      ["… by an escape", optioned(`seccomp=${profile("\\u0053CMP_ACT_NOTIF\\u0059")}`)],
      ["… by an escape in capitals", optioned(`seccomp=${profile("SCMP_ACT_N\\u004FTIFY")}`)],
      ["… in small letters", optioned(`seccomp=${profile("scmp_act_notify")}`)],
      [
        "… under a key in capitals, with a space",
        optioned(` SECCOMP = ${profile("SCMP_ACT_NOTIFY")}`),
      ],
      ["… as the default action", optioned('seccomp={"defaultAction":"SCMP_ACT_NOTIFY"}')],
      [
        "… behind other options",
        optioned("label=disable", `seccomp=${profile("SCMP_ACT_NOTIFY")}`),
      ],
      ["a profile by its path, as Podman writes it", optioned("seccomp=/etc/profile.json")],
      ["… by a relative path", optioned("seccomp=profile.json")],
      ["… by no path", optioned("seccomp=")],
      ...["my-unconfined", "unconfined.json", "builtin/profile.json", "a{"].map(
        (path): [string, Changes] => [
          `… by a path like another word, ${path}`,
          optioned(`seccomp=${path}`),
        ],
      ),
      [
        "crun's annotation for a receiver",
        host({ Annotations: { "run.oci.seccomp.receiver": "/x" } }),
      ],
      [
        "crun's annotation for a filter",
        host({ Annotations: { "run.oci.seccomp_bpf_data": "x" } }),
      ],
    ],
    [
      ["the engine's own profile", optioned("seccomp=builtin")],
      ["no profile", optioned("seccomp=unconfined")],
      ["no profile, after a colon", optioned("seccomp:unconfined")],
      ["a profile of one's own", optioned(`seccomp=${profile("SCMP_ACT_ERRNO")}`)],
      ["… laid out in lines", optioned(`seccomp=\n  {\n  "defaultAction": "SCMP_ACT_ALLOW" }`)],
      [
        "other options",
        optioned("no-new-privileges", "label=level:s0:c1,c2", "apparmor=unconfined"),
      ],
      ["another option that holds the text", optioned("label=SCMP_ACT_NOTIFY")],
      [
        "other annotations",
        host({ Annotations: { "org.example": "run.oci.x", "my.run.oci.x": "" } }),
      ],
      ["what Docker leaves empty", host({ SecurityOpt: null, Annotations: null })],
      ["what Podman leaves empty", host({ SecurityOpt: [], Annotations: {} })],
    ],
  ],
  [
    "labels",
    "refused: labels",
    [
      ["the image's labels may be another manifest's", declared({}, false)],
      ["the image declares the label, with that value", declared({ app: "app" })],
      ["neither the image nor the container has the label that is matched on", labels(null)],
    ],
    [
      ["the image declares another value", declared({ app: "something" })],
      ["the image declares a label that is not matched on", declared({ stage: "test" })],
      ["an image without labels", declared({})],
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

describe("the words of a command with a writable mount are", () => {
  const run = (name: string) => command(`/usr/bin/${name}`, name, ["/data/plugins"]);
  test.each(
    "node nodejs deno bun python python3 python3.12 pypy pypy3.10 ruby ruby3.2 perl perl5.36 php php8.2 java dotnet mono lua lua5.4 luajit luajit2.1 tclsh tclsh8.6 Rscript erl beam.smp awk gawk mawk sed make env sh bash dash ash ksh zsh fish csh tcsh busybox toybox ld-linux-x86-64.so.2".split(
      " ",
    ),
  )("programs for %s", (name) => {
    expect(verdict(run(name))).toBe("refused: readonly");
  });
  test.each(
    "anode nodes node1 pythonic perlx rubyx phpx luax tclshx lawk awks mysh shx build.env.sh-x".split(
      " ",
    ),
  )("data for %s", (name) => {
    expect(verdict(run(name))).toEqual([]);
  });
});

describe("what a command holds, with many writable mounts,", () => {
  const points = Array.from({ length: 100 }, (_, i) => `/data/${i}`);
  const script = (Args: string[], more: JsonObject = {}) =>
    ofContainer({
      Args,
      Mounts: points.map((Destination) => ({ Destination, RW: true })),
      Config: { WorkingDir: "/app", Env: ["PATH=/bin"], ...more },
    });
  const words = (count: number, word: string) => Array.from({ length: count }, () => word);

  test.each<[string, Changes]>([
    ["more words than anybody needs", script(words(100_000, "a"))],
    ["one word that is as long", script(["a".repeat(500_000)])],
    ["as many variables", script([], { Env: words(50_000, "A_PATH=a") })],
    ["as many entries of one variable", script([], { Env: [`PATH=${":".repeat(500_000)}`] })],
    ["a long working directory", script(words(1000, "a"), { WorkingDir: `/${"a".repeat(4000)}` })],
    [
      "a health check of as many words",
      script([], { Healthcheck: { Test: ["CMD", "sh", ...words(100_000, "a")] } }),
    ],
  ])("is refused unread: %s", (_, changes) => {
    const mount = "more than are looked at";
    expect(writablePart({ ...facts, ...changes })).toEqual({ part: "Args and Env", mount });
  });

  test.each<[string, Changes]>([
    ["twenty thousand characters", script(words(1000, "--option=value/1234"))],
    [
      "a long variable that names no programs",
      script([], { Env: [`SETTINGS=${"a: b\\n".repeat(20_000)}`], WorkingDir: "/usr/src/app" }),
    ],
    ["words of a compiled program", { ...command("/usr/bin/db", "db", words(50_000, "word")) }],
    ["a hundred variables", script([], { Env: words(100, `A_PATH=${"/usr/lib/".repeat(20)}`) })],
  ])("is read: %s", (_, changes) => {
    expect(writablePart({ ...facts, ...changes })).toBeUndefined();
  });
});

test("what is compared is four million characters, those of the working directory with each word", () => {
  const judgedWith = (length: number) => {
    const script = mounted("/data", true, {
      Args: ["a".repeat(length)],
      Config: { WorkingDir: "/app", Env: ["A_PATH=b"] }, // three words: 12 characters, and 7 of "A_PATH=b"
    });
    return writablePart({ ...facts, ...script });
  };
  expect(judgedWith(4 * 1024 * 1024 - 19)).toBeUndefined();
  expect(judgedWith(4 * 1024 * 1024 - 18)).toMatchObject({ part: "Args and Env" });
});

// The kernel takes 128 KiB for each. If the time grew with the square of that, these took minutes.
test.each([
  ["a name", `${"PATH".repeat(32_000)}-=x`],
  ["a name like a loader's", `LD_${"PATH".repeat(32_000)}-=/x`],
  ["a name like that of options", `LD_${"OPT".repeat(42_000)}=x`],
  ["a value", `A_OPTS=${"PATH=".repeat(26_000)}`],
  ["a value of many words", `A_${"X".repeat(64_000)}_OPTS=${" x".repeat(32_000)}`],
])("variables as long as can be are read in time: %s", (_, variable) => {
  const variables = Array.from({ length: 10 }, () => variable);
  expect(writablePart({ ...facts, ...searched(...variables) })).toBeUndefined();
});

describe("a mount that the service declares as data", () => {
  const judgedWith = (changes: Changes, data: string[]) => {
    const all = { ...facts, ...changes };
    const { part, mount } = writablePart(all, data) ?? {};
    return part && `${part} on ${mount}`;
  };
  const shell = { Healthcheck: { Test: ["CMD", "sh", "-c", "test -e /data/ready"] } };
  const withConfig = (more: JsonObject, Args: string[] = []): Changes => ({
    process: { ...first, exe: "/.authproxy/ld.so" },
    ...mounted("/data", true, { Path: "db", Args, Config: { ...container.Config, ...more } }),
  });
  const nested = (word: string): Changes => ({
    process: { ...first, exe: "/.authproxy/ld.so" },
    ...ofContainer({
      Path: "db",
      Args: [word],
      Mounts: ["/data", "/data/plugins", "/other"].map((Destination) => ({
        Destination,
        RW: true,
      })),
    }),
  });

  test.each<[string, Changes, string]>([
    ["a word of the command", withConfig({}, ["serve", "--path=/data/db"]), "Args.1"],
    ["a word that is relative to it", withConfig({ WorkingDir: "/data" }, ["serve"]), "Args.0"],
    ["a word of the health check", withConfig(shell), "Healthcheck.1"],
  ])("may be named by %s", (_, changes, part) => {
    expect(judgedWith(changes, [])).toBe(`${part} on /data`);
    expect(judgedWith(changes, ["/other"])).toBe(`${part} on /data`);
    expect(judgedWith(changes, ["/data"])).toBeUndefined();
    expect(judgedWith(changes, ["/data/"])).toBeUndefined();
  });

  test.each<[string, Changes, string]>([
    ["the program", command("/data/db", "/data/db", []), "exe on /data"],
    ["the command", command("/.authproxy/ld.so", "/data/db", []), "Path on /data"],
    [
      "the health check's program",
      withConfig({ Healthcheck: { Test: ["CMD", "/data/check"] } }),
      "Healthcheck on /data",
    ],
    ["a search path", withConfig({ Env: ["PATH=/data/bin:/bin"] }), "PATH on /data"],
    [
      "a search path that is relative to it",
      withConfig({ WorkingDir: "/data", Env: ["PATH=.:/bin"] }),
      "PATH on /data",
    ],
    ["a library", withConfig({ Env: ["LD_PRELOAD=/data/a.so"] }), "LD_PRELOAD on /data"],
    ["a word on another mount", nested("/other/a"), "Args.0 on /other"],
    ["a word on a mount below it", nested("/data/plugins/a"), "Args.0 on /data/plugins"],
  ])("does not excuse %s", (_, changes, seen) => {
    expect(judgedWith(changes, ["/data"])).toBe(seen);
  });

  test("is declared for one service", () => {
    const named = withConfig({}, ["/data/db"]);
    const judgedFor = (data?: string[]) => () =>
      judge({ ...facts, ...named }, undefined, data ? { ...service, data } : service);
    expect(judgedFor(["/data"])()).toEqual([]);
    expect(judgedFor()).toThrow("readonly");
  });
});

describe("a mount that only the kernel shows", () => {
  const named = (point: string) => ({
    ...seenMounts(point),
    ...ofContainer({ Args: [`${point}/a.js`] }),
  });
  test.each([
    "/x/dev",
    "/dev2",
    "/etc/hosts.d",
    "/etc/x/hosts",
    "/run/authproxy-secrets2",
    "/x/proc/a",
  ])("at %s counts", (point) => {
    expect(verdict(named(point))).toBe("refused: readonly");
  });
  test.each([
    "/dev",
    "/dev/shm",
    "/proc/a/b",
    "/sys/fs/cgroup",
    "/etc/hosts",
    "/run/authproxy-secrets",
  ])("at %s is the kernel's, the engine's or the client's own", (point) => {
    expect(verdict(named(point))).toEqual([]);
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
    [
      "that the user namespace it may be in is not known",
      { userNamespace: undefined },
      { seen: "user:[1]", wanted: null },
    ],
    [
      "both user namespaces",
      { userNamespace: "user:[9]" },
      { seen: "user:[1]", wanted: "user:[9]" },
    ],
    [
      "the place",
      { init: { ...first, cgroup: [] } },
      {
        ...{ user: "user:[1]", pid: "pid:[2]", mnt: "mnt:[2]" },
        ...{ cgroup: [`0::/docker/${ID}`], exe_mount: 1 },
      },
    ],
    ["both times", started("2026-01-01T00:00:00Z"), { startedMs, latestMs: bootMs + 30_000 }],
    [
      "the pids, and the engine's",
      ofProcess({ pids: [7, 3], init: false }),
      { pids: [7, 3], "State.Pid": 7 },
    ],
    [
      "where another process is",
      ofProcess({ alone: false, others_in: `/docker/${ID}/x` }),
      { cgroup: `/docker/${ID}/x` },
    ],
    ["a second time", { spentBy }, spentBy.why],
    ["a root that can be written", host({ ReadonlyRootfs: false }), { part: "root", mount: "/" }],
    [
      "that there are too many mounts",
      { mounts: undefined },
      { part: "root", mount: "more than are looked at" },
    ],
    [
      "that the command is not known",
      ofContainer({ Path: "" }),
      { part: "Path", mount: "not known: nobody says it" },
    ],
    ["which program, and on which mount", mounted("/usr"), { part: "exe", mount: "/usr" }],
    [
      "which word, without its text",
      mounted("/data", true, { Args: ["--password=x", "/data/x"] }),
      { part: "Args.1", mount: "/data" },
    ],
    [
      "which variable, without its value",
      searched("NODE_OPTIONS=-r /data/x"),
      { part: "NODE_OPTIONS", mount: "/data" },
    ],
    [
      "that it is a health check's word",
      checked("CMD", "sh", "-c", "/data/x"),
      { part: "Healthcheck.1", mount: "/data" },
    ],
    [
      "… for a shell, as its words are counted",
      checked("CMD-SHELL", "sh   $0", "/data/x"),
      { part: "Healthcheck.1", mount: "/data" },
    ],
    [
      "which capabilities, in the kernel's order",
      host({ CapAdd: ["CAP_BPF", "SYS_ADMIN", "CHOWN"] }),
      ["SYS_ADMIN", "BPF"],
    ],
    ["what of the profile", optioned(`seccomp=${profile("SCMP_ACT_NOTIFY")}`), "SCMP_ACT_NOTIFY"],
    ["that the profile is not shown", optioned("seccomp=/etc/profile.json"), "SecurityOpt: a file"],
    ["which annotation", host({ Annotations: { "run.oci.x": "secret" } }), "run.oci.x"],
    ["what the image declares", declared({ app: "app" }), "app"],
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
    expect(verdict({}, RELAXABLE)).toEqual([]);
  });
});

test("a service that matches on nothing of the container: allowed, and no label is the image's", () => {
  const ofUid = { ...service, match: { peer: { uid: 1001 } } };
  expect(judge({ ...facts, imageLabels: undefined }, undefined, ofUid)).toEqual([]);
});

test("a container without labels, for a service that matches on its image: allowed", () => {
  const match = { container: { Image: "sha256:1" } };
  expect(judge({ ...facts, ...labels(null) }, undefined, { ...service, match })).toEqual([]);
});

describe("what a policy pins is known:", () => {
  const judged = (changes: Changes, container: JsonObject) =>
    judge({ ...facts, ...changes }, undefined, { ...service, match: { container } });

  test.each<[string, Changes, JsonObject]>([
    ["a profile by its path", optioned("seccomp=/x"), { SecurityOpt: ["seccomp=/x"] }],
    [
      "an annotation",
      host({ Annotations: { "run.oci.x": "y" } }),
      { Annotations: { "run.oci.x": "y" } },
    ],
  ])("%s", (_, changes, HostConfig) => {
    expect(judged(changes, { Image: "sha256:1", HostConfig })).toEqual([]);
    expect(() => judged(changes, { Image: "sha256:1" })).toThrow("seccomp");
  });

  test.each<[string, Changes, JsonObject]>([
    [
      "a profile that asks an agent",
      optioned(`seccomp=${profile("SCMP_ACT_NOTIFY")}`),
      { SecurityOpt: [`seccomp=${profile("SCMP_ACT_NOTIFY")}`] },
    ],
    [
      "one annotation of two",
      host({ Annotations: { "run.oci.x": "y", "run.oci.z": "y" } }),
      { Annotations: { "run.oci.x": "y" } },
    ],
    ["none", host({ Annotations: { "run.oci.x": "y" } }), { Annotations: null }],
  ])("but not: %s", (_, changes, HostConfig) => {
    expect(() => judged(changes, { Image: "sha256:1", HostConfig })).toThrow("seccomp");
  });

  test("the image, where the engine cannot say which manifest of it runs", () => {
    const Labels = { app: "app" };
    expect(judged(declared({}, false), { Image: "sha256:1", Config: { Labels } })).toEqual([]);
    const same = declared({ app: "app" }, false);
    expect(() => judged(same, { Image: "sha256:1", Config: { Labels } })).toThrow("labels");
    const byName = { Config: { Labels, Image: "app@sha256:1" } };
    expect(() => judged(declared({}, false), byName)).toThrow("labels");
  });
});

describe("an image that is gone", () => {
  const gone = { imageLabels: undefined };

  test("refuses a service that matches on labels: image-gone, relaxed as labels", () => {
    expect(verdict(gone)).toBe("refused: image-gone");
    expect(verdict(gone, ["labels"])).toEqual(["labels"]);
  });

  test("does not matter to one that matches on the image", () => {
    const match = { container: { Image: "sha256:1" } };
    expect(judge({ ...facts, ...gone }, undefined, { ...service, match })).toEqual([]);
  });
});

describe("threads and hierarchies are all looked at", () => {
  const look = (changes: Changes, relax: string[] = []) =>
    needsCloseLook({ ...facts, ...changes }, { ...service, relax });

  test.each<[string, Changes, string[]]>([
    ["where alone is relaxed", {}, ["alone"]],
    ["where it is not alone", ofProcess({ alone: false }), []],
    ["where pids are the host's", host({ PidMode: "host" }), []],
    ["where pids are another container's", host({ PidMode: "container:x" }), []],
    ["where its first process is not pid 1", { init: { ...first, init: false } }, []],
    ["where it has CAP_SYS_ADMIN by the engine's word", host({ CapAdd: ["SYS_ADMIN"] }), []],
    ["where it has CAP_SYS_ADMIN by the kernel's", capable("SYS_ADMIN"), ["capabilities"]],
  ])("%s", (_, changes, relax) => {
    expect(look(changes, relax)).toBe(true);
  });

  test.each<[string, Changes, string[]]>([
    ["elsewhere", {}, []],
    ["where Podman says that pids are its own", host({ PidMode: "private" }), []],
    ["where it has another capability", capable("BPF"), ["init", "once"]],
  ])("not %s", (_, changes, relax) => {
    expect(look(changes, relax)).toBe(false);
  });
});

test("a capability counts in a user namespace of the container's own too: it mounts over the program", () => {
  const own = {
    ...first,
    capabilities: ["SYS_ADMIN"],
    namespaces: { ...first.namespaces, user: "x" },
  };
  const seen = { ...facts, process: own, init: own, userNamespace: "x" };
  expect(() => judge(seen, undefined, service)).toThrow("capabilities");
});

describe("of a pod's container", () => {
  const pod = { namespace: "shop", name: "web", uid: "u", container: "app" };
  /** As cri.ts says it, with a root that can be written. */
  const inPod = (changes: JsonObject = {}, more: Changes = {}): Changes => ({
    container: {
      ...container,
      pod: { ...pod, labels: {}, annotations: {} },
      Config: { WorkingDir: "/app", Env: [] },
      HostConfig: { ReadonlyRootfs: false, CapAdd: ["CAP_CHOWN"], SecurityOpt: [], PidMode: "" },
      ...changes,
    } as Container,
    ...more,
  });
  const volume = (Type: string, Destination: string, RW = true) => ({
    Mounts: [{ Type, Name: "x", Destination, RW }],
  });
  const onPod = (changes: JsonObject, more?: Changes) => {
    const { match, ...others } = service;
    const facts2 = { ...facts, ...inPod(changes, more) } as Facts;
    const ofPod = { ...others, match: { pod: { namespace: "shop", container: "app" } } };
    try {
      return judge(facts2, undefined, ofPod);
    } catch (error) {
      return (error as Refusal).reason;
    }
  };

  test("the root may be written: each start has a new one", () => {
    expect(onPod({})).toEqual([]);
    expect(onPod({ pod: null })).toBe("readonly");
  });

  test.each(["empty-dir", "host-path", "csi", "volume-subpaths", "containers", "tmpfs2"])(
    "a program on a volume outlives the container: %s",
    (kind) => {
      expect(onPod(volume(kind, "/app"))).toBe("readonly");
      expect(onPod(volume(kind, "/usr/bin"))).toBe("readonly");
      expect(onPod(volume(kind, "/data"))).toEqual([]);
      expect(onPod(volume(kind, "/app", false))).toEqual([]);
    },
  );

  test("so does one on an emptyDir in memory, which the kernel calls a tmpfs", () => {
    expect(onPod(volume("empty-dir", "/app"), seenMounts("/app"))).toBe("readonly");
  });

  test("a mount that only the kernel shows counts as well", () => {
    expect(onPod({}, seenMounts("/app/lib"))).toEqual([]);
    expect(onPod({}, seenMounts("/app"))).toBe("readonly");
    expect(onPod({}, { mounts: undefined })).toBe("readonly");
  });

  test("capabilities are those of the specification", () => {
    const usual = ["CAP_CHOWN", "CAP_NET_BIND_SERVICE", "CAP_SETUID"];
    const bounded = (...CapAdd: string[]) => ({ HostConfig: { CapAdd, PidMode: "" } });
    expect(onPod(bounded(...usual))).toEqual([]);
    expect(onPod(bounded(...usual, "CAP_SYS_ADMIN"))).toBe("capabilities");
    expect(onPod(bounded(...usual, "CAP_SYS_PTRACE"))).toEqual([]);
    const shared = { HostConfig: { CapAdd: ["CAP_SYS_PTRACE"], PidMode: "pod" } };
    expect(onPod(shared)).toBe("capabilities");
  });

  test("seccomp's profile is that of the specification", () => {
    const profiled = (seccomp: object) => ({
      HostConfig: { PidMode: "", SecurityOpt: [`seccomp=${JSON.stringify(seccomp)}`] },
    });
    expect(onPod(profiled({ defaultAction: "SCMP_ACT_ERRNO", syscalls: [] }))).toEqual([]);
    const asks = [{ names: ["socket"], action: "SCMP_ACT_NOTIFY" }];
    expect(onPod(profiled({ defaultAction: "SCMP_ACT_ALLOW", syscalls: asks }))).toBe("seccomp");
    expect(onPod(profiled({ listenerPath: "/x", defaultAction: "SCMP_ACT_NOTIFY" }))).toBe(
      "seccomp",
    );
    const annotated = { "run.oci.seccomp.receiver": "/x" };
    expect(onPod({ HostConfig: { PidMode: "", Annotations: annotated } })).toBe("seccomp");
  });

  test.each(["pod", "host"])("threads are all looked at where pids are shared: %s", (PidMode) => {
    const shared = { ...facts, ...inPod({ HostConfig: { PidMode } }) };
    expect(needsCloseLook(shared, service)).toBe(true);
    expect(needsCloseLook({ ...facts, ...inPod() }, service)).toBe(false);
  });
});
