// Question: how do the tests run that break things, for minutes? As the others, but with more time.
import { defineConfig } from "vitest/config";
import { usual } from "./vitest.config.ts";

export default defineConfig({
  test: {
    ...usual,
    include: ["test/chaos/*.test.ts"],
    fileParallelism: false,
    testTimeout: 1_800_000,
  },
});
