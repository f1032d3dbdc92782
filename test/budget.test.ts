import { expect, test } from "vitest";
import { bundleClient } from "../scripts/build.ts";
import { budgets, countLines } from "../scripts/lines.ts";
import { block } from "./documents.ts";

const count = await countLines();

test.each([
  { name: "server", wall: 400 },
  { name: "keeper", wall: 280 },
  { name: "config", wall: 120 },
  { name: "peercred", wall: 200 },
  { name: "runtime", wall: 150 },
] as const)("$name is short enough to be read: $wall lines", ({ name, wall }) => {
  expect(budgets[name]).toBeLessThanOrEqual(wall);
  expect(count[name].lines).toBeGreaterThan(0);
  expect(count[name].lines).toBeLessThanOrEqual(budgets[name]);
});

test("none is shorter by its layout: one statement a line, no line too long", () => {
  const files = Object.values(count).flatMap((program) => program.files);
  expect(files.flatMap(({ faults }) => faults)).toEqual([]);
});

test("README has the bundles' sha256", async () => {
  const java = await bundleClient("dist/authproxy-java.js");
  expect(block("README.md", "dist/authproxy-java.js")).toBe(
    `${(await bundleClient()).sha256}  dist/authproxy.js\n` +
      `${java.sha256}  dist/authproxy-java.js\n`,
  );
});
