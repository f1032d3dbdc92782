// Question: does the server decide the same on other engines and kernels?
// Each test is one engine on one kernel, with the real server and a real Vault; scene.ts says what
// happens there. One policy serves all: it pins the image by its digest, as `Config.Image`.
import { execFile, execFileSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { pipeline } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { afterAll, expect, test } from "vitest";
import { fetchTree, type Suite, type Tree } from "../../scripts/debian.ts";
import { client, provision, startOpenBao } from "../../scripts/openbao.ts";
import { makeArchive } from "../../scripts/package.ts";
import { busybox } from "../busybox.ts";
import { compile } from "../programs.ts";
import { authproxy } from "./administrator.ts";
import { Api } from "./api.ts";
import {
  DOCKER_WITH_SHELL,
  daemonJsonOf,
  type Engine,
  FIRST_MAPPED,
  fetchPodman,
  MAPPED_USERS,
  type Podman,
  removeBridge,
  removeCgroups,
  startDocker,
  startDockerAnew,
  startDockerIn,
  startDockerUnderSystemd,
  startPodman,
  startRootlessPodman,
} from "./engine.ts";
import { runGuest, X64 } from "./guest.ts";
import type { Guest, Results } from "./inside.ts";
import { notRun, ran } from "./matrix.ts";
import { buildDockerd } from "./moby.ts";
import { startRegistry } from "./registry.ts";
import {
  type Actor,
  COMPANY,
  type Findings,
  type Outcome,
  play,
  refusesToStart,
  type Scene,
  untilSaid,
} from "./scene.ts";
import { installSelinux, SELINUX_PACKAGES } from "./selinux.ts";
import { CLIENT, type SelinuxFindings, type SelinuxGuest, UNCHANGED } from "./selinux-inside.ts";

const project = join(import.meta.dirname, "../..");
const fixtures = join(project, "test/fixtures/engines");
const KERNEL = ["linux-image-cloud-amd64", "busybox-static", "libstdc++6", "apparmor"];
const QEMU = ["qemu-system-x86", "e2fsprogs", "coreutils"];
/** Shell that makes a Docker engine refuse clients of older API versions. */
const REFUSE_OLD = "export DOCKER_MIN_API_VERSION=1.44";

const SECRET = "of the lab";
const CONTAINER_LABEL = "system_u:system_r:container_t:s0:c1,c2";
/** A port that SELinux's policy knows as Vault's. */
const VAULT_PORT = 8200;
/** What the client says, with its exit code, where SELinux denies it the socket. */
const DENIED = /^78: .*EACCES.*module authproxy/s;
/** A denial that is the lab's own doing: its directory is on the engine's PATH. */
const OF_THE_LAB = /\{ search \} .* name="lab" /;

const directory = mkdtempSync(join(tmpdir(), "authproxy-lab-"));
const layer = join(directory, "layer.tar");
makeLayer();
const registry = await startRegistry(readFileSync(layer));
const insecure = `127.0.0.1:${registry.port}`;
const bao = await startOpenBao();
const ids = await provision(bao, { services: { app: { password: SECRET } } });

afterAll(async () => {
  registry.server.closeAllConnections();
  registry.server.close();
  await bao.stop();
  removeBridge();
  rmSync(directory, { recursive: true, force: true });
});

/** The lab's image: static programs, the same bytes on every machine with the same compiler. */
function makeLayer(): void {
  mkdirSync(join(directory, "image/app"), { recursive: true });
  for (const name of ["ask", "nested", "tell"]) {
    const program = compile(name, join(import.meta.dirname, "programs"));
    execFileSync("cp", [program, join(directory, "image/app")]);
  }
  // For an engine in a container, whose /usr is a tree's.
  for (const name of ["bin", "sbin", "lib", "lib64"])
    symlinkSync(`usr/${name}`, join(directory, "image", name));
  packLayer(join(directory, "image"), layer);
}

function packLayer(root: string, file: string): void {
  const same = ["--sort=name", "--mtime=@0", "--numeric-owner", "--owner=0", "--group=0"];
  execFileSync("tar", ["--create", ...same, "-C", root, "-f", file, "."]);
}

/** An image with a shell; and with the client directory, or without. */
async function shellImage(name: string, clientDirectory?: string) {
  const root = join(directory, name);
  mkdirSync(join(root, "bin"), { recursive: true });
  cpSync(busybox(), join(root, "bin/sh"));
  if (clientDirectory) cpSync(clientDirectory, join(root, "authproxy"), { recursive: true });
  const file = join(directory, `${name}.tar`);
  packLayer(root, file);
  const { server, port, reference } = await startRegistry(readFileSync(file));
  server.close(); // the guest has one of its own at this port
  return { file, port, reference };
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
async function on<Started extends Engine>(
  start: Promise<Started>,
  changes: (engine: Started) => Partial<Scene> = () => ({}),
): Promise<Findings> {
  const engine = await had(start);
  try {
    return await play({ ...sceneOn(engine.socket), ...changes(engine) });
  } finally {
    await engine.stop();
  }
}

/** The command is tried as well, and the runtime. */
const withAll = (engine: Engine): Partial<Scene> => ({
  asked: "all",
  runtimes: [{ daemonJson: daemonJsonOf(engine) }],
});

const withAllOfPodman = ({ command: podman }: Podman): Partial<Scene> => ({
  asked: "all",
  runtimes: [{ podman, program: join(project, "dist/runtime/authproxy-runc") }],
});

/** What the mirror has not, or does not start here, is not the server's fault. */
class NotHad extends Error {}

async function had<T>(what: Promise<T>): Promise<T> {
  return await what.catch((error: Error) => {
    throw new NotHad(error.message, { cause: error });
  });
}

const docker20 = () => had(fetchTree("bookworm", ["docker.io"]));
const docker26 = () => had(fetchTree("trixie", ["docker.io"]));
const docker28 = () => had(fetchTree("sid", DOCKER_WITH_SHELL));
const podman = (suite: "bookworm" | "trixie") => had(fetchPodman(suite));
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
      const tree = await podman("bookworm");
      return { findings: await on(startPodman(tree, insecure), withAllOfPodman) };
    },
  },
  { name: "Podman 5.4, as root", must: true, fixture: "podman-5.4", visit: podmanWithNamespaces },
  { name: "guest: Podman 5.4 and crun", must: true, fixture: "podman-5.4-crun", visit: withCrun },
  {
    name: "guest: SELinux, enforcing",
    must: true,
    fixture: "docker-26-selinux",
    visit: withSelinux,
  },
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
    visit: async () => ({ findings: await on(startDocker(await docker28()), withAll) }),
  },
  {
    name: "Docker 28, containerd's image store",
    fixture: "docker-28-containerd",
    visit: async () => {
      const features = { "containerd-snapshotter": true };
      return { findings: await on(startDocker(await docker28(), { features }), withAll) };
    },
  },
  { name: "Docker 29", fixture: "docker-29", visit: docker29 },
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

