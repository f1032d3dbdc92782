// Question: what do inputs that nobody would write do to what parses, in the time there is?
// Usage:    fuzz.ts [SECONDS]     (60)
// Output:   executions and findings, on stdout; exit 1 with a finding, which is kept in
//           dist/hardening and named. libFuzzer and fast-check run side by side.
import { spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import fc from "fast-check";
import { build, built } from "./build.ts";
import { commands, known, target } from "./commands.ts";
import { Ear, everyLineIsHeard } from "./lines.ts";
import { anyBytesAreReadOrRefused, whatWasWrittenIsRead } from "./messages.ts";

type Result = { what: string; executions: number; finding: string | undefined };

/** What the helper reads from the server. The corpus grows from one run to the next. */
async function fuzzCommands(seconds: number): Promise<Result> {
  // "integer": an unsigned one that wraps is defined, and a length that does is a fault.
  const flags = ["-fsanitize=fuzzer,address,undefined,integer", "-fno-sanitize-recover=all"];
  const program = build("fuzz-commands", [target], flags, "clang");
  const corpus = join(built, "corpus");
  mkdirSync(corpus, { recursive: true });
  for (const [i, input] of [...known, ...fc.sample(commands, 200)].entries())
    writeFileSync(join(corpus, `begin-${i}`), input);
  const limits = [`-max_total_time=${seconds}`, "-max_len=4096", "-timeout=10"];
  const words = [...limits, "-print_final_stats=1", `-artifact_prefix=${built}/found-`, corpus];
  const child = spawn(program, words, { stdio: ["ignore", "ignore", "pipe"] });
  const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
  const log = await text(child.stderr);
  const executions = Number(/number_of_executed_units: (\d+)/.exec(log)?.[1] ?? 0);
  const finding = (await ended) === 0 ? undefined : log.slice(-8000);
  return { what: "server to helper, server/peercred.c", executions, finding };
}

/** What the server reads from the helper. */
async function fuzzLines(seconds: number): Promise<Result> {
  using ear = await Ear.open();
  const what = "helper to server, server/peercred.ts";
  const end = performance.now() + seconds * 1000;
  for (let executions = 0; ; ) {
    const interruptAfterTimeLimit = end - performance.now();
    if (interruptAfterTimeLimit <= 0) return { what, executions, finding: undefined };
    const limit = { numRuns: 1000, interruptAfterTimeLimit };
    const details = await fc.check(everyLineIsHeard(ear), limit);
    executions += details.numRuns;
    if (details.failed) return { what, executions, finding: fc.defaultReportMessage(details) };
    await new Promise(setImmediate);
  }
}

/** What an engine of Kubernetes says. */
async function fuzzMessages(seconds: number): Promise<Result> {
  const what = "engine to server, server/protobuf.ts";
  const limits = { numRuns: 2000, interruptAfterTimeLimit: seconds * 1000 };
  const end = performance.now() + seconds * 1000;
  for (let executions = 0; ; ) {
    for (const property of [whatWasWrittenIsRead, anyBytesAreReadOrRefused]) {
      const { failed, numRuns, counterexample } = await fc.check<unknown>(property, limits);
      executions += numRuns;
      const finding = failed ? fc.stringify(counterexample) : undefined;
      if (failed || performance.now() > end) return { what, executions, finding };
      await new Promise(setImmediate); // the others run side by side
    }
  }
}

/** Prints the executions, and throws the findings. */
export async function fuzz(seconds: number): Promise<void> {
  const results = await Promise.all([
    fuzzCommands(seconds),
    fuzzLines(seconds),
    fuzzMessages(seconds),
  ]);
  for (const { what, executions } of results) console.log(`${what}: ${executions} executions`);
  const findings = results.flatMap(({ what, finding }) => finding && `${what}: ${finding}`);
  if (findings.some(Boolean)) throw new Error(findings.filter(Boolean).join("\n"));
}

if (import.meta.main) {
  const seconds = Number(process.argv[2] ?? 60);
  if (!(seconds > 0)) throw new Error(`${process.argv[2]} is no time: usage: fuzz.ts [SECONDS]`);
  await fuzz(seconds);
  console.log(`nothing found in ${seconds} s`);
}
