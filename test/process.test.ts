import { type SpawnOptions, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  findContainer,
  glanceAt,
  isInit,
  isRunning,
  readMounts,
  readProcess,
} from "../server/process.ts";
import { compile } from "./programs.ts";
import { Stage, until } from "./stage.ts";

const ID = "0123456789abcdef".repeat(4);
const OTHER = "fedcba9876543210".repeat(4);
const UNIT = "/system.slice/web.service";
const ROOTS = "/user.slice/user-0.slice";
const SESSION = `${ROOTS}/user@0.service`;

describe("the container in a process's cgroup is", () => {
  test.each<[string, string[]]>([
    [
      "cgroup v1",
      [`12:pids:/docker/${ID}`, `11:memory:/docker/${ID}`, `1:name=systemd:/docker/${ID}`],
    ],
    ["v1, in one line of several", ["12:pids:/", `11:memory:/docker/${ID}`]],
    ["hybrid", [`12:pids:/docker/${ID}`, `0::/docker/${ID}`]],
    ["hybrid, without it in v2", [`12:pids:/docker/${ID}`, "0::/"]],
    ["v2", [`0::/docker/${ID}`]],
    ["the systemd driver", [`0::/system.slice/docker-${ID}.scope`]],
    ["a parent of its own", [`0::/parent/${ID}`]],
    ["a deep parent", [`0::/a/b/c/${ID}`]],
    ["podman, cgroupfs", [`0::/libpod_parent/libpod-${ID}`]],
    ["podman, systemd", [`0::/machine.slice/libpod-${ID}.scope/container`]],
    ["podman's Quadlet: a unit of systemd", [`0::${UNIT}/libpod-payload-${ID}`]],
    ["… and the container's own cgroups below", [`0::${UNIT}/libpod-payload-${ID}/init.scope/a`]],
    ["… of a template", [`0::/system.slice/system-web.slice/web@1.service/libpod-payload-${ID}`]],
    ["… whose name is escaped", [`0::/system.slice/web\\x2dapp.service/libpod-payload-${ID}`]],
    [
      "… in cgroup v1",
      [`12:pids:${UNIT}/libpod-payload-${ID}`, `1:name=systemd:${UNIT}/libpod-payload-${ID}`],
    ],
    ["… in a login of root", [`0::${ROOTS}/session-1.scope/libpod-payload-${ID}`]],
    ["podman's pod, cgroupfs", [`0::/libpod_parent/${OTHER}/libpod-${ID}`]],
    [
      "podman's pod, systemd",
      [`0::/machine.slice/machine-libpod_pod_${OTHER}.slice/libpod-${ID}.scope`],
    ],
    ["root's own session", [`0::${SESSION}/user.slice/libpod-${ID}.scope/container`]],
    ["a unit of root's own session", [`0::${SESSION}/app.slice/web.service/libpod-payload-${ID}`]],
    ["root's own session, in a hierarchy of two digits", [`12:pids:${SESSION}/libpod-${ID}.scope`]],
    ["below a name that begins with two dots", [`0::/..x/docker/${ID}`]],
    ["root's own session, without it in v2", [`2:pids:${SESSION}/libpod-${ID}`, `0::${SESSION}`]],
    ["a container that has users of its own", [`0::/docker/${ID}/user.slice/user@7.service/x`]],
    [
      "… in which a user runs another one",
      [`0::/docker/${ID}/user.slice/user@7.service/libpod-${OTHER}.scope`],
    ],
    ["a container that runs a kubelet", [`0::/docker/${ID}/kubepods.slice/${OTHER}`]],
    ["a cgroup that the container made below its own", [`0::/docker/${ID}/below`]],
    ["the leftmost: docker in docker", [`0::/docker/${ID}/docker/${OTHER}`]],
    [
      "the leftmost: docker in docker, by systemd",
      [`0::/docker/${ID}/system.slice/docker-${OTHER}.scope`],
    ],
    ["several controllers in a line", [`3:cpu,cpuacct:/docker/${ID}`]],
    ["below a name with a colon", [`0::/a:b/docker-${ID}.scope`]],
    ["a pod's, where Docker is the kubelet's engine", [`0::/kubepods/burstable/pod1/${ID}`]],
    ["… by systemd", [`0::/kubepods.slice/kubepods-pod1.slice/docker-${ID}.scope`]],
    ["below a name that looks like a line", [`0::/0::/${ID}`]],
  ])("%s", (_, cgroup) => {
    const { id, directories = [] } = findContainer(cgroup) ?? {};
    expect(id).toBe(ID);
    expect(directories).toHaveLength(cgroup.filter((line) => line.includes(ID)).length);
    for (const directory of directories)
      expect(directory).toMatch(new RegExp(`^/sys/fs/cgroup/.*${ID}(\\.scope)?$`));
  });

  test.each<[string, string[]]>([
    ["no cgroup at all", []],
    ["an empty text", [""]],
    ["the host's", ["0::/user.slice/user-0.slice/session-1.scope"]],
    ["rootless podman's, without an id", ["0::/"]],
    ["outside of our cgroup namespace", [`0::/../${ID}`]],
    ["outside of it, further", [`0::/../../docker/${ID}`]],
    ["outside of it, on the way", [`0::/docker/../${ID}`]],
    ["a user's own", [`0::/user.slice/user-7.slice/user@7.service/user.slice/libpod-${ID}.scope`]],
    [
      "a user's own unit, by systemd and Podman",
      [`0::/user.slice/user-7.slice/user@7.service/app.slice/x.service/libpod-payload-${ID}`],
    ],
    [
      "below a user's, named as root's",
      [`0::/user.slice/user-7.slice/user@7.service${SESSION}/${ID}`],
    ],
    ["… by the service alone", [`0::/user.slice/user-7.slice/user@7.service/user@0.service/${ID}`]],
    ["a user's, below root's", [`0::${SESSION}/user@7.service/libpod-${ID}.scope`]],
    ["root's, twice", [`0::${SESSION}${SESSION}/libpod-${ID}.scope`]],
    ["root's, at another place", [`0::/system.slice/user@0.service/libpod-${ID}.scope`]],
    ["… in another user's slice", [`0::/user.slice/user-7.slice/user@0.service/libpod-${ID}`]],
    ["… below a name that looks like a line", [`0::/a/0::${SESSION}/libpod-${ID}`]],
    ...["00", "0x", "0@1", "0\\x2e", "", "0.service.x"].map((name): [string, string[]] => [
      `named almost as root's: ${name}`,
      [`0::${ROOTS}/user@${name}.service/libpod-${ID}.scope`],
    ]),
    ["another user's in root's slice", [`0::${ROOTS}/user@7.service/libpod-${ID}.scope`]],
    [
      "root's in one line, a user's in another",
      [`2:pids:${SESSION}/${ID}`, "0::/x/user@7.service"],
    ],
    ["conmon, beside its container", [`0::${UNIT}/supervisor`]],
    ["conmon, by systemd", [`0::/machine.slice/libpod-conmon-${ID}.scope`]],
    ["another program of Podman's", [`0::${UNIT}/libpod-payload-${ID}x`]],
    ["a pod alone", [`0::/libpod_parent/${ID}`]],
    [
      "containerd's, by systemd",
      [`0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-${ID}.scope`],
    ],
    ["CRI-O's, by systemd", [`0::/kubepods.slice/kubepods-pod1.slice/crio-${ID}.scope`]],
    ["two in two lines", [`12:pids:/docker/${ID}`, `11:memory:/docker/${OTHER}`]],
    ["one in one line, a user's in another", [`12:pids:/docker/${ID}`, "0::/x/user@7.service"]],
    ["an id that is too short", [`0::/docker/${ID.slice(1)}`]],
    ["an id that is too long", [`0::/docker/${ID}0`]],
    ["an id in capitals", [`0::/docker/${ID.toUpperCase()}`]],
    ["an id as part of a name", [`0::/docker/x-${ID}`]],
    ["an id with another ending", [`0::/docker/docker-${ID}.service`]],
    ["an id in the controllers", [`1:name=/docker/${ID}:/`]],
    ["a relative path", [`0::docker/${ID}`]],
    ["a relative path, below which is what looks like a line", [`0::docker/0::/${ID}`]],
  ])("not known: %s", (_, cgroup) => {
    expect(findContainer(cgroup)).toBeUndefined();
  });

  test("not changed by what the workload names its own cgroups", () => {
    const name = fc.string({ minLength: 1 }).filter((text) => !/[/\n]|^\.\.?$/.test(text));
    fc.assert(
      fc.property(
        fc.constantFrom(`docker/${ID}`, `system.slice/web.service/libpod-payload-${ID}`),
        fc.array(
          fc.oneof(
            name,
            fc.constantFrom(OTHER, `docker-${OTHER}.scope`, `libpod-payload-${OTHER}`),
            fc.constantFrom("user@7.service", "user@0.service", "kubepods", "kubepods-x.slice"),
          ),
        ),
        (container, below) => {
          const cgroup = [`0::/${[container, ...below].join("/")}`];
          expect(findContainer(cgroup)?.id).toBe(ID);
        },
      ),
    );
  });

  // A search whose time grows with the square of the length would end long after the test's time limit.
  test("in a path of a hundred thousand names", () => {
    expect(findContainer([`0::${"/a".repeat(100_000)}`])).toBeUndefined();
    expect(findContainer([`0::${`/${ID}x`.repeat(20_000)}`])).toBeUndefined();
  });
});

