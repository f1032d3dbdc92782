// Question: is there an order of events in which the server does not keep its promises?
// Usage:    explore.ts [--seconds 60] [--seed N] [--plant NAME [--steps]]
//           Seconds are of the processor's time: a busy machine searches for longer, and not less.
// Output:   how many schedules were tried, and the branches that they reached. Exit 1 with the steps of the
//           shortest schedule that was found to break something; for a planted bug only with --steps.
import { parseArgs } from "node:util";
import fc, { type Scheduler } from "fast-check";
import { BranchCoverage } from "./coverage.ts";
import { replaceModules, serverDirectory } from "./hooks.ts";
import { plants } from "./plants.ts";
import type { Plan } from "./world.ts";

const BATCH = 100;
const SHRINKING_MS = 30_000;
const ORDERS = 3000;
const COVERAGE_PART = 0.25;

const options = {
  seconds: { type: "string" },
  seed: { type: "string" },
  plant: { type: "string" },
  steps: { type: "boolean" },
} as const;
const aSeed = String(Date.now() % 1_000_000);
const { values } = parseArgs({ options });
const { seconds = "60", seed: seedText = aSeed, plant: plantName, steps } = values;
const plant = plants.find(({ name }) => name === plantName);
if (plantName && !plant) throw new Error(`no such bug is planted: ${plantName}`);

const coverage = plant ? undefined : new BranchCoverage(serverDirectory);
replaceModules(plant);
const { ACTS, KINDS, TROUBLES } = await import("./world.ts");
const { replaceGlobals } = await import("./edges.ts");
const { runSchedule } = await import("./schedule.ts");

/** Some of these, or one of them again and again. */
function several<What>(whats: readonly What[], maxLength: number) {
  const after = fc.nat(40);
  const size = { maxLength, size: "max" } as const;
  const mixed = fc.array(fc.record({ what: fc.constantFrom(...whats), after }), size);
  const same = fc
    .constantFrom(...whats)
    .chain((what) => fc.array(fc.record({ what: fc.constant(what), after }), size));
  return fc.oneof({ weight: 3, arbitrary: mixed }, same);
}

const container = fc.record({
  kind: fc.constantFrom(...KINDS, "relaxed" as const),
  isQuiet: fc.constantFrom(false, false, true),
  acts: several(ACTS, 6),
});
const usually0 = fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, fc.nat(99));
const plan: fc.Arbitrary<Plan> = fc.record({
  containers: fc.array(container, { minLength: 1, maxLength: 3, size: "max" }),
  troubles: several(TROUBLES, 4),
  crashAtFile: fc.option(fc.nat(40)),
  fullAtWrite: fc.option(fc.nat(12), { freq: 1 }),
  dice: fc.array(usually0, { maxLength: 60, size: "max" }),
});

/** How long this thread has worked; edges.ts replaces other clocks. */
function workedMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}

async function check(seed: number, extra: fc.Parameters<[Plan, Scheduler]>) {
  const property = fc.asyncProperty(plan, fc.scheduler(), runSchedule);
  const restore = replaceGlobals();
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = extra.path ? stackTraceLimit : 0; // a tenth of the time
  try {
    return await fc.check(property, { seed, numRuns: BATCH, ...extra });
  } finally {
    restore();
    Error.stackTraceLimit = stackTraceLimit;
  }
}

const seed = Number(seedText);
const beganMs = workedMs();
const untilMs = beganMs + Number(seconds) * 1000;
console.log(`seed ${seed}, ${seconds} s${plant ? `, planted: ${plant.name}` : ""}`);

let count = 0;
let covered = "";
for (let batch = 0; workedMs() < untilMs; batch++) {
  const details = await check(seed + batch, { endOnFailure: true });
  count += details.numRuns;
  // Counting blocks halves the speed, and hardly a new one is reached later.
  if (coverage && !covered && workedMs() > beganMs + COVERAGE_PART * (untilMs - beganMs))
    covered = `in the first ${count} schedules, ${coverage.finish()}`;
  if (!details.failed) continue;

  const error = details.errorInstance as Error;
  const elapsed = ((workedMs() - beganMs) / 1000).toFixed(1);
  console.log(`falls after ${count} schedules, ${elapsed} s: ${error.message.split("\n", 1)[0]}`);
  process.exitCode = 1;
  if (!plant || steps) await showShortest(seed + batch, details.counterexamplePath ?? "");
  break;
}
const minutes = (workedMs() - beganMs) / 60_000;
if (!process.exitCode) console.log("nothing falls");
console.log(`${count} schedules, ${Math.round(count / minutes)} a minute`);
if (covered) console.log(covered);

/** The plan is shrunk by fast-check, which leaves the order as it was: of many other orders of the same
 * plan the shortest one that breaks the same property is shown. */
async function showShortest(batchSeed: number, path: string): Promise<void> {
  const { errorInstance, counterexample, numShrinks } = await check(batchSeed, { path });
  const [plan] = counterexample ?? [];
  const { message } = errorInstance as Error;
  const shortest = plan ? await shortestOrder(plan, message) : message;
  console.log(
    `seed ${batchSeed}, path ${path}, shrunk ${numShrinks} times: ${JSON.stringify(plan)}`,
  );
  console.log(shortest);
}

async function shortestOrder(plan: Plan, message: string): Promise<string> {
  const [property] = message.split("\n", 1);
  const untilMs = workedMs() + SHRINKING_MS;
  let shortest = message;
  const restore = replaceGlobals();
  for (const scheduler of fc.sample(fc.scheduler(), { seed, numRuns: ORDERS })) {
    const found = await runSchedule(plan, scheduler).then(
      () => "",
      (error: Error) => error.message,
    );
    const isSame = found.split("\n", 1)[0] === property;
    if (isSame && found.length < shortest.length) shortest = found;
    if (workedMs() > untilMs) break;
  }
  restore();
  return shortest;
}
