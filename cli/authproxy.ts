#!/usr/bin/env node
// authproxy: the command for the people of a host. The daemon loads none of this. Standard output
// has the answer, with --json for machines; standard error says what went wrong, and what to do.
// Exit codes are those of sysexits(3), see terminal.ts; those of explain are the server's answer.
import { accessSync, constants, createReadStream } from "node:fs";
import { dirname } from "node:path";
import { createInterface } from "node:readline";
import type { Config } from "../server/config.ts";
import { readTrustedFile } from "../server/trusted-file.ts";
import { adviceLines, neighbourLines } from "./advice-text.ts";
import { advise } from "./advise.ts";
import { findContainer } from "./ask-engine.ts";
import { DEFAULT_FILE, OTHER_FILE_HINT, readConfig, readOrFail } from "./configuration.ts";
import { explain } from "./explain.ts";
import { explanationLines } from "./explanation-text.ts";
import { type LocatedFlaw, locateFlaws } from "./flaws.ts";
import { describeHost, describeImage, USERS_ARE_MAPPED } from "./host.ts";
import { lastRefusal, refusalLines } from "./last.ts";
import { findNeighbours, type Neighbour } from "./neighbours.ts";
import { observe } from "./observe.ts";
import { type CommandName, HELP_HINT, type Options, parse } from "./options.ts";
import { explainReason } from "./reasons.ts";
import { judgeRunning, runningLines } from "./running.ts";
import { install, uninstall } from "./runtime.ts";
import { engineFor, pidOf } from "./subject.ts";
import { suggest } from "./suggest.ts";
import { EXIT, Failure, print, printable, printJson, remark } from "./terminal.ts";

// The libraries of node-vault, loaded below, print tokens where DEBUG is set.
delete process.env.DEBUG;

/** Returns the exit code. `subject` is the word after the command. */
type Command = (subject: string | undefined, options: Options) => Promise<number>;

const COMMANDS: Record<CommandName, Command> = {
  check,
  explain: explainProcess,
  suggest: suggestService,
  runtime: changeRuntime,
  // What few people call is loaded for them only.
  doctor: async (...args) => (await import("./doctor/main.ts")).doctor(...args),
  provision: async (...args) => (await import("./provision/main.ts")).provision(...args),
  unwrap: async (...args) => (await import("./provision/unwrap.ts")).unwrap(...args),
  who: async (...args) => (await import("./who/main.ts")).who(...args),
  metrics: async (...args) => (await import("./metrics/main.ts")).metrics(...args),
};

async function run(words: string[]): Promise<number> {
  const request = parse(words);
  if (!("help" in request)) {
    const command = COMMANDS[request.name];
    return await command(request.subject, request.values);
  }
  print([request.help]);
  return 0;
}

async function check(subject: string | undefined, options: Options): Promise<number> {
  const { config: file = DEFAULT_FILE, json } = options;
  if (subject)
    throw new Failure("usage", `check takes no argument: ${subject}`, "try: --config FILE");
  const text = readOrFail(file, readTrustedFile, { missing: OTHER_FILE_HINT });
  const flaws = locateFlaws(text);
  if (flaws.length > 0) {
    if (json) printJson({ file, flaws });
    else for (const flaw of flaws) remarkFlaw(file, flaw);
    return EXIT.config;
  }
  const config = readConfig(file);
  if (options.running) return await checkRunning(config, options);

  const host = await describeHost(config.engine);
  const services = advise(config, host);
  const neighbours = host.engine ? await neighboursOf(config) : [];
  if (host.mapsUsers && !config.user_namespaces) remark("warning", USERS_ARE_MAPPED);
  if (json) printJson({ file, flaws, services, neighbours });
  else {
    print([
      `${printable(file)}: the server takes it`,
      ...adviceLines(services),
      ...neighbourLines(neighbours),
    ]);
  }
  return 0;
}

async function neighboursOf({ socket, engine }: Config): Promise<Neighbour[]> {
  try {
    return await findNeighbours(dirname(socket), engine);
  } catch (error) {
    const { message } = error as Error;
    remark("note", `containers that could replace the socket are not looked for: ${message}`);
    return [];
  }
}

async function checkRunning(config: Config, { json }: Options): Promise<number> {
  const { services, engine, user_namespaces } = config;
  const report = await judgeRunning(services, engine, user_namespaces);
  if (json) printJson(report);
  else print(runningLines(report));
  return report.refused.length > 0 ? EXIT.refused : 0;
}

