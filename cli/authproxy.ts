#!/usr/bin/env node
// authproxy: the command for the people of a host. The daemon loads none of this. What it prints on
// standard output is the answer, for machines by --json; standard error says what went wrong, and
// what to do. Exit codes by sysexits(3), see terminal.ts; explain's are the server's answer.
import { accessSync, constants, createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import type { JsonObject } from "../server/json.ts";
import { readTrustedFile } from "../server/trusted-file.ts";
import { adviceLines, advise } from "./advise.ts";
import { askEngine, findContainer } from "./ask-engine.ts";
import { defaultFile, elsewhere, read, readConfig } from "./configuration.ts";
import { explain, explanationLines } from "./explain.ts";
import { type Flaw, flawsIn } from "./flaws.ts";
import { hostOf } from "./host.ts";
import { lastRefusal, refusalLines } from "./last.ts";
import { observe } from "./observe.ts";
import { hint, type Name, type Options, parse } from "./options.ts";
import { explainReason } from "./reasons.ts";
import { install, uninstall } from "./runtime.ts";
import { suggest } from "./suggest.ts";
import { EXIT, Failure, print, printable, printJson, remark } from "./terminal.ts";

delete process.env.DEBUG; // node-vault's libraries, loaded below, print tokens under it

type Run = (subject: string | undefined, options: Options) => Promise<number>;
const commands: Record<Name, Run> = {
  check,
  explain: explainOne,
  suggest: suggestOne,
  runtime,
  // What few people call is loaded for them only.
  provision: async (...asked) => (await import("./provision/main.ts")).provision(...asked),
  unwrap: async (...asked) => (await import("./provision/unwrap.ts")).unwrap(...asked),
  who: async (...asked) => (await import("./who/main.ts")).who(...asked),
  metrics: async (...asked) => (await import("./metrics/main.ts")).metrics(...asked),
};

async function run(words: string[]): Promise<number> {
  const asked = parse(words);
  if (!("help" in asked)) return await commands[asked.name](asked.subject, asked.values);
  print([asked.help]);
  return 0;
}

async function check(subject: string | undefined, options: Options): Promise<number> {
  const { config: file = defaultFile, json } = options;
  if (subject) throw new Failure("usage", `check takes no ${subject}`, "try: --config FILE");
  const text = read(file, readTrustedFile, elsewhere);
  const flaws = flawsIn(text);
  if (flaws.length > 0) {
    if (json) printJson({ file, flaws });
    else for (const flaw of flaws) complain(file, flaw);
    return EXIT.config;
  }
  const config = readConfig(file);
  const services = advise(config, await hostOf(config.engine));
  if (json) printJson({ file, flaws, services });
  else print([`${printable(file)}: the server takes it`, ...adviceLines(services)]);
  return 0;
}

function complain(file: string, { line, column, message, instead, first, source }: Flaw): void {
  remark("error", `${file}:${line}:${column}: ${message}`);
  for (const text of source) process.stderr.write(`  ${text}\n`);
  if (first) remark("hint", `it stood first at ${file}:${first.line}:${first.column}`);
  if (instead) remark("hint", instead);
}

async function explainOne(subject: string | undefined, values: Options): Promise<number> {
  if (values.last) return await explainLast(subject, values);
  if (!subject) throw new Failure("usage", "explain: a pid or a container is missing", hint);
  const { engine, services } = readConfig(values.config);
  const pid = await pidOf(subject, engine);
  const explanation = explain(await observe(pid, engine), services);
  if (values.json) printJson(explanation);
  else print(explanationLines(explanation));
  const codes = { granted: 0, refused: EXIT.refused, unavailable: EXIT.tryAgain };
  return codes[explanation.answer];
}

async function explainLast(subject: string | undefined, values: Options): Promise<number> {
  const { json } = values;
  const audit = values.audit?.at(-1) ?? "-";
  if (audit === "-" && process.stdin.isTTY)
    throw new Failure(
      "usage",
      "explain --last: the audit stream is missing",
      "try: journalctl -u authproxy -o cat | authproxy explain --last --audit -",
    );
  const input = audit === "-" ? process.stdin : createReadStream(read(audit, readable));
  // Its name may still be known to the engine: the audit stream has the id.
  const container = subject && (await findContainer(subject).catch(() => undefined));
  const whom = subject === undefined ? [] : [subject, ...(container ? [container.Id] : [])];
  const found = await lastRefusal(createInterface({ input }), whom);
  if (!found)
    throw new Failure(
      "noInput",
      `no refusal${subject ? ` of ${subject}` : ""} in the audit stream`,
      "a container is named by the first characters of its id; was the stream cut?",
    );
  if (json) printJson(found);
  else print(refusalLines(found));
  return 0;
}

async function suggestOne(subject: string | undefined, values: Options): Promise<number> {
  if (!subject) throw new Failure("usage", "suggest: a container is missing", hint);
  const engine = values.config && readConfig(values.config).engine;
  const seen = await observe(await pidOf(subject, engine), engine);
  const { facts } = seen;
  if (!facts) {
    const { happened, advice } = explainReason(seen.refusal.reason);
    throw new Failure("unavailable", `${subject} cannot be looked at: ${happened}`, advice);
  }
  const image = (await askEngine(`images/${facts.container.Image}/json`, engine)) as JsonObject;
  const { Env } = image.Config as { Env: string[] | null };
  const suggestion = suggest(facts, Env ?? []);
  if (values.json) printJson(suggestion);
  else {
    printJson(suggestion.services);
    for (const note of suggestion.notes) remark("note", note);
  }
  return 0;
}

async function runtime(what: string | undefined, options: Options): Promise<number> {
  const { "daemon-json": file, sockets } = options;
  if (what === "install") print(await install(file, sockets));
  else if (what === "uninstall") print(await uninstall(file));
  else throw new Failure("usage", "runtime: install or uninstall", hint);
  return 0;
}

async function pidOf(subject: string, engine?: string): Promise<number> {
  if (/^\d{1,7}$/.test(subject)) return Number(subject); // pid_max is 4,194,304 at most, proc(5)
  const container = await findContainer(subject, engine);
  if (!container)
    throw new Failure(
      "noInput",
      `the engine knows no container ${subject}`,
      "of one that is gone the audit stream may know: authproxy explain --last",
    );
  if (container.State.Pid > 0) return container.State.Pid;
  const hint = `why was it refused? authproxy explain --last ${container.Id.slice(0, 12)}`;
  throw new Failure("noInput", `the container ${subject} does not run`, hint);
}

function readable(file: string): string {
  accessSync(file, constants.R_OK);
  return file;
}

try {
  process.exitCode = await run(process.argv.slice(2));
} catch (error) {
  remark("error", (error as Error).message);
  if (error instanceof Failure && error.hint) remark("hint", error.hint);
  process.exitCode = error instanceof Failure ? error.exitCode : EXIT.internal;
}
