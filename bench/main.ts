// npm run bench [-- [--quick] [--out DIRECTORY] [PART …]]
//
// Question: how fast is authproxy, how small, and how does it grow; beside the floor, and beside what
// a user would take instead? Each part is one run: what it compares was measured in turn, round by
// round, and nothing is compared across runs.
//
//   grant      a grant over the bare calls
//   promises   what each promise of the server costs
//   start      from a program's start to the application, with a secret
//   peers      Custodia and OpenBao's proxy beside ours: time, memory, size
//   growth     services, leases, many starts at once
//   isolation  honest containers beside flooding ones
//   runtime    starts by the runtime, beside plain runc
//   pods       a grant to a pod's container, over the bare calls
//   vault      what each call costs Vault (docs/scale.md)
//
// Output: a table for each part; results.json, plots as SVG and all of it as a page in DIRECTORY,
// bench/results unless told otherwise (a part that was not run keeps its former figures); and there the
// table of docs/scale.md. --quick runs each part in seconds, to see that it works: too few rounds to
// believe, so its output needs a DIRECTORY of its own.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { measureGrant } from "./grant.ts";
import { measureGrowth } from "./growth.ts";
import { measureIsolation } from "./isolation.ts";
import { describeMachine, load } from "./machine.ts";
import { page, type Results } from "./page.ts";
import type { Report, Scale } from "./part.ts";
import { measurePeers } from "./peers.ts";
import { plots } from "./plots.ts";
import { measurePods } from "./pods.ts";
import { measurePromises } from "./promises.ts";
import { measureRuntime } from "./runtime.ts";
import { scaleTable } from "./scale.ts";
import { Stage } from "./stage.ts";
import { measureStart } from "./start.ts";
import { say, table } from "./terminal.ts";
import { measureVault } from "./vault.ts";

const parts: Record<string, (scale: Scale) => Promise<Report>> = {
  grant: measureGrant,
  promises: measurePromises,
  start: measureStart,
  peers: measurePeers,
  growth: measureGrowth,
  isolation: measureIsolation,
  runtime: measureRuntime,
  pods: measurePods,
  vault: measureVault,
};
const docs = join(import.meta.dirname, "../docs");
const published = join(import.meta.dirname, "results");
const SCALE_TABLE = /(<!-- written by npm run bench -->\n)[\s\S]*?(\n<!-- end -->)/;

function write(directory: string, name: string, report: Report): void {
  mkdirSync(directory, { recursive: true });
  const file = join(directory, "results.json");
  const former: Partial<Results> = existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : {};
  const measured: Results["parts"] = { ...former.parts, [name]: report };
  const known = Object.keys(parts).filter((part) => measured[part]);
  const ordered = Object.fromEntries(known.map((part) => [part, measured[part] ?? report]));
  const results = { machine: describeMachine(), parts: ordered };
  const drawn = plots(ordered);
  writeFileSync(file, `${JSON.stringify(results, null, 2)}\n`);
  for (const [plot, text] of Object.entries(drawn)) writeFileSync(join(directory, plot), text);
  writeFileSync(join(directory, "README.md"), page(results, Object.keys(drawn)));
  if (name !== "vault" || directory !== published) return;
  const scale = join(docs, "scale.md");
  const text = readFileSync(scale, "utf8");
  writeFileSync(scale, text.replace(SCALE_TABLE, `$1\n${scaleTable(report)}\n$2`));
}

async function main(): Promise<number> {
  const options = { quick: { type: "boolean" }, out: { type: "string" } } as const;
  const { values, positionals } = parseArgs({ options, allowPositionals: true });
  const { quick = false, out = quick ? undefined : published } = values;
  const names = positionals.length > 0 ? positionals : Object.keys(parts);
  const unknown = names.find((name) => !Object.hasOwn(parts, name));
  if (unknown) {
    say(`error: no part ${unknown}; there are ${Object.keys(parts).join(", ")}`);
    return 64;
  }
  if (process.getuid?.() !== 0) {
    say("error: needs root, as the server does (try: sudo)");
    return 77;
  }
  for (const name of names) {
    const startedMs = performance.now();
    say(`${name}: begins, load ${load()}`);
    const report = await parts[name]?.({ quick });
    if (!report) continue;
    process.stdout.write(`${table(name, report)}\n`);
    if (out) write(out, name, report);
    say(`${name}: took ${Math.round((performance.now() - startedMs) / 1000)} s`);
  }
  if (out) say(`written to ${out}`);
  return 0;
}

for (const signal of ["SIGHUP", "SIGINT", "SIGTERM"] as const)
  process.once(signal, async () => {
    say(`${signal}: cleaning up`);
    for (const stage of Stage.open) await stage[Symbol.asyncDispose]();
    process.exit(128 + constants.signals[signal]);
  });
process.exit(await main());
