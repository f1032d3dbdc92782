// Question: what does each promise of the server cost? Asked of copies of it that break one: a grant
// of such a copy over a whole one, in turn. What is left of both when all are broken is the way from
// the container to the server and back, and the first look at who is there.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { placePrograms } from "../scripts/package.ts";
import { ask } from "./asking.ts";
import type { Round } from "./figures.ts";
import { connectFloor, repeat, roundOf } from "./floor.ts";
import { interleave } from "./interleave.ts";
import { Report, type Scale } from "./part.ts";
import { app, type Server, Stage } from "./stage.ts";

/** In a file of the copy, a text that is there exactly once, and what is put in its place. */
type Change = [file: string, text: string, by: string];

/** By what a copy does without: invariants 3, 6 and 9. */
const broken: Record<string, Change[]> = {
  "the second look": [
    [
      "server/grant.js",
      "processNow = readProcess(peer.pid, isClose);",
      "processNow = facts.process;",
    ],
  ],
  "the lease on file": [
    ["server/lease-files.js", "    writeFileSync(", "    void ("],
    ["server/lease-files.js", "    renameSync(unfinished", "    void (unfinished"],
    ["server/lease-files.js", "    renameSync(this.#path(from)", "    void (this.#path(from)"],
  ],
  "the audit line": [["server/grant.js", 'await record("granted"', 'void ("granted"']],
};

function change(directory: string, [file, text, by]: Change): void {
  const path = join(directory, file);
  const [before = "", after, ...more] = readFileSync(path, "utf8").split(text);
  if (after === undefined || more.length > 0)
    throw new Error(`${file}: "${text}" is to be there once: bench/promises.ts goes by it`);
  writeFileSync(path, before + by + after);
}

export async function measurePromises({ quick }: Scale): Promise<Report> {
  const report = new Report("what does each promise cost?", { quick });
  const levels = quick ? [1] : [1, 16];
  const rounds = quick ? 2 : 13;
  await using stage = await Stage.start();
  const askers = await stage.containers("asker", Math.max(...levels));
  const floor = await connectFloor(stage, askers[0]?.id ?? "");
  const bare = async () => [await floor.inspect(), await floor.create()];

  const copies = { ...broken, "all three": Object.values(broken).flat() };
  for (const [what, changes] of Object.entries(copies)) {
    const directory = join(stage.directory, what);
    await placePrograms(directory);
    for (const one of changes) change(directory, one);
  }
  for (const atOnce of levels) {
    const samples = roundOf(atOnce, quick);
    const arms: Record<string, () => Promise<Round>> = {
      floor: () => repeat(bare, samples, atOnce),
    };
    // Of each level its own, as in grant.ts.
    const servers: Server[] = [];
    for (const what of ["whole", ...Object.keys(copies)]) {
      const name = `${what} ${atOnce}`.replaceAll(" ", "-");
      const programs = what === "whole" ? "host" : what;
      const server = await stage.server(name, { app }, {}, programs);
      servers.push(server);
      arms[what] = () => ask(askers.slice(0, atOnce), server.socket, samples);
    }
    const id = `${atOnce} at once`;
    const measured = await interleave(id, arms, rounds, quick ? 1 : 4);
    for (const server of servers) await server.end();
    const { floor: bareRounds = [], whole = [], ...without } = measured;
    report.add(`${id}, whole`, whole);
    report.compareBoth(`${id}, whole over the floor`, ["whole", whole], ["floor", bareRounds]);
    for (const [what, less] of Object.entries(without)) {
      report.add(`${id}, without ${what}`, less);
      report.compareBoth(`${id}, without ${what}`, [what, less], ["whole", whole]);
    }
    const none: [string, Round[]] = ["without all three", without["all three"] ?? []];
    report.compareBoth(`${id}, without all three, over the floor`, none, ["floor", bareRounds]);
  }
  report.notes.push(
    "a copy that breaks a promise is a way to measure it, and is offered to nobody",
  );
  return report;
}
