// Question: does server/protobuf.ts read what was written, and refuse all else, whatever the bytes?
// Input:    messages of any fields, those that an engine has said, and both with bytes changed, left out
//           or added.
// Promise:  a property that fails where a field is lost or forged, or where the reader throws another
//           error than its own. That it ends is the test's own time.
import fc from "fast-check";
import { Message } from "../../server/protobuf.ts";
import { entries, message, type Value } from "../containerd.ts";
import { recordings } from "../cri-stand-in.ts";

/** Text, numbers and messages, in each other. */
const value = fc.letrec<{ value: Value }>((tie) => ({
  value: fc.oneof(
    { depthSize: "small" },
    fc.string(),
    fc.nat(2 ** 31),
    fc.bigInt(0n, 2n ** 64n - 1n),
    fc.dictionary(fc.integer({ min: 1, max: 2 ** 20 }).map(String), tie("value")),
  ),
})).value;
const unknown = fc.dictionary(fc.integer({ min: 100, max: 2 ** 29 - 1 }).map(String), value);

/** What nobody asks for stands around it. */
export const whatWasWrittenIsRead = fc.property(
  fc.string(),
  fc.nat(),
  fc.array(fc.string()),
  fc.dictionary(fc.string(), fc.string()),
  unknown,
  (text, number, texts, map, others) => {
    const written = { 1: text, 2: number, 3: texts, 4: entries(map), 5: { 1: text }, ...others };
    const read = new Message(message(written));
    const seen = [read.text(1), read.number(2), read.texts(3), read.message(5).text(1)];
    return (
      JSON.stringify(seen) === JSON.stringify([text, number, texts, text]) &&
      Object.entries(map).every(([key, one]) => read.map(4)[key] === one)
    );
  },
);

const said = recordings.flatMap(({ answers }) =>
  Object.values(answers).map((text) => Buffer.from(text, "base64")),
);
const changes = fc.array(fc.record({ at: fc.nat(), byte: fc.nat(255), isCut: fc.boolean() }));

export const anyBytesAreReadOrRefused = fc.property(
  fc.oneof(fc.uint8Array(), fc.constantFrom(...said), unknown.map(message)),
  changes,
  (original, changed) => {
    let bytes = Buffer.from(original);
    for (const { at, byte, isCut } of changed) {
      if (isCut) bytes = bytes.subarray(0, at % (bytes.length + 1));
      else if (bytes.length > 0) bytes[at % bytes.length] = byte;
    }
    return isReadOrRefused(bytes);
  },
);

/** As deep as cri.ts reads. */
function isReadOrRefused(bytes: Buffer): boolean {
  try {
    const read = new Message(bytes);
    for (let field = 1; field < 20; field++) {
      for (const inner of read.messages(field)) inner.map(1);
      read.number(field);
    }
    return true;
  } catch (error) {
    return (error as Error).message === "not a protobuf message";
  }
}
