// Question: does `authproxy --help` list the options of each command, and is no other taken?
import { describe, expect, test } from "vitest";
import { OPTIONS_OF, parse } from "../cli/options.ts";

function helpOf(...words: string[]): string {
  const request = parse([...words, "--help"]);
  return "help" in request ? request.help : "";
}

describe.each(Object.entries<readonly string[]>(OPTIONS_OF))("%s", (name, options) => {
  test("is in the help, and so is each of its options", () => {
    expect(helpOf()).toMatch(new RegExp(`^  ${name} `, "m"));
    const inHelp = new Set(helpOf(name).match(/--[a-z-]+/g));
    for (const option of options) expect(inHelp).toContain(`--${option}`);
  });

  test("takes no option of another command", () => {
    const foreign = Object.values<readonly string[]>(OPTIONS_OF)
      .flat()
      .filter((option) => !options.includes(option));
    for (const option of new Set(foreign)) {
      const parsing = () => parse([name, `--${option}`, "x"]);
      expect(parsing).toThrow("takes no option --");
    }
  });
});

test("a word that is not a command, a surplus word and an unknown option are refused", () => {
  expect(() => parse([])).toThrow("no command was given");
  expect(() => parse(["constructor"])).toThrow("no such command: constructor");
  expect(() => parse(["check", "a", "b"])).toThrow("unexpected word: b");
  expect(() => parse(["check", "--sokcet"])).toThrow("--sokcet");
});
