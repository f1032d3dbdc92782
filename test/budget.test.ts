import { statSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { bundleClient } from "../tools/build.ts";
import { budgets, countLines } from "../tools/lines.ts";

const count = await countLines();

test("the server is short enough to be read in an hour", () => {
  expect(budgets.server).toBeLessThanOrEqual(400);
  expect(count.serverLines).toBeLessThanOrEqual(budgets.server);
});

test("its helper too", () => {
  expect(budgets.peercred).toBeLessThanOrEqual(200);
  expect(count.peercred.codeLines).toBeLessThanOrEqual(budgets.peercred);
});

test("neither is shorter by its layout: one statement a line, no line too long", () => {
  expect([...count.server, count.peercred].flatMap(({ faults }) => faults)).toEqual([]);
});

test("the client is one small file, and the built one is of this source", async () => {
  const { bytes } = await bundleClient();
  expect(budgets.bundleBytes).toBeLessThanOrEqual(40_000);
  expect(bytes.length).toBeLessThanOrEqual(budgets.bundleBytes);
  expect(statSync(join(import.meta.dirname, "../dist/authproxy.js")).size).toBe(bytes.length);
});
