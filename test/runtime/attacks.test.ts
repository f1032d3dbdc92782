// Question: can an image, an environment or a mount defeat the runtime wrapper?
// Arms:     the attack on a wrapper without the defence (naive.ts), or on plain runc, must succeed; the
//           attack on ours must fail; an honest container beside it must be served.
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Api } from "../lab/api.ts";
import { password, until } from "../stage.ts";
import { client, compile, REFERENCE, root, runtime, Scene } from "./scene.ts";

const scratch = mkdtempSync(join(tmpdir(), "authproxy-hostile-"));
chmodSync(scratch, 0o755);
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** A shell script as a runtime. */
function script(name: string, lines: string): string {
  const path = join(scratch, name);
  writeFileSync(path, `#!/bin/sh\n${lines}\n`, { mode: 0o755 });
  return path;
}

// Naive ones: `--bundle` is followed by the bundle, as this engine says it.
const naive = script(
  "naive-runc",
  `kind=$1; sockets=\${2#*=}; shift 2
case " $* " in *" create "*) bundle=\${*#*--bundle }; bundle=\${bundle%% *}
  "${process.execPath}" "${join(import.meta.dirname, "naive.ts")}" $kind "${client}" $sockets $bundle;;
esac
exec runc "$@"`,
);

// `slow` is runc too; at a `create`, told so, it stops before it does anything, and says so.
const behind = join(scratch, "behind");
mkdirSync(behind);
script(
  "behind/slow",
  `case " $* " in *" create "*) if [ -e "${scratch}/stop" ]; then
  rm "${scratch}/stop"
  cp "\${PWD}/config.json" "${scratch}/rewritten"
  echo $$ >"${scratch}/stopped.new"; mv "${scratch}/stopped.new" "${scratch}/stopped"
  kill -STOP $$
fi;; esac
exec runc "$@"`,
);
// `together` is runc too; of EIGHT, none begins to create before all have come.
const EIGHT = 8;
const met = join(scratch, "met");
script(
  "behind/meet",
  `: >"${met}/$$"; until [ "$(ls "${met}" | wc -l)" -ge ${EIGHT} ]; do sleep 0.1; done`,
);
script("behind/together", 'case " $* " in *" create "*) meet;; esac; exec runc "$@"');
mkdirSync(join(scratch, "host"));
execFileSync("cp", ["-R", join(root, "dist/runtime"), join(scratch, "host/runtime")]);
symlinkSync(client, join(scratch, "host/authproxy"));
const [oursThen = "", oursTogether = ""] = ["slow", "together"].map((name) => {
  const path = join(scratch, `host/runtime/authproxy-${name}`);
  symlinkSync("authproxy-runc", path);
  return path;
});
process.env.PATH = `${behind}:${process.env.PATH}`;
// Ours with a lock on the host, from a container's create to its start.
const locking = script(
  "locking",
  `case " $* " in
*" create "*) mkdir "${scratch}/lock" || exit 1;;
*" start "*) rmdir "${scratch}/lock";;
esac
exec "${oursThen}" "$@"`,
);
// Ours, where the file that it is to rewrite is away; and ours without its client directory.
const unreadable = script(
  "unreadable",
  `case " $* " in *" create "*) rm config.json;; esac; exec "${runtime}" "$@"`,
);
execFileSync("cp", ["-R", join(root, "dist/runtime"), join(scratch, "alone")]);

const scene = await Scene.open((own) => ({
  first: { path: naive, runtimeArgs: ["first", ...own] },
  keep: { path: naive, runtimeArgs: ["keep", ...own] },
  through: { path: naive, runtimeArgs: ["through", ...own] },
  scratch: { path: naive, runtimeArgs: ["scratch", ...own] },
  slow: { path: oursThen, runtimeArgs: own },
  locking: { path: locking, runtimeArgs: own },
  together: { path: oursTogether, runtimeArgs: own },
  unreadable: { path: unreadable, runtimeArgs: own },
  alone: { path: join(scratch, "alone/authproxy-runc"), runtimeArgs: own },
  nowhere: { path: runtime, runtimeArgs: ["--sockets=/nowhere"] },
}));
afterAll(() => scene[Symbol.asyncDispose]());
beforeAll(async () => {
  await scene.serve();
});
const busybox = scene.busybox();
const user = ["--user", "1001:1001"];
const asking = [...user, "--env", `DB_FILE=${REFERENCE}`];
const TELL = ["sh", "-c", 'cat "$DB_FILE"'];
const granted = { status: 0, stdout: password, stderr: "" };

test("an honest container gets its secret", async () => {
  expect(await scene.run(...asking, busybox, ...TELL)).toEqual(granted);
});

