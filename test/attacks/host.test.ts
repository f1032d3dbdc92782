// Attacks by processes of the host that would pass for a container, and by a number used again.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { app, type Container, type Stage, until } from "../stage.ts";
import {
  compile,
  decision,
  honest,
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
  without,
} from "./arena.ts";
import { cgroupsOf, delegated, inRootSession, inUserSession } from "./cgroups.ts";
import { byPid, Naive } from "./naive.ts";
import { attack } from "./table.ts";

const image = imageWith(["trusted", "steal", "orphan", "worker"]);
const usurper = imageWith(["usurp"], {
  arrange: (directory) => mkdirSync(join(directory, "../mnt")),
});

/** A process of the host joins these cgroups and asks, with the application's uid. Its answer. */
async function askFrom({ stage }: Target, directories: string[]): Promise<string> {
  chmodSync(stage.directory, 0o755);
  const enter = 'for d in "$@"; do echo $$ >"$d/cgroup.procs" || exit; done';
  const become = `exec setpriv --reuid ${USER} --regid ${USER} --clear-groups "$0" "$SOCKET"`;
  const child = spawn("sh", ["-c", `${enter}\n${become}`, compile("steal"), ...directories], {
    env: { ...process.env, SOCKET: join(stage.directory, "run/authproxy.sock") },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const closed = once(child, "close");
  const answer = (await child.stdout.setEncoding("utf8").toArray()).join("");
  await closed;
  expect(answer).toContain("thief: end");
  return answer;
}

describe.each([
  { number: "16" as const, where: "joins the victim's cgroups", place: cgroupsOf },
  {
    number: "16b" as const,
    where: "was delegated a cgroup with the victim's name",
    place: delegated,
  },
])("a process of the host that $where", ({ number, place }) => {
  const note = attack(number);

  test("gets the token from a naive server", async () => {
    await using stage = newStage();
    const target = await naive(stage);
    const victim = await honest(stage, image);
    expect(await askFrom(target, await place(stage, victim))).toContain(TOKEN);
    note("naive", "falls");
  });

  test.each([
    { relax: [], reason: "init" },
    { relax: ["init", "alone", "once"], reason: "namespace" },
  ])("gets nothing, with $relax relaxed: $reason", async ({ relax, reason }) => {
    await using stage = newStage();
    const target = await ours(stage, { relax });
    const victim = await honest(stage, image, note);
    expect(await askFrom(target, await place(stage, victim))).not.toContain(TOKEN);
    expect(await decision(target.server, victim, 2)).toMatchObject({
      event: "refused",
      reason,
      uid: USER,
    });
    const which = relax.length ? `without init, alone, once: stopped by ${reason}` : reason;
    note(relax.length ? "minus one" : "defended", which);
  });
});

describe("a process of the host in its user's session, below the name of root's", () => {
  const note = attack("16d");

  test("gets the token from a naive server", async () => {
    await using stage = newStage();
    const target = await naive(stage);
    const victim = await honest(stage, image);
    expect(await askFrom(target, await inUserSession(stage, victim))).toContain(TOKEN);
    note("naive", "falls");
  });

  test("gets nothing, with init, alone, once relaxed: no-container", async () => {
    await using stage = newStage();
    const target = await ours(stage, { relax: ["init", "alone", "once"] });
    const victim = await honest(stage, image, note);
    const answer = await askFrom(target, await inUserSession(stage, victim));
    expect(answer).not.toContain(TOKEN);
    await target.server.until({ event: "refused", reason: "no-container", uid: USER });
    note("defended", "no-container");
  });

  test("gets nothing where it is root's session in fact, whose names count: namespace", async () => {
    await using stage = newStage();
    const target = await ours(stage, { relax: ["init", "alone", "once"] });
    const victim = await honest(stage, image);
    const answer = await askFrom(target, await inRootSession(stage, victim));
    expect(answer).not.toContain(TOKEN);
    const { reason } = await decision(target.server, victim, 2);
    expect(reason).toBe("namespace");
    note("minus one", "in root's session, init, alone, once relaxed: stopped by namespace");
  });
});

describe("a stranger whose number a trusted process got", () => {
  const note = attack("1");

  /** The processes that have this parent. */
  function childrenOf(pid: number): number[] {
    const text = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
    return text ? text.split(" ").map(Number) : [];
  }

  /** The victim's worker gets the number that has connected; then it is accepted. */
  async function reuse(target: Target) {
    const { stage } = target;
    const victim = await run(stage, { image, command: ["/app/worker"] });
    await victim.says("ready");
    const service = await pidOf(victim);
    const { stranger, connector } = await unaccepted(target, async () => {
      const command = ["/app/orphan", SOCKET];
      const stranger = await run(stage, { image, command, labels: { app: "stranger" } });
      await stranger.says("connected");
      const [connector = 0] = childrenOf(await pidOf(stranger));
      process.kill(connector, "SIGKILL");
      await until("it was reaped", () => !existsSync(`/proc/${connector}`));
      await until("a worker has its number", () => {
        if (childrenOf(service)[0] === connector) return true;
        writeFileSync("/proc/sys/kernel/ns_last_pid", String(connector - 1));
        process.kill(service, "SIGUSR1");
        return false; // others fork too: look again, try again
      });
      return { stranger, connector };
    });
    await stranger.says("thief: end");
    return { stranger, victim, connector };
  }

  test("gets the token from a naive server", async () => {
    await using stage = newStage();
    const { stranger } = await reuse(await naive(stage));
    expect(stranger.output).toContain(TOKEN);
    note("naive", "falls");
  });

  test("gets nothing: exited", async () => {
    await using stage = newStage();
    const target = await ours(stage, { relax: ["init", "alone", "once"] });
    const { stranger, connector } = await reuse(target);
    expect(stranger.output).not.toContain(TOKEN);
    const { pid } = await target.server.until({ event: "refused", reason: "exited" });
    expect(Number(pid)).toBe(connector);
    note("defended", "exited");
    await honest(stage, image, note);
  });

  test("gets the token on a kernel without SO_PEERPIDFD, where init, alone, once are relaxed", async () => {
    await using stage = newStage();
    const relax = ["init", "alone", "once"];
    const under = without("peerpidfd");
    const { stranger } = await reuse(await ours(stage, { relax, under, allow_no_pidfd: true }));
    expect(stranger.output).toContain(TOKEN);
    note("minus one", "without SO_PEERPIDFD, init, alone, once: falls");
  });

  test("gets nothing there by default: init", async () => {
    await using stage = newStage();
    const target = await ours(stage, { under: without("peerpidfd"), allow_no_pidfd: true });
    const { stranger, victim } = await reuse(target);
    expect(stranger.output).not.toContain(TOKEN);
    expect(await decision(target.server, victim)).toMatchObject({ reason: "init" });
    note("minus one", "without SO_PEERPIDFD: stopped by init");
  });
});

describe("a container with CAP_SYS_ADMIN that joins the victim's cgroups", () => {
  const note = attack("16c");

  async function usurp({ stage }: Target, victim: Container) {
    const thief = await run(stage, {
      image: usurper,
      command: ["/app/usurp", victim.id, `${USER}`, SOCKET],
      user: 0,
      labels: {},
      host: {
        CapAdd: ["SYS_ADMIN"],
        SecurityOpt: ["seccomp=unconfined", "apparmor=unconfined"],
      },
    });
    await thief.says("thief: end");
    return thief;
  }

  test("gets the token from a naive server", async () => {
    await using stage = newStage();
    const target = await naive(stage);
    const victim = await honest(stage, image);
    const thief = await usurp(target, victim);
    expect(thief.output).toContain(TOKEN);
    note("naive", "falls");
  });

  test.each([
    { relax: [], title: "" },
    { relax: ["init", "alone", "once"], title: ", with init, alone, once relaxed" },
  ])("gets nothing: namespace$title", async ({ relax }) => {
    await using stage = newStage();
    const target = await ours(stage, { relax });
    const victim = await honest(stage, image, note);
    const thief = await usurp(target, victim);
    expect(thief.output).not.toContain(TOKEN);
    expect(await decision(target.server, victim, 2)).toMatchObject({
      event: "refused",
      reason: "namespace",
      uid: USER,
    });
    const which = relax.length ? "without init, alone, once: stopped by namespace" : "namespace";
    note(relax.length ? "minus one" : "defended", which);
  });
});

describe("a server that cannot see the peer's pid namespace", () => {
  const note = attack("24", "not separable: there is no number to go on with");
  /** A pid namespace of its own, in which containers have the pid 0. */
  const under = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];

  /** A stopped container of the service, whose State.Pid is 0, and then a stranger. */
  async function strangerBesideStopped(stage: Stage) {
    const victim = await run(stage, { image, command: ["/app/trusted"] });
    await victim.kill();
    await until("it is stopped", async () => (await pidOf(victim)) === 0);
    const wanted = { image, command: ["/app/steal", SOCKET], labels: { app: "stranger" } };
    const stranger = await run(stage, wanted);
    return { victim, stranger: await stranger.says("thief: end") };
  }

  test("gives a stranger the token, if it is naive: 0 is the State.Pid of the stopped one", async () => {
    await using stage = newStage();
    await Naive.start(stage, app.match, { under, find: byPid });
    const { stranger } = await strangerBesideStopped(stage);
    expect(stranger).toContain(TOKEN);
    note("naive", "falls");
  });

  test("gives nobody anything, if it is ours: no-pid", async () => {
    await using stage = newStage();
    const { server } = await ours(stage, { under });
    const { stranger } = await strangerBesideStopped(stage);
    expect(stranger).toContain("thief got: \n");
    expect(await server.until({ event: "refused" })).toMatchObject({ reason: "no-pid", pid: 0 });
    note("defended", "no-pid");
    note("honest", "nobody can be served there");
  });
});
