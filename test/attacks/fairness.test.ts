// Attacks that make the server, the engine, Vault or the audit stream work for one container, so that
// others get no token, or too late.
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { app, type Container, type Stage, tokensOf, until } from "../stage.ts";
import {
  honest,
  imageWith,
  newStage,
  ours,
  oursToFile,
  pidOf,
  relabelled,
  run,
  SOCKET,
} from "./arena.ts";
import { Naive } from "./naive.ts";
import { attack } from "./table.ts";

const NO_SWITCH = "not separable: no switch; the naive server is the arm";
const LABEL_BYTES = 60_000;
const image = imageWith(["trusted", "swarm", "hangup"]);

/** The image with labels that are that long. `docker build` would take minutes to write them. */
function imageWithLabels(bytes: number): string {
  const labels = Array.from({ length: bytes / LABEL_BYTES }, (_, i) => [
    `x${i}`,
    "x".repeat(LABEL_BYTES),
  ]);
  return relabelled(image, Object.fromEntries(labels));
}

type Swarm = {
  image?: string;
  namespaces?: "same" | "own";
  processes: number;
  host?: Record<string, unknown>;
};

/** A container of no service, all of whose processes ask without an end. */
async function startSwarm(stage: Stage, swarm: Swarm): Promise<Container> {
  const { namespaces = "same", processes, host = {} } = swarm;
  const isRoot = namespaces === "own";
  const container = await run(stage, {
    image: swarm.image ?? image,
    command: ["/app/swarm", namespaces, `${processes}`, SOCKET],
    labels: { app: "swarm" },
    user: isRoot ? 0 : 1001,
    host: { ...(isRoot && { CapAdd: ["SYS_ADMIN"] }), ...host },
  });
  await container.says("swarming");
  return container;
}

function residentMb(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024;
}

/** Serves honest containers beside a swarm, until one of it is judged for this reason; returns the
 * reasons of all its lines. */
async function serveBeside(stage: Stage, swarm: Swarm, awaited: string, relax: string[] = []) {
  const server = await oursToFile(stage, relax);
  const thief = await startSwarm(stage, swarm);
  const beganMs = performance.now();
  for (let i = 0; i < 3; i++) await honest(stage, image);
  const isJudged = () => server.linesOf(thief.id).some(({ reason }) => reason === awaited);
  await until(`one of the swarm is judged: ${awaited}`, isJudged);
  const seconds = Math.ceil((performance.now() - beganMs) / 1000);
  expect(thief.output).toBe("swarming\n"); // it still lasts
  const lines = server.linesOf(thief.id);
  const megabytes = residentMb(server.pid);
  await thief.kill();
  expect(lines.length, "lines of the swarm").toBeLessThan(LINES_PER_SECOND_MAX * (seconds + 5));
  expect(megabytes, "MB of the server").toBeLessThan(RESIDENT_MB_MAX);
  return lines.map(({ reason }) => reason);
}

/** Of each of two reasons ten lines and one with a count; and the retries. */
const LINES_PER_SECOND_MAX = 30;
const RESIDENT_MB_MAX = 300;

describe("400 processes of a container whose image has 3.9 MB of labels", () => {
  const note = attack("50");
  const wanted = () => ({ image: imageWithLabels(3_900_000), processes: 400 });

  test("keep an honest container from its token at a naive server", async () => {
    await using stage = newStage();
    const server = await Naive.start(stage, app.match);
    await startSwarm(stage, wanted());
    await until("all of them have asked", () => server.accepted.length >= 400);
    const container = await run(stage, { image, command: ["/app/trusted", SOCKET] });
    await sleep(3000);
    expect(container.output).toBe("");
    note("naive", "stalled behind all of them");
  });

  test("are refused before the engine is asked, and one of them at a time", async () => {
    await using stage = newStage();
    const reasons = await serveBeside(stage, wanted(), "init");
    expect(new Set(reasons)).toEqual(new Set(["init", "busy"]));
    note("defended", "served while it lasts: init, and the others busy");
    note("honest", "served");
  });

  test("cost the engine one answer where a service relaxes init", async () => {
    await using stage = newStage();
    const reasons = await serveBeside(stage, wanted(), "too-large", ["init"]);
    // A busy engine may need more than 1.5 s to write 4 MB.
    expect(["too-large", "busy", "engine"]).toEqual(expect.arrayContaining(reasons));
    note("minus one", "without init: served, too-large");
  });
});

