// Question: how long do honest containers wait beside others that flood the server?
// The honest ask as the client does: without waiting for a place in the backlog, and again after a
// pause. Flooding containers (programs/flooder.c) are of no service: each is looked up, and refused.
import { ask } from "./asking.ts";
import { p50, p99, quantile } from "./figures.ts";
import { interleave } from "./interleave.ts";
import { Report, type Scale } from "./part.ts";
import { Stage } from "./stage.ts";

/** The last one is the control: it takes a processor, and never connects. */
const FLOODS = ["loops", "held", "slow", "forks", "swarm", "burn"] as const;
const HONEST = 4;
const AGAIN_MS = 50;

export async function measureIsolation(scale: Scale): Promise<Report> {
  const report = new Report("how long do honest containers wait beside flooding ones?", scale);
  await using stage = await Stage.start();
  const { socket } = await stage.server("isolation");
  const honest = await stage.containers("asker", HONEST);
  const flooders = await stage.containers("flooder", 4, { labels: { app: "none" } });
  const samples = scale.quick ? 12 : 120;
  const asking = () => ask(honest, socket, samples, { againMs: AGAIN_MS });
  await asking();
  const slowest: number[] = [];
  for (const how of FLOODS) {
    const beside = (count: number) => async () => {
      const some = flooders.slice(0, count);
      await Promise.all(some.map((flooder) => flooder.tell("flood", how, socket)));
      const round = await asking();
      await Promise.all(some.map((flooder) => flooder.tell("stop")));
      await ask(honest, socket, HONEST, { againMs: AGAIN_MS }); // what it has left is put away
      return round;
    };
    const arms = { quiet: asking, one: beside(1), four: beside(4) };
    const measured = await interleave(how, arms, scale.quick ? 1 : 5, 0);
    for (const [name, rounds] of Object.entries(measured)) {
      report.add(`${how}, ${name},`, rounds);
      report.note(`${how}, ${name}, p99`, "ms", rounds.map(p99));
      slowest.push(
        quantile(
          rounds.flatMap(({ ms }) => ms),
          1,
        ),
      );
      if (name === "quiet") continue;
      const [of, to] = [
        [name, rounds],
        ["quiet", measured.quiet],
      ] as const;
      report.compare(`${how}, ${name} over quiet, p50`, [...of], [...to], p50);
      report.compare(`${how}, ${name} over quiet, p99`, [...of], [...to], p99);
    }
  }
  report.note("slowest of all that were served", "ms", [Math.max(...slowest)]);
  report.notes.push(
    `${HONEST} honest containers ask at once; none gives up before it has its token`,
    "the flooding containers have no limit of processor time, and take their share of both cores",
  );
  return report;
}
