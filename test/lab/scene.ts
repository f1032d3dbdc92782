// Question: who gets a token on this engine, on this kernel?
// Input:    an engine's socket; a real Vault; the lab's image by its digest; the actors: what each
//           container is started with, and what is expected of the server.
// Output:   for each actor what the server decided, with the line of its audit stream, and what the
//           actor itself was told; what the engine says of itself; a capture of one actor's /proc.
// Promise:  the real server (server/main.ts by this Node, dist/peercred), and nothing left behind.
//           Only Node's own modules: a guest has no others (inside.ts).
import { type ChildProcess, spawn } from "node:child_process";
import { EventEmitter, once } from "node:events";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { release, tmpdir } from "node:os";
import { join } from "node:path";
import type { Container } from "../../server/engine.ts";
import type { JsonObject } from "../../server/json.ts";
import { type About, Api } from "./api.ts";
import { type Capture, capture } from "./capture.ts";

const daemon = join(import.meta.dirname, "../../server/main.ts");
const DEADLINE_MS = 120_000; // an emulated machine is slow
const USER = "1001:1001";
const ASK = ["/app/ask", "/run/authproxy/authproxy.sock"];

export type Actor = {
  name: string;
  /** "granted", or the reason that the server's audit stream gives. */
  expect: string;
  /** Runs beside the first process of the actor that was named here. */
  execIn?: string;
  /** Runs on another engine, which is itself in this container of the first one. */
  within?: { engine: string; id: string };
  labels?: Record<string, string>;
  /** What happens before it comes, when these have been judged. */
  before?: (outcomes: Outcome[]) => Promise<void>;
  /** What differs in Docker's HostConfig. */
  host?: JsonObject;
};

/** On every engine: one container as it should be, a stranger inside it, a container of no service. */
export const COMPANY: Actor[] = [
  { name: "the service", expect: "granted" },
  { name: "docker exec", expect: "init", execIn: "the service" },
  { name: "without its label", expect: "no-match", labels: {} },
];

export type Scene = {
  engine: string;
  /** What to pull; the policy pins it. */
  reference: string;
  vault: JsonObject;
  /** The peer's, as the host has it: another where the engine maps users. */
  uid?: number;
  /** The MAC label that the policy pins, where the kernel has labels. */
  label?: string;
  allowNoPidfd?: boolean;
  actors: Actor[];
  /** What happens when all have been judged, and the server and the containers still run. */
  afterwards?: (configuration: string, outcomes: Outcome[]) => Promise<void>;
};

type Running = { at: Api; container: Container };
export type AuditLine = JsonObject & { event: string };
export type Outcome = {
  actor: string;
  expected: string;
  seen: string;
  told: string;
  line: AuditLine;
};
export type Findings = {
  about: About;
  kernel: string;
  node: string;
  ready: AuditLine;
  outcomes: Outcome[];
  /** The first actor, as the server saw it. */
  captured: Capture;
};

export async function play(scene: Scene): Promise<Findings> {
  const directory = mkdtempSync(join(tmpdir(), "authproxy-scene-"));
  const api = new Api(scene.engine);
  const running = new Map<string, Running>();
  const configuration = configure(scene, directory);
  const server = new Server(configuration);
  try {
    const ready = await server.until((line) => line.event === "ready");
    const about = await api.about();
    const outcomes: Outcome[] = [];
    for (const actor of scene.actors) {
      await actor.before?.(outcomes);
      outcomes.push(await act(actor, scene, api, server, running));
    }
    await scene.afterwards?.(configuration, outcomes);
    const { at, container } = running.get(scene.actors[0]?.name ?? "") as Running;
    const pid = Number(outcomes[0]?.line.pid);
    const captured = capture(pid, container, await at.image(container.Image));
    return { about, kernel: release(), node: process.version, ready, outcomes, captured };
  } finally {
    for (const { at, container } of running.values()) await at.remove(container.Id);
    await api.removeImage(scene.reference).catch(() => {}); // it was not pulled
    await server.end();
    rmSync(directory, { recursive: true, force: true });
  }
}

