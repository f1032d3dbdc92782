// Question: how does a grant's cost grow: with the services of the policy, with the tokens that
// live, with the containers that start at once?
import { readdirSync } from "node:fs";
import type { Service } from "../server/config.ts";
import type { JsonObject } from "../server/json.ts";
import { ask } from "./asking.ts";
import { p99, type Round } from "./figures.ts";
import { interleave } from "./interleave.ts";
import { memoryOf } from "./memory.ts";
import { Report, type Scale } from "./part.ts";
import { anyProcess, app, type Inside, type Server, Stage, USER } from "./stage.ts";
import { say } from "./terminal.ts";

/** `count` services, of which the last is the askers'. */
function services(count: number, match: (name: string) => JsonObject): Record<string, Service> {
  const names = Array.from({ length: count - 1 }, (_, i) => `service-${i}`).concat("app");
  return Object.fromEntries(names.map((name) => [name, { ...app, match: match(name) }]));
}

const labelled = (name: string): JsonObject => ({
  peer: { uid: USER },
  container: { Config: { Labels: { app: name } } },
});

/** All hold of the askers' container but the last, so that each service must be looked at to its
 * end, and the nearest of all be found. */
const nearEqual = (name: string): JsonObject => ({
  peer: { uid: USER, gid: USER },
  process: { exe: "/bench/asker", init: true, alone: true, dumpable: true },
  container: {
    Path: "/bench/asker",
    HostConfig: { ReadonlyRootfs: true, Privileged: false, PidMode: "" },
    Config: { User: `${USER}:${USER}`, Labels: { app: name } },
  },
});

async function growServices(report: Report, stage: Stage, scale: Scale): Promise<void> {
  const counts = scale.quick ? [1, 100] : [1, 10, 100, 1000];
  const most = counts.at(-1) ?? 1;
  const policies: [string, Record<string, Service>][] = [
    ...counts.map((count): [string, Record<string, Service>] => [
      `${count} services`,
      services(count, labelled),
    ]),
    [`${most} near-equal services`, services(most, nearEqual)],
  ];
  const [asker] = await stage.containers("asker", 1);
  if (!asker) throw new Error("no asker");
  const arms: Record<string, () => Promise<Round>> = {};
  const started: Server[] = [];
  for (const [name, policy] of policies) {
    const server = await stage.server(name.replaceAll(" ", "-"), policy);
    started.push(server);
    arms[name] = () => ask([asker], server.socket, scale.quick ? 20 : 100);
  }
  const measured = await interleave("services", arms, scale.quick ? 2 : 15, scale.quick ? 1 : 3);
  const base = measured["1 services"] ?? [];
  for (const [name, rounds] of Object.entries(measured)) {
    report.add(`${name},`, rounds);
    if (rounds !== base)
      report.compareBoth(`${name} over 1,`, [name, rounds], ["1 services", base]);
  }
  await Promise.all(started.map((server) => server.end()));
}

