// Question: do the parts that parse hold for what nobody would write? A short run with the same seed
// each time; `npm run fuzz` goes on from there, `npm run harden` brings in the slower tools.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { analyzeByGcc } from "./analyze.ts";
import { build, helper, sanitizers } from "./build.ts";
import { commands, known, target } from "./commands.ts";
import { Ear, everyLineIsHeard, otherLinesThrow } from "./lines.ts";

const seed = 1;

describe("a build with sanitizers ends at", () => {
  test.each([
    ["a read past an array", "int a[4]; return a[c + 7];"],
    ["an overflow", "volatile int max = 2147483647; return max + c;"],
    ["memory that was freed", "char *volatile a = malloc(9); free(a); return a[c];"],
    ["memory that nobody has any more", "char *volatile a = malloc(9); a = 0; return a != 0;"],
  ])("%s", (_, code) => {
    const source = join(mkdtempSync(join(tmpdir(), "authproxy-wrong-")), "wrong.c");
    writeFileSync(
      source,
      `#include <stdlib.h>\nint main(int c, char **v) { (void)v; (void)c; ${code} }`,
    );
    const program = build("wrong", [source], [...sanitizers, "-Wno-error"]);
    rmSync(dirname(source), { recursive: true });
    expect(spawnSync(program, { encoding: "utf8" }).stderr).toMatch(/Sanitizer|runtime error/);
  });

  test("nothing in the helper, asked for its usage", () => {
    const program = build("right", [helper], sanitizers);
    const { stderr, status } = spawnSync(program, { encoding: "utf8" });
    expect({ stderr, status }).toEqual({
      stderr: "right: usage: peercred PATH|--inherited [--user-namespaces]\n",
      status: 64,
    });
  });
});

test("the analyzer of gcc finds nothing in the helper", () => {
  analyzeByGcc();
});

describe("whatever the server tells the helper,", () => {
  const replay = build("replay", [target, join(import.meta.dirname, "replay.c")], sanitizers);

  test.each([
    ["what was found, and what it says itself", known],
    ["10,000 others", fc.sample(commands, { seed, numRuns: 10_000 })],
  ])("only a silent, living peer gets an answer, and that whole: %s", (_, inputs) => {
    const records = inputs.flatMap((input) => {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(input.length);
      return [length, input];
    });
    const { stdout, stderr, status } = spawnSync(replay, { input: Buffer.concat(records) });
    const input = String.fromCharCode(...(inputs[stdout.length] ?? [])); // the one that fails
    const nothing = { input: "", stderr: "", status: 0 };
    expect({ input, stderr: String(stderr), status }).toEqual(nothing);
  });
});

test("whatever the helper says, and wherever it is cut, the server hears each line as it is", async () => {
  using ear = await Ear.open();
  await fc.assert(everyLineIsHeard(ear), { seed, numRuns: 3000 });
});

test("a line of the helper that is not in the protocol ends the server", async () => {
  using ear = await Ear.open();
  await fc.assert(otherLinesThrow(ear), { seed, numRuns: 1000 });
});
