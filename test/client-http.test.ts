import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseResponse } from "../client/https.ts";

const head = "HTTP/1.1 200 OK\r\n";
const read = (text: string) => parseResponse(Buffer.from(text));

describe("a complete response is read", () => {
  const cases: Record<string, [text: string, body: string]> = {
    "by its length": [`${head}Content-Length: 4\r\n\r\nbody`, "body"],
    "in chunks": [
      `${head}Transfer-Encoding: chunked\r\n\r\n3\r\nbod\r\nA\r\n0123456789\r\n0\r\n\r\n`,
      "bod0123456789",
    ],
    "without a body": ["HTTP/1.1 204 No Content\r\n\r\n", ""],
    "with other headers twice": [`${head}Vary: a\r\nvary: b\r\ncontent-length:1\r\n\r\nx`, "x"],
  };
  for (const [name, [text, body]] of Object.entries(cases)) {
    test(name, () => {
      expect(read(text)).toMatchObject({ body, length: text.length, closes: false });
      expect(read(`${text}HTTP/1.1`), "the next response is left").toMatchObject({
        length: text.length,
      });
      for (let cut = 0; cut < text.length; cut++) {
        expect(read(text.slice(0, cut)), `cut at ${cut}`).toBeUndefined();
      }
    });
  }
  test("with the announcement that the connection closes", () => {
    expect(read(`${head}Connection: Close\r\nContent-Length: 0\r\n\r\n`)?.closes).toBe(true);
  });
});

describe("the parser refuses", () => {
  const cases: Record<string, string> = {
    "another protocol": "HTTP/2 200\r\n\r\n",
    "an interim response": "HTTP/1.1 100 Continue\r\n\r\n",
    "no length": `${head}\r\n`,
    "two lengths": `${head}Content-Length: 4\r\nContent-Length: 4\r\n\r\nbody`,
    "a length and chunks": `${head}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    "another encoding": `${head}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`,
    "a signed length": `${head}Content-Length: +4\r\n\r\nbody`,
    "a chunk size with a sign": `${head}Transfer-Encoding: chunked\r\n\r\n-1\r\n`,
    "a chunk that is longer than it says": `${head}Transfer-Encoding: chunked\r\n\r\n1\r\nabcdef`,
    "a header with a space before its colon": `${head}Content-Length : 4\r\n\r\nbody`,
    "a folded header": `${head}X: a\r\n b\r\nContent-Length: 0\r\n\r\n`,
    "a head without an end": `${head}X: ${"a".repeat(16 * 1024)}`,
  };
  for (const [name, text] of Object.entries(cases)) {
    test(name, () => {
      expect(() => read(text)).toThrow("malformed answer");
    });
  }
});

describe("an answer is too long", () => {
  const chunked = `${head}Transfer-Encoding: chunked\r\n\r\n`;
  test.each([
    ["above 200 MiB", `${head}Content-Length: 209715201\r\n\r\n`],
    ["of a length that is not a safe number", `${head}Content-Length: 1${"0".repeat(400)}\r\n\r\n`],
    ["in one chunk", `${chunked}C800001\r\n`],
    ["in two chunks", `${chunked}1\r\nx\r\nC800000\r\n`],
  ])("%s", (_, text) => {
    expect(() => read(text)).toThrow(/^an answer of Vault is too long/);
  });
  test("but not where it has just the length that Vault's can have", () => {
    expect(read(`${head}Content-Length: 209715200\r\n\r\n`)).toBeUndefined();
    expect(read(`${chunked}C800000\r\n`)).toBeUndefined();
  });
});

test("any bytes are a response, incomplete or refused", () => {
  const piece = fc.oneof(
    fc.constantFrom(
      head,
      "\r\n",
      "Content-Length: 2",
      "Transfer-Encoding: chunked",
      "0",
      "2",
      "xy",
    ),
    fc.string({ maxLength: 4 }),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
      const bytes = Buffer.from(pieces.join(""));
      try {
        const response = parseResponse(bytes);
        if (response) expect(response.length).toBeLessThanOrEqual(bytes.length);
      } catch (error) {
        expect(String(error)).toContain("malformed answer");
      }
    }),
    { numRuns: 5000 },
  );
});
