// Question: what do the slow tools say about the helper? `npm test` asks the quick ones.
// Output:   a line for each on stdout; exit 1 when one has found something, or is missing.
import { analyzeByClang, analyzeByGcc } from "./analyze.ts";
import { fuzz } from "./fuzz.ts";
import { grantsUnderValgrind } from "./grants.ts";

const steps: [string, () => void | Promise<void>][] = [
  ["gcc -fanalyzer", analyzeByGcc],
  ["clang-tidy", analyzeByClang],
  ["valgrind, over 10,000 grants", () => grantsUnderValgrind(10_000)],
  ["fuzzing, for 60 s", () => fuzz(60)],
];

for (const [name, step] of steps) {
  const began = performance.now();
  try {
    await step();
    console.log(`${name}: nothing found (${Math.round((performance.now() - began) / 1000)} s)`);
  } catch (error) {
    console.log(`${name}: ${(error as Error).message}`);
    process.exitCode = 1;
  }
}
