// Question: the server or its helper is killed at a random moment of a grant; who has a
// token afterwards? After one TTL each living process has exactly one that lives, and no other does.
// CHAOS_ROUNDS (200 unless told otherwise) and CHAOS_SEED choose how often, and which moments.
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { expect, test } from "vitest";
import { Stage, until } from "../stage.ts";
import { livingTokens, Patient, randomFrom, shortenTokens } from "./patients.ts";
import { row } from "./table.ts";

const rounds = Number(process.env.CHAOS_ROUNDS ?? 200);
const seed = Number(process.env.CHAOS_SEED ?? 1);
const TTL_SECONDS = 20;
const PATIENTS_MAX = 10;
const SLACK_MS = 2000; // Vault looks for what has expired once a second

/** More exact than a timer. */
async function pass(ms: number): Promise<void> {
  const endMs = performance.now() + ms;
  while (performance.now() < endMs) await turn();
}

/** Before that is on file, a process may ask again after a crash. */
function saysSent(lease: string): boolean {
  return existsSync(lease) && readFileSync(lease, "utf8").includes('"stage":"sent"');
}

test(`killed in ${rounds} grants (seed ${seed}): one living token a living process, no more`, async () => {
  const beganMs = performance.now();
  await shortenTokens(TTL_SECONDS);
  await using stage = new Stage();
  const random = randomFrom(seed);
  const pick = <T>(list: T[]) => list[Math.floor(random() * list.length)] as T;
  const file = stage.configure();
  let server = stage.start(file);
  await server.until({ event: "ready" });

  const state = join(stage.directory, "state");
  const confirmed = ({ id }: Patient) =>
    readdirSync(state).some((name) => name.startsWith(id) && saysSent(join(state, name)));
  const restart = async (victim: number) => {
    process.kill(victim, "SIGKILL");
    await server.ended; // both have
    server = stage.start(file);
    await server.until({ event: "ready" });
  };
  const patients: Patient[] = [];
  const tookMs: number[] = []; // a grant, soon after a start
  for (let i = 0; i < 5; i++) {
    await restart(server.pid);
    const patient = await Patient.start(stage);
    const askedMs = performance.now();
    await patient.ask();
    tookMs.push(performance.now() - askedMs);
    patients.push(patient);
  }

  const grantMs = 1.2 * (tookMs.sort((a, b) => a - b)[2] ?? 0); // a little more than in the middle
  const moments = { "before its line": 0, "before its answer": 0, "after its answer": 0 };
  let renewed = 0; // delivered but unconfirmed, so that its process asked again
  const lost = new Set<string>();
  let next = Patient.start(stage);
  for (let round = 0; round < rounds; round++) {
    const patient = await next;
    next = Patient.start(stage);
    const victim = pick([server.pid, server.helper]);
    const leaver = patients.length < PATIENTS_MAX ? undefined : pick(patients);
    const momentMs = random() * grantMs;

    const answered = patient.ask();
    if (leaver) process.kill(leaver.pid, "SIGKILL");
    await pass(momentMs);
    const killed = server;
    const restarted = restart(victim);
    await killed.ended;
    const line = killed.find({ event: "granted", container: patient.id });
    const moment = patient.answers.length > 0 ? "after its answer" : "before its answer";
    moments[line ? moment : "before its line"]++;

    await restarted;
    const { token, error } = await answered;
    const said = [killed, server].flatMap(({ events }) =>
      events.filter(({ container }) => container === patient.id),
    );
    expect(token, `round ${round}: ${error} ${JSON.stringify(said)}`).toBeDefined();
    const again = await patient.ask();
    if (again.token) renewed++;
    else await server.until({ event: "refused", container: patient.id, reason: "once" });

    await until("it is on file that it has its token", () => confirmed(patient));
    patients.push(patient);
    if (leaver) patients.splice(patients.indexOf(leaver), 1);
    await leaver?.die();
    for (const one of patients) if (!(await one.token())) lost.add(one.id);
  }
  await (await next).die();

  const bound = performance.now() + TTL_SECONDS * 1000 + SLACK_MS;
  const held = async () =>
    (await Promise.all(patients.map((one) => one.token()))).map((token) => String(token?.accessor));
  let surplus: string[] = [];
  do {
    const mine = await held();
    surplus = [...(await livingTokens()).keys()].filter((accessor) => !mine.includes(accessor));
  } while (surplus.length > 0 && performance.now() < bound);
  row("killed between accept and send", rounds, surplus.length, lost.size, beganMs);
  console.log(
    `one grant took ${Math.round(grantMs)} ms; killed ${JSON.stringify(moments)}; ${renewed} asked again; ${patients.length} live`,
  );
  expect(surplus).toEqual([]);
  expect(lost.size).toBe(0);
  expect(new Set((await livingTokens()).values())).toEqual(new Set(patients.map(({ id }) => id)));

  for (const patient of patients) await patient.die();
  await until("no token is left", async () => (await livingTokens()).size === 0);
});

test("a process has ended, and a thread has its number, when the server starts: its lease is forgotten", async () => {
  await using stage = new Stage();
  const first = await stage.server();
  const patient = await Patient.start(stage);
  await patient.ask();
  const state = join(stage.directory, "state");
  const [name = ""] = readdirSync(state);
  await until("it is on file that it has its token", () => saysSent(join(state, name)));
  await first.end("SIGKILL");
  const thread = readdirSync("/proc/self/task")
    .map(Number)
    .find((id) => id !== process.pid);
  const lease = readFileSync(join(state, name), "utf8");
  rmSync(join(state, name));
  const renamed = name.replace(`-${patient.pid}-`, `-${thread}-`);
  writeFileSync(join(state, renamed), lease.replaceAll(`"pid":${patient.pid}`, `"pid":${thread}`), {
    mode: 0o600,
  });
  const second = stage.start(join(stage.directory, "authproxy.json"));
  await second.until({ event: "revoked", container: patient.id });
  await until("the lease is forgotten", () => readdirSync(state).length === 0);
  expect((await patient.ask()).token).toBeDefined();
  expect(second.stderr).toBe("");
});
