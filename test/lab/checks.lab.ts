// Attacks that this machine's own engine cannot be given: a seccomp profile with a listener (Docker 26
// hands it on, 20.10 does not), and an image index whose other platform declares the label
// (containerd's image store). Each arm as in test/attacks; the programs are there too. And what a newer
// engine says of an honest container on a busy host.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, assert, describe, expect, test } from "vitest";
import { observe } from "../../cli/observe.ts";
import { fetchTree } from "../../scripts/debian.ts";
import type { JsonObject } from "../../server/json.ts";
import { compile as compileFrom } from "../programs.ts";
import { type AuditLine, app, type Server, Stage, until } from "../stage.ts";
import { DOCKER_WITH_SHELL, type Engine, removeBridge, startDocker } from "./engine.ts";

const compile = (name: string) =>
  compileFrom(name, join(import.meta.dirname, "../attacks/programs"));
const SOCKET = "/run/authproxy/authproxy.sock";
const CONTAINERD = { features: { "containerd-snapshotter": true } };
afterAll(removeBridge);

/** The Docker command, for this engine. */
function dockerOf(engine: Engine) {
  return (...words: string[]) =>
    execFileSync("docker", ["-H", `unix://${engine.socket}`, ...words], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
      maxBuffer: 1 << 24,
    }).trim();
}

async function serve(stage: Stage, engine: Engine, changes: JsonObject = {}): Promise<Server> {
  mkdirSync(join(stage.directory, "run"), { recursive: true });
  const services = { app: { ...app, ...changes } };
  return await stage.server({ engine: engine.socket, services });
}

async function decision(server: Server, id: string): Promise<AuditLine> {
  const isDecision = ({ event, container }: AuditLine) =>
    container === id && ["granted", "refused", "unavailable"].includes(event);
  await until("it is decided", () => server.events.some(isDecision));
  return server.events.find(isDecision) as AuditLine;
}

/** Words of a careful `docker run`. */
const careful = ({ directory }: Stage) => [
  ...["run", "-d", "--read-only", "--network", "none", "--user", "1001:1001"],
  ...["-v", `${join(directory, "run")}:/run/authproxy:ro`],
];

describe("a seccomp agent in another container makes the client's sockets (52), on Docker 26", async () => {
  const engine = await startDocker(await fetchTree("trixie", ["docker.io"]));
  afterAll(() => engine.stop());
  const docker = dockerOf(engine);
  for (const name of ["late", "overhear"]) {
    const archive = `tar -C "$(dirname ${compile(name)})" -c ${name}`;
    execFileSync("sh", ["-c", `${archive} | docker -H unix://${engine.socket} import - ${name}`]);
  }

  /** Starts a container of the service under a profile whose agent overhears it. */
  async function overhear(stage: Stage, server: Server, spell = (json: string) => json) {
    const name = `agent-${Math.random().toString(36).slice(2)}`;
    docker("volume", "create", name);
    const agent = ["run", "-d", "--name", name, "--network", "none", "-v", `${name}:/shared`];
    docker(...agent, "overhear", "/overhear", "/shared/s");
    stage.defer(() => docker("rm", "-f", name));
    await until("it listens", () => docker("logs", name).includes("listening"));
    const mountpoint = docker("volume", "inspect", "-f", "{{.Mountpoint}}", name);
    const profile = join(stage.directory, "profile.json");
    const syscalls = [
      {
        names: ["socket"],
        action: "SCMP_ACT_NOTIFY",
        args: [{ index: 0, value: 1, op: "SCMP_CMP_EQ" }],
      },
    ];
    const listenerPath = join(mountpoint, "s");
    const json = JSON.stringify({ defaultAction: "SCMP_ACT_ALLOW", listenerPath, syscalls });
    writeFileSync(profile, spell(json));
    const words = ["-l", "app=app", "--security-opt", `seccomp=${profile}`];
    const id = docker(...careful(stage), ...words, "late", "/late", SOCKET);
    stage.defer(() => docker("rm", "-f", id));
    const line = await decision(server, id);
    await until("it is answered", () => docker("logs", id).includes("trusted: end"));
    return { line, overheard: docker("logs", name) };
  }

  test("it has the token where seccomp is relaxed, and the audit says so", async () => {
    await using stage = new Stage();
    const server = await serve(stage, engine, { relax: ["seccomp"] });
    const { line, overheard } = await overhear(stage, server);
    expect(overheard).toContain('"token"');
    expect(line).toMatchObject({ event: "granted", relaxed: ["seccomp"] });
  });

  test.each([
    { name: "as it is", spell: (json: string) => json },
    {
      name: "by an escape",
      spell: (json: string) => json.replace("SCMP_ACT_NOTIFY", "\\u0053CMP_ACT_NOTIF\\u0059"),
    },
  ])("it has nothing, its action spelled $name: seccomp", async ({ spell }) => {
    await using stage = new Stage();
    const server = await serve(stage, engine);
    const { line, overheard } = await overhear(stage, server, spell);
    expect(overheard).not.toContain('"token"');
    const wanted = { event: "refused", reason: "seccomp", detail: "SCMP_ACT_NOTIFY" };
    expect(line).toMatchObject(wanted);
  });

  test("an honest container is served, one with a profile of its own too", async () => {
    await using stage = new Stage();
    const server = await serve(stage, engine);
    const profile = join(stage.directory, "own.json");
    writeFileSync(profile, JSON.stringify({ defaultAction: "SCMP_ACT_ALLOW" }));
    for (const words of [[], ["--security-opt", `seccomp=${profile}`]]) {
      const honest = [...careful(stage), "-l", "app=app", ...words];
      const id = docker(...honest, "late", "/late", SOCKET);
      stage.defer(() => docker("rm", "-f", id));
      expect(await decision(server, id)).toMatchObject({ event: "granted", relaxed: [] });
    }
  });
});

