// Whatever the order of events, the server keeps its promises; and the exploration that says so finds each
// bug that is planted.
import { spawn } from "node:child_process";
import { text } from "node:stream/consumers";
import { describe, expect, test } from "vitest";
import { plants } from "./plants.ts";

const { INTERLEAVING_SECONDS = "60", INTERLEAVING_SEED = "1" } = process.env;

async function explore(seconds: string, ...options: string[]) {
  const program = `${import.meta.dirname}/explore.ts`;
  const words = ["--disable-warning=ExperimentalWarning", program, "--seconds", seconds];
  const argv = [...words, "--seed", INTERLEAVING_SEED, ...options];
  // What V8 has compiled earlier has not all of the positions by which branches are counted.
  const env = { ...process.env, NODE_DISABLE_COMPILE_CACHE: "1" };
  const { stdout, stderr } = spawn(process.execPath, argv, { env });
  const [report, errors] = await Promise.all([text(stdout), text(stderr)]);
  return report + errors;
}

test(
  `no order of events breaks a promise of the server, in ${INTERLEAVING_SECONDS} s`,
  async () => {
    const report = await explore(INTERLEAVING_SECONDS);
    console.log(report);
    expect(report).toContain("nothing falls");
  },
  3000 * (Number(INTERLEAVING_SECONDS) + 60),
);

describe("within a minute the exploration finds that", () => {
  test.each(plants)(
    "$name",
    async ({ name }) => {
      const report = await explore("60", "--plant", name);
      console.log(report);
      expect(report).toContain("falls after");
    },
    300_000,
  );
});
