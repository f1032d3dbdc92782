// Question: does a container whose image nobody changed get its secrets by `--runtime authproxy`, and
// is it else what it would be without?
// Input:    an engine of the tests' own, the real server, a real Vault; images of one static program.
import { execFileSync } from "node:child_process";
import { chmodSync, cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type OpenBao,
  provision,
  startOpenBao,
  client as vaultClient,
} from "../../scripts/openbao.ts";
import type { JsonObject } from "../../server/json.ts";
import { block } from "../documents.ts";
import { bridgeAddress, FIRST_MAPPED, MAPPED_USERS } from "../lab/engine.ts";
import { password, until, vaultAt } from "../stage.ts";
import { client, compile, compileFor, REFERENCE, root, Scene } from "./scene.ts";

const scratch = mkdtempSync(join(tmpdir(), "authproxy-copies-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** A client directory and runtime that differ from ours in the loader's mode. */
const dumpable = join(scratch, "dumpable/runtime/authproxy-runc");
cpSync(join(root, "dist/runtime"), join(scratch, "dumpable/runtime"), { recursive: true });
execFileSync("cp", ["--archive", "--link", client, join(scratch, "dumpable/authproxy")]);
const loader = join(scratch, "dumpable/authproxy/ld.so");
rmSync(loader);
execFileSync("install", ["--mode=0755", join(client, "ld.so"), loader]);

const scene = await Scene.open();
afterAll(() => scene[Symbol.asyncDispose]());
const busybox = scene.busybox();
const user = ["--user", "1001:1001"];
const wanted = ["--env", `PASSWORD=${REFERENCE}`, "--env", `DB_FILE=${REFERENCE}`];
beforeAll(async () => {
  await scene.serve();
});

const told = `PASSWORD=${password}\nDB_FILE=/run/authproxy-secrets/DB\n${password}`;
const TELL = ["sh", "-c", 'echo "PASSWORD=$PASSWORD"; echo "DB_FILE=$DB_FILE"; cat "$DB_FILE"'];

describe("an image that holds only busybox", () => {
  test("has its secret as a variable and as a file; the engine knows the reference", async () => {
    const id = await scene.start(...user, ...wanted, busybox, ...TELL);
    await scene.docker("wait", id);
    expect((await scene.docker("logs", id)).stdout).toBe(told);
    const { stdout } = await scene.docker("inspect", id);
    const [{ Path, Args, Config }] = JSON.parse(stdout);
    expect([Path, ...Args]).toEqual(TELL);
    expect(Config.Env).toEqual(expect.arrayContaining([`PASSWORD=${REFERENCE}`]));
    expect(stdout).not.toContain(password);
    expect((await scene.docker("diff", id)).stdout).not.toContain("DB");
  });

  test.each([
    ["as root", ["--user", "0:0"]],
    ["behind --init", [...user, "--init"]],
    ["with a terminal", [...user, "--tty"]],
    ["without privileges", ["--cap-drop", "ALL", "--security-opt", "no-new-privileges", ...user]],
    ["with 64 MB of memory and 16 processes", ["-m", "64m", "--pids-limit", "16", ...user]],
    ["with memory of its own over /run", ["--tmpfs", "/run", ...user]],
    ["in a directory of its own", ["--workdir", "/work", ...user]],
    ["with its own secrets in /run/secrets", ["-v", `${scratch}:/run/secrets:ro`, ...user]],
  ])("%s", async (_, words) => {
    const { stdout, stderr } = await scene.run(...words, ...wanted, busybox, ...TELL);
    expect([stdout.replaceAll("\r", ""), stderr]).toEqual([told, ""]);
  });

  test("again at a restart, and nothing of the client is left in it", async () => {
    const look = 'cat /proc/1/cmdline | tr "\\0" " "; echo; grep -c authproxy /proc/1/maps; env';
    const image = scene.busybox((directory) =>
      execFileSync("ln", ["-s", "busybox", join(directory, "bin/tr")]),
    );
    const words = [...user, "--env", `PASSWORD=${REFERENCE}`, "--env", "AUTHPROXY_WAIT=9", image];
    const id = await scene.start(...words, "sh", "-c", look);
    await scene.docker("wait", id);
    const { status } = await scene.docker("restart", id);
    expect(status).toBe(0);
    await scene.docker("wait", id);
    const { stdout } = await scene.docker("logs", id);
    expect(stdout.split(`PASSWORD=${password}\n`)).toHaveLength(3);
    expect(stdout).toMatch(/^sh -c /);
    expect(stdout.match(/^0$/gm)).toHaveLength(2);
    expect(stdout).not.toContain("AUTHPROXY");
  });

  test("on a bridge, from a Vault on this host", async () => {
    // Where this scene's containers reach this machine.
    const near = await startOpenBao({ listen: bridgeAddress });
    try {
      const ids = await provision(near, { services: { app: { password: "by the bridge" } } });
      await vaultClient(near).health();
      await using bridged = await Scene.open();
      await bridged.serve({ vault: vaultAt(near.address, near, ids.roleId) }, ids.secretId);
      const image = bridged.busybox();
      const words = ["--network", "bridge", ...user, "--env", `X=${REFERENCE}`, image];
      const ran = await bridged.run(...words, "sh", "-c", "echo $X");
      expect(ran).toEqual({ status: 0, stdout: "by the bridge\n", stderr: "" });
    } finally {
      await near.stop();
    }
  });
});

// Beside the service's user: the container's root; the variable and the file. Without the setting:
// refused. The socket, its directory and the tmpfs are as server and runtime made them.
describe("where the engine maps users", () => {
  let mapped: Scene;
  let image: string;
  let near: OpenBao;
  beforeAll(async () => {
    mapped = await Scene.open(undefined, MAPPED_USERS.changes, MAPPED_USERS.before);
    chmodSync(mapped.stage.directory, 0o711); // its root is nobody here
    image = mapped.busybox();
    near = await startOpenBao({ listen: bridgeAddress }); // such an engine shares no network of the host
  });
  afterAll(async () => {
    await near.stop();
    await mapped[Symbol.asyncDispose]();
  });
  const bridged = ["--network", "bridge"];

  async function serve(changes: JsonObject = {}) {
    const ids = await provision(near, { services: { app: { password } } });
    const vault = vaultAt(near.address, near, ids.roleId);
    return await mapped.serve({ vault, ...changes }, ids.secretId);
  }

  test("a container without a reference starts, and one with it is refused without the setting", async () => {
    const server = await serve();
    expect((await mapped.run(...bridged, ...user, image, "id")).stdout).toContain("uid=1001");
    const asked = await mapped.run(...bridged, ...user, ...wanted, image, "id");
    expect(asked).toMatchObject({ status: 77, stdout: "" });
    const line = await server.until({ event: "refused" });
    expect(line).toMatchObject({ reason: "user-namespace", uid: FIRST_MAPPED + 1001 });
    expect(line.detail).toMatchObject({ wanted: null });
    await server.end("SIGTERM");
  });

  test.each([
    ["the service's user", user, 1001],
    ["its root", [], 0],
  ])("%s gets its secret, and no option is given by hand", async (_, words, inside) => {
    const container = { Config: { Labels: { app: "app" } } };
    // The loader is the host's, and hides the memory of the container's root, too.
    const match = { process: { uid_inside: inside, dumpable: false }, container };
    const services = { app: { match, token: { create: "auth/token/create/app" } } };
    const server = await serve({ user_namespaces: true, services });
    const look = 'echo "$PASSWORD"; cat "$DB_FILE"; echo; stat -c %u "$DB_FILE"';
    const asking = [...bridged, ...words, ...wanted, image, "sh", "-c", look];
    expect(await mapped.run(...asking)).toEqual({
      status: 0,
      stdout: `${password}\n${password}\n${inside}\n`,
      stderr: "",
    });
    expect(await server.until({ event: "granted" })).toMatchObject({ uid: FIRST_MAPPED + inside });
    await server.end("SIGTERM");
  });
});

test("`docker exec` and health checks see the reference", async () => {
  const check = ["--health-cmd", "env", "--health-interval", "100ms"];
  const env = ["--env", `PASSWORD=${REFERENCE}`];
  const id = await scene.start(...user, ...check, ...env, busybox, "sh", "-c", "sleep 60");
  await until("the application runs", async () => {
    const { stdout } = await scene.docker("exec", id, "cat", "/proc/1/comm");
    return stdout !== "ld.so\n" && stdout !== "";
  });
  expect((await scene.docker("exec", id, "env")).stdout).toContain(`PASSWORD=${REFERENCE}\n`);
  let log = "";
  await until("the health check has run", async () => {
    log = (await scene.docker("inspect", "--format", "{{json .State.Health.Log}}", id)).stdout;
    return log.includes("PASSWORD=");
  });
  expect(log).toContain(`PASSWORD=${REFERENCE}`);
  expect(log).not.toContain(password);
  await scene.docker("kill", id);
});

describe("nothing else is another than by runc itself", () => {
  /** What a process has of the kernel, and what it was started with. */
  const LOOK = [
    "umask; id",
    "grep -vE '^(Pid|PPid|Tgid|Ngid|NSpid|NStgid|NSpgid|NSsid|Vm|Rss|Huge|.*ctxt|Cpus|Mems|Threads|SigQ|Speculation|THP|x86)' /proc/self/status",
    "cat /proc/self/limits /proc/self/oom_score_adj",
    "cat /proc/self/mountinfo",
    "env",
    "pwd; echo /proc/$$/fd/*",
  ].join("; ");

  const aside = {
    LD_PRELOAD: "/nowhere.so",
    LD_LIBRARY_PATH: "/usr/lib",
    NODE_OPTIONS: "--require=/nowhere.js --inspect=0.0.0.0:9229",
    NODE_ENV: "production",
    GLIBC_TUNABLES: "glibc.malloc.check=3",
    OPENSSL_CONF: "/nowhere.cnf",
    SSL_CERT_FILE: "/nowhere.pem",
    UV_THREADPOOL_SIZE: "0",
    HOSTALIASES: "/nowhere",
  };

  async function looked(runtime: string, words: string[]): Promise<string[]> {
    const image = scene.busybox((directory) => {
      execFileSync("ln", ["-s", "busybox", join(directory, "bin/pwd")]);
    });
    const environment = Object.entries(aside).flatMap((pair) => ["--env", pair.join("=")]);
    const options = ["--runtime", runtime, "--hostname", "same", ...words, ...environment];
    const { status, stdout, stderr } = await scene.run(...options, image, "sh", "-c", LOOK);
    expect([status, stderr]).toEqual([0, ""]);
    const lines = stdout.split("\n").map((line) => {
      // mountinfo: proc(5). Numbers and the layers' names are another for each container.
      const [, place, options, kind] = /^\d+ \d+ \S+ \S+ (\S+) (\S+) .*?- (\S+) /.exec(line) ?? [];
      return place ? `mount ${place} ${options} ${kind}` : line;
    });
    return lines.sort();
  }

  test.each([
    ["by default", []],
    ["as an ordinary user with less of all", ["-u", "1001:1002", "--cap-drop", "ALL"]],
    ["with no-new-privileges", ["--security-opt", "no-new-privileges", "-u", "1001"]],
    ["without seccomp", ["--security-opt", "seccomp=unconfined", "--group-add", "7"]],
    ["with limits up to the largest number", ["--ulimit", "core=-1:-1", "--ulimit", "cpu=77"]],
  ])("%s", async (_, words) => {
    const [plain, ours] = await Promise.all([
      looked("runc", words),
      looked("authproxy", [...words, "--env", `ASKED=${REFERENCE}`]),
    ]);
    const more = ours.filter((line) => !plain.includes(line));
    expect(plain.filter((line) => !ours.includes(line))).toEqual([]);
    expect(more).toEqual([
      `ASKED=${password}`,
      expect.stringMatching(/^mount \/.authproxy ro,nosuid,nodev\S* \w+$/),
      expect.stringMatching(/^mount \/run\/authproxy ro,nosuid,nodev,noexec\S* \w+$/),
      expect.stringMatching(/^mount \/run\/authproxy-secrets rw,nosuid,nodev,noexec\S* tmpfs$/),
    ]);
  });

  test("but for what Node does to the soft limit of open files: docs/client.md", async () => {
    const words = ["--ulimit", "nofile=100:200"];
    const [plain, ours] = await Promise.all([
      looked("runc", words),
      looked("authproxy", [...words, "--env", `ASKED=${REFERENCE}`]),
    ]);
    const limit = (lines: string[]) => lines.find((line) => line.startsWith("Max open files"));
    expect(limit(plain)).toMatch(/ 100 +200 /);
    expect(limit(ours)).toMatch(/ 200 +200 /);
  });

  test("a container without a reference is not touched", async () => {
    const words = ["--env", "DOCS=see vault:secret/data/app#password"];
    const [plain, ours] = await Promise.all([looked("runc", words), looked("authproxy", words)]);
    expect(ours).toEqual(plain);
  });
});

describe("the client directory", () => {
  const show = { "app/show": compile("show") };
  const glibc = compileFor("glibc", "show");
  const musl = compileFor("musl", "show");
  const images: Record<string, () => string> = {
    // "module": what alone would make Node take the client for another kind of module.
    "an empty image": () =>
      scene.image(show, (directory) =>
        writeFileSync(join(directory, "package.json"), '{ "type": "module" }'),
      ),
    "an image of glibc": () => scene.image({ ...glibc, "app/show": glibc.show ?? "" }),
    "an image of musl": () => scene.image({ ...musl, "app/show": musl.show ?? "" }),
  };
  const start = [
    ...["--inhibit-cache", "--library-path", "/authproxy", "/authproxy/node"],
    ...["--disable-sigusr1", "/authproxy/authproxy.js", "--", "/app/show", "P", "DB_FILE"],
  ];
  const plain = ["--runtime", "runc", ...user, "--env", `P=${REFERENCE}`];
  const options = [
    ...plain,
    "--env",
    `DB_FILE=${REFERENCE}`,
    "-v",
    `${scene.sockets}:/run/authproxy:ro`,
  ];
  options.push("--tmpfs", "/run/authproxy-secrets:mode=0711,uid=1001,gid=1001,size=1m");
  const shown = `P=${password}\nDB_FILE=/run/authproxy-secrets/DB\n${password}\n`;

  test.each(Object.keys(images))("serves %s, from a mount and by the runtime", async (kind) => {
    const image = images[kind]?.() ?? "";
    const mounted = ["-v", `${client}:/authproxy:ro`, "--entrypoint", "/authproxy/ld.so", image];
    expect(await scene.run(...options, ...mounted, ...start)).toMatchObject({ stdout: shown });
    const asked = ["--env", `P=${REFERENCE}`, "--env", `DB_FILE=${REFERENCE}`, image];
    const ran = await scene.run(...user, ...asked, "/app/show", "P", "DB_FILE");
    expect(ran).toMatchObject({ stdout: shown });
  });

  test("serves as a layer of another image: COPY --from", async () => {
    const file = join(scratch, "Dockerfile");
    const base = "FROM $" + "{BASE}";
    const copy = ["ARG BASE", "FROM scratch AS authproxy-client", "COPY . /", base];
    copy.push(block("docs/runtime.md", "COPY --from=authproxy-client"));
    writeFileSync(file, copy.join("\n"));
    const below = images["an empty image"]?.() ?? "";
    const words = ["--file", file, "--build-arg", `BASE=${below}`, "--tag", "layered:1", client];
    execFileSync("docker", ["--host", `unix://${scene.engine.socket}`, "build", ...words], {
      env: { ...process.env, DOCKER_BUILDKIT: "0" },
      stdio: "pipe",
    });
    const ran = await scene.run(...options, "layered:1", "/app/show", "P", "DB_FILE");
    expect(ran).toMatchObject({ stdout: shown });
  });

  test("is a client that its own user can neither trace nor rob, by its loader's mode", async () => {
    await using other = await Scene.open((own) => ({
      dumpable: { path: dumpable, runtimeArgs: own },
    }));
    const image = other.image({ "bin/reach": compile("reach") });
    const reached = async (runtime: string, as: string) => {
      const words = ["--runtime", runtime, "--security-opt", "seccomp=unconfined", ...user];
      words.push("--env", `X=${REFERENCE}`, "--env", "AUTHPROXY_WAIT=50", image, "/bin/reach");
      const id = await other.start(...words); // which waits: there is no server
      await until("the client runs", async () => {
        const { stdout } = await other.docker("top", id, "-o", "pid,nlwp");
        return /\d+ +([2-9]|1\d)$/m.test(stdout);
      });
      const { stdout } = await other.docker("exec", "--user", as, id, "/bin/reach", "1");
      await other.docker("kill", id);
      return stdout;
    };
    const failed =
      "pidfd_open: done\npidfd_getfd: Operation not permitted\nptrace: Operation not permitted\n";
    expect(await reached("authproxy", "1001:1001")).toBe(failed);
    expect(await reached("authproxy", "0:0"), "root inside").toBe(failed);
    const control = await reached("dumpable", "1001:1001");
    expect(control, "the control").toBe("pidfd_open: done\npidfd_getfd: done\nptrace: done\n");
  });

  test("has the client that makes keystores for Java: docs/certificates.md", () => {
    const built = readFileSync(join(root, "dist/authproxy-java.js"));
    expect(readFileSync(join(client, "authproxy.js")).equals(built)).toBe(true);
  });

  test("carries the terms of what it carries", () => {
    const names = execFileSync("ls", [join(client, "LICENSES")], { encoding: "utf8" }).split("\n");
    expect(names).toEqual(expect.arrayContaining(["README", "authproxy", "node"]));
    const notice = execFileSync("cat", [join(client, "LICENSES/README")], { encoding: "utf8" });
    const packages = [...notice.matchAll(/([\w.+-]+) \d\S*(?=[,\n])/g)].map(([, name]) => name);
    for (const name of packages) expect(names).toContain(name);
  });
});
