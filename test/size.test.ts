// Question: does the counter of scripts/size.ts count what it says, and does each part keep its limit?
import { describe, expect, test } from "vitest";
import { measureParts, measureSource, modulesLoadedBy } from "../scripts/size.ts";

const tokensOf = (source: string, path = "a.ts") => measureSource(path, source).tokens;

describe("a token of TypeScript", () => {
  const PLAIN = "export function add(a, b) { return a + b; }";

  test("is each name, literal, keyword and punctuator that runs", () => {
    expect(tokensOf(PLAIN)).toBe(15);
  });

  test.each([
    {
      free: "types",
      source: `type Sum = number | bigint;
        export function add(a: number, b: number): number { return a + b as number; }`,
    },
    { free: "a type-only import", source: `import type { Sum } from "./sum.ts";\n${PLAIN}` },
    {
      free: "comments and blank lines",
      source: `// The sum.\n\n/** Of\n * two. */\n${PLAIN} // its end\n`,
    },
    { free: "a hashbang", source: `#!/usr/bin/env node\n${PLAIN}` },
    { free: "layout", source: PLAIN.replaceAll(" ", "\n\n  ") },
    { free: "long names", source: PLAIN.replaceAll(/\ba\b/g, "theFirstOfTheTwoSummands") },
  ])("is none of $free", ({ source }) => {
    expect(tokensOf(source)).toBe(15);
  });

  test("is each text and each expression of a template", () => {
    expect(tokensOf("`sum`")).toBe(3);
    // `  text  ${  a  +  b  }  text  `
    expect(tokensOf(`\`of \${a + b} apples\``)).toBe(9);
    expect(tokensOf(`\`of \${a + b + c} apples\``)).toBe(11);
  });

  test("is a string or a regular expression as a whole", () => {
    expect(tokensOf('say("// not a comment", /[/"]+/)')).toBe(6);
  });
});

describe("a token of C", () => {
  const tokensOfC = (source: string) => tokensOf(source, "a.c");
  const PLAIN = "int add(int a, int b) { return a + b; }\n";

  test("is each name, literal and punctuator", () => {
    expect(tokensOfC(PLAIN)).toBe(16);
    expect(tokensOfC(`a->b <<= 0x1Fu + 1.5e-3 + 'x' + '\\'' + "a\\"b // c";`)).toBe(14);
  });

  test.each([
    { free: "comments", source: `/* the\n sum */ ${PLAIN} // its \\\n end\n` },
    { free: "directives", source: `#include <stdio.h>\n# define TWO \\\n  2\n${PLAIN}` },
    { free: "a comment within a directive", source: `#define A /* of\n two lines */ 2\n${PLAIN}` },
    { free: "layout", source: PLAIN.replaceAll(" ", "\n\t") },
    { free: "long names", source: PLAIN.replaceAll(/\ba\b/g, "the_first_of_the_summands") },
  ])("is none of $free", ({ source }) => {
    expect(tokensOfC(source)).toBe(16);
  });

  test("a macro is not expanded", () => {
    expect(tokensOfC("#define BOTH(a) a + a\nint x = BOTH(1);")).toBe(8);
  });

  test("text that is not C is refused", () => {
    expect(() => tokensOfC('int a = "no end;')).toThrow('a.c: not a token of C: "');
  });
});

test("a token of a shell script is a word; comments are free", () => {
  expect(tokensOf("#!/bin/sh\n# Why.\nif true; then\n  # Because.\n  echo yes\nfi\n", "run")).toBe(
    6,
  );
});

test("a line of code holds code; its length is without comment and indentation", () => {
  const source = `// A reason.
type Erased = { line: string };

export const a = 1; // another
  export const bcd = \`
\`;
`;
  const lines = ["export const a = 1;", "export const bcd = `", "`;"];
  expect(measureSource("a.ts", source)).toMatchObject({
    linesOfCode: lines.length,
    meanLineLength: lines.join("").length / lines.length,
  });
});

describe("a module that loads code", () => {
  test.each([
    { by: "a computed name", source: "await import(name);" },
    { by: "a name put together", source: 'await import("./a" + b);' },
    { by: "a template", source: "await import(`./a.ts`);" },
    { by: "a computed name and require", source: "require(name);" },
    { by: "createRequire", source: 'import { createRequire } from "node:module";' },
    { by: "a thread", source: 'new threads.Worker("./a.ts");' },
  ])("by $by is refused", ({ source }) => {
    expect(() => measureSource("a.ts", source)).toThrow("cannot follow");
  });

  test("by a literal name is counted, because esbuild follows it", () => {
    expect(tokensOf('await import("./a.ts");')).toBe(6);
    expect(tokensOf("import.meta.main;")).toBe(6);
  });

  test("from a package is refused in a part of the product", async () => {
    await expect(modulesLoadedBy(["cli/runtime.ts"])).rejects.toThrow(
      "cli/daemon-json.ts imports jsonc-parser, which is neither ours nor Node's",
    );
  });
});

test("what only a module left out imports is left out too", async () => {
  const all = await modulesLoadedBy(["client/authproxy.ts"]);
  const without = await modulesLoadedBy(["client/authproxy.ts"], "client/main.ts");
  expect(all).toContain("client/main.ts");
  expect(all.filter((path) => !without.includes(path))).toEqual(
    expect.arrayContaining(["client/main.ts", "client/exec.ts"]),
  );
  expect(without).toContain("client/authproxy.ts");
});

describe("the size of the product", async () => {
  test.each(await measureParts())(
    "$name: all files exist, and at most $maxTokens tokens",
    (part) => {
      expect(part.missing).toEqual([]);
      expect(part.tokens).toBeGreaterThan(0);
      expect(part.tokens).toBeLessThanOrEqual(part.maxTokens);
    },
  );
});
