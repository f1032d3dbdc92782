// Question: does all of it run on arm64, as it was built for it on a machine that is not?
// The archive is made by the command that makes this machine's. A guest of qemu's, with Linux and Docker
// of Debian's arm64 packages, runs what is in it: peercred (SO_PEERCRED, SO_PEERGROUPS, SO_PEERPIDFD,
// pidfd), the server by Node for arm64 (/proc: exe, dumpable), the client directory and the runtime.
// Siblings: a process of `docker exec` and one without its label; a program of x86-64, which the client
// must not execve; one that is linked with its loader, and static ones; every program and library of the
// archive; the libraries that Node names; an architecture that nobody builds for.
import { execFile, execFileSync, spawnSync } from "node:child_process";
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { promisify } from "node:util";
import { afterAll, expect, test } from "vitest";
import { fetchTree } from "../../scripts/debian.ts";
import { provision, startOpenBao } from "../../scripts/openbao.ts";
import { buildFor, makeArchive } from "../../scripts/package.ts";
import { targetOf } from "../../scripts/target.ts";
import { ARM64, runGuest } from "./guest.ts";
import type { RuntimeResults } from "./inside-runtime.ts";
import { ran } from "./matrix.ts";
import { startRegistry } from "./registry.ts";
import { COMPANY, type Scene } from "./scene.ts";

const run = promisify(execFile);
const root = join(import.meta.dirname, "../..");
const programs = join(import.meta.dirname, "programs");
const PASSWORD = "of the lab, on arm64";
/** e_machine of elf(5): EM_AARCH64. */
const AARCH64 = 183;

const KERNEL = ["linux-image-cloud-arm64", "busybox-static", "libstdc++6"];
/** With what our runtime needs of a host: a shell. */
const PACKAGES = ["docker.io", ...KERNEL, "dash", "grep", "coreutils"];

const directory = mkdtempSync(join(tmpdir(), "authproxy-arm64-"));
const target = await targetOf("arm64");
buildFor(target);
// Before the tests: in one of them another process has apt fetch what it needs.
const tree = await fetchTree("trixie-arm64", PACKAGES);
const qemu = await fetchTree("trixie", ["qemu-system-arm", "e2fsprogs", "coreutils"]);
const archive = await makeArchive(directory, target);
execFileSync("tar", ["-xzf", archive.file, "-C", directory]);
const unpacked = archive.file.replace("-arm64.tar.gz", "");

afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** e_machine of each ELF file. */
function machinesIn(place: string): Map<string, number> {
  const machines = new Map<string, number>();
  for (const name of readdirSync(place, { recursive: true, encoding: "utf8" })) {
    const file = join(place, name);
    if (!statSync(file).isFile()) continue;
    const bytes = readFileSync(file);
    if (bytes.toString("latin1", 0, 4) === "\x7fELF") machines.set(name, bytes.readUInt16LE(18));
  }
  return machines;
}

/** An image of arm64: what the scene's containers run, a program with its loader and library, and one
 * of this machine's own. */
function makeLayer(systemRoot: string): string {
  const image = join(directory, "image");
  mkdirSync(join(image, "app"), { recursive: true });
  mkdirSync(join(image, "lib"));
  const source = join(programs, "ask.c");
  const flags = ["-std=gnu17", "-O1", "-static", source, "-o"];
  const compilers = { ask: target.compiler, foreign: ["cc"] };
  for (const [name, [compiler = "", ...options]] of Object.entries(compilers))
    execFileSync(compiler, [...options, ...flags, join(image, "app", name)]);
  const copies = {
    "usr/bin/printenv": "app/printenv",
    "usr/lib/ld-linux-aarch64.so.1": "lib/ld-linux-aarch64.so.1",
    "usr/lib/aarch64-linux-gnu/libc.so.6": "lib/libc.so.6",
  };
  for (const [from, to] of Object.entries(copies))
    cpSync(realpathSync(join(systemRoot, from)), join(image, to));
  const layer = join(directory, "layer.tar");
  execFileSync("tar", ["--owner=0", "--group=0", "-C", image, "-cf", layer, "."]);
  return layer;
}

