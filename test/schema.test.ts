// Question: does config/check.ts judge as a complete implementation of JSON Schema does, by the same
// schema? What no schema can say (the text itself, keys that stand twice) is left out.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";
import { expect, test } from "vitest";
import { check } from "../server/schema.ts";

const cases = join(import.meta.dirname, "fixtures/config");
const schemaFile = join(import.meta.dirname, "../server/config.schema.json");
const complete = new Ajv2020().compile(JSON.parse(readFileSync(schemaFile, "utf8")));

const texts = ["valid", "invalid"].flatMap((folder) =>
  readdirSync(join(cases, folder))
    .filter((name) => name.endsWith(".json"))
    .map((name) => ({
      name: `${folder}/${name}`,
      text: readFileSync(join(cases, folder, name), "utf8"),
    })),
);
const aboutTheText = /^is not JSON|^a key stands twice/;

test.each(texts)("check and ajv agree on $name", ({ text }) => {
  const found = check(text);
  if (found && aboutTheText.test(found)) return;
  expect(complete(JSON.parse(text))).toBe(found === undefined);
});

test("they agree on most cases, not on none", () => {
  const compared = texts.filter(({ text }) => !aboutTheText.test(check(text) ?? ""));
  expect(compared.length).toBeGreaterThan(texts.length / 2);
});
