// Attacks by processes of the host that would pass for a container, and by a number used again.
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { type Container, type Stage, until } from "../stage.ts";
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
} from "./arena.ts";
import { attack } from "./table.ts";

const image = imageWith(["trusted", "orphan", "worker"]);
const CGROUPS = "/sys/fs/cgroup";

/** The mounted hierarchies: one for version 2, a directory each before. */
function hierarchies(): string[] {
  if (existsSync(join(CGROUPS, "cgroup.controllers"))) return [CGROUPS];
  return readdirSync(CGROUPS).map((name) => join(CGROUPS, name));
}

/** All of the victim's cgroups, which only root can join. */
async function cgroupsOf(_: Stage, victim: Container): Promise<string[]> {
  const lines = readFileSync(`/proc/${await pidOf(victim)}/cgroup`, "utf8")
    .trim()
    .split("\n");
  const paths = new Set(lines.map((line) => line.split(":").slice(2).join(":")));
  const directories = hierarchies().flatMap((root) => [...paths].map((path) => join(root, path)));
  return directories.filter((directory) => existsSync(join(directory, "cgroup.procs")));
}

/** A cgroup with the victim's name, in a directory that was delegated to a user. */
async function delegated(stage: Stage, victim: Container): Promise<string[]> {
  const root = hierarchies().find((directory) => existsSync(join(directory, "cgroup.controllers")));
  const forged = join(root ?? CGROUPS, `authproxy-attack-${process.pid}`, "docker", victim.id);
  mkdirSync(forged, { recursive: true });
  const made = [forged, dirname(forged), dirname(dirname(forged))];
  for (const directory of made) chownSync(directory, USER, USER);
  stage.defer(() => until("the cgroups are empty", () => removed(made)));
  return [forged];
}

function removed(directories: string[]): boolean {
  try {
    for (const directory of directories) rmdirSync(directory);
    return true;
  } catch {
    return !existsSync(directories[0] ?? "");
  }
}

describe.each([
  { where: "joins the victim's cgroups", place: cgroupsOf },
  { where: "was delegated a cgroup with the victim's name", place: delegated },
])("a process of the host that $where", ({ where, place }) => {
  const note = attack(16, `a host process ${where}`);

  /** Asks from the host, with the application's uid, and gives the answer. */
  async function askFrom({ stage }: Target, victim: Container): Promise<string> {
    const directories = await place(stage, victim);
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

  test("gets the token from a naive server", async () => {
    await using stage = newStage();
    const target = await naive(stage);
    const victim = await honest(stage, image);
    expect(await askFrom(target, victim)).toContain(TOKEN);
    note("naive", "falls");
  });

  test.each([
    { relax: [], title: "" },
    { relax: ["init", "alone", "once"], title: ", with init, alone, once relaxed" },
  ])("gets nothing: namespace$title", async ({ relax }) => {
    await using stage = newStage();
    const target = await ours(stage, { relax });
    const victim = await honest(stage, image, note);
    expect(await askFrom(target, victim)).not.toContain(TOKEN);
    expect(await decision(target.server, victim, 2)).toMatchObject({
      event: "refused",
      reason: "namespace",
      uid: USER,
    });
    note(relax.length ? "minus one" : "defended", "namespace");
  });
});

describe("a stranger whose number a trusted process got", () => {
  const note = attack(1, "pid reuse: the connector exits, its child keeps the socket");

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
});