describe("a process is read", () => {
  const plain = { environment: { DB_PASSWORD_FILE: "/no/reference" } };

  test("in a container: as the kernel shows it", async () => {
    await using stage = new Stage();
    const container = await stage.container({ ...plain, command: ["sleep", "60"] });
    const { State } = await container.inspect();
    await until("it is the command", () => readProcess(State.Pid).exe === "/usr/bin/sleep");
    const read = readProcess(State.Pid);
    expect(readMounts(State.Pid)?.numbers).toContain(read.exe_mount);
    expect(readMounts(process.pid)?.numbers).not.toContain(read.exe_mount);
    expect(read).toMatchObject({
      exe: "/usr/bin/sleep",
      uids: [1001, 1001, 1001, 1001],
      gids: [1001, 1001, 1001, 1001],
      uid_inside: 1001,
      pids: [State.Pid, 1],
      init: true,
      alone: true,
      dumpable: true,
      tracer: 0,
      namespaces: {
        user: readlinkSync("/proc/self/ns/user"),
        pid: readlinkSync(`/proc/${State.Pid}/ns/pid`),
        mnt: readlinkSync(`/proc/${State.Pid}/ns/mnt`),
      },
    });
    expect(read.namespaces.pid).not.toBe(readlinkSync("/proc/self/ns/pid"));
    expect(read.cgroup.join()).toContain(container.id);
    const lines = readFileSync(`/proc/${State.Pid}/cgroup`, "utf8").split("\n");
    expect([...read.cgroup, ""]).toEqual(lines);
  });

  test("in company: not alone, and the company is not the first process", async () => {
    await using stage = new Stage();
    const entrypoint = ["sh", "-c", "sleep 60 & exec sleep 61"];
    const container = await stage.container({ ...plain, entrypoint, command: [] });
    const { State } = await container.inspect();
    await until("it has company", () => !readProcess(State.Pid).alone);
    const children = readFileSync(`/proc/${State.Pid}/task/${State.Pid}/children`, "utf8");
    expect(readProcess(Number(children))).toMatchObject({ init: false, ppid: State.Pid });
  });

  test("of root: dumpable, as any of root's shows", async () => {
    await using stage = new Stage();
    const container = await stage.container({ ...plain, user: "0:0", command: ["sleep", "60"] });
    const { State } = await container.inspect();
    expect(readProcess(State.Pid)).toMatchObject({ uids: [0, 0, 0, 0], dumpable: true });
  });

  test("that is traced: with its tracer", async () => {
    await using stage = new Stage();
    const container = await stage.container({ ...plain, command: ["sleep", "60"] });
    const { State } = await container.inspect();
    const tracer = spawn("strace", ["-p", String(State.Pid)]);
    stage.defer(() => void tracer.kill());
    await until("it is traced", () => readProcess(State.Pid).tracer === tracer.pid);
  });

  test.each([") R 1 2 3 4 5", "a) (b) c)", ")))", "a\nUid:\t0\t0\t0", "\\nUid:\t0"])(
    "whatever it is named: %j",
    async (name) => {
      await using stage = new Stage();
      const rename = `process.title = ${JSON.stringify(name)};
        console.log("named"); setInterval(() => {}, 1000)`;
      const container = await stage.container({ ...plain, command: ["node", "-e", rename] });
      await container.says("named");
      const { State } = await container.inspect();
      const stat = readFileSync(`/proc/${State.Pid}/stat`, "utf8");
      expect(stat).toContain(`(${name})`); // prctl(2), PR_SET_NAME: by libuv, for the title
      // proc(5): 52 fields, of which none after the name holds a space: counted from the end.
      expect(readProcess(State.Pid)).toMatchObject({
        start_ticks: Number(
          stat
            .trimEnd()
            .split(" ")
            .at(22 - 53),
        ),
        uids: [1001, 1001, 1001, 1001],
        pids: [State.Pid, 1],
      });
    },
  );

  test("of the host: refused, it is in no container", () => {
    expect(() => readProcess(process.pid)).toThrow("no-container");
  });

  test("that is not there: an error", () => {
    expect(() => readProcess(2 ** 30)).toThrow();
  });
});