/** As it comes: containerd's image store, and the API versions that it offers by itself. */
async function docker29(): Promise<Visited> {
  const [tree, program] = [await docker28(), await had(buildDockerd())];
  let offered = "";
  const findings = await on(startDocker(tree, {}, "", program), (engine) => ({
    ...withAll(engine),
    afterwards: async () => {
      const { MinAPIVersion, ApiVersion } = await new Api(engine.socket).versions();
      offered = `API ${MinAPIVersion} to ${ApiVersion}`;
    },
  }));
  const judge = () => {
    expect(findings.about.ServerVersion).toMatch(/^29\./);
    expect(findings.about.DriverStatus.flat()).toContain("io.containerd.snapshotter.v1");
  };
  return { findings, judge, extra: [offered] };
}

/** As Docker 29.0 to 29.2 do by default. The server negotiates, and so does the command. */
async function onlyNewVersions(): Promise<Visited> {
  const start = startDocker(await docker28(), {}, REFUSE_OLD);
  const findings = await on(start, (engine) => ({
    ...withAll(engine),
    afterwards: async () => {
      const speaks = await new Api(engine.socket).speaks("1.41");
      expect(speaks, "the control: a client that has a fixed version").toBe(false);
    },
  }));
  return { findings };
}

/** Where users are mapped to others of the host: by each container's own map, or by its pod's. */
async function podmanWithNamespaces(): Promise<Visited> {
  const nothing = { netns: { nsmode: "none" } };
  const actors: Actor[] = [
    ...COMPANY,
    { name: "in a pod", expect: "granted", podman: { pod: nothing } },
    { name: "--userns=auto", expect: "granted", host: { UsernsMode: "auto" } },
    {
      name: "in a pod with --userns=auto",
      expect: "granted",
      podman: {
        pod: { ...nothing, userns: { nsmode: "auto" }, idmappings: { AutoUserNs: true } },
      },
    },
    { name: "exec in --userns=auto", expect: "init", execIn: "--userns=auto" },
  ];
  const findings = await on(startPodman(await podman("trixie"), insecure), (engine) => {
    const { runtimes = [], ...others } = withAllOfPodman(engine);
    const mapped = runtimes.map((runtime) => ({ ...runtime, options: ["--userns=auto"] }));
    return { ...others, runtimes: [...runtimes, ...mapped], actors, userNamespaces: true };
  });
  const uids = findings.outcomes.map(({ line }) => Number(line.uid));
  const judge = () => {
    const [service, , , inPod, auto, mappedPod] = uids;
    expect([service, inPod]).toEqual([1001, 1001]);
    expect(auto).toBeGreaterThan(65_536);
    expect(mappedPod).toBeGreaterThan(65_536);
    expect(mappedPod).not.toBe(auto);
  };
  return { findings, judge, extra: [`uids ${uids.join(", ")}`] };
}

