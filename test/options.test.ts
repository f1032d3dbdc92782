// Question: does `authproxy --help` say what each command takes?
import { describe, expect, test } from "vitest";
import { parse, takes } from "../cli/options.ts";

const help = (...words: string[]) => {
  const asked = parse([...words, "--help"]);
  return "help" in asked ? asked.help : "";
};

describe.each(Object.entries<readonly string[]>(takes))("%s", (name, options) => {
  test("is in the help, and so is each of its options", () => {
    expect(help()).toMatch(new RegExp(`^  ${name} `, "m"));
    const said = new Set(help(name).match(/--[a-z-]+/g));
    for (const option of options) expect(said).toContain(`--${option}`);
  });

  test("takes no option of another", () => {
    const foreign = Object.values<readonly string[]>(takes)
      .flat()
      .filter((option) => !options.includes(option));
    for (const option of new Set(foreign)) {
      const ask = () => parse([name, `--${option}`, "x"]);
      expect(ask).toThrow("takes no --");
    }
  });
});

test("what is no command, or too much, is said", () => {
  expect(() => parse([])).toThrow("no command");
  expect(() => parse(["constructor"])).toThrow("no command constructor");
  expect(() => parse(["check", "a", "b"])).toThrow("one too many: b");
  expect(() => parse(["check", "--sokcet"])).toThrow("--sokcet");
});
