// Question: what does each call cost Vault: how long, and how much of a processor? docs/scale.md
// multiplies these by the number of hosts and containers.
import { p50, type Round } from "./figures.ts";
import { connectFloor, type Floor, repeat } from "./floor.ts";
import { interleave } from "./interleave.ts";
import { processorSeconds } from "./memory.ts";
import { Report, type Scale } from "./part.ts";
import { Stage } from "./stage.ts";

export const CALLS = ["login", "create", "renew", "revoke", "read"] as const;

type Cost = Round & { cpuMs: number };

export async function measureVault(scale: Scale): Promise<Report> {
  const report = new Report("what does each call cost Vault?", scale);
  await using stage = await Stage.start();
  const [container] = await stage.containers("asker", 1);
  const { call }: Floor = await connectFloor(stage, container?.id ?? "");
  const accessors: string[] = [];
  const create = async () => {
    const body = { meta: { service: "app" }, display_name: "bench" };
    accessors.push(JSON.parse(await call("auth/token/create/app", body)).auth.accessor);
  };
  const settle = (verb: string, accessor = "") => call(`auth/token/${verb}-accessor`, { accessor });
  let renewed = 0;
  const calls: Record<(typeof CALLS)[number], () => Promise<unknown>> = {
    login: () => call("auth/approle/login", stage.login()),
    create,
    renew: () => settle("renew", accessors[renewed++ % accessors.length]),
    revoke: () => settle("revoke", accessors.pop()),
    read: () => call("secret/data/app"),
  };
  const samples = scale.quick ? 20 : 400;
  for (const atOnce of scale.quick ? [1] : [1, 16]) {
    const measure = (name: (typeof CALLS)[number]) => async (): Promise<Cost> => {
      const before = processorSeconds(stage.bao.pid);
      const round = await repeat(calls[name], samples, atOnce);
      const cpuMs = ((processorSeconds(stage.bao.pid) - before) * 1000) / samples;
      return { ...round, cpuMs };
    };
    const arms = Object.fromEntries(CALLS.map((name) => [name, measure(name)])) as Record<
      (typeof CALLS)[number],
      () => Promise<Cost>
    >;
    const measured = await interleave(`${atOnce} at once`, arms, scale.quick ? 2 : 9);
    for (const name of CALLS) {
      const rounds = measured[name];
      report.add(`${name}, ${atOnce} at once,`, rounds);
      report.note(
        `${name}, ${atOnce} at once, processor`,
        "ms",
        rounds.map(({ cpuMs }) => cpuMs),
      );
      if (name === "create") continue;
      report.compare(
        `${name} over create, ${atOnce} at once`,
        [name, rounds],
        ["create", measured.create],
        p50,
      );
    }
  }
  report.notes.push(
    "OpenBao in memory, over kept-alive TLS connections: one with a replicated store on disks is slower, " +
      "and writes what create, renew, revoke and login change to each of them",
    "processor: of Vault's process, all cores together, read in steps of 10 ms",
  );
  return report;
}