/** A runtime whose annotations change what it does: they are refused where the policy has none. */
async function withCrun(): Promise<Visited> {
  const Annotations = { "run.oci.keep_original_groups": "1" };
  const labels = { app: "annotated" };
  const annotated = { container: { annotations: Annotations } };
  const pinned = { Config: { Labels: labels }, HostConfig: { Annotations } };
  const scene: Scene = {
    ...sceneOn("/run/podman/podman.sock", "/lab/vault-ca.pem"),
    actors: [
      ...COMPANY,
      { name: "with an annotation of crun's", expect: "seccomp", podman: annotated },
      { name: "with one that is pinned", expect: "granted", labels, podman: annotated },
      // In a user namespace that has the host's numbers. It is here because no container gets a range of its
      // own beside it.
      { name: "--userns=keep-id", expect: "granted", host: { UsernsMode: "keep-id" } },
      // As Quadlet starts them.
      {
        name: "with --cgroups=split",
        expect: "granted",
        podman: { container: { cgroups_mode: "split" } },
      },
    ],
    userNamespaces: true,
    alsoServes: { match: { container: pinned }, token: { create: "auth/token/create/app" } },
    asked: "explain",
    runtimes: [{ podman: ["podman"], program: "/lab/authproxy/dist/runtime/authproxy-crun" }],
  };
  const guest = { lacks: lacks(), scene };
  const trees = [await podman("trixie"), await kernel("trixie")];
  const wanted = { trees, qemu: await qemu(), layer, ca: bao.ca, guest };
  const { findings } = await runGuest(wanted);
  const judge = () => expect(findings.captured.files.cgroup).toMatch(/^0::\/\S+\n$/);
  return { findings, judge };
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

/** Each part with Debian's policy alone, and with our module. */
async function withSelinux(): Promise<Visited> {
  const tools = await had(fetchTree("trixie", SELINUX_PACKAGES));
  const plain = await shellImage("plain");
  const withClient = await shellImage("with-client", join(project, "dist/authproxy"));
  const trees = [await docker26(), await kernel("trixie"), tools];
  const images = [plain, withClient].map(({ file, port }) => ({
    layer: `/lab/${basename(file)}`,
    port,
  }));
  const scene = selinuxScene(plain.reference, withClient.reference);
  const guest: SelinuxGuest = { lacks: { ...lacks(), ownVaultPort: VAULT_PORT }, scene, images };
  const archive = await makeArchive(directory);
  execFileSync("tar", ["-xzf", archive.file, "-C", directory]);
  const unpacked = archive.file.replace(/-[^-]*$/, "");
  const results = await runGuest<SelinuxFindings>({
    ...{ trees, qemu: await qemu(), layer, ca: bao.ca, guest },
    security: "selinux",
    machine: { ...X64, deadlineMs: 540_000 }, // it has two servers, and an image with Node
    program: "selinux-inside.ts",
    files: [plain, withClient].map(({ file }) => [file, `lab/${basename(file)}`]),
    prepare: async (root) => await installSelinux(tools, unpacked, root),
  });
  const { findings } = results;
  const others = findings.outcomes.slice(-2).map(({ line }) => line);
  const judge = () => {
    judgeWithout(results);
    judgeWith(results);
    expect(findings.outcomes[0]?.line.label).toBe(CONTAINER_LABEL);
    for (const { detail } of others)
      expect(detail).toMatchObject({ path: "peer.label", wanted: CONTAINER_LABEL });
  };
  return { findings, judge, extra: others.map(({ label }) => `refused: ${label}`) };
}

/** An installed server; the client in an image, and the runtime by an image that nobody changed. */
function selinuxScene(plain: string, withClient: string): Scene {
  const [service, inside, stranger] = COMPANY;
  if (!service || !inside || !stranger) throw new Error("COMPANY has these");
  const level = (categories: string) => ({ SecurityOpt: [`label=level:s0:${categories}`] });
  const own = { ...level("c1,c2"), NetworkMode: "host" }; // Vault is at the guest's loopback
  const Env = ["PASSWORD=vault:secret/data/app#password"];
  const application = ["/bin/sh", "-c", 'echo "$PASSWORD"'];
  const client = ["/authproxy/ld.so", "--inhibit-cache", "--library-path", "/authproxy"];
  client.push("/authproxy/node", "--disable-sigusr1", "/authproxy/authproxy.js", "--");
  const scene = sceneOn("/var/run/docker.sock", "/etc/authproxy/vault-ca.pem");
  const address = `https://127.0.0.1:${VAULT_PORT}`;
  return {
    ...scene,
    vault: { ...scene.vault, address },
    references: [plain, withClient],
    installed: true,
    label: CONTAINER_LABEL,
    actors: [
      { ...service, host: level("c1,c2") },
      inside,
      {
        name: CLIENT,
        expect: "granted",
        host: own,
        wanted: { Image: withClient, Cmd: [...client, ...application], Env },
        says: SECRET,
      },
      {
        name: UNCHANGED,
        expect: "granted",
        host: { ...own, Runtime: "authproxy", Binds: [] },
        wanted: { Image: plain, Cmd: application, Env },
        says: SECRET,
      },
      { ...stranger, host: level("c1,c2") },
      { name: "the same in another context", expect: "no-match", host: level("c3,c4") },
      {
        name: "the same, unconfined",
        expect: "no-match",
        host: { SecurityOpt: ["label=disable"] },
      },
    ],
  };
}

/** The kernel denies it, and what is said of it names the module: except by the engine. */
function judgeWithout({ without }: SelinuxFindings): void {
  const { told, relabelled, stderr, doctor } = without;
  expect(stderr).toMatch(/^peercred: warning: SELinux .*:initrc_t:.* module authproxy/);
  expect(told[CLIENT]).toContain("mkdir /run/authproxy: file exists");
  expect(relabelled).toMatch(DENIED);
  expect(told[UNCHANGED]).toContain("authproxy-runc: permission denied");
  for (const part of ["the server", "/run/authproxy", "/run/authproxy/authproxy.sock"])
    expect(doctor).toContain(`security module: selinux, enforcing: ${part} has the label`);
  expect(doctor).toMatch(/dist\/authproxy has the label .*, not authproxy_client_t: .*module/);
}

function judgeWith({ domains, doctor, reload, denials }: SelinuxFindings): void {
  const domain = "system_u:system_r:authproxy_t:s0";
  expect(domains).toEqual([domain, domain]);
  expect(doctor).toContain("security module: selinux, enforcing; the module is in use");
  expect(doctor).toContain("warning: 0, failed: 0");
  expect(reload).toBe("fine\n");
  const [seen, others] = [true, false].map((isOfTheLab) =>
    denials.filter((line) => OF_THE_LAB.test(line) === isOfTheLab),
  );
  expect(seen, "the control: what the kernel denies is seen").not.toEqual([]);
  expect(others).toEqual([]);
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

/** A user's socket is refused at the start. By a relay of root's it is asked, and still its containers
 * are refused: a user may arrange its own cgroups, so their names are not believed. Here there is none. */
async function rootless(): Promise<Visited> {
  const engine = await had(startRootlessPodman(await podman("bookworm"), insecure));
  const socket = join(directory, "relay.sock");
  const relay = createServer((local) => {
    const remote = connect(engine.socket);
    pipeline(local, remote, local, () => {}); // either may end first
  }).listen(socket);
  try {
    const refusal = await refusesToStart(sceneOn(engine.socket));
    const actors = [{ name: "its container", expect: "no-container" }];
    const findings = await play({ ...sceneOn(socket), actors });
    const judge = () =>
      expect(refusal).toMatch(
        /^1: authproxy: error: engine: .*, or others say what each container is$/,
      );
    return { findings, judge, extra: [`its own socket: exit ${refusal}`] };
  } finally {
    relay.close();
    await engine.stop();
  }
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
  const tools = ["systemd", "mount", "util-linux", "dash", "coreutils", "libstdc++6"];
  const tree = await had(fetchTree("trixie", ["docker.io", ...tools]));
  const engine = await had(startDockerUnderSystemd(tree));
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

/** Its containers are served, by the user namespace that owns their pid namespace: a process below that
 * has the same map. */
async function withMappedUsers(): Promise<Visited> {
  const { changes, before } = MAPPED_USERS;
  const bubblewrap = await had(fetchTree("bookworm", ["bubblewrap"]));
  const engine = await had(startDocker(await docker20(), changes, before));
  const unconfined = { SecurityOpt: ["seccomp=unconfined"], Tmpfs: { "/tmp": "" } };
  const actors: Actor[] = [
    ...COMPANY,
    { name: "--userns=host", expect: "granted", host: { UsernsMode: "host" } },
    {
      name: "shares its pids",
      expect: "granted",
      joins: "the service",
      labels: { app: "relaxed" },
    },
    {
      name: "under bubblewrap",
      expect: "user-namespace",
      host: unconfined,
      under: {
        command: ["/usr/bin/bwrap", "--unshare-user", "--bind", "/", "/"],
        binds: [`${bubblewrap.path}/usr:/usr:ro`],
      },
    },
  ];
  try {
    const scene = { ...sceneOn(engine.socket), userNamespaces: true, relaxed: ["init"], actors };
    const findings = await play({ ...scene, afterwards: explainsMappedUsers });
    const { outer, inner } = await nestedNamespaces(engine.socket);
    const judge = () => {
      expect(inner.map).toBe(outer.map);
      expect(inner.user).not.toBe(outer.user);
      expect(findings.outcomes[0]?.line.uid).toBe(FIRST_MAPPED + 1001);
    };
    const seen = `uid_map "${outer.map}" in ${outer.user}, "${inner.map}" in ${inner.user} below it`;
    return { findings, judge, extra: [seen] };
  } finally {
    await engine.stop();
  }
}

/** The command says of this engine what the server does, with the setting and without it. */
async function explainsMappedUsers(configuration: string, outcomes: Outcome[]): Promise<void> {
  const service = String(outcomes[0]?.line.container);
  const bare = `${configuration}.bare`;
  const { user_namespaces, ...others } = JSON.parse(readFileSync(configuration, "utf8"));
  writeFileSync(bare, JSON.stringify(others), { mode: 0o600 });

  const explained = await authproxy("explain", "--config", configuration, "--json", service);
  expect(JSON.parse(explained.stdout)).toMatchObject({ answer: "granted", service: "app" });
  const refused = await authproxy("explain", "--config", bare, service);
  expect(refused).toMatchObject({ status: 77 });
  expect(refused.stdout.replace(/\s+/g, " ")).toContain('set "user_namespaces": true');
  const suggested = await authproxy("suggest", "--config", configuration, service);
  expect(suggested.stderr).toContain("its users are mapped");
  const [block] = Object.values(JSON.parse(suggested.stdout));
  expect(block).toMatchObject({ match: { process: { uid_inside: 1001 } } });

  const checked = await authproxy("check", "--config", bare);
  expect(checked.stderr).toContain("the engine maps users");
  expect((await authproxy("check", "--config", configuration)).stderr).not.toContain("maps users");
  const examined = await authproxy("doctor", "--config", bare);
  expect(examined.stdout).toMatch(/^warning +user namespaces: .*add "user_namespaces": true/m);
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
