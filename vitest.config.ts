// Question: how do the tests run?
// One file after the other: they share one engine, and some measure times. Processes, not threads:
// tests send signals and change their environment.
import { configDefaults, defineConfig } from "vitest/config";

/** These take minutes: vitest.chaos.config.ts runs them. */
const long = ["crash", "lives", "outage", "leader"].map((name) => `test/chaos/${name}.test.ts`);

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    exclude: [...configDefaults.exclude, ...long],
    pool: "forks",
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // Ryuk, testcontainers' own cleaner, is an image from a registry; the tests clean up.
    env: { TESTCONTAINERS_RYUK_DISABLED: "true" },
  },
});