async function growLeases(report: Report, stage: Stage, scale: Scale): Promise<void> {
  const levels = scale.quick ? [10, 40] : [1, 100, 1000, 3000, 10_000];
  const few = await stage.server("few", { app: anyProcess });
  const many = await stage.server("many", { app: anyProcess });
  const [asker] = await stage.containers("asker", 1);
  const holders = await stage.containers("holder", scale.quick ? 2 : 20);
  if (!asker) throw new Error("no asker");
  const leases = ({ state }: Server) => readdirSync(state).length;
  const samples = scale.quick ? 10 : 40;
  const asking = (server: Server) => () => ask([asker], server.socket, samples);
  for (const { socket } of [few, many]) {
    const warming = holders.map((h) => h.tell("live", socket, scale.quick ? 2 : 100));
    await Promise.all(warming);
  }
  await interleave("leases", { few: asking(few), many: asking(many) }, 1, scale.quick ? 1 : 5);
  const memory = (name: string) => {
    const { rss, alone } = many.memory();
    report.note(`${name}, memory (alone)`, "MB", [alone]);
    report.note(`${name}, memory (Rss)`, "MB", [rss]);
    report.note(`${name}, Vault's memory`, "MB", [memoryOf(stage.bao.pid).rss]);
    return alone;
  };
  const sums: number[] = [];
  let held = 0;
  for (const level of levels) {
    await hold(holders, many, level - held);
    held = level;
    say(`${level} leases are held, ${leases(many)} in all beside ${leases(few)}`);
    sums.push(memory(`${level} leases`));
    const arms = { few: asking(few), many: asking(many) };
    const measured = await interleave(`${level} leases`, arms, scale.quick ? 2 : 9);
    report.add(`${level} leases,`, measured.many);
    report.compareBoth(`${level} leases over few,`, ["many", measured.many], ["few", measured.few]);
  }
  // Over all of them: a collector gives back in steps that are larger than a thousand leases.
  const [none = 0, all = 0] = [sums[0], sums.at(-1)];
  report.note("1000 leases more, memory (alone)", "MB", [((all - none) * 1000) / held]);
  report.notes.push(
    `leases: each of a living process; "few" are those of the askers themselves, ${leases(few)} at the end`,
    "memory: server and helper together, after 2,000 grants that left none; `alone` counts what they share once",
  );
  await Promise.all([few.end(), many.end()]);
}

/** `count` processes more, spread over the containers, each with a token. */
async function hold(holders: Inside[], { socket }: Server, count: number): Promise<void> {
  const each = holders.map((_, i) => Math.floor((count + i) / holders.length));
  const told = holders.map(async (holder, i) => {
    if (each[i]) await holder.tell("hold", socket, each[i]);
  });
  await Promise.all(told);
}

async function growStarts(report: Report, stage: Stage, scale: Scale): Promise<void> {
  const count = scale.quick ? 4 : 100;
  const { socket } = await stage.server("starts");
  await ask(await stage.containers("asker", 1), socket, 100); // it is warm
  const begin = async (asks: boolean): Promise<Round & { all: Inside[] }> => {
    const starts = await Promise.all(Array.from({ length: count }, () => stage.create("asker")));
    const began = performance.now();
    const ms: number[] = [];
    const all = await Promise.all(
      starts.map(async (start) => {
        const asker = await start();
        if (asks) ms.push(...(await ask([asker], socket, 1)).ms);
        return asker;
      }),
    );
    return { ms, seconds: (performance.now() - began) / 1000, all };
  };
  const arms = { without: () => begin(false), with: () => begin(true) };
  const name = `${count} containers started at once,`;
  const measured = await interleave(name, arms, scale.quick ? 1 : 2, 0);
  report.note(
    `${name} all run`,
    "s",
    measured.without.map(({ seconds }) => seconds),
  );
  report.note(
    `${name} all have a token`,
    "s",
    measured.with.map(({ seconds }) => seconds),
  );
  report.add(`${name} from connect() to the token,`, measured.with);
  report.compare(
    `${name} with a token over without`,
    ["with", measured.with],
    ["without", measured.without],
    ({ seconds }) => seconds,
  );
  const askers = measured.with[0]?.all ?? [];
  const burst: Round[] = [];
  for (let round = 0; round < (scale.quick ? 2 : 9); round++)
    burst.push(await ask(askers, socket, count, { againMs: 50 }));
  report.add(`${count} containers ask at one moment,`, burst);
  report.note(`${count} containers ask at one moment, p99`, "ms", burst.map(p99));
}

export async function measureGrowth(scale: Scale): Promise<Report> {
  const report = new Report("how does a grant's cost grow?", scale);
  for (const grow of [growServices, growLeases, growStarts]) {
    await using stage = await Stage.start();
    await grow(report, stage, scale);
  }
  return report;
}