test.each([
  ["its config.json cannot be read", "unreadable", "ENOENT: no such file or directory, open"],
  ["there is no client directory", "alone", "ld.so: not found"],
  ["there is no server", "nowhere", "on this host there is no directory /nowhere"],
])("a container does not start if %s, and docker run shows the reason", async (_, name, reason) => {
  const ran = await scene.run("--runtime", name, ...asking, busybox, ...TELL);
  expect(ran).toMatchObject({ status: expect.toSatisfy((status) => status > 0), stdout: "" });
  expect(ran.stderr).toMatch(new RegExp(`authproxy: .*${reason}`));
});

describe("an image's own", () => {
  const make: Record<string, (path: string) => void> = {
    "link to /etc": (path) => symlinkSync("/etc", path),
    "link out of the root": (path) => symlinkSync(`../../../../../../..${scratch}/outside`, path),
    "link to /proc/1": (path) => symlinkSync("/proc/1", path),
    device: (path) => execFileSync("mknod", [path, "c", "1", "3"]),
  };
  const places = [".authproxy", "run/authproxy", "run/authproxy-secrets"];
  const imageWith = (kind: string, place: string) =>
    scene.busybox((directory) => {
      if (place !== "run") mkdirSync(join(directory, "run"));
      make[kind]?.(join(directory, place));
    });

  test.each(Object.keys(make))(
    "%s where one of our mounts will be: the container does not start",
    async (kind) => {
      const before = [scratch, "/etc", "/"].map((path) => lstatSync(path).mtimeMs);
      const tried = ["run", ...places].map(async (place) => {
        const ran = await scene.run(...asking, imageWith(kind, place), ...TELL);
        expect(ran).toMatchObject({ status: 125, stdout: "" });
        expect(ran.stderr).toContain(`authproxy: the image's /${place} is not a directory`);
      });
      await Promise.all(tried);
      expect([scratch, "/etc", "/"].map((path) => lstatSync(path).mtimeMs)).toEqual(before);
    },
  );
  test("directory there is covered, whatever its mode and content", async () => {
    const image = scene.busybox((directory) => {
      for (const place of places) {
        mkdirSync(join(directory, place, "sub"), { recursive: true });
        chmodSync(join(directory, place), 0o777);
        writeFileSync(join(directory, place, "DB"), "the image's");
      }
    });
    expect(await scene.run(...asking, image, ...TELL)).toEqual(granted);
  });
  test("link to /proc: the control mounts a tmpfs there, ours refuses", async () => {
    const image = scene.busybox((directory) => {
      mkdirSync(join(directory, "run"));
      symlinkSync("/proc/sys/fs", join(directory, "run/authproxy-secrets"));
    });
    const look = [image, "grep", "/proc/sys/fs", "/proc/self/mountinfo"];
    const control = await scene.run(
      "--runtime",
      "keep",
      ...user,
      "--env",
      `X=${REFERENCE}`,
      ...look,
    );
    expect(control.stdout).toMatch(/ \/proc\/sys\/fs .* - tmpfs /);
    expect(await scene.run(...asking, ...look)).toMatchObject({ status: 125, stdout: "" });
  });
  test("link out of the root: the control writes to the host, ours refuses", async () => {
    const outside = join(scratch, "outside");
    mkdirSync(outside);
    const image = scene.busybox((directory) => symlinkSync(outside, join(directory, ".authproxy")));
    const words = [...asking, image, "true"];
    expect(await scene.run("--runtime", "through", ...words)).toMatchObject({ stderr: "" });
    expect(readdirSync(outside)).toEqual(["package.json"]);
    rmSync(join(outside, "package.json"));
    expect(await scene.run(...words)).toMatchObject({ status: 125 });
    expect(readdirSync(outside)).toEqual([]);
  });
  test("/run/secrets may be anything: the wrapper does not use it", async () => {
    const tried = Object.keys(make).map(async (kind) => {
      const ran = await scene.run(...asking, imageWith(kind, "run/secrets"), ...TELL);
      expect(ran).toEqual(granted);
    });
    await Promise.all(tried);
  });

  test("node, ld.so and authproxy.js in /.authproxy are covered by ours", async () => {
    const own = compile("own");
    const image = scene.busybox((directory) => {
      for (const name of [".authproxy", "authproxy"]) {
        mkdirSync(join(directory, name));
        for (const file of ["ld.so", "node", "authproxy.js"])
          copyFileSync(own, join(directory, name, file));
      }
    });
    const control = await scene.run("--runtime", "runc", ...asking, image, "/.authproxy/ld.so");
    expect(control, "the control").toMatchObject({ stdout: "not the client\n" });
    expect(await scene.run(...asking, image, ...TELL)).toEqual(granted);
    // And its own are there for it.
    const its = await scene.run(...asking, image, "/authproxy/node");
    expect(its).toMatchObject({ stdout: "not the client\n" });
  });

  test("links in user, working directory and command lead nowhere else", async () => {
    const image = scene.busybox((directory) => {
      mkdirSync(join(directory, "etc"));
      writeFileSync(join(directory, "etc/passwd"), "app:x:1001:1001::/:/bin/sh\n");
      symlinkSync("/run/authproxy-secrets", join(directory, "work"));
      mkdirSync(join(directory, "entry"));
      symlinkSync("../../../../bin/busybox", join(directory, "entry/sh"));
      symlinkSync("/.authproxy/node", join(directory, "client"));
    });
    const named = ["--user", "app", "--env", `DB_FILE=${REFERENCE}`, "--workdir", "/work"];
    const ran = await scene.run(...named, "--entrypoint", "/entry/sh", image, "-c", "pwd; cat DB");
    expect(ran.stdout).toBe(`/run/authproxy-secrets\n${password}`);
    const missing = await scene.run(...asking, "--entrypoint", "/client", image);
    expect(missing).toMatchObject({ status: 126, stdout: "" });
  });

  test("LD_PRELOAD acts on the application, not on the client", async () => {
    const library = join(scratch, "inside.so");
    const source = join(import.meta.dirname, "programs/inside.c");
    execFileSync(process.env.CC ?? "cc", ["-shared", "-fPIC", "-o", library, source]);
    const image = scene.image({ "lib/inside.so": library, "bin/busybox": "/usr/bin/busybox" });
    const words = [...asking, "--env", "LD_PRELOAD=/lib/inside.so", "--env", "AUTHPROXY_WAIT=5"];
    const command = [image, "/bin/busybox", "env"];
    const control = await scene.run("--runtime", "keep", ...words, ...command);
    expect(control.stderr, "the control").toContain("inside /.authproxy/ld.so\n");
    const ran = await scene.run(...asking, "--env", "LD_PRELOAD=/lib/inside.so", ...command);
    expect(ran).toMatchObject({ status: 0, stderr: "" });
    expect(ran.stdout).toContain("LD_PRELOAD=/lib/inside.so\n");
  });
});

