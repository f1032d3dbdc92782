// Question: what does a container get while Vault loses its leader? Its token, within the deadline of
// each request and after the election; what lives keeps its token, what dies loses it.
import { setTimeout as pass } from "node:timers/promises";
import { expect, test } from "vitest";
import { provision } from "../../scripts/openbao.ts";
import { password, Stage, until, vaultAt } from "../stage.ts";
import { startCluster } from "./cluster.ts";
import { livingTokens, Patient, shortenTokens } from "./patients.ts";
import { row } from "./table.ts";

const elections = Number(process.env.CHAOS_ELECTIONS ?? 3);
const TTL_SECONDS = 30;
const BEFORE = 4;
const MEANWHILE = 8;

test(`${elections} times the leader is killed under a stream of grants: all are served, none leaks`, async () => {
  const beganMs = performance.now();
  await using stage = new Stage();
  const { address, leader, killLeader } = await startCluster(stage);
  let vault = await leader();
  const { roleId, secretId } = await provision(vault, { services: { app: { password } } });
  await shortenTokens(TTL_SECONDS, vault);
  const server = await stage.server({ vault: vaultAt(address, vault, roleId) }, secretId);
  const living: Patient[] = [];
  let leaked = 0;
  let lost = 0;
  for (let election = 0; election < elections; election++) {
    const started = Array.from({ length: BEFORE + MEANWHILE }, () => Patient.start(stage));
    const patients = await Promise.all(started);
    const before = patients.slice(0, BEFORE);
    for (const patient of before) expect((await patient.ask()).token).toBeDefined();

    const dead = await killLeader();
    const leaver = before[0] as Patient;
    await leaver.die();
    const answers = [];
    for (const patient of patients.slice(BEFORE)) {
      answers.push(patient.ask());
      // The next asks as soon as this one was answered, or has been told to ask again.
      const decided = () => server.events.some((line) => line.pid === patient.pid);
      await until("there is a word about it", decided);
    }
    for (const answer of await Promise.all(answers)) expect(answer.token).toBeDefined();
    vault = await leader();
    await dead.revive();

    living.push(...patients.filter((patient) => patient !== leaver));
    for (const patient of living) {
      const token = await patient.token(vault);
      if (!token) lost++;
      else expect(token.meta).toMatchObject({ container: patient.id, service: "app" });
    }
    // "gone": the former leader had revoked it, and died before it could say so.
    const ends = ["revoked", "gone"].map((event) => ({ event, container: leaver.id }));
    await until("its token has ended", () => ends.some((end) => server.find(end) !== undefined));
  }
  // What was minted by a leader that died before it could say so dies by itself.
  const wanted = new Set(living.map(({ id }) => id));
  await until("only who lives has a token", async () => {
    const tokens = await livingTokens(vault);
    leaked = tokens.size - wanted.size;
    return leaked === 0;
  });
  await pass(TTL_SECONDS * 1000); // what is not renewed is dead by then
  for (const patient of living) if (!(await patient.token(vault))) lost++;
  expect(new Set((await livingTokens(vault)).values())).toEqual(wanted);
  row("the leader of three nodes is killed", elections, leaked, lost, beganMs);
  expect(lost).toBe(0);
  for (const { ms = 0 } of server.events) expect(ms).toBeLessThan(10_000);
  for (const patient of living) await patient.die();
  await until("no token is left", async () => (await livingTokens(vault)).size === 0);
});
