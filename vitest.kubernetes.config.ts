// Question: how does `npm run test:kubernetes` run? Each file with clusters of its own, which start
// and end real processes: two cores have enough to do with one.
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.kube.ts"],
    pool: "forks",
    fileParallelism: false,
    env: { TESTCONTAINERS_RYUK_DISABLED: "true" }, // as in vitest.config.ts
    testTimeout: 300_000,
    hookTimeout: 300_000,
  },
});