describe("a mount", () => {
  const foreign = join(scratch, "foreign");
  mkdirSync(foreign);
  copyFileSync(compile("own"), join(foreign, "ld.so"));

  test("over the client is refused; a wrapper whose mounts come first runs what is mounted", async () => {
    const words = [...asking, "-v", `${foreign}:/.authproxy:ro`, busybox, ...TELL];
    const control = await scene.run("--runtime", "first", ...words);
    expect(control, "the control").toMatchObject({ stdout: "not the client\n" });
    const ran = await scene.run(...words);
    expect(ran.status).toBe(125);
    expect(ran.stderr).toContain("own mount at /.authproxy is in the way of /.authproxy");
  });
  test.each([
    ["--tmpfs", "/run/authproxy-secrets"],
    ["--tmpfs", "/run/authproxy/x"],
    ["--volume", "/run"],
    ["--volume", "shared:/run/authproxy-secrets"],
  ])("%s %s: the container does not start, and docker run shows the reason", async (...mount) => {
    const ran = await scene.run(...mount, ...asking, busybox, ...TELL);
    expect(ran).toMatchObject({ status: 125, stdout: "" });
    expect(ran.stderr).toMatch(
      /authproxy: the container's own mount at \S+ is in the way of \/run/,
    );
  });
  test("through a link of the image to our place is refused", async () => {
    const image = scene.busybox((directory) =>
      symlinkSync("/.authproxy", join(directory, "alias")),
    );
    const words = ["-v", `${foreign}:/alias:ro`, ...asking, image, ...TELL];
    const control = await scene.run("--runtime", "first", ...words);
    expect(control, "the control").toMatchObject({ stdout: "not the client\n" });
    const ran = await scene.run(...words);
    expect(ran).toMatchObject({ status: 125, stdout: "" });
    expect(ran.stderr).toContain("own mount at /alias is in the way of /.authproxy");
  });
});

