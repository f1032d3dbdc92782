// Question: what is a reference, and what is the application's own text?
//
// Covered beside what users reported (vault://, vault:8200, vault:1.13, quotes of --env-file): lists of
// hosts, ports with paths, digests, volumes, URIs with fragments, ciphertexts alone and in JSON, users
// called vault in URLs; each of them also in ${…}, beside a reference, and behind AUTHPROXY_SET_…. Mistakes:
// quotes of both kinds, white space, capital letters, a missing or empty part of the path, a missing "#",
// braces of other template languages, a reference in a text or in JSON without ${}.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { environmentOf } from "../cli/environment.ts";
import { planEnvironment } from "../client/environment.ts";
import { Failure } from "../client/failure.ts";
import {
  findMistake,
  MalformedReference,
  parseValue,
  printReference,
  type Reference,
  type ValueSegment,
} from "../client/reference.ts";
import { asksForSecrets } from "../runtime/wrapper.ts";

type Vector = {
  shows: string;
  value: string;
  parts?: ValueSegment[] | null;
  error?: { index: number };
  /** A reference seems to be meant. */
  warns?: boolean;
};

const directory = join(import.meta.dirname, "vectors");

const vectors = readdirSync(directory).map((name): [name: string, vector: Vector] => {
  const vector: Vector = JSON.parse(readFileSync(join(directory, name), "utf8"));
  return [`${name.replace(".json", "")}: ${vector.shows}`, vector];
});

describe("the grammar's vectors", () => {
  test.each(vectors)("%s", (_, { value, parts, error, warns = false }) => {
    if (error) {
      expect(() => parseValue(value)).toThrow(expect.objectContaining({ index: error.index }));
      return;
    }
    const segments = parseValue(value);
    expect(segments ?? null).toEqual(parts);
    expect(findMistake(value, segments) !== undefined, "a warning").toBe(warns);
  });
});

/** As the runtime wrapper sees the environment, and as the client does. */
function decisions(variables: Record<string, string>) {
  const env = Object.entries(variables).map(([name, value]) => `${name}=${value}`);
  const { AUTHPROXY_PLAIN } = variables;
  let client: boolean;
  try {
    const plainNames = AUTHPROXY_PLAIN?.split(",");
    client = planEnvironment(variables, [], plainNames).secretVariables.length > 0;
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    client = true;
  }
  return { client, wrapper: asksForSecrets({ process: { env } }) };
}

describe("the client, the runtime wrapper and `authproxy suggest` agree that", () => {
  test.each(vectors)("%s", (_, { value, parts, error }) => {
    const isMeant = error !== undefined || parts !== null;
    for (const name of ["X", "AUTHPROXY_SET_X", "x.y-z_FILE"]) {
      expect(decisions({ A: "", [name]: value })).toEqual({ client: isMeant, wrapper: isMeant });
    }
    for (const name of ["AUTHPROXY_X", "AUTHPROXY_SET_", "AUTHPROXY_SET_AUTHPROXY_X"]) {
      expect(decisions({ [name]: value })).toEqual({ client: false, wrapper: false });
    }

    // A policy shows a value only where it is a reference that hides nothing of the application's.
    const [part, ...others] = parts ?? [];
    const isBare = typeof part === "object" && others.length === 0 && part.kind !== "write";
    const isShown = isBare && !("otherwise" in part && part.otherwise) && !value.endsWith("app#?");
    const { withheld } = environmentOf([`X=${value}`], []);
    expect(withheld).toEqual(isShown ? [] : ["X"]);
  });

  test.each(vectors)("no variable that --plain names is one: %s", (_, { value }) => {
    const none = { client: false, wrapper: false };
    const plain = { AUTHPROXY_PLAIN: "W,X" };
    expect(decisions({ ...plain, X: value })).toEqual(none);
    expect(decisions({ ...plain, AUTHPROXY_SET_X: value })).toEqual(none);
    expect(decisions({ ...plain, Y: "vault:a/b#c" })).toEqual({ client: true, wrapper: true });
    expect(environmentOf([`X=${value}`, "AUTHPROXY_PLAIN=W,X"], []).withheld).toEqual(["X"]);
  });

  test("any environment has a reference or none", () => {
    const name = fc.constantFrom(
      "X",
      "Y_FILE",
      "AUTHPROXY_SET_X",
      "AUTHPROXY_PLAIN",
      "AUTHPROXY_Y",
    );
    const value = fc.oneof(fc.constantFrom("X", "Y_FILE,X", "", "vault:8200"), marks);
    fc.assert(
      fc.property(fc.dictionary(name, value), (variables) => {
        const { client, wrapper } = decisions(variables);
        // The client is also needed where AUTHPROXY_SET_X replaces a reference by a plain value.
        const { AUTHPROXY_SET_X, ...replaced } = variables;
        expect(wrapper).toBe(client || decisions(replaced).client);
      }),
      { numRuns: 2000 },
    );
  });
});

test("a long value is looked at in time that grows with its length", () => {
  // 128 KiB is the longest variable there can be; in time that grows with its square this takes minutes.
  for (const piece of [
    "${vault:",
    "vault:",
    "vault:a/",
    "${vault:a/b",
    "Vault:/",
    "/",
    '"',
    "vault:a/#",
    ">",
  ]) {
    const value = `${piece.repeat((128 * 1024) / piece.length)}x vault:`;
    try {
      findMistake(value, parseValue(value));
    } catch (error) {
      expect(error).toBeInstanceOf(MalformedReference);
    }
  }
});

/** Text of the grammar's marks. */
const mark = fc.constantFrom("vault:", ">>vault:", "${", "}", "#", "/", "..", '{"a":', '"', "1");
const marks = fc
  .array(fc.oneof(mark, fc.string({ maxLength: 5 })), { maxLength: 12 })
  .map((pieces) => pieces.join(""));

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
  fc.record({ kind: fc.constant("read" as const), path, key: word, isBase64: fc.constant(true) }),
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
  fc.assert(
    fc.property(marks, (text) => {
      try {
        findMistake(text, parseValue(text));
      } catch (error) {
        if (!(error instanceof MalformedReference)) throw error;
        expect(error.index).toBeGreaterThanOrEqual(0);
        expect(error.index).toBeLessThanOrEqual(text.length);
      }
    }),
    { numRuns: 5000 },
  );
});
