// Question: what does a grant cost over the floor: one inspect of the engine, and one call to Vault?
// A grant is asked for from inside a container, by a fresh connection, and minted by a real Vault.
// One right after the other, as a load; and each after a rest, as containers start.
import { setTimeout as sleep } from "node:timers/promises";
import { ask } from "./asking.ts";
import type { Round } from "./figures.ts";
import { connectFloor, repeat, roundOf } from "./floor.ts";
import { interleave } from "./interleave.ts";
import { Report, type Scale } from "./part.ts";
import { app, Stage } from "./stage.ts";

const CREATE = "auth/token/create/app";
const REST_MS = 100;
const kinds = {
  create: { create: CREATE },
  wrapped: { create: CREATE, wrap_ttl: "60s" },
  read: { read: "secret/data/app#token" },
};

export async function measureGrant({ quick }: Scale): Promise<Report> {
  const report = new Report("what does a grant cost, over a bare inspect and a bare Vault call?", {
    quick,
  });
  const levels = quick ? [1, 4] : [1, 4, 16, 64];
  const rounds = quick ? 2 : 9;
  const warmUp = quick ? 1 : 4; // V8 optimizes in the first two thousand grants
  await using stage = await Stage.start();
  const askers = await stage.containers("asker", Math.max(...levels));
  const floor = await connectFloor(stage, askers[0]?.id ?? "");
  const bare = {
    create: () => floor.create(),
    wrapped: () => floor.create({ "X-Vault-Wrap-TTL": "60s" }),
    read: () => floor.call("secret/data/app"),
  };
  let retries = 0;
  for (const [kind, token] of Object.entries(kinds) as [keyof typeof kinds, object][]) {
    for (const atOnce of levels) {
      // One for each level: a token lives as long as its asker, and holds a descriptor meanwhile.
      const server = await stage.server(`${kind}-${atOnce}`, { app: { ...app, token } });
      const samples = roundOf(atOnce, quick);
      const arms = {
        floor: () =>
          repeat(async () => [await floor.inspect(), await bare[kind]()], samples, atOnce),
        grant: () => ask(askers.slice(0, atOnce), server.socket, samples),
      };
      const id = `${kind} ${atOnce} at once`;
      const measured: Record<keyof typeof arms, Round[]> = await interleave(
        id,
        arms,
        rounds,
        warmUp,
      );
      report.add(`${id}, grant`, measured.grant);
      report.add(`${id}, floor`, measured.floor);
      report.compareBoth(id, ["grant", measured.grant], ["floor", measured.floor]);
      retries += measured.grant.reduce((sum, round) => sum + (round.retries ?? 0), 0);
      await server.end();
    }
  }
  const { socket } = await stage.server("rested", { app });
  const [asker] = askers;
  if (!asker) throw new Error("no asker");
  const one = () => repeat(async () => [await floor.inspect(), await bare.create()], 1, 1);
  const rests = quick ? 3 : 20;
  const arms = {
    floor: () => rested(one, rests),
    grant: () => rested(() => ask([asker], socket, 1), rests),
  };
  const id = `create, each after ${REST_MS} ms of rest`;
  const measured = await interleave(id, arms, rounds, warmUp);
  report.add(`${id}, grant`, measured.grant);
  report.add(`${id}, floor`, measured.floor);
  report.compare(`${id} p50`, ["grant", measured.grant], ["floor", measured.floor]);
  report.notes.push(
    "`once` is relaxed, and evaluated all the same: a container start gets one token, here each gets many",
    "a wrapped grant makes a second call to Vault, which the floor does not: what its accessor says of it",
    `${retries} grants were asked for again, at once, while the former was being put away: counted in`,
  );
  return report;
}

/** `count` of these, each when processors, caches and compilers have had time for others. */
async function rested(once: () => Promise<Round>, count: number): Promise<Round> {
  const ms: number[] = [];
  for (let done = 0; done < count; done++) {
    await sleep(REST_MS);
    ms.push(...(await once()).ms);
  }
  return { ms, seconds: ms.reduce((sum, each) => sum + each, 0) / 1000 };
}
