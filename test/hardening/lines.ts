// Question: does server/peers.ts hear what the helper says, wherever the pipe cuts it?
// Input:    the real server/peers.ts and its helper, in whose words ours are put. A label may be
//           anything but a newline or a NUL: the kernel's security module says it.
// Promise:  a property that fails where a line is lost, joined, forged or heard otherwise.
import type { ChildProcess } from "node:child_process";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import fc from "fast-check";
import type { Peer } from "../../server/peercred.ts";
import { listen, peerFrom } from "../../server/peercred.ts";

type Heard = { name: string; values: unknown[] };

/** The helper of the next listen(). */
function nextChild(): Promise<ChildProcess> {
  const { promise, resolve } = Promise.withResolvers<ChildProcess>();
  const hear = (message: unknown) => {
    unsubscribe("child_process", hear);
    resolve((message as { process: ChildProcess }).process);
  };
  subscribe("child_process", hear);
  return promise;
}

export class Ear {
  readonly #child: ChildProcess;
  readonly #directory: string;
  readonly #heard: Heard[] = [];

  private constructor(child: ChildProcess, directory: string) {
    this.#child = child;
    this.#directory = directory;
  }

  static async open(): Promise<Ear> {
    const directory = mkdtempSync(join(tmpdir(), "authproxy-lines-"));
    const child = nextChild();
    const { heard } = listen(join(directory, "s"));
    const ear = new Ear(await child, directory);
    await once(heard, "ready");
    heard.emit = (name, ...values) => ear.#heard.push({ name: String(name), values }) > 0;
    return ear;
  }

  /** What is heard when the helper says this, one piece after the other. */
  hear(pieces: Buffer[]): Heard[] {
    this.#heard.length = 0;
    for (const piece of pieces) this.#child.stdout?.push(piece);
    return [...this.#heard];
  }

  [Symbol.dispose](): void {
    this.#child.removeAllListeners("close").kill("SIGKILL");
    rmSync(this.#directory, { recursive: true });
  }
}

const text = fc.string({ unit: "binary" }).filter((value) => !/[\n\0]/.test(value));
const number = fc.nat(2 ** 32 - 1);
const id = fc.bigInt({ min: 1n, max: 2n ** 64n - 1n }).map(String);
const label = fc.oneof(text, fc.constantFrom("", "docker-default (enforce)", "exit 5", " "));
const pid = fc.integer({ min: 1, max: 2 ** 22 });
const peer: fc.Arbitrary<Peer> = fc.record(
  { id, pid, uid: number, gid: number, groups: fc.array(number), label },
  { noNullPrototype: true },
);

const announced = (p: Peer) =>
  `peer ${p.id} ${p.pid} ${p.uid} ${p.gid} ${p.groups.map((group) => `${group},`).join("")} ${p.label}`;
const others = fc.oneof(
  fc
    .tuple(fc.constantFrom("answered", "exit", "watching", "drop"), id, text)
    .map((w) => w.join(" ")),
  text,
);

/** Lines, and where the pipe cuts them. */
const speech = fc.record({
  said: fc.array(fc.oneof(peer, others)),
  cuts: fc.array(fc.nat(2000)),
});

export const everyLineIsHeard = (ear: Ear) =>
  fc.property(speech, ({ said, cuts }) => {
    const lines = said.map((line) => (typeof line === "string" ? line : announced(line)));
    const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(""));
    const places = [0, ...cuts, bytes.length].map((at) => Math.min(at, bytes.length));
    places.sort((a, b) => a - b);
    const pieces = places.slice(1).map((end, i) => bytes.subarray(places[i], end));
    const heard = ear.hear(pieces.filter((piece) => piece.length > 0));
    const expected = lines.flatMap((line) => {
      const [verb = "", name = "", ...words] = line.split(" ");
      return [
        { name: verb, values: [name, words] },
        { name: `${verb} ${name}`, values: [words[0]] },
      ];
    });
    if (!isDeepStrictEqual(heard, expected)) throw new Error(`heard ${JSON.stringify(heard)}`);
    for (const [i, line] of said.entries()) {
      const [name, words] = (heard[2 * i]?.values ?? []) as [string, string[]];
      if (typeof line !== "string" && !isDeepStrictEqual(peerFrom(name, words), line))
        throw new Error(`a peer is another: ${JSON.stringify(peerFrom(name, words))}`);
    }
  });