function remarkFlaw(file: string, flaw: LocatedFlaw): void {
  const { line, column, message, instead, first, source } = flaw;
  remark("error", `${file}:${line}:${column}: ${message}`);
  for (const excerptLine of source) process.stderr.write(`  ${excerptLine}\n`);
  if (first) remark("hint", `it is there first at ${file}:${first.line}:${first.column}`);
  if (instead) remark("hint", instead);
}

async function explainProcess(subject: string | undefined, options: Options): Promise<number> {
  if (options.last) return await explainLastRefusal(subject, options);
  if (!subject) throw new Failure("usage", "explain needs a pid, a container or a pod", HELP_HINT);
  const { engine, services, user_namespaces } = readConfig(options.config);
  const pid = await pidOf(subject, engine);
  const explanation = explain(await observe(pid, engine, user_namespaces), services);
  if (options.json) printJson(explanation);
  else print(explanationLines(explanation));
  const exitCodes = { granted: 0, refused: EXIT.refused, unavailable: EXIT.tryAgain };
  return exitCodes[explanation.answer];
}

async function explainLastRefusal(subject: string | undefined, options: Options): Promise<number> {
  const auditFile = options.audit?.at(-1) ?? "-";
  if (auditFile === "-" && process.stdin.isTTY) {
    throw new Failure(
      "usage",
      "explain --last needs the audit stream",
      "try: journalctl -u authproxy -o cat | authproxy explain --last --audit -",
    );
  }
  // Before the stream is opened: lines that come while nobody waits for them are lost.
  const names = await namesOf(subject);
  const input =
    auditFile === "-" ? process.stdin : createReadStream(readOrFail(auditFile, requireReadable));
  const refusal = await lastRefusal(createInterface({ input }), names);
  if (!refusal) {
    throw new Failure(
      "noInput",
      `the audit stream has no refusal${subject ? ` of ${subject}` : ""}`,
      "name a container by the first characters of its id, and check that the stream is whole",
    );
  }
  if (options.json) printJson(refusal);
  else print(refusalLines(refusal));
  return 0;
}

/** What the audit stream may call the subject: also the id of a container whose name the engine
 * still knows. */
async function namesOf(subject: string | undefined): Promise<string[]> {
  if (subject === undefined) return [];
  const container = await findContainer(subject).catch(() => undefined);
  return container ? [subject, container.Id] : [subject];
}

function requireReadable(file: string): string {
  accessSync(file, constants.R_OK);
  return file;
}

async function suggestService(subject: string | undefined, options: Options): Promise<number> {
  if (!subject) throw new Failure("usage", "suggest needs a container or a pod", HELP_HINT);
  const engine = engineFor(subject, options.config);
  const observation = await observe(await pidOf(subject, engine), engine, true);
  const { facts } = observation;
  if (!facts) {
    const { happened, advice } = explainReason(observation.refusal.reason);
    throw new Failure("unavailable", `${subject} cannot be inspected: ${happened}`, advice);
  }
  const { env, store } = await describeImage(facts.container, engine);
  const { services, notes } = suggest(facts, env, store);
  if (options.json) {
    printJson({ services, notes });
    return 0;
  }
  printJson(services);
  for (const note of notes) remark("note", note);
  return 0;
}

async function changeRuntime(action: string | undefined, options: Options): Promise<number> {
  if (options.containerd || options.crio || action === "runtimeclass")
    return await (await import("./node-command.ts")).changeHandler(action, options);
  const { "daemon-json": daemonFile, sockets } = options;
  const foreign = (["config", "address", "restart", "dry-run", "yes"] as const).find(
    (name) => options[name] !== undefined,
  );
  if (foreign) throw new Failure("usage", `--${foreign} needs --containerd or --crio`, HELP_HINT);
  if (action === "install") print(await install(daemonFile, sockets));
  else if (action === "uninstall") print(await uninstall(daemonFile));
  else throw new Failure("usage", "runtime needs install or uninstall", HELP_HINT);
  return 0;
}

try {
  process.exitCode = await run(process.argv.slice(2));
} catch (error) {
  // JSON.parse's message quotes the text, which may hold a secret.
  const isSyntax = error instanceof SyntaxError;
  remark("error", isSyntax ? "a text is not JSON" : (error as Error).message);
  if (error instanceof Failure && error.hint) remark("hint", error.hint);
  process.exitCode = error instanceof Failure ? error.exitCode : EXIT.internal;
}
