// Question: does `npm run bench` still measure, and is its arithmetic right? No time is asserted here.
import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { latency, type Part, quantile, type Round, ratio, spread } from "../bench/figures.ts";
import { heldGoals } from "../bench/goals.ts";
import { bars, lines, ticks } from "../bench/plot.ts";
import { callsOf, processors } from "../bench/scale.ts";

const main = join(import.meta.dirname, "../bench/main.ts");
const round = (...ms: number[]): Round => ({ ms, seconds: 1 });
const part = (more: Partial<Part>): Part => ({
  question: "?",
  when: "",
  quick: false,
  figures: {},
  ratios: {},
  notes: [],
  ...more,
});
const one = (median: number) => ({ median, low: median, high: median, rounds: 1, unit: "ms" });

test("a quick run measures grants against their floors, the runtime against runc, and writes it", async () => {
  const directory = mkdtempSync(join(tmpdir(), "authproxy-bench-test-"));
  try {
    const words = [main, "--quick", "--out", directory, "grant", "promises", "runtime", "pods"];
    await promisify(execFile)(process.execPath, words);
    const { machine, parts } = JSON.parse(readFileSync(join(directory, "results.json"), "utf8"));
    expect(Object.values(machine)).not.toContain("");
    const { figures, ratios, quick }: Part = parts.grant;
    expect(quick).toBe(true);
    for (const kind of ["create", "wrapped", "read"]) {
      for (const id of [`${kind} 1 at once`, `${kind} 4 at once`]) {
        for (const figure of ["p50", "rate"]) {
          expect(figures[`${id}, grant ${figure}`]?.median, id).toBeGreaterThan(0);
          expect(figures[`${id}, floor ${figure}`]?.median, id).toBeGreaterThan(0);
          expect(ratios[`${id} ${figure}`]?.median, id).toBeGreaterThan(0);
        }
      }
    }
    expect(ratios["create, each after 100 ms of rest p50"]?.median).toBeGreaterThan(0);
    // Each copy could be made: what bench/promises.ts takes out of the sources is still there.
    const copies = Object.keys(parts.promises.ratios).filter((id) => id.endsWith(" p50"));
    expect(copies).toHaveLength(6);
    for (const id of ["without a reference over runc", "with its secret over runc"])
      expect(parts.runtime.ratios[id]).toMatchObject({ rounds: 2, median: expect.any(Number) });
    for (const id of ["1 at once p50", "4 at once rate"])
      expect(parts.pods.ratios[id]).toMatchObject({ rounds: 2, median: expect.any(Number) });
    const written = readdirSync(directory).sort();
    expect(written).toEqual([
      ...["README.md", "latency.svg", "promises.svg", "results.json", "throughput.svg"],
    ]);
    const page = readFileSync(join(directory, "README.md"), "utf8");
    expect(page).toContain("![latency](latency.svg)");
    expect(page).toContain("too few rounds to believe");
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

test("an unknown part is named, with those that there are", async () => {
  const run = promisify(execFile)(process.execPath, [main, "--quick", "nothing"]);
  await expect(run).rejects.toMatchObject({
    code: 64,
    stderr: expect.stringContaining("no part nothing; there are grant, promises, start"),
  });
});

test("a ratio is the median of the rounds' own ratios, so that what slows both down is no part of it", () => {
  const floor = [round(1), round(10), round(100)];
  const grant = [round(2), round(20), round(200)];
  expect(ratio(grant, floor, ({ ms }) => quantile(ms, 0.5)).median).toBe(2);
});

test("a figure is the median of the rounds, its tail that of all samples", () => {
  const figure = latency([round(1, 1, 1), round(2, 2, 2), round(3, 3, 300)]);
  expect(figure.median).toBe(2);
  expect(figure.p99).toBeGreaterThan(200);
  expect(figure.curve).toHaveLength(99);
  expect(spread([1, 2, 3, 4, 5])).toEqual({ median: 3, low: 2, high: 4, rounds: 5 });
  expect(() => spread([])).toThrow("nothing");
});

test("a goal is held or not by its ratio, or by the difference of two figures", () => {
  const grant = (median: number) =>
    part({ ratios: { "create 1 at once p50": { ...one(median), of: "", to: "" } } });
  expect(heldGoals({ grant: grant(1.5) })).toMatchObject([{ held: true }, { held: true }]);
  expect(heldGoals({ grant: grant(1.6) })).toMatchObject([{ held: false }, { held: true }]);
  const peers = (more: number) =>
    part({
      figures: {
        "authproxy, memory after 10000 grants (alone)": one(60),
        "authproxy, memory after 20000 grants (alone)": one(60 + more),
      },
    });
  expect(heldGoals({ peers: peers(4) })).toMatchObject([
    { measured: "60 (60 to 60)", held: true },
    { measured: "4", held: true },
  ]);
  expect(heldGoals({ peers: peers(6) })).toMatchObject([
    { held: true },
    { measured: "6", held: false },
  ]);
  expect(heldGoals({})).toEqual([]);
});

test("a plot has no place that is no number, and no text that is markup", () => {
  const points: [number, number][] = [
    [1, 5],
    [64, 900],
  ];
  const axis = { label: "<at once>", logarithmic: true };
  const drawn = lines("a & b", axis, { label: "y" }, [{ name: "x", points }]);
  const rows = [{ name: "a", median: 1, low: 1, high: 2 }];
  for (const svg of [drawn, bars("a & b", axis, rows)]) {
    expect(svg).not.toMatch(/NaN|Infinity|undefined|<at once>|a & b/);
    expect(svg).toMatch(/^<svg [\s\S]*<\/svg>\n$/);
  }
});

test("an axis has round marks", () => {
  expect(ticks(0, 9)).toEqual([0, 2, 4, 6, 8]);
  expect(ticks(1, 64, true)).toEqual([1, 2, 5, 10, 20, 50]);
  expect(ticks(0.01, 1e6, true)).toEqual([0.01, 0.1, 1, 10, 100, 1000, 10_000, 100_000, 1_000_000]);
});

test("a fleet's calls are its starts, its ends and its renewals", () => {
  const fleet = { hosts: 10, containers: 36, lifeHours: 0.1, periodHours: 1, reads: 2 };
  const calls = callsOf(fleet);
  expect(calls).toMatchObject({ create: 1, revoke: 1, read: 2, login: 0 });
  expect(calls.renew).toBeCloseTo(380 / (0.35 * 3600), 6);
  expect(callsOf({ ...fleet, ready: true })).toMatchObject({ create: 0, revoke: 0, read: 3 });
  const vault = part({ figures: { "create, 16 at once, processor": one(500) } });
  expect(processors(calls, vault)).toBeCloseTo(0.5, 6);
});
