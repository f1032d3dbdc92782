// Question: how do the tests run?
// Two files at a time: while one waits for the engine or for Vault, the other one works. Those that
// would notice it (`alone`) come afterwards, one after the other. Processes, not threads: tests send
// signals and change their environment.
import { join } from "node:path";
import { configDefaults, defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** These take minutes: vitest.chaos.config.ts runs them. */
const long = testFiles("chaos/crash", "chaos/lives", "chaos/outage", "chaos/leader");

/** They measure, have tokens or certificates of a few seconds, or keep the whole machine busy. */
const alone = testFiles(
  ...["attacks/checks", "attacks/fairness", "attacks/noise", "attacks/slow", "attacks/waiting"],
  ...["bench", "certificates", "client-rotation", "client-watch", "demo", "hardening/peercred"],
  ...["http", "leases", "peercred", "process", "renewals", "turns"],
);

/** They take longer than their size says, and one that begins last would go on by itself. */
const first = testFiles("interleavings/interleavings", "examples", "client-images");

function testFiles(...names: string[]): string[] {
  return names.map((name) => `test/${name}.test.ts`);
}

class LongOnesFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const isLong = ({ moduleId }: TestSpecification) =>
      first.some((file) => moduleId === join(import.meta.dirname, file));
    const others = await super.sort(files.filter((file) => !isLong(file)));
    return [...files.filter(isLong), ...others];
  }
}

/** What holds for all of them, and for those of other configurations. */
export const usual = {
  pool: "forks",
  testTimeout: 60_000,
  hookTimeout: 120_000,
  env: {
    // Ryuk, testcontainers' own cleaner, is an image from a registry; the tests clean up.
    TESTCONTAINERS_RYUK_DISABLED: "true",
    // Erasing the types of a server or a command again at each start takes longer than all that most
    // of them do.
    NODE_COMPILE_CACHE: join(import.meta.dirname, "node_modules/.cache/compiled"),
  },
} as const;

export default defineConfig({
  test: {
    sequence: { sequencer: LongOnesFirst },
    projects: [
      {
        test: {
          ...usual,
          name: "together",
          include: ["test/**/*.test.ts"],
          exclude: [...configDefaults.exclude, ...long, ...alone],
          maxWorkers: process.env.ATTACKS ? 1 : 2, // one document: docs/attacks.md
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          ...usual,
          name: "alone",
          include: alone,
          maxWorkers: 1,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
