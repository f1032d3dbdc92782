// Question: is there a decision of the server that could be changed without a test that notices?
// Usage:    mutate.ts [FILE…]     (all that `testsOf` names)
// Output:   StrykerJS's tables; every change that no test noticed, unless it is listed here with the
//           reason why no test can; every entry of that list that is about no such change. Exit 1 if
//           there is one of either.
import { readFileSync } from "node:fs";
import { Stryker } from "@stryker-mutator/core";

type Result = Awaited<ReturnType<Stryker["runMutationTest"]>>[number];

/** Each file that decides, and the tests that are about it. */
const testsOf: Record<string, string> = {
  "server/policy.ts": "policy",
  "server/checks.ts": "checks",
  "server/writable.ts": "checks readonly-images",
  "server/turns.ts": "turns",
  "server/refusal.ts": "refusal",
  "server/process.ts": "process pod-cgroups",
};

/** For each file: a line as it was changed, and why that changes nothing. */
const equivalent: Record<string, Record<string, string>> = {
  "server/policy.ts": {
    'const memberPath = mismatches ? `${path}${path && "."}${key}` : "Stryker was here!";':
      "without a list of mismatches no path is read",
    'const [name = "Stryker was here!", ...value] = text.split("=");':
      "a text has at least one part",
    'Object.hasOwn(wanted, text.split("=", 1)[0] ?? "Stryker was here!"),':
      "a text has at least one part",
    'values.set(name, isUsual ? value.join("=") : true);':
      "the schema lets a policy want texts and null of a variable",
    'if (hasOthers) values.set("*", true);':
      "the schema lets a policy want texts and null of a variable",
  },
  "server/checks.ts": {
    'const { relax = ["Stryker was here"] } = service;': "no check is called that",
    'export function needsCloseLook(facts: Facts, { relax = ["Stryker was here"] }: Service): boolean {':
      "no check is called that",
    'const [key = "Stryker was here!", ...values] = option.split(separator);':
      "a text has at least one part",
    'const added = wordsOf(CapAdd).map((name) => name.toUpperCase().replace(/CAP_/, ""));':
      "no capability has CAP_ in the middle of its name",
  },
  "server/refusal.ts": {
    'code = "Stryker was here!",': "each error of a system call has a code",
    'const at = /\\n +at (.*)/.exec(stack?.replace(message, "") ?? "Stryker was here!")?.[1] ?? "";':
      "no line of it says where",
    'const at = /\\n +at (.*)/.exec(stack?.replace(message, "Stryker was here!") ?? "")?.[1] ?? "";':
      "no line of it says where",
  },
  "server/writable.ts": {
    'data: string[] = ["Stryker was here"],': "no mount is called that",
    'const [check = "Stryker was here!", ...checkArgs] = healthCheck(container);':
      "no interpreter is called that, and it is no path",
    'const [name = "Stryker was here!", ...words] = text.split(WORD_END);':
      "a text has at least one part",
  },
  "server/process.ts": {
    'const V2_ROOT = existsSync(``) ? "" : "/unified";':
      "where cgroup v1 is mounted too; noticed where v2 is alone",
    'const V2_ROOT = existsSync(`${CGROUP_ROOT}/cgroup.controllers`) ? "Stryker was here!" : "/unified";':
      "where cgroup v1 is mounted too; noticed where v2 is alone",
    'const [last = "Stryker was here!", ...more] = containerOf(glance).directories.toReversed();':
      "what is a container has a cgroup in at least one hierarchy",
    "return Number(/.*\\) \\S(?: -?\\d+){18} (\\d+)/s.exec(stat)?.[1]);":
      "an unanchored .* begins at the beginning too",
    "return Number(/^.*\\) \\S(?: -?\\d+){18} (\\d+)/s.exec(stat)[1]);":
      "every stat of Linux is of that form",
    "if (true) throw error;": "a thread would have to end between two calls",
    "if (false) throw error;": "no other error than that of a thread that ended can be had here",
    "if (hasVanished(error)) throw error;": "a thread would have to end between two calls",
    "} catch (error) {}": "no other error than that of a thread that ended can be had here",
    'const [, controllers, named = "Stryker was here!"] = /^\\d+:([^:]*):(.*)$/.exec(line) ?? [];':
      "what stands there names no container, as nothing does",
    'const [, controllers, named = ""] = /^\\d+:([^:]*):(.*)$/.exec(line) ?? ["Stryker was here"];':
      "the first of them is not looked at",
    'if (UNSUPPORTED.test(outside.replace(ROOT_SESSION, "Stryker was here!"))) return undefined;':
      "UNSUPPORTED looks at what stands after a slash only",
    'const pids = readStart(`${directory}/cgroup.procs`, PIDS_BYTES_MAX).split("\\n");':
      "an empty line is passed over",
    'const [, value] = new RegExp(`^${field}:\\t(.*)$`, "m").exec(status) ?? ["Stryker was here"];':
      "the value is the second of them",
    'const { path = "" } = error as NodeJS.ErrnoException;':
      "a process would have to end between the opening and the reading of a file",
    '(error as NodeJS.ErrnoException).code ?? "Stryker was here!",': "no error has that code",
  },
};

/** What cannot run at all is noticed too. */
const noticed = ["Killed", "Timeout", "RuntimeError"];

/** The first line of what was changed, as it is after the change. */
function changed({ fileName, location, replacement }: Result): string {
  const lines = readFileSync(fileName, "utf8").split("\n");
  const { start, end } = location;
  const before = lines[start.line - 1]?.slice(0, start.column - 1) ?? "";
  const after = lines[end.line - 1]?.slice(end.column - 1) ?? "";
  return `${before}${replacement}${after}`.trim();
}

async function mutate(file: string): Promise<void> {
  process.env.MUTATION_TESTS = testsOf[file] ?? "";
  const results = await new Stryker({
    mutate: [file],
    testRunner: "vitest",
    // "related" would ask vitest which tests belong to a file, and for constants it then runs none.
    vitest: { configFile: "test/mutation/vitest.config.ts", related: false },
    tsconfigFile: "", // vitest takes the types away; Stryker reads the file by an older TypeScript
    tempDirName: "dist/mutants",
    ignorePatterns: ["dist/hardening"],
    timeoutMS: 120_000, // a slow machine is no test that notices
    concurrency: 2,
    reporters: ["clear-text", "progress-append-only"],
    clearTextReporter: { allowColor: false, reportTests: false, reportMutants: false },
  }).runMutationTest();

  const reasons = equivalent[file] ?? {};
  const unnoticed = results.filter(({ status }) => !noticed.includes(status));
  const unknown = unnoticed.filter((result) => !Object.hasOwn(reasons, changed(result)));
  for (const result of unknown)
    console.log(
      `${file}:${result.location.start.line}: no test notices (${result.mutatorName}, ${result.status}):\n  ${changed(result)}`,
    );
  const lines = new Set(unnoticed.map(changed));
  const dead = Object.keys(reasons).filter((line) => !lines.has(line));
  for (const line of dead) console.log(`${file}: listed, and no change without notice:\n  ${line}`);

  const equivalents = unnoticed.length - unknown.length;
  console.log(
    `${file}: ${results.length} changes, ${results.length - unnoticed.length} noticed, ${equivalents} that change nothing`,
  );
  if (unknown.length > 0 || dead.length > 0) process.exitCode = 1;
}

const files = process.argv.slice(2);
for (const file of files.length > 0 ? files : Object.keys(testsOf)) await mutate(file);
