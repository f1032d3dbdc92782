#!/usr/bin/env node
// authproxy: the command for the people of a host. The daemon loads none of this. What it prints on
// standard output is the answer, for machines by --json; standard error says what went wrong, and
// what to do. Exit codes by sysexits(3), see terminal.ts; explain's are the server's answer.
import { accessSync, constants, createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { loadConfig } from "../config/load.ts";
import { readTrusted } from "../config/trusted.ts";
import type { JsonObject } from "../types.ts";
import { adviceLines, advise } from "./advise.ts";
import { askEngine, findContainer } from "./ask-engine.ts";
import { explain, explanationLines } from "./explain.ts";
import { type Flaw, flawsIn } from "./flaws.ts";
import { hostOf } from "./host.ts";
import { lastRefusal, refusalLines } from "./last.ts";
import { observe } from "./observe.ts";
import { explainReason } from "./reasons.ts";
import { suggest } from "./suggest.ts";
import { EXIT, Failure, print, printable, printJson, remark } from "./terminal.ts";

const defaultFile = "/etc/authproxy/authproxy.json";
const usage = `usage: authproxy COMMAND [--config FILE] [--json]

  check                        what is wrong with the configuration, or who could forge each service
  explain PID|CONTAINER        what the server sees of it, and why it would get a token or not
  explain --last [CONTAINER|SERVICE|PID] [--audit FILE|-]
                               the same of the last refusal, from the audit stream
  suggest CONTAINER            a service block for a running container

  --config FILE  instead of ${defaultFile}
  --audit FILE   the server's output, as \`journalctl -u authproxy\` prints it; - is standard input
  --json         for machines`;

const options = {
  config: { type: "string" },
  json: { type: "boolean", default: false },
  help: { type: "boolean", short: "h", default: false },
  last: { type: "boolean", default: false },
  audit: { type: "string" },
} as const;
type Options = { config?: string; json: boolean; last: boolean; audit?: string };

const commands: Record<string, (subject: string | undefined, options: Options) => Promise<number>> =
  { check, explain: explainOne, suggest: suggestOne };

async function run(words: string[]): Promise<number> {
  const { values, positionals } = parsed(words);
  const [name, subject, ...rest] = positionals;
  if (values.help) {
    print([usage]);
    return 0;
  }
  const command = name !== undefined && Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (!command) throw new Failure("usage", name ? `no command ${name}` : "no command", usageHint);
  if (rest.length > 0) throw new Failure("usage", `one too many: ${rest[0]}`, usageHint);
  return await command(subject, values);
}

const usageHint = "authproxy --help says how";

function parsed(words: string[]) {
  try {
    return parseArgs({ args: words, options, allowPositionals: true });
  } catch (error) {
    throw new Failure("usage", (error as Error).message, usageHint);
  }
}

async function check(subject: string | undefined, options: Options): Promise<number> {
  const { config: file = defaultFile, json } = options;
  if (subject) throw new Failure("usage", `check takes no ${subject}`, "try: --config FILE");
  const text = read(file, readTrusted);
  const flaws = flawsIn(text);
  if (flaws.length > 0) {
    if (json) printJson({ file, flaws });
    else for (const flaw of flaws) complain(file, flaw);
    return EXIT.config;
  }
  const config = read(file, loadConfig);
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
  if (!subject) throw new Failure("usage", "explain: a pid or a container is missing", usageHint);
  const { engine, services } = read(values.config ?? defaultFile, loadConfig);
  const pid = await pidOf(subject, engine);
  const explanation = explain(await observe(pid, engine), services);
  if (values.json) printJson(explanation);
  else print(explanationLines(explanation));
  const codes = { granted: 0, refused: EXIT.refused, unavailable: EXIT.tryAgain };
  return codes[explanation.answer];
}

async function explainLast(subject: string | undefined, values: Options): Promise<number> {
  const { audit = "-", json } = values;
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
  if (!subject) throw new Failure("usage", "suggest: a container is missing", usageHint);
  const engine = values.config && read(values.config, loadConfig).engine;
  const seen = await observe(await pidOf(subject, engine), engine);
  const { facts } = seen;
  if (!facts) {
    const { happened, advice } = explainReason(seen.error.message);
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

/** The server's modules, and Node's, say in one line what is wrong with a file. */
function read<T>(file: string, how: (file: string) => T): T {
  try {
    return how(file);
  } catch (error) {
    const { message, code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") throw new Failure("noInput", message, "try: --config FILE");
    const hint = how === loadConfig ? `authproxy check --config ${file} says where` : undefined;
    throw new Failure("config", message, hint);
  }
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
