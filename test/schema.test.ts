// Question: does server/schema.ts judge as a complete implementation of JSON Schema does, by the
// same schema? What no schema can say (how the text is written, duplicate keys) is left out.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";
import { expect, test } from "vitest";
import { configSchema, type Flaw, findFlaw } from "../server/schema.ts";

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
/** A schema can say it, because it is not about how the text is written. */
function isAboutContent(flaw: Flaw | undefined): boolean {
  return flaw?.kind !== "not-json" && flaw?.kind !== "spelling";
}

test.each(texts)("findFlaw and ajv agree on $name", ({ text }) => {
  const flaw = findFlaw(text);
  if (!isAboutContent(flaw)) return;
  expect(complete(JSON.parse(text))).toBe(flaw === undefined);
});

test("more than half of the cases are compared with ajv", () => {
  const compared = texts.filter(({ text }) => isAboutContent(findFlaw(text)));
  expect(compared.length).toBeGreaterThan(texts.length / 2);
});

test.each<[string, string, object]>([
  [
    "of a text that is not JSON has its position",
    '{\n  "vault" 1 }',
    { kind: "not-json", message: "is not JSON (line 2 column 11)" },
  ],
  ["of a duplicate key is one of spelling", '{ "vault": 1, "vault": 1 }', { kind: "spelling" }],
  [
    "of a missing key has the path of that key",
    '{ "vault": {}, "services": {} }',
    { kind: "missing-key", path: ["vault", "address"] },
  ],
  [
    "of an unknown key has its path, and the schema of its object",
    '{ "vault": { "address": "https://a", "login": { "path": "a", "secret": 1 } }, "services": {} }',
    {
      kind: "unknown-key",
      path: ["vault", "login", "secret"],
      schema: { properties: expect.objectContaining({ path: expect.anything() }) },
    },
  ],
  [
    "of a wrong value has its path, and the schema that it does not fit",
    '{ "vault": { "address": "http://a", "login": { "path": "a" } }, "services": {} }',
    { kind: "shape", path: ["vault", "address"], schema: configSchema.$defs?.https ?? {} },
  ],
  [
    "in a list has the place in the list",
    '{ "vault": { "address": "https://a", "login": { "path": "a" } }, "services": { "app": {' +
      ' "match": { "container": { "Image": "sha256:' +
      "0".repeat(64) +
      '" } }, "token": { "create": "a" }, "relax": ["init", "all"] } } }',
    {
      kind: "shape",
      path: ["services", "app", "relax", "1"],
      schema: configSchema.$defs?.relaxation ?? {},
    },
  ],
])("a flaw %s", (_, text, flaw) => {
  expect(findFlaw(text)).toMatchObject(flaw);
});
