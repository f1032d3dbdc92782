// Question: on what do the attacks play?
// Input:    the C programs of this folder, static: an image needs nothing else to run them.
// Output:   images that hold them in /app, which belongs to the application's user; containers
//           that are started as an attack needs it, on the stage of the server's other tests.
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { HostConfig } from "dockerode";
import { GenericContainer } from "testcontainers";
import { afterAll } from "vitest";
import type { JsonObject } from "../../server/json.ts";
import { compile as compileFrom } from "../programs.ts";
import { type AuditLine, app, buildImage, Container, type Server, Stage, until } from "../stage.ts";
import { Naive } from "./naive.ts";
import type { Note } from "./table.ts";

const sources = join(import.meta.dirname, "programs");
const built = mkdtempSync(join(tmpdir(), "authproxy-attacks-"));
const images: string[] = [];
afterAll(() => {
  // Those that others were made of come last. What another test file has made the same, and what it
  // made of that, stays until that file ends.
  for (const image of images.toReversed()) spawnSync("docker", ["image", "rm", "--force", image]);
  rmSync(built, { recursive: true, force: true });
});

export const SOCKET = "/run/authproxy/authproxy.sock";
export const USER = 1001;
/** What a thief's output has in it when the token was stolen. */
export const TOKEN = '"token"';

/** The container's first process, as the host numbers it. */
export async function pidOf(container: Container): Promise<number> {
  return (await container.inspect()).State.Pid;
}

/** The path of the program that was made of programs/<name>.c */
export const compile = (name: string) => compileFrom(name, sources);

type ImageOptions = {
  /** Lines of a Dockerfile. */
  changes?: string[];
  /** Other names or modes for programs: "/app/<name>". */
  arrange?: (directory: string) => void;
  name?: string;
};

/** An image with these programs in /app, all of them the user's own. */
export function imageWith(programs: string[], options: ImageOptions = {}): string {
  const { changes = [], arrange, name = `authproxy-attack:${randomUUID()}` } = options;
  const directory = mkdtempSync(join(built, "image-"));
  mkdirSync(join(directory, "app"));
  for (const program of programs)
    execFileSync("cp", [compile(program), join(directory, "app", program)]);
  arrange?.(join(directory, "app"));
  const archive = `${directory}.tar`;
  const owned = ["--numeric-owner", `--owner=${USER}`, `--group=${USER}`];
  execFileSync("tar", ["--create", ...owned, "-f", archive, "-C", directory, "."]);
  const lines = changes.flatMap((line) => ["--change", line]);
  const id = execFileSync("docker", ["import", ...lines, archive, name], { encoding: "utf8" });
  images.push(id.trim()); // by its id: an attack may give its name to another
  return name;
}

/** The same image with other labels of its own, however long. */
export function relabelled(image: string, labels: Record<string, string>): string {
  const directory = mkdtempSync(join(built, "image-"));
  const tar = (...words: string[]) => execFileSync("tar", ["-C", directory, ...words]);
  execFileSync("docker", ["save", "-o", `${directory}.tar`, image]);
  tar("-xf", `${directory}.tar`);
  const manifestFile = join(directory, "manifest.json");
  const [manifest] = JSON.parse(readFileSync(manifestFile, "utf8"));
  const configFile = join(directory, manifest.Config);
  const imageConfig = JSON.parse(readFileSync(configFile, "utf8"));
  imageConfig.config.Labels = labels;
  writeFileSync(configFile, JSON.stringify(imageConfig));
  const name = `authproxy-attack:${randomUUID()}`;
  writeFileSync(manifestFile, JSON.stringify([{ ...manifest, RepoTags: [name] }]));
  tar("-cf", `${directory}.tar`, ".");
  execFileSync("docker", ["load", "-i", `${directory}.tar`], { stdio: "pipe" });
  images.push(name);
  return name;
}

/** An image made of another by these lines of a Dockerfile, with these programs in /app. */
export async function imageOver(
  base: string,
  lines: string[],
  { programs = [] as string[], arrange = (_: string) => {} } = {},
) {
  const context = mkdtempSync(join(built, "context-"));
  mkdirSync(join(context, "app"));
  for (const program of programs)
    execFileSync("cp", [compile(program), join(context, "app", program)]);
  arrange(context);
  const text = ["ARG BASE", `FROM \${BASE}`, "COPY app /app", ...lines].join("\n");
  writeFileSync(join(context, "Dockerfile"), text);
  const name = await buildImage(`authproxy-attack-${randomUUID()}`, context, "Dockerfile", base);
  images.push(name, name.split(":", 1)[0] as string); // by its names: others may have made it too
  return name;
}

export function digestOf(image: string): string {
  const words = ["image", "inspect", "--format", "{{.Id}}", image];
  return execFileSync("docker", words, { encoding: "utf8" }).trim();
}

export type Wanted = {
  image: string;
  command: string[];
  labels?: Record<string, string>;
  environment?: Record<string, string>;
  workingDirectory?: string;
  /** A command that the engine runs in it, for the first time after so many milliseconds. */
  healthCheck?: { test: ["CMD", ...string[]]; interval: number };
  user?: number;
  name?: string;
  hostname?: string;
  /** How the socket's directory is mounted: read-only, as it should be, unless told otherwise. */
  mode?: "ro" | "rw";
  /** "host" for a client that asks this machine's Vault. */
  network?: "none" | "host";
  /** What differs from a careful `docker run`. */
  host?: HostConfig;
};

/** Testcontainers has no methods for some of these; `hostConfig` is its hook. */
class AttackContainer extends GenericContainer {
  withHost(host: HostConfig): this {
    Object.assign(this.hostConfig, host);
    return this;
  }
}

