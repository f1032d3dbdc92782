// Question: how does `npm run test:lab` run? Other kernels and engines, bare hosts, Compose, which
// `npm test` leaves out: they are downloaded at the first run, and emulated ones are slow.
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.lab.ts"],
    pool: "forks",
    globalSetup: "test/lab/matrix.ts", // it prints what ran where, at the end
    fileParallelism: false, // apt locks its folder
    env: { TESTCONTAINERS_RYUK_DISABLED: "true" }, // as in vitest.config.ts
    // Two guests and an engine: each guest is one thread, and an engine mostly waits.
    maxConcurrency: 3,
    testTimeout: 600_000,
    hookTimeout: 60_000,
  },
});
