// Question: does server/peercred.ts hear what peercred says, wherever the pipe cuts it?
// Input:    the real server/peercred.ts and its helper, whose words are replaced by ours. A label may be
//           anything but a newline or a NUL: the kernel's security module says it.
// Promise:  a property that fails where a line is lost, joined, forged or heard otherwise, where an
//           answer or an exit goes to another request, or where a line that is not in the protocol is
//           passed over.
import type { ChildProcess } from "node:child_process";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import fc from "fast-check";
import {
  DROP_REASONS,
  type DropReason,
  OUTCOMES,
  type Outcome,
  type Peer,
  Peercred,
} from "../../server/peercred.ts";

type Heard = { peer: Peer } | { drop: DropReason; peer: Pick<Peer, "pid" | "uid" | "gid"> };

/** The helper that is started next. */
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
  readonly peercred: Peercred;
  readonly heard: Heard[] = [];
  readonly #child: ChildProcess;
  readonly #directory: string;

  private constructor(peercred: Peercred, child: ChildProcess, directory: string) {
    this.peercred = peercred;
    this.#child = child;
    this.#directory = directory;
  }

  static async open(): Promise<Ear> {
    const directory = mkdtempSync(join(tmpdir(), "authproxy-lines-"));
    const child = nextChild();
    const ready = Promise.withResolvers<void>();
    const peercred = new Peercred(join(directory, "s"), {
      ready: () => ready.resolve(),
      peer: (peer) => ear.heard.push({ peer }),
      drop: (drop, peer) => ear.heard.push({ drop, peer }),
    });
    const ear = new Ear(peercred, await child, directory);
    await ready.promise;
    ear.#child.kill("SIGSTOP"); // its own answers to commands would mix with ours
    return ear;
  }

  /** The helper says this, one piece after the other. */
  say(pieces: Buffer[]): void {
    this.heard.length = 0;
    for (const piece of pieces) this.#child.stdout?.push(piece);
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
const dropped = fc.record({ pid, uid: number, gid: number }, { noNullPrototype: true });

/** What peercred says, and what the server is to make of it. */
type Said = { line: string; heard?: Heard; answers?: { id: string; outcome: Outcome } };

const announced: fc.Arbitrary<Said> = peer.map((p) => {
  const groups = p.groups.map((group) => `${group},`).join("");
  return {
    line: `peer ${p.id} ${p.pid} ${p.uid} ${p.gid} ${groups} ${p.label}`,
    heard: { peer: p },
  };
});
const drop: fc.Arbitrary<Said> = fc
  .tuple(fc.constantFrom(...DROP_REASONS), dropped)
  .map(([reason, p]) => ({
    line: `drop ${reason} ${p.pid} ${p.uid} ${p.gid}`,
    heard: { drop: reason, peer: p },
  }));
const answered: fc.Arbitrary<Said> = fc
  .tuple(id, fc.constantFrom(...OUTCOMES))
  .map(([id, outcome]) => ({ line: `answered ${id} ${outcome}`, answers: { id, outcome } }));

/** Lines, and where the pipe cuts them. The exit of a process follows its answer at once. */
const speech = fc.record({
  said: fc.uniqueArray(fc.oneof(announced, drop, answered), {
    selector: ({ line, answers }) => answers?.id ?? line,
  }),
  cuts: fc.array(fc.nat(2000)),
});

function cut(bytes: Buffer, cuts: number[]): Buffer[] {
  const positions = [0, ...cuts, bytes.length].map((position) => Math.min(position, bytes.length));
  positions.sort((a, b) => a - b);
  const pieces = positions.slice(1).map((end, i) => bytes.subarray(positions[i], end));
  return pieces.filter((piece) => piece.length > 0);
}

export const everyLineIsHeard = (ear: Ear) =>
  fc.asyncProperty(speech, async ({ said, cuts }) => {
    const expected = said.flatMap(({ answers }) => (answers ? [answers] : []));
    const deliveries = expected.map(({ id }) => ear.peercred.answer("grant", id, {}));
    const lines = said.flatMap(({ line, answers }) =>
      answers?.outcome === "sent" ? [line, `exit ${answers.id}`] : [line],
    );
    ear.say(cut(Buffer.from(lines.map((line) => `${line}\n`).join("")), cuts));

    const heard = said.flatMap((item) => (item.heard ? [item.heard] : []));
    if (!isDeepStrictEqual(ear.heard, heard)) throw new Error(`heard ${JSON.stringify(ear.heard)}`);
    for (const [i, delivery] of deliveries.entries()) {
      const { outcome, exited } = await delivery;
      if (outcome !== expected[i]?.outcome) throw new Error(`answer ${i} is ${outcome}`);
      await exited; // a lost exit never resolves, and the property times out
    }
  });

/** A line whose verb, reason or outcome is not in the protocol is a defect of peercred. */
export const otherLinesThrow = (ear: Ear) =>
  fc.asyncProperty(
    fc.oneof(
      text.filter((line) => !/^(ready|peer|drop|answered|watching|owner|exit)( |$)/.test(line)),
      text.map((word) => `drop ${word.replaceAll(" ", "")}? 1 2 3`),
    ),
    async (line) => {
      let thrown: unknown;
      try {
        ear.say([Buffer.from(`${line}\n`)]);
      } catch (error) {
        thrown = error;
      }
      if (!(thrown instanceof Error)) throw new Error(`passed over: ${JSON.stringify(line)}`);
    },
  );
