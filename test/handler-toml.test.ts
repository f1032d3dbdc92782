// Question: does a TOML file stay what it is around what install adds, and is a difference found?
// Siblings covered: any text, with and without a line end, with lines added below; any table of settings.
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  differences,
  hasBlock,
  meaningful,
  parseToml,
  withBlock,
  withoutBlock,
} from "../cli/handler-toml.ts";

const tables = { plugins: { "io.x": { runtimes: { authproxy: { a: 'q"\\', b: ["c"] } } } } };
const lines = fc
  .array(fc.constantFrom("a = 1", "# c", "", "\t[t] # [u]", "x\r", "é = '''"))
  .map((all) => all.join("\n"));

test("what is added is taken out again, to the byte", () => {
  fc.assert(
    fc.property(fc.option(lines, { nil: undefined }), (before) => {
      const after = withBlock(before, tables);
      expect([hasBlock(before), hasBlock(after)]).toEqual([false, true]);
      expect(withoutBlock(after)).toBe(before);
    }),
  );
});

test("lines that others have added below stay, and stay lines of their own", () => {
  expect(withoutBlock(`${withBlock("a = 1", tables)}[x]\n`)).toBe("a = 1\n[x]\n");
  expect(withoutBlock(`${withBlock("a = 1\n", tables)}[x]\n`)).toBe("a = 1\n[x]\n");
  expect(withoutBlock(`${withBlock(undefined, tables)}[x]\n`)).toBe("[x]\n");
});

test("the tables are what was asked for, whatever stands above", () => {
  expect(parseToml(withBlock("a = 1\n[t]\nb = 2", tables), "x")).toEqual({
    a: 1,
    t: { b: 2 },
    ...tables,
  });
});

test("text that is not TOML is named by its place, and not quoted", () => {
  const parseIt = () => parseToml('a = 1\npassword = "hunter2\n', "x.toml");
  expect(parseIt).toThrow("x.toml:2:");
  expect(parseIt).not.toThrow("hunter2");
});

test("unset settings are not told from absent ones, and all else is", () => {
  const before = { a: "", b: false, c: 0, d: [], e: { f: "" }, g: true, sandboxer: "podsandbox" };
  expect(meaningful(before)).toEqual({ g: true });
  expect(differences(before, { g: true, h: {} })).toEqual([]);
  expect(differences({ g: true, x: { y: 1 } }, { g: false, x: { y: 2, z: ["p"] } })).toEqual([
    "g",
    "x.y",
    "x.z",
  ]);
  expect(differences({ a: { b: 1 } }, { a: 1 })).toEqual(["a"]);
  expect(differences({ a: [1, 2] }, { a: [2, 1] })).toEqual(["a"]);
});
