// Question: who gets a token on this engine, on this kernel?
// Input:    an engine's socket; a real Vault; the lab's image by its digest; the actors: what each
//           container is started with, and what is expected of the server.
// Output:   for each actor what the server decided, with the line of its audit stream, and what the
//           actor itself was told; what the engine says of itself; a capture of one actor's /proc. Where
//           they are wanted, the command and the runtime are tried as well (administrator.ts).
// Promise:  the real server (server/main.ts by this Node, dist/peercred), and nothing left behind.
//           Only Node's own modules: a guest has no others (inside.ts).
import { type ChildProcess, spawn } from "node:child_process";
import { EventEmitter, once } from "node:events";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { release, tmpdir } from "node:os";
import { join } from "node:path";
import type { Container } from "../../server/engine.ts";
import type { JsonObject } from "../../server/json.ts";
import { askAbout, type Questions, type Runtime, startByRuntime } from "./administrator.ts";
import { type About, Api } from "./api.ts";
import { type Capture, capture } from "./capture.ts";

const daemon = join(import.meta.dirname, "../../server/main.ts");
const DEADLINE_MS = 120_000; // an emulated machine is slow
const USER = "1001:1001";
const ASK = ["/app/ask", "/run/authproxy/authproxy.sock"];
/** As docs/operate.md has it. */
const INSTALLED = {
  configuration: "/etc/authproxy/authproxy.json",
  sockets: "/run/authproxy",
  command: ["/opt/authproxy/current/bin/node", "/opt/authproxy/current/server/main.js"],
};

export type Actor = {
  name: string;
  /** "granted", or the reason that the server's audit stream gives. */
  expect: string;
  /** Runs beside the first process of the actor that was named here. */
  execIn?: string;
  /** Shares the pid namespace of the actor that was named here. */
  joins?: string;
  /** A program that runs it, with its arguments, and where that comes from on this machine. */
  under?: { command: string[]; binds: string[] };
  /** Runs on another engine, which is itself in this container of the first one. */
  within?: { engine: string; id: string };
  labels?: Record<string, string>;
  /** What happens before it comes, when these have been judged. */
  before?: (outcomes: Outcome[]) => Promise<void>;
  /** What differs in Docker's HostConfig. */
  host?: JsonObject;
  /** It is made by Podman's own API, with these members more; in a pod, if there is one. */
  podman?: { container?: JsonObject; pod?: JsonObject };
  /** What differs in the rest that the engine is told: another image, another command. */
  wanted?: JsonObject;
  /** What it prints when it is granted, where it is not the lab's program. */
  says?: string;
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
  /** Other images that the policy admits. */
  references?: string[];
  /** The server is the one that is installed on this machine, at its own places. */
  installed?: boolean;
  vault: JsonObject;
  /** The engine maps users: they are served, and the policy pins the user as the container calls it. */
  userNamespaces?: boolean;
  /** Another service. */
  alsoServes?: JsonObject;
  /** The MAC label that the policy pins, where the kernel has labels. */
  label?: string;
  allowNoPidfd?: boolean;
  /** What a second service relaxes, whose label is `app: "relaxed"`. */
  relaxed?: string[];
  actors: Actor[];
  /** The command is asked about the first and the third actor, as COMPANY has them. */
  asked?: Questions;
  /** By each of these another container of the service comes, when all have been judged. */
  runtimes?: Runtime[];
  /** What happens when all have been judged, and the server and the containers still run. */
  afterwards?: (configuration: string, outcomes: Outcome[]) => Promise<void>;
};

type Running = { at: Api; container: Container; pod?: string };
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
  /** What the kernel labels processes by. */
  lsm: string;
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
  const server = new Server(configuration, scene.installed);
  try {
    const ready = await server.until((line) => line.event === "ready");
    const about = await api.about();
    const outcomes: Outcome[] = [];
    for (const actor of scene.actors) {
      await actor.before?.(outcomes);
      outcomes.push(await act(actor, scene, api, server, running));
    }
    if (scene.asked) await askAboutTwo(configuration, scene.reference, outcomes, scene.asked);
    for (const runtime of scene.runtimes ?? [])
      outcomes.push(await actByRuntime(runtime, scene, api, server));
    await scene.afterwards?.(configuration, outcomes);
    const { at, container } = running.get(scene.actors[0]?.name ?? "") as Running;
    const pid = Number(outcomes[0]?.line.pid);
    const captured = capture(pid, container, await at.image(container.Image));
    const kernel = release();
    return {
      about,
      kernel,
      lsm: securityModule(),
      node: process.version,
      ready,
      outcomes,
      captured,
    };
  } finally {
    for (const { at, container, pod } of running.values()) {
      await at.remove(container.Id);
      if (pod) await at.removePod(pod);
    }
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

export function configure(
  { engine, vault, label, reference, references = [], ...scene }: Scene,
  directory: string,
): string {
  chmodSync(directory, 0o711); // an engine that maps users mounts `run` as one of them
  mkdirSync(join(directory, "run"), { mode: 0o755 });
  const token = { create: "auth/token/create/app" };
  const matchOf = (app: string) => ({
    ...(scene.userNamespaces
      ? { process: { uid_inside: 1001 } }
      : { peer: { uid: 1001, ...(label ? { label } : {}) } }),
    container: { Config: { Image: [reference, ...references], Labels: { app } } },
  });
  const config = {
    ...(!scene.installed && {
      socket: join(directory, "run/authproxy.sock"),
      state: join(directory, "state"),
    }),
    engine,
    vault,
    ...(scene.allowNoPidfd ? { allow_no_pidfd: true } : {}),
    ...(scene.userNamespaces ? { user_namespaces: true } : {}),
    services: {
      ...(scene.alsoServes ? { other: scene.alsoServes } : {}),
      app: { match: matchOf("app"), token },
      ...(scene.relaxed && {
        relaxed: { match: matchOf("relaxed"), token, relax: scene.relaxed },
      }),
    },
  };
  const file = scene.installed ? INSTALLED.configuration : join(directory, "authproxy.json");
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
  const { name, expect: expected, labels = { app: "app" }, execIn, within } = actor;
  const { joins, under = { command: [], binds: [] }, says = '"token"' } = actor;
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
    const wanted = containerOf(actor, reference, server.sockets);
    if (joins) wanted.HostConfig.PidMode = `container:${running.get(joins)?.container.Id}`;
    await at.pull(wanted.Image);
    const started = actor.podman
      ? await startByPodman(at, actor.podman, labels, reference, server.sockets)
      : { container: await at.run(wanted) };
    const { container } = started;
    running.set(name, { at, ...started });
    // An engine in a container numbers processes by its own pid namespace.
    if (within) line = await decided(() => true, within.id);
    else
      line = await decided(
        (pid) => under.binds.length > 0 || pid === container.State.Pid,
        container.Id,
      );
    told = await untilSaid(at, container.Id, new RegExp(`${says}|"refused"`));
  }
  const seen = line.event === "granted" ? "granted" : String(line.reason);
  return {
    actor: name,
    expected,
    seen,
    told: told.includes(says) ? "a token" : "refused",
    line,
  };
}

