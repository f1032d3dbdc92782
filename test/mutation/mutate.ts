// Question: is there a decision in the policy, the checks or the reading of /proc that could be
// changed without a test that notices?
// Usage:    mutate.ts [FILE…]     (server/policy.ts, server/checks.ts and server/process.ts)
// Output:   StrykerJS's table; every change that no test noticed, and exit 1, unless it is listed
//           here with the reason why no test can.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Stryker } from "@stryker-mutator/core";

type Result = Awaited<ReturnType<Stryker["runMutationTest"]>>[number];

const root = join(import.meta.dirname, "../..");

/** A line as it was changed, and why that changes nothing. */
const equivalent: Record<string, string> = {
  'export function judge(facts: Facts, { match, relax = ["Stryker was here"] }: Service): string[] {':
    "no check has that name",
  'const line = (field: string) => new RegExp(`^${field}:\\t(.*)$`, "m").exec(status)[1];':
    "Linux writes every field that is asked for",
  'const [line] = WITH_ID.exec(cgroup.findLast((text) => WITH_ID.test(text)) ?? "Stryker was here!") ?? [];':
    "there is no line only where there is no id",
  'const [line] = WITH_ID.exec(cgroup.findLast((text) => WITH_ID.test(text)) ?? "") ?? ["Stryker was here"];':
    "there is no line only where there is no id",
  "return Number(/^.*\\) \\S(?: -?\\d+){18} (\\d+)/s.exec(stat)[1]);":
    "every stat of Linux is of that form",
  "return Number(/.*\\) \\S(?: -?\\d+){18} (\\d+)/s.exec(stat)?.[1]);":
    "an unanchored .* begins at the beginning too",
  "if (true) return mismatches(wanted, seen).length === 0;":
    "that is what `holds` means; the rest of it is a shorter way",
  'if (another) throw new Refusal("ambiguous", { cause: { services: [found[0], another[0]] } });':
    "where there is another there is a first",
  "if (id || line && !another && !cgroup.some((text) => UNSUPPORTED.test(text))) return { id, line };":
    "there is a line exactly where there is an id: the brackets are around the first two",
  'const [, controllers = "Stryker was here!", ...path] = line.split(":");':
    "a line that has an id has two colons",
  'if (false) return here; // its name and ".": no directory below':
    "saves the reading of a directory that has none below",
  'const V2 = existsSync("") ? "" : "/unified";':
    "where cgroup v1 is mounted too; noticed where v2 is alone",
  'const V2 = existsSync("/sys/fs/cgroup/cgroup.controllers") ? "Stryker was here!" : "/unified";':
    "where cgroup v1 is mounted too; noticed where v2 is alone",
};

const files = process.argv.slice(2);
const results = await new Stryker({
  mutate: files.length > 0 ? files : ["server/policy.ts", "server/checks.ts", "server/process.ts"],
  testRunner: "vitest",
  // "related" would ask vitest which tests belong to a file, and for constants it then runs none.
  vitest: { configFile: "test/mutation/vitest.config.ts", related: false },
  tsconfigFile: "", // vitest takes the types away; Stryker reads the file by an older TypeScript
  tempDirName: "dist/mutants",
  ignorePatterns: ["dist/hardening"],
  timeoutMS: 30_000, // a slow machine is no test that notices
  concurrency: 2,
  reporters: ["clear-text"],
  clearTextReporter: { allowColor: false, reportTests: false, reportMutants: false },
}).runMutationTest();

/** The first line of what was changed, as it is after the change. */
function changed({ fileName, location, replacement }: Result): string {
  const lines = readFileSync(fileName, "utf8").split("\n");
  const { start, end } = location;
  const before = lines[start.line - 1]?.slice(0, start.column - 1) ?? "";
  const after = lines[end.line - 1]?.slice(end.column - 1) ?? "";
  return `${before}${replacement}${after}`.trim();
}

const unnoticed = results.filter(({ status }) => !["Killed", "Timeout"].includes(status));
for (const result of unnoticed) {
  const line = changed(result);
  if (Object.hasOwn(equivalent, line)) continue;
  const place = `${result.fileName.slice(root.length + 1)}:${result.location.start.line}`;
  console.log(`${place}: no test notices (${result.mutatorName}, ${result.status}):\n  ${line}`);
  process.exitCode = 1;
}
const known = unnoticed.filter((result) => Object.hasOwn(equivalent, changed(result))).length;
console.log(
  `${results.length} changes, ${results.length - unnoticed.length} noticed, ${known} that change nothing`,
);
