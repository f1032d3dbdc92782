// Question: which tests must notice when a decision is changed? The fast ones that are about it.
import { usual } from "../../vitest.config.ts";

const include = ["policy", "checks", "process"].map((name) => `test/${name}.test.ts`);
export default { test: { ...usual, include, fileParallelism: false } };