test.concurrent("a guest of arm64 serves its containers, refuses the others, and the runtime gives images that nobody changed the client", async () => {
  const startedMs = performance.now();
  const layer = makeLayer(tree.path);
  const registry = await startRegistry(readFileSync(layer), 0, "arm64");
  const bao = await startOpenBao();
  try {
    const ids = await provision(bao, { services: { app: { password: PASSWORD } } });
    const body = { role_id: ids.roleId, secret_id: ids.secretId };
    const login = { path: "auth/approle/login", body };
    const vault = { address: bao.address, ca_file: "/lab/vault-ca.pem", login };
    const engine = "/var/run/docker.sock";
    const scene: Scene = { engine, reference: registry.reference, vault, actors: COMPANY };
    const vaultPort = Number(new URL(bao.address).port);
    const ports = { registryPort: registry.port, vaultPort };
    const lacks = { layer: "/lab/layer.tar", ...ports, architecture: "arm64" };
    const settings = join(directory, "daemon.json");
    const ours = "/lab/authproxy/dist";
    const path = `${ours}/runtime/authproxy-runc`;
    writeFileSync(settings, JSON.stringify({ runtimes: { authproxy: { path } } }));
    const { findings, served, foreign } = await runGuest<RuntimeResults>({
      ...{ trees: [tree], qemu, layer, ca: bao.ca, guest: { lacks, scene } },
      machine: ARM64,
      program: "inside-runtime.ts",
      files: [
        [join(unpacked, "bin/node"), "lab/bin/node"],
        [join(unpacked, "dist"), ours],
        [settings, "etc/docker/daemon.json"],
      ],
    });
    const { granted, ended, said } = served;
    const extra = ["the runtime: granted", `x86-64 below it: exit ${foreign.exitCode}`];
    ran("guest: arm64", findings, extra, startedMs);

    expect(findings.about).toMatchObject({ Architecture: "aarch64" });
    expect(findings.ready).toMatchObject({ event: "ready", pidfd: true });
    expect(findings.outcomes.map(({ actor, seen, told }) => [actor, seen, told])).toEqual([
      ["the service", "granted", "a token"],
      ["docker exec", "init", "refused"],
      ["without its label", "no-match", "refused"],
    ]);
    expect(granted).toMatchObject({ event: "granted", uid: 1001, gid: 1001, relaxed: [] });
    expect(granted.groups).toContain(2002);
    expect(said).toContain(PASSWORD);
    expect(served.exitCode).toBe(0);
    expect(ended).toMatchObject({ event: "revoked", service: "app" });
    expect(foreign.said).toContain("/app/foreign: built for another processor than arm64");
    expect(foreign.exitCode).toBe(126);
  } finally {
    registry.server.closeAllConnections();
    registry.server.close();
    await bao.stop();
  }
});

test.concurrent("another umask, folder and hour give the same bytes, by `npm run package -- arm64`", async () => {
  const clone = join(directory, "clone");
  const script = `(await import(${JSON.stringify(join(root, "scripts/rebuild.ts"))})).rebuild(process.argv[1])`;
  await run(process.execPath, ["--input-type=module", "-e", script, clone]);
  const env = { ...process.env, TZ: "Asia/Tokyo", TMPDIR: clone };
  const words = ["-ec", "umask 077; exec npm run --silent package -- arm64"];
  const { stdout } = await run("sh", words, { cwd: clone, env });
  const { bytes, sha256 } = archive;
  expect(stdout).toBe(`dist/${basename(archive.file)} ${bytes} bytes sha256 ${sha256}\n`);
});

test("every program and library of the archive is arm64's, and the client directory has all that Node needs", () => {
  const machines = machinesIn(unpacked);
  const names = [...machines.keys()];
  const needed = ["bin/node", "dist/peercred", "dist/authproxy/node", "dist/authproxy/ld.so"];
  expect(names).toEqual(expect.arrayContaining(needed));
  expect(new Set(machines.values())).toEqual(new Set([AARCH64]));
  const client = join(unpacked, "dist/authproxy");
  expect(statSync(join(client, "ld.so")).mode & 0o777).toBe(0o711);
  for (const name of names.filter((name) => dirname(name) === "dist/authproxy")) {
    const words = ["--wide", "--dynamic", join(unpacked, name)];
    const dynamic = execFileSync("readelf", words, { encoding: "utf8" });
    for (const [, library = ""] of dynamic.matchAll(/\(NEEDED\).*\[(.+)\]/g))
      if (!library.startsWith("ld-linux")) expect(readdirSync(client)).toContain(library);
  }
});

test("what is copied into it has its terms, and says whose it is", () => {
  const linked = readFileSync(join(unpacked, "licenses/peercred/README"), "utf8");
  expect(linked).toMatch(/of the package\nlibc6-dev \d/);
  expect(readdirSync(join(unpacked, "licenses/peercred"))).toContain("LGPL-2.1");
  const licences = join(unpacked, "dist/authproxy/LICENSES");
  const copied = readFileSync(join(licences, "README"), "utf8");
  for (const name of ["libc6", "libgcc-s1", "libstdc++6"]) {
    expect(copied).toMatch(new RegExp(`\\b${RegExp.escape(name)} \\d`));
    expect(readFileSync(join(licences, name), "utf8")).toContain("Copyright");
  }
  expect(readFileSync(join(licences, "node"), "utf8")).toContain("Node.js");
});

test("another architecture is refused, and those that can be built are named", () => {
  const words = ["--disable-warning=ExperimentalWarning", "scripts/package.ts", "mips"];
  const { status, stderr } = spawnSync(process.execPath, words, { cwd: root, encoding: "utf8" });
  expect({ status, stderr }).toEqual({
    status: 1,
    stderr: `authproxy: error: package: no archive for mips can be built here: take ${process.arch} or arm64\n`,
  });
});
