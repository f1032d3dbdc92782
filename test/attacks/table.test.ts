// The table in docs/attacks.md is of this suite, and whole.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { attacks, document, rowsOf } from "./table.ts";

const rows = rowsOf(readFileSync(document, "utf8"));
const order = new Intl.Collator("en", { numeric: true });

test("the document has each attack of the suite once, in order, and no other", () => {
  expect([...rows.keys()]).toEqual(Object.keys(attacks).sort(order.compare));
});

test.each(Object.entries(attacks))(
  "attack %s has its name and all of its cells",
  (number, what) => {
    const cells = rows.get(number)?.split(" | ") ?? [];
    expect(cells[1]).toBe(what);
    expect(cells).toHaveLength(6);
    expect(cells.join()).not.toMatch(/not run|undefined/);
  },
);

test("each attack has tests", () => {
  const here = readdirSync(import.meta.dirname).filter((name) => name.endsWith(".test.ts"));
  const files = [...here, "../kubernetes/attacks.kube.ts"];
  const text = files.map((name) => readFileSync(join(import.meta.dirname, name), "utf8")).join();
  const tested = [...text.matchAll(/(?:attack\(|number: )"(\w+)"/g)].map(([, number]) => number);
  expect([...new Set(tested)].sort()).toEqual(Object.keys(attacks).sort());
});
