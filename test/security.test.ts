// Is SECURITY.md's table of invariants true of this tree? Each place that it names exists and says
// which invariant it enforces, each test that it names exists by that title, and no place speaks of
// an invariant that the table does not give it.
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";

const root = join(import.meta.dirname, "..");
const read = (file: string) => readFileSync(join(root, file), "utf8");

type Row = { number: string; places: Named[]; tests: Named[] };
type Named = { file: string; names: string[] };

const rows: Row[] = [
  ...read("SECURITY.md").matchAll(/^\| (\d+) \| [^|]+ \| ([^|]+) \| ([^|]+) \|$/gm),
].map(([, number = "", places = "", tests = ""]) => ({
  number,
  places: places.split("; ").map((text) => named(text, /`([^`]+)`/g)),
  tests: tests.split("; ").map((text) => named(text, /"([^"]+)"/g)),
}));

function named(text: string, name: RegExp): Named {
  const [file = ""] = text.split(" ", 1);
  return { file, names: [...text.matchAll(name)].map(([, found = ""]) => found) };
}

/** The invariants that a file's comments speak of. */
function spokenOf(file: string): string[] {
  const said = read(file).matchAll(/invariants? (\d+)(?:(?:, | and )(\d+))*/gi);
  return [...said].flatMap(([text]) => text.match(/\d+/g) ?? []);
}

test("the table has the twelve invariants", () => {
  expect(rows.map(({ number }) => number)).toEqual(
    Array.from({ length: 12 }, (_, i) => `${i + 1}`),
  );
});

describe.each(rows)("invariant $number", ({ number, places, tests }) => {
  test.each(places)("is marked in $file, at $names", ({ file, names }) => {
    expect(spokenOf(file)).toContain(number);
    expect(names.length).toBeGreaterThan(0);
    for (const name of names) expect(read(file)).toMatch(new RegExp(`\\b${name}\\b`));
  });

  test.each(tests)("is shown in $file by $names", ({ file, names }) => {
    expect(names.length).toBeGreaterThan(0);
    for (const title of names) expect(read(file)).toContain(`"${title}"`);
  });
});

test.each(globSync("{server,client}/*.{ts,c}", { cwd: root }))(
  "%s speaks of no invariant that the table does not place there",
  (file) => {
    const placed = rows.filter(({ places }) => places.some((place) => place.file === file));
    const numbers = placed.map(({ number }) => number);
    expect(numbers).toEqual(expect.arrayContaining(spokenOf(file)));
  },
);
