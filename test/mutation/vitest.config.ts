// Question: which tests must notice when a decision is changed? The fast ones that are about its file:
// mutate.ts names them.
import { usual } from "../../vitest.config.ts";

const names = process.env.MUTATION_TESTS?.split(" ") ?? [];
const include = names.map((name) => `test/${name}.test.ts`);
export default { test: { ...usual, include, fileParallelism: false } };
