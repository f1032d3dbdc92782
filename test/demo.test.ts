// The first of the README's two commands does its whole job.
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";

test("the demo holds all of its checks, and says so at its end", async () => {
  const demo = join(import.meta.dirname, "../demo/demo.ts");
  const { stdout } = await promisify(execFile)(process.execPath, [demo]);
  expect(stdout).toMatch(/^Shown: \d+ things in \d+ checks, and all held\.$/m);
  expect(stdout.match(/^ {3}ok /gm)?.length).toBeGreaterThan(20);
}, 120_000);
