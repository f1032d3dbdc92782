// Question: how do the tests run?
// One file after the other: they share one engine, and some measure times. Processes, not threads:
// tests send signals and change their environment.
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    pool: "forks",
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // Ryuk, testcontainers' own cleaner, is an image from a registry; the tests clean up.
    env: { TESTCONTAINERS_RYUK_DISABLED: "true" },
  },
});