/** Gives the engine an image of two platforms, of which the one that is not this host's declares the
 * label. */
function loadIndex(engine: Engine, stage: Stage): void {
  const directory = join(stage.directory, "oci");
  mkdirSync(join(directory, "blobs/sha256"), { recursive: true });
  mkdirSync(join(directory, "layer/app"), { recursive: true });
  copyFileSync(compile("trusted"), join(directory, "layer/app/trusted"));
  const tar = ["-C", join(directory, "layer"), "-cf", join(directory, "layer.tar"), "app"];
  execFileSync("tar", tar);

  const add = (bytes: Buffer, mediaType: string) => {
    const hex = createHash("sha256").update(bytes).digest("hex");
    writeFileSync(join(directory, "blobs/sha256", hex), bytes);
    return { mediaType, digest: `sha256:${hex}`, size: bytes.length };
  };
  const addJson = (value: object, type: string) =>
    add(Buffer.from(JSON.stringify(value)), `application/vnd.oci.image.${type}.v1+json`);
  const layer = add(
    readFileSync(join(directory, "layer.tar")),
    "application/vnd.oci.image.layer.v1.tar",
  );
  const manifestOf = (architecture: string, Labels: object) => {
    const platform = { architecture, os: "linux" };
    const rootfs = { type: "layers", diff_ids: [layer.digest] };
    const config = addJson({ ...platform, config: { Labels }, rootfs }, "config");
    const mediaType = "application/vnd.oci.image.manifest.v1+json";
    const manifest = { schemaVersion: 2, mediaType, config, layers: [layer] };
    return { ...addJson(manifest, "manifest"), platform };
  };
  const mediaType = "application/vnd.oci.image.index.v1+json";
  const manifests = [manifestOf("amd64", {}), manifestOf("arm64", { app: "app" })];
  const index = addJson({ schemaVersion: 2, mediaType, manifests }, "index");
  const annotations = {
    "io.containerd.image.name": "docker.io/library/two:1",
    "org.opencontainers.image.ref.name": "1",
  };
  const top = { schemaVersion: 2, manifests: [{ ...index, annotations }] };
  writeFileSync(join(directory, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
  writeFileSync(join(directory, "index.json"), JSON.stringify(top));
  const archive = `tar -C ${directory} -c oci-layout index.json blobs`;
  execFileSync("sh", ["-c", `${archive} | docker -H unix://${engine.socket} load`]);
}

describe.each([
  { suite: "sid" as const, isNamed: true },
  { suite: "trixie" as const, isNamed: false },
])(
  "a label that an image's other platform declares (53), containerd's store of $suite",
  async ({ suite, isNamed }) => {
    const engine = await startDocker(await fetchTree(suite, ["docker.io"]), CONTAINERD);
    afterAll(() => engine.stop());
    const docker = dockerOf(engine);

    async function start(stage: Stage, server: Server, ...words: string[]) {
      const id = docker(...careful(stage), ...words, "two:1", "/app/trusted", SOCKET);
      stage.defer(() => docker("rm", "-f", id));
      return await decision(server, id);
    }

    test("is no label of a container's own: labels", async () => {
      await using stage = new Stage();
      const server = await serve(stage, engine);
      loadIndex(engine, stage);
      const arm = ["--platform", "linux/arm64"];
      const refused = { event: "refused", reason: "labels", detail: "app" };
      expect(await start(stage, server, ...arm)).toMatchObject(refused);
      expect(await start(stage, server, ...arm, "-l", "app=app")).toMatchObject(refused);
    });

    test("is granted where labels is relaxed, and the audit says so", async () => {
      await using stage = new Stage();
      const server = await serve(stage, engine, { relax: ["labels"] });
      loadIndex(engine, stage);
      const line = await start(stage, server, "--platform", "linux/arm64");
      expect(line).toMatchObject({ event: "granted", relaxed: ["labels"] });
    });

    test(`a label that was given to the other platform ${isNamed ? "is served" : "needs a pinned image"}`, async () => {
      await using stage = new Stage();
      loadIndex(engine, stage);
      const Image = docker("image", "inspect", "-f", "{{.Id}}", "two:1");
      const pinned = { match: { container: { ...app.match.container, Image } } };
      const given = ["--platform", "linux/amd64", "-l", "app=app"];
      const server = await serve(stage, engine);
      const granted = { event: "granted", relaxed: [] };
      const refused = { event: "refused", reason: "labels" };
      expect(await start(stage, server, ...given)).toMatchObject(isNamed ? granted : refused);
      await server.end("SIGTERM");
      const pinning = await serve(stage, engine, pinned);
      expect(await start(stage, pinning, ...given)).toMatchObject(granted);
    });
  },
);

describe("a host so busy that a container's process is made seconds after what Docker 28 calls StartedAt", async () => {
  const directory = mkdtempSync(join(tmpdir(), "authproxy-slow-"));
  const runtime = join(directory, "runc");
  const create = '*" create "*) sleep 4';
  writeFileSync(runtime, `#!/bin/sh\ncase " $* " in ${create};; esac\nexec runc "$@"\n`, {
    mode: 0o755,
  });
  const changes = { runtimes: { slow: { path: runtime } } };
  const engine = await startDocker(await fetchTree("sid", DOCKER_WITH_SHELL), changes);
  afterAll(async () => {
    await engine.stop();
    rmSync(directory, { recursive: true });
  });

  test("it is served", async () => {
    await using stage = new Stage();
    const docker = dockerOf(engine);
    const archive = `tar -C "$(dirname ${compile("trusted")})" -c trusted`;
    execFileSync("sh", ["-c", `${archive} | docker -H unix://${engine.socket} import - trusted`]);
    const server = await serve(stage, engine);
    const words = [...careful(stage), "--runtime", "slow", "-l", "app=app"];
    const id = docker(...words, "trusted", "/trusted", SOCKET);
    stage.defer(() => docker("rm", "-f", id));
    expect(await decision(server, id)).toMatchObject({ event: "granted", relaxed: [] });

    const pid = Number(docker("inspect", "-f", "{{.State.Pid}}", id));
    const { facts } = await observe(pid, engine.socket);
    assert(facts);
    const startedMs = facts.bootMs + facts.init.start_ticks * 10;
    expect(startedMs - Date.parse(facts.container.State.StartedAt)).toBeGreaterThan(3000);
  });
});