/** What the server says at the end, where it must not start. */
export async function refusesToStart(scene: Scene): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), "authproxy-scene-"));
  const server = new Server(configure(scene, directory));
  try {
    const code = await server.ended;
    return `${code}: ${server.stderr.trim()}`;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function configure(
  { engine, vault, label, reference, ...scene }: Scene,
  directory: string,
): string {
  chmodSync(directory, 0o711); // an engine that maps users mounts `run` as one of them
  mkdirSync(join(directory, "run"), { mode: 0o755 });
  const config = {
    socket: join(directory, "run/authproxy.sock"),
    state: join(directory, "state"),
    engine,
    vault,
    ...(scene.allowNoPidfd ? { allow_no_pidfd: true } : {}),
    services: {
      app: {
        match: {
          peer: { uid: scene.uid ?? 1001, ...(label ? { label } : {}) },
          container: { Config: { Image: reference, Labels: { app: "app" } } },
        },
        token: { create: "auth/token/create/app" },
      },
    },
  };
  const file = join(directory, "authproxy.json");
  writeFileSync(file, JSON.stringify(config), { mode: 0o600 });
  return file;
}

async function act(
  actor: Actor,
  { reference }: Scene,
  api: Api,
  server: Server,
  running: Map<string, Running>,
): Promise<Outcome> {
  const { name, expect: expected, labels = { app: "app" }, execIn, within, host = {} } = actor;
  const decided = (pid: (pid: number) => boolean, id: string) =>
    server.until(
      ({ event, pid: peer, container = id }) =>
        ["granted", "refused"].includes(event) && container === id && pid(Number(peer)),
    );
  let line: AuditLine;
  let told: string;
  if (execIn) {
    const { Id, State } = (running.get(execIn) as Running).container;
    told = await api.exec(Id, ASK, USER);
    line = await decided((pid) => pid !== State.Pid, Id);
  } else {
    const at = within ? new Api(within.engine) : api;
    await at.pull(reference);
    const container = await at.run({
      Image: reference,
      Cmd: [...ASK, "stay"],
      Labels: labels,
      User: USER,
      HostConfig: {
        ReadonlyRootfs: true,
        NetworkMode: "none",
        Binds: [`${server.directory}/run:/run/authproxy:ro`],
        ...host,
      },
    });
    running.set(name, { at, container });
    // An engine in a container numbers processes by its own pid namespace.
    if (within) line = await decided(() => true, within.id);
    else line = await decided((pid) => pid === container.State.Pid, container.Id);
    told = await untilSaid(at, container.Id, /"token"|"refused"/);
  }
  const seen = line.event === "granted" ? "granted" : String(line.reason);
  return {
    actor: name,
    expected,
    seen,
    told: told.includes('"token"') ? "a token" : "refused",
    line,
  };
}

/** What an actor has printed, once this is in it: the audit is sooner there than the engine's log. */
export async function untilSaid(api: Api, id: string, wanted: RegExp): Promise<string> {
  const deadlineMs = performance.now() + DEADLINE_MS;
  for (;;) {
    const text = await api.output(id);
    if (wanted.test(text)) return text;
    if (performance.now() > deadlineMs) throw new Error(`an actor said only: ${text}`);
  }
}

/** The daemon, and its audit stream as it comes. */
class Server {
  readonly directory: string;
  readonly ended: Promise<number | string>;
  stderr = "";
  readonly #events: AuditLine[] = [];
  readonly #child: ChildProcess;
  readonly #heard = new EventEmitter();

  constructor(config: string) {
    this.directory = join(config, "..");
    this.#child = spawn(process.execPath, [daemon, "--config", config]);
    this.ended = once(this.#child, "close").then(([code, signal]) => signal ?? code);
    this.ended.then(() => this.#heard.emit("line"));
    this.#child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.stderr += text;
    });
    let rest = "";
    this.#child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      this.#events.push(...lines.map((line) => JSON.parse(line)));
      this.#heard.emit("line");
    });
  }

  /** The first audit line of which this holds. */
  async until(holds: (line: AuditLine) => boolean): Promise<AuditLine> {
    const signal = AbortSignal.timeout(DEADLINE_MS);
    for (;;) {
      const found = this.#events.find(holds);
      if (found) return found;
      if (this.#child.exitCode !== null) throw new Error(`the server ended: ${this.stderr}`);
      await once(this.#heard, "line", { signal }).catch(() => {
        throw new Error(`not in the audit: ${JSON.stringify(this.#events)}\n${this.stderr}`);
      });
    }
  }

  async end(): Promise<void> {
    this.#child.kill();
    await this.ended;
  }
}
