// Question: which lines of the server are worth trying on the helper?
// Output:   inputs for commands.c, which says what their special bytes mean: written by the server
//           and then cut, joined and spoiled; and all that was ever found.
import { join } from "node:path";
import fc from "fast-check";

/** What the server tells a helper, about peers that commands.c knows. */
const spoken = [
  'grant \x80 {"service":"app","token":"hvs.CAES","wrapped":false,"ttl":3600,"renewable":true}\n',
  'refuse \x80 {"error":"refused"}\n',
  'refuse \x81 {"error":"unavailable"}\n',
  'grant \x82 {"service":"app","token":"hvs.CAES"}\n',
  'grant \x83 {"service":"app","token":"hvs.CAES"}\n',
  "watch 1\n",
  "owner 1\n",
];

/** Each was once answered with what lies behind it in memory. */
const found = ["\nrefuse \x80 no\n", "grant\n\x80 the-token\n"];

const word = fc.oneof(
  fc.constantFrom(
    "grant",
    "refuse",
    "watch",
    "owner",
    " ",
    "\n",
    "\0",
    "\t",
    "-",
    "+",
    "0",
    "2147483647",
  ),
  fc.constantFrom("18446744073709551615", "99999999999999999999", "4294967297"),
  fc.constantFrom("\x80", "\x80", "\x81", "\x82", "\x83", "\xff"),
  fc.constantFrom(...spoken, ...found),
  fc.string({ unit: "binary-ascii" }),
);
const broken = fc
  .tuple(fc.constantFrom(...spoken, ...found), fc.nat(90), word, fc.nat(3))
  .map(([line, at, text, less]) => line.slice(0, at) + text + line.slice(at + less));

export const commands: fc.Arbitrary<Uint8Array> = fc
  .oneof(fc.array(word), fc.array(fc.oneof(broken, fc.constantFrom(...spoken))))
  .map((words) => Buffer.from(words.join(""), "latin1").subarray(0, 4096));

/** To begin with. */
export const known: Uint8Array[] = [...spoken, ...found].map((text) => Buffer.from(text, "latin1"));

export const target = join(import.meta.dirname, "commands.c");