/** Where this machine's cgroup hierarchies are (proc(5), mountinfo), as far as they take a process
 * without further preparation. */
const hierarchies = readFileSync("/proc/self/mountinfo", "utf8")
  .split("\n")
  .flatMap((line) => / \/ (\S+) .* - cgroup.*(?:2 rw|pids|name=)/.exec(line)?.slice(1) ?? []);

/** Removes a cgroup, unless a process that is ending is still in it. */
function isRemoved(directory: string): boolean {
  try {
    rmdirSync(directory);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EBUSY") return false;
    throw error;
  }
}

/** The cgroup of no container, but named like one's, in one hierarchy. The stage ends it. */
class Cgroup {
  readonly #directory: string;
  readonly #stage: Stage;

  constructor(stage: Stage, hierarchy = hierarchies.at(-1), name = ID) {
    this.#stage = stage;
    const parent = `${hierarchy}/authproxy:${process.pid}`; // a name may hold a colon
    mkdirSync(parent);
    stage.defer(() => until("it is empty", () => isRemoved(parent)));
    this.#directory = join(parent, name);
    this.make("");
  }

  make(below: string): void {
    const directory = join(this.#directory, below);
    mkdirSync(directory);
    this.#stage.defer(() => until("its processes have ended", () => isRemoved(directory)));
  }

  /** Moves a process here. */
  take(pid: number, below = ""): number {
    writeFileSync(join(this.#directory, below, "cgroup.procs"), String(pid));
    return pid;
  }

  /** Starts a program here. */
  start(command: string[], below = "", options: SpawnOptions = {}): number {
    const [program = "", ...words] = command;
    const child = spawn(program, words, { stdio: "ignore", ...options });
    this.#stage.defer(() => child.kill("SIGKILL"));
    return this.take(child.pid ?? 0, below);
  }
}

describe.each(hierarchies)("in the hierarchy %s a process is", (hierarchy) => {
  const sleep = ["sleep", "60"];

  test("alone, with an empty cgroup below", async () => {
    await using stage = new Stage();
    const cgroup = new Cgroup(stage, hierarchy);
    cgroup.make("below");
    expect(readProcess(cgroup.start(sleep)).alone).toBe(true);
  });

  test("not alone, with another in a cgroup far below", async () => {
    await using stage = new Stage();
    const cgroup = new Cgroup(stage, hierarchy);
    cgroup.make("below");
    cgroup.make("below/far");
    const pid = cgroup.start(sleep);
    cgroup.start(sleep, "below/far");
    expect(readProcess(pid).alone).toBe(false);
  });

  test("not alone, in a cgroup that it made below the container's, with another above", async () => {
    await using stage = new Stage();
    const cgroup = new Cgroup(stage, hierarchy);
    cgroup.make("below");
    cgroup.start(sleep);
    expect(readProcess(cgroup.start(sleep, "below")).alone).toBe(false);
  });

  test.each([
    { name: "63 cgroups below", below: 63, alone: true },
    { name: "64 cgroups below: more than are searched", below: 64, alone: false },
  ])("alone or not, with $name", async ({ below, alone }) => {
    await using stage = new Stage();
    const cgroup = new Cgroup(stage, hierarchy);
    for (let i = 0; i < below; i++) cgroup.make(`c${i}`);
    const seen = readProcess(cgroup.start(sleep));
    expect(seen.alone).toBe(alone);
    expect(seen.others_in).toEqual(alone ? null : expect.stringMatching(`${ID}$`));
  });

  test.each([
    { depth: 8, alone: true },
    { depth: 9, alone: false },
  ])("alone or not, with cgroups $depth deep below", async ({ depth, alone }) => {
    await using stage = new Stage();
    const cgroup = new Cgroup(stage, hierarchy);
    for (let i = 1; i <= depth; i++) cgroup.make("d/".repeat(i));
    expect(readProcess(cgroup.start(sleep)).alone).toBe(alone);
  });

  test("not alone, and it is said in which cgroup the other is", async () => {
    await using stage = new Stage();
    const cgroup = new Cgroup(stage, hierarchy);
    cgroup.make("below");
    const pid = cgroup.start(sleep);
    cgroup.start(sleep, "below");
    const place = hierarchy.replace("/sys/fs/cgroup", "");
    expect(readProcess(pid)).toMatchObject({
      alone: false,
      others_in: `${place}/authproxy:${process.pid}/${ID}/below`,
    });
  });

  test("alone in a unit of systemd, beside Podman's supervisor, which is no container", async () => {
    await using stage = new Stage();
    const cgroup = new Cgroup(stage, hierarchy, `libpod-payload-${ID}`);
    cgroup.make("../supervisor");
    cgroup.make("container"); // as crun and systemd make it
    const conmon = cgroup.start(sleep, "../supervisor");
    const pid = cgroup.start(sleep, "container");
    expect(readProcess(pid)).toMatchObject({ alone: true, others_in: null });
    expect(() => readProcess(conmon)).toThrow("no-container");
    cgroup.start(sleep);
    expect(readProcess(pid)).toMatchObject({
      alone: false,
      others_in: expect.stringMatching(`/libpod-payload-${ID}$`),
    });
  });

  test("not alone, with another in its cgroup and a third below", async () => {
    await using stage = new Stage();
    const cgroup = new Cgroup(stage, hierarchy);
    cgroup.make("below");
    const pid = cgroup.start(sleep);
    cgroup.start(sleep);
    cgroup.start(sleep, "below");
    expect(readProcess(pid).alone).toBe(false);
  });
});

describe("a process is not the first of a pid namespace", () => {
  test("where its name is what the kernel says of one that is", async () => {
    await using stage = new Stage();
    const program = join(stage.directory, "NSpid:\t1\t1");
    symlinkSync("/usr/bin/sleep", program);
    const pid = new Cgroup(stage).start([program, "60"]);
    expect(readFileSync(`/proc/${pid}/status`, "utf8")).toMatch(/^Name:\tNSpid:\t1\t1\n/);
    expect(readProcess(pid)).toMatchObject({ init: false, pids: [pid] });
  });

  test("where its number only begins with a 1", async () => {
    await using stage = new Stage();
    const cgroup = new Cgroup(stage);
    const script = "echo 16 >/proc/sys/kernel/ns_last_pid; sleep 60 & wait";
    const parent = cgroup.start(["unshare", "--pid", "--fork", "--kill-child", "sh", "-c", script]);
    const child = (pid: number) =>
      Number(readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8")) || parent;
    await until("it has a grandchild", () => child(child(parent)) !== parent);
    const pid = cgroup.take(child(child(parent)));
    expect(readProcess(pid)).toMatchObject({ init: false, pids: [pid, 17] });
  });
});

test("a process whose program its user may only execute: not dumpable", async () => {
  await using stage = new Stage();
  const program = join(stage.directory, "sleep");
  copyFileSync("/usr/bin/sleep", program);
  chmodSync(program, 0o711);
  chmodSync(stage.directory, 0o711);
  const pid = new Cgroup(stage).start([program, "60"], "", { uid: 1001, gid: 1001 });
  expect(readProcess(pid)).toMatchObject({ dumpable: false, uids: [1001, 1001, 1001, 1001] });
});

test("a process is not alone where another is in one of its hierarchies, if all are looked at", async () => {
  await using stage = new Stage();
  const [one = "", other = ""] = [hierarchies[0], hierarchies.at(-1)];
  expect(one).not.toBe(other); // this machine has cgroup v1
  const first = new Cgroup(stage, one);
  const last = new Cgroup(stage, other);
  const pid = last.take(first.start(["sleep", "60"]));
  expect(readProcess(pid, true)).toMatchObject({ alone: true, others_in: null });
  first.start(["sleep", "60"]);
  expect(readProcess(pid)).toMatchObject({ alone: true });
  expect(readProcess(pid, true)).toMatchObject({
    alone: false,
    others_in: expect.stringContaining(one.replace("/sys/fs/cgroup", "")),
  });
});

test("a threaded cgroup below is passed over: its process is listed above", async () => {
  const unified = hierarchies.find((path) => existsSync(`${path}/cgroup.controllers`));
  if (!unified) throw new Error("cgroup v2 is not mounted");
  await using stage = new Stage();
  const cgroup = new Cgroup(stage, unified);
  const below = join(unified, `authproxy:${process.pid}`, ID, "below");
  mkdirSync(below);
  stage.defer(() => rmdirSync(below));
  writeFileSync(join(below, "cgroup.type"), "threaded");
  const pid = cgroup.start(["sleep", "60"]);
  expect(() => readFileSync(join(below, "cgroup.procs"))).toThrow("ENOTSUP");
  expect(readProcess(pid).alone).toBe(true);
});

describe("of a process with threads", () => {
  test("the tracer of one that is not the first is seen where all are looked at", async () => {
    await using stage = new Stage();
    const script = "setInterval(() => {}, 1000)"; // Node has ten threads more
    const pid = new Cgroup(stage).start([process.execPath, "-e", script]);
    const threads = () => readdirSync(`/proc/${pid}/task`).map(Number);
    await until("it has threads", () => threads().length > 2);
    expect(readProcess(pid, true).tracer).toBe(0);
    const tracer = spawn("strace", ["-p", String(threads().at(-1))], { stdio: "ignore" });
    stage.defer(() => void tracer.kill());
    await until("it is traced", () => readProcess(pid, true).tracer === tracer.pid);
    expect(readProcess(pid).tracer).toBe(0);
  });
});

test.each([
  { count: 4096, tracer: 0 },
  { count: 4097, tracer: -1 },
])("of a process with $count threads the tracer is $tracer", async ({ count, tracer }) => {
  await using stage = new Stage();
  const cgroup = new Cgroup(stage); // it goes away after its process
  const child = spawn(compile("threads"), [String(count)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  stage.defer(() => void child.kill("SIGKILL"));
  await once(child.stdout, "data");
  const pid = cgroup.take(child.pid ?? 0);
  expect(readProcess(pid, true).tracer).toBe(tracer);
});

describe("where a hierarchy is not as /proc says", () => {
  /** What is known at a glance, but with these directories. */
  const glanceWith = (pid: number, directories: string[]) => ({
    ...glanceAt(pid),
    container: { id: ID, directories },
  });

  test("one that is not mounted is passed over, if it is not the last", async () => {
    await using stage = new Stage();
    const pid = new Cgroup(stage).start(["sleep", "60"]);
    const { directories = [] } = glanceAt(pid).container ?? {};
    const known = glanceWith(pid, ["/sys/fs/cgroup/none/x", ...directories]);
    expect(readProcess(pid, true, known)).toMatchObject({ alone: true });
  });

  test("the container's own cgroup is not there: an error, and not that the process has exited", () => {
    const known = glanceWith(process.pid, ["/sys/fs/cgroup/none/x"]);
    expect(() => readProcess(process.pid, false, known)).toThrow("ENOENT");
  });

  test("a line that is missing in its status is an error, and not a 0", () => {
    const status = readFileSync("/proc/self/status", "utf8").replace("TracerPid:", "Tracer:");
    const known = { ...glanceWith(process.pid, hierarchies.slice(-1)), status };
    expect(() => readProcess(process.pid, false, known)).toThrow("has no TracerPid");
  });
});

test.each([
  { pids: [1], init: false, name: "in the server's own" },
  { pids: [7, 1], init: true, name: "in a namespace of its own" },
  { pids: [7, 5, 1], init: true, name: "in one that is in another" },
  { pids: [1, 7], init: false, name: "in the outer one only" },
])("pid 1 of a namespace or not, $name: $init", ({ pids, init }) => {
  expect(isInit(pids)).toBe(init);
});

describe("a process runs", () => {
  const ticksOf = (pid: number) =>
    // The name of neither program used here holds a space.
    Number(readFileSync(`/proc/${pid}/stat`, "utf8").split(" ")[21]);

  test("where it is the one that started then, and not another with its number", () => {
    expect(isRunning(process.pid, ticksOf(process.pid))).toBe(true);
    expect(isRunning(process.pid, ticksOf(process.pid) - 1)).toBe(false);
  });

  test("until it is waited for, and no longer", async () => {
    const child = spawn("sh", ["-c", "sleep 0 & echo $!; exec sleep 60"]);
    const zombie = Number((await once(child.stdout, "data"))[0]);
    await until("it is a zombie", () => /\) Z /.test(readFileSync(`/proc/${zombie}/stat`, "utf8")));
    const ticks = ticksOf(zombie);
    expect(isRunning(zombie, ticks)).toBe(true);
    child.kill("SIGKILL");
    await until("its parent is gone", () => !existsSync(`/proc/${zombie}`));
    expect(isRunning(zombie, ticks)).toBe(false);
  });

  test("as far as is known, where there is no descriptor to look by", () => {
    const files: number[] = [];
    const ticks = ticksOf(process.pid);
    try {
      for (;;) files.push(openSync("/dev/null", "r"));
    } catch (error) {
      expect(error).toMatchObject({ code: "EMFILE" });
      expect(isRunning(process.pid, ticks)).toBe(true);
      expect(isRunning(2 ** 30, ticks)).toBe(true);
    } finally {
      for (const file of files) closeSync(file);
    }
  });
});

test("no descriptor stays open after a process was read", async () => {
  await using stage = new Stage();
  const pid = new Cgroup(stage).start(["sleep", "60"]);
  const openFiles = () => readdirSync("/proc/self/fd").length;
  const before = openFiles();
  for (let i = 0; i < 20; i++) readProcess(pid, true);
  for (let i = 0; i < 20; i++) readMounts(pid);
  expect(openFiles()).toBeLessThan(before + 20); // the test's own may come and go
});

describe("the capabilities of a process are", () => {
  test.each([
    { name: "none", words: ["--bounding-set", "-all"], held: [] },
    {
      name: "those of its bounding set",
      words: ["--reuid", "1001", "--clear-groups", "--bounding-set", "-all,+sys_admin,+chown"],
      held: ["SYS_ADMIN"],
    },
    {
      name: "those of a high number",
      words: ["--bounding-set", "-all,+bpf,+checkpoint_restore"],
      held: ["BPF", "CHECKPOINT_RESTORE"],
    },
  ])("$name", async ({ words, held }) => {
    await using stage = new Stage();
    const pid = new Cgroup(stage).start(["setpriv", ...words, "sleep", "60"]);
    await until("it runs", () => readProcess(pid).exe === "/usr/bin/sleep");
    expect(readProcess(pid).capabilities).toEqual(held);
  });
});

test("a container's capabilities are what it was started with", async () => {
  await using stage = new Stage();
  const container = await stage.container({
    environment: { DB_PASSWORD_FILE: "/no/reference" },
    command: ["sleep", "60"],
  });
  const { State } = await container.inspect();
  expect(readProcess(State.Pid).capabilities).toEqual([]);
});

describe("the writable mounts of a process are", () => {
  /** In a mount namespace of its own, after these commands. */
  async function mountsAfter(stage: Stage, commands: string) {
    const script = `${commands}\necho ready; exec sleep 60`;
    const child = spawn("unshare", ["--mount", "--propagation", "private", "sh", "-ec", script]);
    stage.defer(() => void child.kill("SIGKILL"));
    await once(child.stdout, "data");
    return readMounts(child.pid ?? 0);
  }

  test("those that neither the mount nor the file system makes read-only", async () => {
    await using stage = new Stage();
    const at = (name: string) => join(stage.directory, name);
    const names = ["a b\\c", "rw", "no source", "ro", "bound"];
    for (const name of names) mkdirSync(at(name));
    const mounts = await mountsAfter(
      stage,
      `cd ${stage.directory}
      mount -t tmpfs ro 'a b\\c'; mount -t tmpfs none rw; mount -t tmpfs '' 'no source'
      mount -t tmpfs -o ro none ro
      mount --bind rw bound; mount -o remount,bind,ro bound`,
    );
    const writable = names.filter((name) => mounts?.writable.includes(at(name)));
    expect(writable).toEqual(["a b\\c", "rw", "no source"]);
  });

  test("not known where there are too many", async () => {
    await using stage = new Stage();
    const mounts = await mountsAfter(
      stage,
      `cd ${stage.directory}; mkdir x; long=$(printf %3000s | tr " " x); i=0
      while [ $i -lt 200 ]; do mount -t tmpfs $long x; i=$((i + 1)); done`,
    );
    expect(mounts).toBeUndefined();
  });

  test("a refusal where the process is gone", () => {
    expect(() => readMounts(2 ** 30)).toThrow("exited");
  });
});
