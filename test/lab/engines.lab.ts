// Question: does the server decide the same on other engines and kernels?
// Each test is one engine on one kernel, with the real server and a real Vault; scene.ts says what
// happens there. One policy serves all: it pins the image by its digest, as `Config.Image`.
import { execFile, execFileSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { afterAll, expect, test } from "vitest";
import { client, provision, startOpenBao } from "../../scripts/openbao.ts";
import { compile } from "../programs.ts";
import { Api } from "./api.ts";
import {
  type Engine,
  removeBridge,
  removeCgroups,
  startDocker,
  startDockerAnew,
  startDockerIn,
  startDockerUnderSystemd,
  startPodman,
  startRootlessPodman,
} from "./engine.ts";
import { fetchTree, type Suite, type Tree } from "./fetch.ts";
import { runGuest } from "./guest.ts";
import type { Guest, Results } from "./inside.ts";
import { matrix, notRun, ran } from "./matrix.ts";
import { startRegistry } from "./registry.ts";
import { COMPANY, type Findings, type Outcome, play, type Scene, untilSaid } from "./scene.ts";
import { CONTAINER_LABEL } from "./selinux.ts";

const fixtures = join(import.meta.dirname, "../fixtures/engines");
const KERNEL = ["linux-image-cloud-amd64", "busybox-static", "libstdc++6", "apparmor"];
const QEMU = ["qemu-system-x86", "secilc", "e2fsprogs", "coreutils"];
const REMAPPED = 165_536;
/** Shell that makes a Docker engine refuse clients of older API versions. */
const REFUSE_OLD = "export DOCKER_MIN_API_VERSION=1.44";

const directory = mkdtempSync(join(tmpdir(), "authproxy-lab-"));
const layer = join(directory, "layer.tar");
makeLayer();
const registry = await startRegistry(readFileSync(layer));
const bao = await startOpenBao();
const ids = await provision(bao, { services: { app: { password: "of the lab" } } });

afterAll(async () => {
  registry.server.closeAllConnections();
  registry.server.close();
  await bao.stop();
  removeBridge();
  rmSync(directory, { recursive: true, force: true });
  console.log(matrix());
});

/** The lab's image: two static programs, the same bytes on every machine with the same compiler. */
function makeLayer(): void {
  mkdirSync(join(directory, "image/app"), { recursive: true });
  for (const name of ["ask", "nested"]) {
    const program = compile(name, join(import.meta.dirname, "programs"));
    execFileSync("cp", [program, join(directory, "image/app")]);
  }
  const same = ["--sort=name", "--mtime=@0", "--numeric-owner", "--owner=0", "--group=0"];
  // For an engine in a container, whose /usr is a tree's.
  for (const name of ["bin", "sbin", "lib", "lib64"])
    symlinkSync(`usr/${name}`, join(directory, "image", name));
  execFileSync("tar", ["--create", ...same, "-C", join(directory, "image"), "-f", layer, "."]);
}

function sceneOn(engine: string, caFile = bao.caFile): Scene {
  const { roleId: role_id, secretId: secret_id } = ids;
  const login = { path: "auth/approle/login", body: { role_id, secret_id } };
  const vault = { address: bao.address, ca_file: caFile, login };
  return { engine, reference: registry.reference, vault, actors: COMPANY };
}

type Place = {
  name: string;
  /** It fails where it cannot run; others say why in the closing table. */
  must?: boolean;
  /** Where the capture of its first actor is kept. */
  fixture?: string;
  visit(): Promise<Visited>;
};
/** `judge` fails where more than the actors' ends is expected, `extra` is what it rests on. */
type Visited = { findings: Findings; extra?: string[]; judge?: () => void };

/** The scene on an engine that is started for it. */
async function on(start: Promise<Engine>, changes: Partial<Scene> = {}): Promise<Findings> {
  const engine = await had(start);
  try {
    return await play({ ...sceneOn(engine.socket), ...changes });
  } finally {
    await engine.stop();
  }
}

/** What the mirror has not, or does not start here, is not the server's fault. */
class NotHad extends Error {}

async function had<T>(what: Promise<T>): Promise<T> {
  return await what.catch((error: Error) => {
    throw new NotHad(error.message, { cause: error });
  });
}

const docker20 = () => had(fetchTree("bookworm", ["docker.io"]));
const docker26 = () => had(fetchTree("trixie", ["docker.io"]));
const docker28 = () => had(fetchTree("sid", ["docker.io"]));
const podman = () => had(fetchTree("bookworm", ["podman", "runc", "uidmap", "util-linux"]));
/** With what a guest needs beside its engine. */
const kernel = (suite: Suite) => had(fetchTree(suite, KERNEL));
const qemu = () => had(fetchTree("trixie", QEMU));

const places: Place[] = [
  {
    name: "Docker, this machine's own",
    must: true,
    visit: async () => ({ findings: await play(sceneOn("/var/run/docker.sock")) }),
  },
  {
    name: "Docker 20.10",
    must: true,
    fixture: "docker-20.10",
    visit: async () => ({ findings: await on(startDocker(await docker20())) }),
  },
  {
    name: "Podman 4.3, as root",
    must: true,
    fixture: "podman-4.3",
    visit: async () => {
      const tree = await podman();
      return { findings: await on(startPodman(tree, `127.0.0.1:${registry.port}`)) };
    },
  },
  { name: "guest: SELinux's labels", must: true, fixture: "docker-26-selinux", visit: withSelinux },
  { name: "guest: AppArmor, Linux 7", visit: withAppArmor },
  { name: "guest: AppArmor, Linux 6.12", visit: withOldAppArmor },
  { name: "Podman 4.3, rootless", fixture: "podman-4.3-rootless", visit: rootless },
  {
    name: "guest: a kernel without SO_PEERPIDFD",
    must: true,
    fixture: "docker-20.10-v2",
    visit: withoutPidfd,
  },
  {
    name: "Docker 26",
    fixture: "docker-26",
    visit: async () => ({ findings: await on(startDocker(await docker26())) }),
  },
  {
    name: "Docker 28",
    fixture: "docker-28",
    visit: async () => ({ findings: await on(startDocker(await docker28())) }),
  },
  {
    name: "Docker 28, containerd's image store",
    fixture: "docker-28-containerd",
    visit: async () => {
      const features = { "containerd-snapshotter": true };
      return { findings: await on(startDocker(await docker28(), { features })) };
    },
  },
  {
    name: "a cgroup parent",
    fixture: "docker-20.10-parent",
    visit: async () => {
      const settings = { "cgroup-parent": "/authproxy-lab/below" };
      const findings = await on(startDocker(await docker20(), settings));
      await removeCgroups("authproxy-lab");
      return { findings };
    },
  },
  { name: "Docker 28, which refuses API versions below 1.44", visit: onlyNewVersions },
  {
    name: "Docker 20.10, stopped and started",
    visit: async () => await stoppedAndStarted(await docker20()),
  },
  {
    name: "Docker 28, started again so that it refuses API versions below 1.44",
    visit: async () => await stoppedAndStarted(await docker28(), REFUSE_OLD),
  },
  { name: "Docker 20.10, replaced by 28 that refuses its API version", visit: replaced },
  { name: "the systemd cgroup driver", fixture: "docker-26-systemd", visit: underSystemd },
  { name: "Docker in Docker", visit: dockerInDocker },
  { name: "users are mapped", fixture: "docker-20.10-userns", visit: withMappedUsers },
];

/** The command of this repository: what it printed, and how it ended. */
async function authproxy(...words: string[]) {
  const program = join(import.meta.dirname, "../../cli/authproxy.ts");
  return await new Promise<{ status: number; stdout: string; stderr: string }>((resolve) => {
    execFile(process.execPath, [program, ...words], (error, stdout, stderr) => {
      resolve({ status: error ? Number(error.code) : 0, stdout, stderr });
    });
  });
}

/** As Docker 29.0 to 29.2 do by default. The server negotiates, and so does the command. */
async function onlyNewVersions(): Promise<Visited> {
  const engine = await had(startDocker(await docker28(), {}, REFUSE_OLD));
  const api = new Api(engine.socket);
  const afterwards = async (configuration: string, outcomes: Outcome[]) => {
    expect(await api.speaks("1.41"), "the control: a client that has a fixed version").toBe(false);
    await explainsAndSuggests(configuration, outcomes);
    await installsRuntime(join(dirname(engine.socket), "daemon.json"), api);
  };
  try {
    const findings = await play({ ...sceneOn(engine.socket), afterwards });
    return { findings, extra: ["explain, suggest and runtime install work"] };
  } finally {
    await engine.stop();
  }
}

async function explainsAndSuggests(configuration: string, outcomes: Outcome[]): Promise<void> {
  const [service, , stranger] = outcomes.map(({ line }) => String(line.container));
  const asked = (id = "") => ["--config", configuration, "--json", id];
  const explained = await authproxy("explain", ...asked(service));
  expect(explained).toMatchObject({ status: 0, stderr: "" });
  expect(JSON.parse(explained.stdout)).toMatchObject({ answer: "granted", service: "app" });
  const refused = await authproxy("explain", ...asked(stranger));
  expect(refused).toMatchObject({ status: 77, stderr: "" });
  expect(JSON.parse(refused.stdout)).toMatchObject({ answer: "refused", reason: "no-match" });
  const suggested = await authproxy("suggest", ...asked(service));
  expect(suggested).toMatchObject({ status: 0, stderr: "" });
  const [block] = Object.values(JSON.parse(suggested.stdout).services);
  const Config = { Image: registry.reference, Labels: { app: "app" } };
  expect(block).toMatchObject({ match: { peer: { uid: 1001 }, container: { Config } } });
}

/** It asks the engine's `info` whether the engine follows. */
async function installsRuntime(daemonJson: string, api: Api): Promise<void> {
  const words = ["--daemon-json", daemonJson];
  const installed = await authproxy("runtime", "install", ...words);
  expect(installed).toMatchObject({ status: 0, stderr: "" });
  expect(installed.stdout).toContain("has been told, and follows");
  expect((await api.about()).Runtimes).toHaveProperty("authproxy");
  expect(await authproxy("runtime", "uninstall", ...words)).toMatchObject({ status: 0 });
  expect((await api.about()).Runtimes).not.toHaveProperty("authproxy");
}

/** The server keeps running while another engine takes the place of the one that it knows. */
async function replaced(): Promise<Visited> {
  const [tree20, tree28] = [await docker20(), await docker28()];
  const old = await had(startDocker(tree20, { "live-restore": true }));
  const socket = join(directory, "engine.sock");
  symlinkSync(old.socket, socket);
  let recent: Engine | undefined;
  const [service, , stranger] = COMPANY;
  if (!service || !stranger) throw new Error("COMPANY has these");
  let survivor = 0;
  const before = async ([first]: Outcome[]) => {
    survivor = Number(first?.line.pid);
    expect(await new Api(socket).speaks("1.41")).toBe(true);
    process.kill(old.pid, "SIGTERM"); // its container lives on
    recent = await had(startDocker(tree28, {}, REFUSE_OLD));
    while (existsSync(`/proc/${old.pid}`)) await sleep(50); // until its connections are closed
    rmSync(socket);
    symlinkSync(recent.socket, socket);
    expect(await new Api(socket).speaks("1.41")).toBe(false);
  };
  const another = { ...service, name: "the service, on the new engine", before };
  try {
    const actors = [service, another, stranger];
    return { findings: await play({ ...sceneOn(socket), actors }) };
  } finally {
    if (survivor > 0) process.kill(survivor, "SIGKILL");
    await recent?.stop();
    await old.stop();
  }
}

/** Its container lives on, and keeps its token; what comes later is judged as before. */
async function stoppedAndStarted(tree: Tree, beforeStart = ""): Promise<Visited> {
  const engine = await had(startDockerAnew(tree));
  const [service, inside, stranger] = COMPANY;
  if (!service || !inside || !stranger) throw new Error("COMPANY has these");
  const before = async ([first]: Outcome[]) => {
    await engine.restart(beforeStart);
    if (beforeStart === REFUSE_OLD) expect(await new Api(engine.socket).speaks("1.41")).toBe(false);
    const accessor = first?.line.accessor;
    await client(bao).write("auth/token/lookup-accessor", { accessor }); // throws where it is dead
  };
  const another = { ...service, name: "the service, once more" };
  try {
    const actors = [service, { ...inside, before }, another, stranger];
    return { findings: await play({ ...sceneOn(engine.socket), actors }) };
  } finally {
    await engine.stop();
  }
}

async function withSelinux(): Promise<Visited> {
  const level = (categories: string) => ({ SecurityOpt: [`label=level:s0:${categories}`] });
  const [service, stranger] = COMPANY;
  if (!service || !stranger) throw new Error("COMPANY has these");
  const scene: Scene = {
    ...sceneOn("/var/run/docker.sock", "/lab/vault-ca.pem"),
    label: CONTAINER_LABEL,
    actors: [
      { ...service, host: level("c1,c2") },
      stranger,
      { name: "the same in another context", expect: "no-match", host: level("c3,c4") },
      {
        name: "the same, unconfined",
        expect: "no-match",
        host: { SecurityOpt: ["label=disable"] },
      },
    ],
  };
  const guest = { lacks: lacks(), scene };
  const trees = [await docker26(), await kernel("trixie")];
  const wanted = { trees, qemu: await qemu(), layer, ca: bao.ca, guest };
  const { findings } = await runGuest({ ...wanted, security: "selinux" });
  const others = findings.outcomes.slice(2).map(({ line }) => line);
  const judge = () => {
    expect(findings.outcomes[0]?.line.label).toBe(CONTAINER_LABEL);
    for (const { detail } of others)
      expect(detail).toMatchObject({ path: "peer.label", wanted: CONTAINER_LABEL });
  };
  return { findings, judge, extra: others.map(({ label }) => `refused: ${label}`) };
}

/** AppArmor has mediated UNIX sockets, and named their peers, since Linux 6.17. */
async function withAppArmor(): Promise<Visited> {
  const label = "docker-default (enforce)";
  const unconfined = { SecurityOpt: ["apparmor=unconfined"] };
  const findings = await inAppArmor(await kernel("sid"), {
    label,
    actors: [...COMPANY, { name: "the same, unconfined", expect: "no-match", host: unconfined }],
  });
  const other = findings.outcomes.at(-1)?.line;
  const judge = () => {
    expect(findings.outcomes[0]?.line.label).toBe(label);
    expect(other?.detail).toMatchObject({ path: "peer.label", wanted: label });
  };
  return { findings, judge, extra: [`refused: ${other?.label}`] };
}

/** There a container is confined, and the server sees no label. */
async function withOldAppArmor(): Promise<Visited> {
  const findings = await inAppArmor(await kernel("trixie"), {});
  const judge = () => {
    expect(findings.about.SecurityOptions).toContain("name=apparmor");
    for (const { line } of findings.outcomes) expect(line.label ?? "").toBe("");
  };
  return { findings, judge, extra: ["no label"] };
}

async function inAppArmor(kernel: Tree, changes: Partial<Scene>): Promise<Findings> {
  const scene = { ...sceneOn("/var/run/docker.sock", "/lab/vault-ca.pem"), ...changes };
  const guest = { lacks: lacks(), scene };
  const trees = [await docker26(), kernel];
  const wanted = { trees, qemu: await qemu(), layer, ca: bao.ca, guest };
  return (await runGuest({ ...wanted, security: "apparmor" })).findings;
}

async function withoutPidfd(): Promise<Visited> {
  const first = sceneOn("/var/run/docker.sock", "/lab/vault-ca.pem");
  const scene = { ...first, allowNoPidfd: true };
  const guest = { lacks: lacks(), first, scene };
  const trees = [await docker20(), await kernel("bookworm")];
  const wanted = { trees, qemu: await qemu(), layer, ca: bao.ca, guest };
  const { refusal, findings } = await runGuest(wanted);
  const judge = () => {
    expect(refusal).toMatch(/^1: authproxy: error: this kernel has no SO_PEERPIDFD/);
    expect(findings.ready.pidfd).toBe(false);
    // What was decided without it says so, in each line.
    for (const { line } of findings.outcomes) expect(line.pidfd).toBe(false);
  };
  return { findings, judge, extra: [`without allow_no_pidfd, exit ${refusal}`] };
}

/** A user may arrange its own cgroups, so their names are not believed: here there is none at all. */
async function rootless(): Promise<Visited> {
  const start = startRootlessPodman(await podman(), `127.0.0.1:${registry.port}`);
  const actors = [{ name: "its container", expect: "no-container" }];
  return { findings: await on(start, { actors }) };
}

function lacks() {
  const vaultPort = Number(new URL(bao.address).port);
  return { layer: "/lab/layer.tar", registryPort: registry.port, vaultPort };
}

/** The outer container is of the service; what runs on an engine inside it is not. */
async function dockerInDocker(): Promise<Visited> {
  const tree = await docker26();
  const outer = await had(startDocker(tree));
  try {
    const within = await had(startDockerIn(outer, tree, registry.reference));
    try {
      const actors = [{ name: "a container in a container", expect: "namespace", within }];
      const findings = await play({ ...sceneOn(outer.socket), actors });
      const cgroup = findings.captured.files.cgroup ?? "";
      const judge = () => expect(cgroup.match(/[0-9a-f]{64}/)?.[0]).toBe(within.id);
      return {
        findings,
        judge,
        extra: [`judged as of the outer container ${within.id.slice(0, 12)}`],
      };
    } finally {
      await within.stop();
    }
  } finally {
    await outer.stop();
  }
}

/** The server, too, runs where the engine's pids are the ones that it sees. */
async function underSystemd(): Promise<Visited> {
  const engine = await had(startDockerUnderSystemd(await docker26()));
  const file = join(directory, "systemd.json");
  const guest: Guest = { scene: sceneOn(engine.socket) };
  writeFileSync(file, JSON.stringify(guest), { mode: 0o600 });
  const inside = join("/host", import.meta.dirname, "inside.ts");
  const [program = "", ...words] = [...engine.enter, `/host${process.execPath}`, inside, file];
  try {
    const { stdout } = await promisify(execFile)(program, words, { maxBuffer: 1 << 24 });
    const { findings }: Results = JSON.parse(stdout);
    return { findings };
  } finally {
    await engine.stop();
  }
}

/** Its peers are refused: their user namespace is not the server's, and its map tells nothing. */
async function withMappedUsers(): Promise<Visited> {
  const range = `daemon:${REMAPPED}:65536`;
  const before = `mkdir /run/sub; echo ${range} >/run/sub/ids
    for file in /etc/subuid /etc/subgid; do mount --bind /run/sub/ids $file; done`;
  const settings = { "userns-remap": "daemon" };
  const engine = await had(startDocker(await docker20(), settings, before));
  try {
    const actors = COMPANY.map((actor) =>
      // These two are refused before.
      ["no-match", "init"].includes(actor.expect) ? actor : { ...actor, expect: "user-namespace" },
    );
    const uid = REMAPPED + 1001;
    const findings = await play({ ...sceneOn(engine.socket), uid, actors });
    const { outer, inner } = await nestedNamespaces(engine.socket);
    const judge = () => {
      expect(inner.map).toBe(outer.map);
      expect(inner.user).not.toBe(outer.user);
    };
    const seen = `uid_map "${outer.map}" in ${outer.user}, "${inner.map}" in ${inner.user} below it`;
    return { findings, judge, extra: [seen] };
  } finally {
    await engine.stop();
  }
}

/** A container's first process, and one in a user namespace that it has made, as the host sees them. */
async function nestedNamespaces(engine: string) {
  const api = new Api(engine);
  await api.pull(registry.reference);
  const HostConfig = { SecurityOpt: ["seccomp=unconfined"], NetworkMode: "none" };
  const wanted = { Image: registry.reference, Cmd: ["/app/nested"], User: "0:0", HostConfig };
  const { Id, State } = await api.run(wanted);
  try {
    await untilSaid(api, Id, /nested/);
    const child = readFileSync(`/proc/${State.Pid}/task/${State.Pid}/children`, "utf8");
    return { outer: mapOf(State.Pid), inner: mapOf(Number(child)) };
  } finally {
    await api.remove(Id);
  }
}

function mapOf(pid: number) {
  const map = readFileSync(`/proc/${pid}/uid_map`, "utf8").trim().replace(/ +/g, " ");
  return { user: readlinkSync(`/proc/${pid}/ns/user`), map };
}

test.concurrent.for(places)("$name", async ({ name, must, fixture, visit }, { expect, skip }) => {
  const startedMs = performance.now();
  let visited: Visited;
  try {
    visited = await visit();
  } catch (error) {
    notRun(name, error as Error, startedMs);
    if (must || !(error instanceof NotHad)) throw error;
    return skip(error.message);
  }
  const { findings, extra = [], judge } = visited;
  ran(name, findings, extra, startedMs);
  const { captured, outcomes } = findings;
  const wanted = outcomes.map(({ actor, expected }) => [
    actor,
    expected,
    expected === "granted" ? "a token" : "refused",
  ]);
  expect(outcomes.map(({ actor, seen, told }) => [actor, seen, told])).toEqual(wanted);
  judge?.();
  if (fixture && process.env.AUTHPROXY_CAPTURE) {
    mkdirSync(fixtures, { recursive: true });
    writeFileSync(join(fixtures, `${fixture}.json`), `${JSON.stringify(captured, null, 2)}\n`);
  }
});