describe("an environment", () => {
  const file = join(scratch, "environment");
  const script = 'cat "$DB_FILE"; env | busybox wc -l';
  /** More than fits into an argument of the docker command. */
  async function runWith(lines: string[], runtime = "authproxy") {
    writeFileSync(file, lines.join("\n"));
    const words = ["--runtime", runtime, ...user, "--env-file", file, busybox, "sh", "-c", script];
    return await scene.run(...words);
  }
  const reference = `DB_FILE=${REFERENCE}`;

  // With a million, runc itself needs more than a minute: wrapper.test.ts tries that.
  test("with more references than execve takes does not start, and neither does it with runc", async () => {
    const long = Array.from({ length: 2200 }, (_, i) => `V${i}=vault:a#b#?`.padEnd(1000, "x"));
    const plain = await runWith([reference, ...long], "runc");
    expect([plain.status === 0, plain.stderr]).toEqual([false, expect.stringMatching(/too long/)]);
    const ours = await runWith([reference, ...long]);
    expect([ours.status, ours.stderr]).toEqual([plain.status, expect.stringMatching(/too long/)]);
  });
  test("with five thousand references gets all of them", async () => {
    const lines = Array.from({ length: 5000 }, (_, i) => `V${i}=${REFERENCE}`);
    const { status, stdout } = await runWith([reference, ...lines]);
    expect([status, stdout]).toEqual([0, expect.stringMatching(`^${password}50\\d\\d\n$`)]);
  });
  test("with a reference of 128 KiB works up to the byte where runc fails too", async () => {
    const api = new Api(scene.engine.socket);
    const run = async (bytes: number, Runtime: string) => {
      const { Id } = await api.run({
        Image: busybox,
        Cmd: ["sh", "-c", script],
        User: "1001",
        Labels: { app: "app" },
        Env: [reference, `L=${REFERENCE}#?`.padEnd(bytes, "x")],
        HostConfig: { Runtime, NetworkMode: "host", ReadonlyRootfs: true },
      });
      await scene.docker("wait", Id);
      const { stdout, stderr } = await scene.docker("logs", Id);
      return stdout + stderr;
    };
    expect(await run(128 * 1024 - 1, "authproxy")).toContain(password);
    for (const name of ["runc", "authproxy"])
      expect(await run(128 * 1024, name)).toContain("argument list too long");
  });
  test.each([
    ["X=vault:secret/data/app#pass\\u0000word", 66],
    ["X=vault:secret/data/app%00#password", 77],
    ["X=vault:../../../.authproxy/node#password", 0],
    ["../.authproxy/node_FILE=vault:secret/data/app#password", 0],
    ["AUTHPROXY_FILES=/.authproxy", 78],
    ["AUTHPROXY_FILES=/run/authproxy", 78],
    ["AUTHPROXY_SOCKET=/.authproxy/node", 78],
    ["__proto__=vault:secret/data/app#password", 0],
    ["PATH=/.authproxy:/bin", 0],
    ["AUTHPROXY_SET_AUTHPROXY_FILES=/etc", 0],
  ])("with %s ends with the client's exit code %i", async (line, status) => {
    const ran = await runWith([reference, line]);
    expect([ran.status, ran.stderr]).toEqual([status, expect.any(String)]);
    expect(ran.stdout.startsWith(password)).toBe(status === 0);
  });
});

test("eight containers that start at the same instant get their own command and token each", async () => {
  const numbers = Array.from({ length: EIGHT }, (_, i) => `${i}`);
  /** What each says: all have been rewritten before the first is created. */
  async function start(runtime: string) {
    rmSync(met, { recursive: true, force: true });
    mkdirSync(met);
    const words = ["--runtime", runtime, ...user, "--env", "T=vault:login", busybox, "sh", "-c"];
    const runs = numbers.map((number) => scene.run(...words, `echo ${number} $T`));
    const ended = await Promise.all(runs);
    for (const { status, stderr } of ended) expect([status, stderr]).toEqual([0, ""]);
    const said = ended.map(({ stdout }) => stdout.trim().split(" "));
    return { names: said.map(([name]) => name), tokens: new Set(said.map(([, token]) => token)) };
  }
  const control = await start("scratch");
  expect(new Set(control.names).size, "the control: all have the last one's").toBe(1);
  const { names, tokens } = await start("together");
  expect([names, tokens.size]).toEqual([numbers, EIGHT]);
});

test("a start that is killed between the rewriting and runc fails, and the next one succeeds", async () => {
  /** A start that is killed there, and the next one. */
  async function killed(runtime: string) {
    const how = ["--network", "host", "-l", "app=app", "--read-only", "--runtime", runtime];
    const created = await scene.docker("create", ...how, ...asking, busybox, ...TELL);
    const start = () => scene.docker("start", "--attach", created.stdout.trim());
    expect(await start(), "left alone").toEqual(granted);
    writeFileSync(join(scratch, "stop"), "");
    const first = start();
    const stopped = join(scratch, "stopped");
    await until("it has stopped", () => existsSync(stopped));
    const rewritten = readFileSync(join(scratch, "rewritten"), "utf8");
    expect(rewritten, "the moment").toContain("/.authproxy/ld.so");
    process.kill(Number(readFileSync(stopped, "utf8")), "SIGKILL");
    rmSync(stopped);
    expect((await first).status).not.toBe(0);
    return { next: await start(), start };
  }
  const { next, start } = await killed("locking");
  expect(next.status, "the control").not.toBe(0);
  rmdirSync(join(scratch, "lock"));
  expect(await start(), "by nothing but its lock").toEqual(granted);
  expect((await killed("slow")).next).toEqual(granted);
});
