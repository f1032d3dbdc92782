// Question: is what the encoder writes DER, and what was meant?
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import * as der from "../client/keystore/der.ts";
import { deriveMacKey } from "../client/keystore/pkcs12.ts";

describe("the encoding is that of X.690 for", () => {
  test.each([
    ["X.690, 8.19.5", der.objectIdentifier("2.100.3"), "0603813403"],
    ["PKCS #7 data", der.objectIdentifier("1.2.840.113549.1.7.1"), "06092a864886f70d010701"],
    ["an arc of five octets", der.objectIdentifier("1.3.4294967295"), "06062b8fffffff7f"],
    ["zero", der.integer(0), "020100"],
    ["127", der.integer(127), "02017f"],
    ["128, not -128", der.integer(128), "02020080"],
    ["255", der.integer(255), "020200ff"],
    ["256", der.integer(256), "02020100"],
    ["10,000", der.integer(10_000), "02022710"],
    ["null", der.nullValue(), "0500"],
    ["text beyond 16 bits", der.bmpString("é😀"), "1e0600e9d83dde00"],
    ["[1] EXPLICIT", der.explicit(1, der.nullValue()), "a1020500"],
    [
      "a set, in order",
      der.set(der.integer(2), der.nullValue(), der.integer(1)),
      "31080201010201020500",
    ],
  ])("%s", (_, encoded, hex) => {
    expect(encoded.toString("hex")).toBe(hex);
  });
  test.each([
    [0, "0400"],
    [127, "047f"],
    [128, "048180"],
    [255, "0481ff"],
    [256, "04820100"],
    [65_535, "0482ffff"],
    [65_536, "0483010000"],
  ])("a length of %d, in as few octets as possible", (length, head) => {
    const content = randomBytes(length);
    const expected = Buffer.concat([Buffer.from(head, "hex"), content]);
    expect(der.octetString(content).equals(expected)).toBe(true);
  });
});

type Value = { tag: number; content: Buffer | Value[] };

/** Reads one value, and fails on what is not DER. */
function decode(bytes: Buffer): { value: Value; rest: Buffer } {
  const tag = bytes.readUInt8(0);
  let length = bytes.readUInt8(1);
  let start = 2;
  if (length >= 0x80) {
    const count = length & 0x7f;
    start += count;
    length = bytes.readUIntBE(2, count);
    expect(length, "the long form where the short one would do").toBeGreaterThanOrEqual(0x80);
    expect(bytes[2], "a leading zero").not.toBe(0);
  }
  expect(bytes.length).toBeGreaterThanOrEqual(start + length);
  const content = bytes.subarray(start, start + length);
  const value = { tag, content: tag & 0x20 ? decodeAll(content) : content };
  return { value, rest: bytes.subarray(start + length) };
}

function decodeAll(bytes: Buffer): Value[] {
  const values: Value[] = [];
  for (let left = bytes; left.length > 0; ) {
    const { value, rest } = decode(left);
    values.push(value);
    left = rest;
  }
  return values;
}

/** 8.19, read the other way round. */
function dotted(content: Buffer): string {
  const arcs: bigint[] = [];
  let arc = 0n;
  for (const octet of content) {
    arc = arc * 128n + BigInt(octet & 0x7f);
    if (octet < 0x80) {
      arcs.push(arc);
      arc = 0n;
    }
  }
  const [head = 0n, ...rest] = arcs;
  const first = head < 80n ? head / 40n : 2n;
  return [first, head - first * 40n, ...rest].join(".");
}

const arc = fc.integer({ min: 0, max: 2 ** 40 });
const identifier = fc.oneof(
  fc.tuple(fc.integer({ min: 0, max: 1 }), fc.integer({ min: 0, max: 39 }), arc),
  fc.tuple(fc.constant(2), fc.integer({ min: 0, max: 1000 }), arc),
);

type Case = { encoded: Buffer; value: Value };
const leaf = fc.oneof(
  fc.uint8Array({ maxLength: 300 }).map((bytes): Case => {
    const content = Buffer.from(bytes);
    return { encoded: der.octetString(content), value: { tag: 4, content } };
  }),
  fc.constant<Case>({ encoded: der.nullValue(), value: { tag: 5, content: Buffer.alloc(0) } }),
);
const { tree } = fc.letrec<{ tree: Case }>((tie) => ({
  tree: fc.oneof(
    { maxDepth: 5 },
    leaf,
    fc.array(tie("tree"), { maxLength: 5 }).map((members) => ({
      encoded: der.sequence(...members.map(({ encoded }) => encoded)),
      value: { tag: 0x30, content: members.map(({ value }) => value) },
    })),
    fc.tuple(fc.nat({ max: 30 }), tie("tree")).map(([number, { encoded, value }]) => ({
      encoded: der.explicit(number, encoded),
      value: { tag: 0xa0 + number, content: [value] },
    })),
  ),
}));

describe("an encoded value", () => {
  test("is decoded as the same value, with no byte left", () => {
    fc.assert(
      fc.property(tree, ({ encoded, value }) => {
        expect(decodeAll(encoded)).toEqual([value]);
      }),
    );
  });
  test("of an INTEGER is the number", () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), (number) => {
        const { value } = decode(der.integer(number));
        const content = value.content as Buffer;
        expect(BigInt.asIntN(64, BigInt(`0x${content.toString("hex")}`))).toBe(BigInt(number));
        expect((content[0] ?? 0) >> 7, "less than zero").toBe(0);
        if (content[0] === 0 && content.length > 1) expect((content[1] ?? 0) >> 7).toBe(1);
      }),
    );
  });
  test("of an OBJECT IDENTIFIER is that identifier", () => {
    fc.assert(
      fc.property(identifier, (arcs) => {
        const { value } = decode(der.objectIdentifier(arcs.join(".")));
        expect(dotted(value.content as Buffer)).toBe(arcs.join("."));
      }),
    );
  });
});

test("the key of a MAC is the one that OpenSSL derives", () => {
  for (const [password, saltBytes, rounds] of [
    ["p", 1, 1],
    ["a password that is longer than one block of SHA-256", 20, 3],
    ["0123456789abcdef0123456789abcde", 64, 10_000], // with its NUL 64 bytes: one whole block
    ["0123456789abcdef0123456789abcdef", 65, 2],
  ] as const) {
    const salt = randomBytes(saltBytes);
    // OpenSSL's KDF takes the password as PKCS #12 has it.
    const bytes = Buffer.from(`${password}\0`, "utf16le").swap16().toString("hex");
    const settings = ["digest:SHA256", `hexpass:${bytes}`, `hexsalt:${salt.toString("hex")}`];
    const options = [...settings, `iter:${rounds}`, "id:3"].flatMap((each) => ["-kdfopt", each]);
    const derived = execFileSync("openssl", ["kdf", "-keylen", "32", ...options, "PKCS12KDF"]);
    const expected = derived.toString().replaceAll(":", "").trim().toLowerCase();
    expect(deriveMacKey(password, salt, rounds).toString("hex")).toBe(expected);
  }
});