/** Starts a container with the socket in it, and the label of the service unless told otherwise. */
export async function run(stage: Stage, wanted: Wanted): Promise<Container> {
  const { image, command, labels = { app: "app" }, environment = {}, user = USER } = wanted;
  const { name, hostname, workingDirectory, healthCheck, mode = "ro", host } = wanted;
  const { network = "none" } = wanted;
  const log = Promise.withResolvers<NodeJS.ReadableStream>();
  const source = join(stage.directory, "run");
  const container = new AttackContainer(image)
    .withCommand(command)
    .withLabels(labels)
    .withEnvironment(environment)
    .withUser(`${user}:${user}`)
    .withBindMounts([{ source, target: "/run/authproxy", mode }])
    .withNetworkMode(network)
    .withHost({ ReadonlyRootfs: true, ...host })
    .withLogConsumer(log.resolve);
  if (name) container.withName(name);
  if (hostname) container.withHostname(hostname);
  if (healthCheck) container.withHealthCheck(healthCheck);
  if (workingDirectory) container.withWorkingDir(workingDirectory);
  const started = new Container(await container.start(), await log.promise);
  stage.defer(() => started.remove());
  return started;
}

/** The server under attack: ours, or the naive one. */
export type Target = {
  stage: Stage;
  /** The process that accepts: while it is stopped, connections wait in the backlog. */
  acceptor: number;
};
export type Defended = Target & { server: Server };

export function newStage(): Stage {
  const stage = new Stage();
  mkdirSync(join(stage.directory, "run"), { recursive: true });
  return stage;
}

/** Our server without one of the defences of its helper: see programs/without.c. */
export const without = (defence: string) => [compile("without"), defence];

export async function naive(stage: Stage, match: JsonObject = app.match): Promise<Target> {
  const { acceptor } = await Naive.start(stage, match);
  return { stage, acceptor };
}

/** Our server with one service, of which some checks are relaxed. */
export async function ours(
  stage: Stage,
  {
    match = app.match as JsonObject,
    relax = [] as string[],
    data = [] as string[],
    under = [] as string[],
    ...changes
  }: JsonObject & {
    match?: JsonObject;
    relax?: string[];
    data?: string[];
    /** A program that runs the server, with its arguments. */
    under?: string[];
  } = {},
): Promise<Defended> {
  const services = { app: { match, token: app.token, relax, data } };
  const server = stage.start(stage.configure({ services, ...changes }), { under });
  await server.until({ event: "ready" });
  return { stage, server, acceptor: server.helper };
}

/** Our server, whose audit stream is a file: a test would read the pipe of a flood too slowly. */
export async function oursToFile(stage: Stage, relax: string[] = []) {
  const file = join(stage.directory, "audit");
  const services = { app: { ...app, relax } };
  const { pid } = stage.start(stage.configure({ services }), { stdout: openSync(file, "w") });
  const lines = () =>
    readFileSync(file, "utf8")
      .split("\n")
      .filter(Boolean)
      .map((line) => JSON.parse(line));
  await until("it is ready", () => lines().some(({ event }) => event === "ready"));
  const linesOf = (id: string) => lines().filter((line) => (line.container ?? line.claimed) === id);
  return { pid, linesOf };
}

/** While `what` happens, everybody who connects waits in the backlog. */
export async function unaccepted<T>(
  target: Pick<Target, "acceptor">,
  what: () => Promise<T>,
): Promise<T> {
  process.kill(target.acceptor, "SIGSTOP");
  try {
    return await what();
  } finally {
    process.kill(target.acceptor, "SIGCONT");
  }
}

export const DECISIONS = ["granted", "refused", "unavailable"];

/** What our server decided about a container, so far. */
export function decisions(server: Server, container: { id: string }): AuditLine[] {
  return server.events.filter(
    ({ event, container: confirmed, claimed }) =>
      DECISIONS.includes(event) && (confirmed ?? claimed) === container.id,
  );
}

/** The n-th decision, the first being 1. */
export async function decision(
  server: Server,
  container: { id: string },
  n = 1,
): Promise<AuditLine> {
  await until(`decision ${n}`, () => decisions(server, container).length >= n);
  return decisions(server, container)[n - 1] as AuditLine;
}

/** A container as it should be is served. */
export async function honest(stage: Stage, image: string, note?: Note): Promise<Container> {
  const container = await run(stage, { image, command: ["/app/trusted", SOCKET] });
  if (!(await container.says("trusted: end")).includes('"token"'))
    throw new Error(`an honest container got no token, but: ${container.output}`);
  note?.("honest", "served");
  return container;
}

/** A program of the host that does what `docker exec`, or another user, would do. */
export type Thief = { says: (text: string) => Promise<string>; ended: Promise<string> };

export function startThief(stage: Stage, ...command: string[]): Thief {
  const [program = "", ...words] = command;
  const child = spawn(program, words, { stdio: ["ignore", "pipe", "inherit"] });
  stage.defer(() => child.kill());
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    output += text;
  });
  const ended = once(child, "close").then(() => output);
  const says = async (text: string) => {
    await until(`the thief says "${text}", not:\n${output}`, () => output.includes(text));
    return output;
  };
  return { says, ended };
}

/** On the host, with the application's uid and without any capability. */
export function asHostUser(program: string, ...words: string[]): string[] {
  const user = ["--reuid", `${USER}`, "--regid", `${USER}`, "--clear-groups"];
  return ["setpriv", ...user, compile(program), ...words];
}