describe("200 processes, each in a pid namespace of its own, with 0.9 MB of labels", () => {
  const note = attack("50b");
  const wanted = (): Swarm => ({
    image: imageWithLabels(900_000),
    processes: 200,
    namespaces: "own",
  });

  test("keep an honest container from its token at a naive server", async () => {
    await using stage = newStage();
    const server = await Naive.start(stage, app.match);
    await startSwarm(stage, wanted());
    await until("all of them have asked", () => server.accepted.length >= 200);
    const container = await run(stage, { image, command: ["/app/trusted", SOCKET] });
    await sleep(1000);
    expect(container.output).toBe("");
    note("naive", "stalled behind all of them");
  });

  test("share what the engine says about their container", async () => {
    await using stage = newStage();
    await serveBeside(stage, wanted(), "no-match");
    note("minus one", "not separable: no switch; the naive server is the arm");
    note("defended", "served while it lasts: no-match");
    note("honest", "served");
  });
});

describe("processes in pid namespaces of their own, below the cgroup of a victim that starts again", () => {
  const note = attack("63b", NO_SWITCH);

  test("do not take its place: they only share its answers", async () => {
    await using stage = newStage();
    // They are company: `alone` would refuse it, which is attack 63.
    const server = await oursToFile(stage, ["alone"]);
    const victim = await honest(stage, image, note);
    await startSwarm(stage, {
      processes: 100,
      namespaces: "own",
      host: { CgroupParent: `/docker/${victim.id}` },
    });
    await victim.restart();
    const grants = () => server.linesOf(victim.id).filter(({ event }) => event === "granted");
    await until("the victim has a token again", () => grants().length === 2);
    note("defended", "served");
  });

  test("get tokens of the victim's from a naive server", async () => {
    await using stage = newStage();
    const { container } = app.match; // whatever their uid
    const server = await Naive.start(stage, { container });
    const victim = await honest(stage, image);
    const first = await pidOf(victim);
    await startSwarm(stage, {
      processes: 10,
      namespaces: "own",
      host: { CgroupParent: `/docker/${victim.id}` },
    });
    await until("others were granted", () => server.granted.some((pid) => pid !== first));
    note("naive", "falls: they are taken for the victim");
  });
});

describe("a served container that hangs up before it is answered, again and again", () => {
  const note = attack("55");
  const wanted = { image, command: ["/app/hangup", SOCKET] };

  test("makes a naive server mint again and again", async () => {
    await using stage = newStage();
    const server = await Naive.start(stage, app.match);
    const container = await run(stage, wanted);
    await container.says("hangs up");
    await until("a hundred tokens are minted", () => server.granted.length > 100);
    note("naive", "a hundred tokens, and on");
  });

  test.each([
    { arm: "defended", relax: [], result: "three tokens, all revoked: once" },
    { arm: "minus one", relax: ["once"], result: "without once: one in five seconds" },
  ] as const)("$arm: $result", async ({ arm, relax, result }) => {
    await using stage = newStage();
    const { server } = await ours(stage, { relax: [...relax] });
    const container = await run(stage, wanted);
    const minted = () =>
      server.events.filter(({ event, container: id }) => event === "granted" && id === container.id)
        .length;
    if (arm === "defended") {
      const line = await server.until({
        event: "refused",
        container: container.id,
        reason: "once",
      });
      expect(line.detail).toContain("3 tokens were made");
      expect(minted()).toBe(3);
    } else {
      await sleep(5000);
      expect(minted()).toBeLessThan(8); // 100, 200, 400 … ms apart
    }
    await until("none is left", async () => (await tokensOf(container.id)).length === 0);
    note(arm, result);
    if (arm === "defended") await honest(stage, image, note);
  });
});