/** What the engine is told to start. */
export function containerOf(actor: Actor, reference: string, sockets: string) {
  const { labels = { app: "app" }, under = { command: [], binds: [] }, host, wanted } = actor;
  const HostConfig: JsonObject = {
    ReadonlyRootfs: true,
    NetworkMode: "none",
    Binds: [`${sockets}:/run/authproxy:ro`, ...under.binds],
    ...host,
  };
  const Cmd = [...under.command, ...ASK, "stay"];
  return { Image: reference, Cmd, Labels: labels, User: USER, ...wanted, HostConfig };
}

/** As an actor is usually started, by Podman's own API. */
async function startByPodman(
  at: Api,
  { container: changes, pod: wanted }: NonNullable<Actor["podman"]>,
  labels: Record<string, string>,
  image: string,
  source: string,
): Promise<{ container: Container; pod?: string }> {
  const pod = wanted && (await at.makePod(wanted));
  const mount = { destination: "/run/authproxy", type: "bind", source, options: ["ro", "rbind"] };
  const container = await at.runByPodman({
    image,
    command: [...ASK, "stay"],
    labels,
    user: USER,
    read_only_filesystem: true,
    mounts: [mount],
    ...(pod ? { pod } : { netns: { nsmode: "none" } }),
    ...changes,
  });
  return pod ? { container, pod } : { container };
}

async function askAboutTwo(
  configuration: string,
  reference: string,
  outcomes: Outcome[],
  questions: Questions,
): Promise<void> {
  const [service = "", , stranger = ""] = outcomes.map(({ line }) => String(line.container));
  const Config = { Image: reference, Labels: { app: "app" } };
  const match = { peer: { uid: 1001 }, container: { Config } };
  await askAbout(configuration, { service, stranger, match }, questions);
}

async function actByRuntime(
  runtime: Runtime,
  { reference }: Scene,
  api: Api,
  server: Server,
): Promise<Outcome> {
  const id = await startByRuntime(runtime, api, server.sockets, reference);
  try {
    const line = await server.until(
      ({ event, container }) => ["granted", "refused"].includes(event) && container === id,
    );
    const told = await untilSaid(api, id, /file .*\n|authproxy: error/);
    const isTold = told.includes("variable of the lab, file of the lab\n");
    const seen = line.event === "granted" ? "granted" : String(line.reason);
    const expected = "granted";
    const options = "podman" in runtime ? (runtime.options ?? []) : [];
    const actor = ["by the runtime", ...options].join(" ");
    return { actor, expected, seen, told: isTold ? "a token" : told, line };
  } finally {
    await api.remove(id);
  }
}

/** As the kernel that runs here has it. */
function securityModule(): string {
  const enforces = "/sys/fs/selinux/enforce";
  if (existsSync(enforces))
    return readFileSync(enforces, "utf8").trim() === "1"
      ? "SELinux, enforcing"
      : "SELinux, permissive";
  const appArmor = "/sys/module/apparmor/parameters/enabled";
  return existsSync(appArmor) && readFileSync(appArmor, "utf8").startsWith("Y")
    ? "AppArmor"
    : "none";
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
export class Server {
  readonly sockets: string;
  readonly ended: Promise<number | string>;
  stderr = "";
  readonly #events: AuditLine[] = [];
  readonly #child: ChildProcess;
  readonly #heard = new EventEmitter();

  constructor(configuration: string, isInstalled = false) {
    this.sockets = isInstalled ? INSTALLED.sockets : join(configuration, "../run");
    const command = isInstalled ? INSTALLED.command : [process.execPath, daemon];
    const [program = "", ...words] = [...command, "--config", configuration];
    this.#child = spawn(program, words);
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
