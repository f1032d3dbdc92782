import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  MalformedReference,
  parseValue,
  printReference,
  type Reference,
  type ValueSegment,
} from "../client/reference.ts";

type Vector = {
  shows: string;
  value: string;
  parts?: ValueSegment[] | null;
  error?: { index: number };
};

const directory = join(import.meta.dirname, "vectors");

describe("the grammar's vectors", () => {
  for (const name of readdirSync(directory)) {
    const vector: Vector = JSON.parse(readFileSync(join(directory, name), "utf8"));
    test(`${name.replace(".json", "")}: ${vector.shows}`, () => {
      if (vector.error) {
        expect(() => parseValue(vector.value)).toThrow(
          expect.objectContaining({ index: vector.error.index }),
        );
      } else {
        expect(parseValue(vector.value) ?? null).toEqual(vector.parts);
      }
    });
  }
});

/** Text without a mark of the grammar, so that what is printed has one reading. */
const word = fc.stringMatching(/^[A-Za-z0-9_ %?=&-]{1,12}$/);
const path = fc.array(word, { minLength: 1, maxLength: 4 }).map((segments) => segments.join("/"));
const reference: fc.Arbitrary<Reference> = fc.oneof(
  fc.constant<Reference>({ kind: "login" }),
  fc.record({ kind: fc.constant("read" as const), path, key: word }),
  fc.record({
    kind: fc.constant("read" as const),
    path,
    key: word,
    version: fc.integer({ min: 1, max: 999_999_999_999_999 }),
  }),
  fc.record({
    kind: fc.constant("read" as const),
    path,
    key: word,
    otherwise: fc.stringMatching(/^[A-Za-z0-9_ %?=&#:/-]{0,12}$/),
  }),
  fc.record({
    kind: fc.constant("write" as const),
    path,
    key: word,
    body: fc.dictionary(fc.string(), fc.jsonValue()).map((body) => JSON.stringify(body)),
  }),
);

test("a printed reference is parsed as the same reference", () => {
  fc.assert(
    fc.property(reference, (wanted) => {
      expect(parseValue(printReference(wanted))).toEqual([wanted]);
    }),
  );
});

test("references keep their places between any text", () => {
  const text = fc.stringMatching(/^[^$]{1,10}$/).filter((each) => !/^(>>)?vault:/.test(each));
  fc.assert(
    fc.property(text, reference, text, reference, (before, first, between, second) => {
      const value = `${before}\${${printReference(first)}}${between}\${${printReference(second)}}`;
      expect(parseValue(value)).toEqual([before, first, between, second]);
    }),
  );
});

test("any value has references, none, or is malformed at an index within it", () => {
  const mark = fc.constantFrom("vault:", ">>vault:", "${", "}", "#", "/", "..", '{"a":', '"', "1");
  const value = fc.array(fc.oneof(mark, fc.string({ maxLength: 5 })), { maxLength: 12 });
  fc.assert(
    fc.property(value, (pieces) => {
      const text = pieces.join("");
      try {
        parseValue(text);
      } catch (error) {
        if (!(error instanceof MalformedReference)) throw error;
        expect(error.index).toBeGreaterThanOrEqual(0);
        expect(error.index).toBeLessThanOrEqual(text.length);
      }
    }),
    { numRuns: 5000 },
  );
});
