// Question: what can an image, an environment or a mount make of the runtime wrapper?
// Arms:     the attack against a wrapper that lacks the defence (naive.ts), or against plain runc, where
//           it must succeed; against ours; and beside it a container as it should be.
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

test("the honest container", async () => {
  expect(await scene.run(...asking, busybox, ...TELL)).toEqual(granted);
});

test.each([
  ["its config.json cannot be read", "unreadable", "ENOENT: no such file or directory, open"],
  ["there is no client directory", "alone", "ld.so: not found"],
  ["there is no server", "nowhere", "no directory /nowhere on this host"],
])("where %s it does not start, and docker run says so", async (_, name, reason) => {
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
    "%s where a mount of ours would be keeps it from starting",
    async (kind) => {
      const before = [scratch, "/etc", "/"].map((path) => lstatSync(path).mtimeMs);
      const tried = ["run", ...places].map(async (place) => {
        const ran = await scene.run(...asking, imageWith(kind, place), ...TELL);
        expect(ran).toMatchObject({ status: 125, stdout: "" });
        expect(ran.stderr).toContain(`authproxy: the image's /${place} is no directory`);
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
  test("link to /proc: the control gets a tmpfs there", async () => {
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
  test("link out of the root: the control writes to the host", async () => {
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
  test("/run/secrets, whatever it is, is its own", async () => {
    const tried = Object.keys(make).map(async (kind) => {
      const ran = await scene.run(...asking, imageWith(kind, "run/secrets"), ...TELL);
      expect(ran).toEqual(granted);
    });
    await Promise.all(tried);
  });

  test("node, ld.so and authproxy.js, where ours would be, do not run", async () => {
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

  test("user, working directory and command, through links", async () => {
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

  test("loader's variables act on its program, not on the client", async () => {
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

  test("over the client is in the way; a wrapper whose mounts come first runs what is there", async () => {
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
  ])("%s %s keeps the container from starting, with the reason", async (...mount) => {
    const ran = await scene.run(...mount, ...asking, busybox, ...TELL);
    expect(ran).toMatchObject({ status: 125, stdout: "" });
    expect(ran.stderr).toMatch(
      /authproxy: the container's own mount at \S+ is in the way of \/run/,
    );
  });
  test("by another name, through a link of the image's, lies below ours", async () => {
    const image = scene.busybox((directory) =>
      symlinkSync("/.authproxy", join(directory, "alias")),
    );
    const words = ["-v", `${foreign}:/alias:ro`, ...asking, image, ...TELL];
    const control = await scene.run("--runtime", "first", ...words);
    expect(control, "the control").toMatchObject({ stdout: "not the client\n" });
    expect(await scene.run(...words)).toEqual(granted);
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

  // Of a million, runc itself makes no start in a minute; wrapper.test.ts has them.
  test("of more references than the kernel takes does not start, as without the wrapper", async () => {
    const long = Array.from({ length: 2200 }, (_, i) => `V${i}=vault:a#b#?`.padEnd(1000, "x"));
    const plain = await runWith([reference, ...long], "runc");
    expect([plain.status === 0, plain.stderr]).toEqual([false, expect.stringMatching(/too long/)]);
    const ours = await runWith([reference, ...long]);
    expect([ours.status, ours.stderr]).toEqual([plain.status, expect.stringMatching(/too long/)]);
  });
  test("of five thousand references asks once", async () => {
    const lines = Array.from({ length: 5000 }, (_, i) => `V${i}=${REFERENCE}`);
    const { status, stdout } = await runWith([reference, ...lines]);
    expect([status, stdout]).toEqual([0, expect.stringMatching(`^${password}50\\d\\d\n$`)]);
  });
  test("with a reference of 128 KiB, the most that the kernel takes", async () => {
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
    ["X=vault:../../../.authproxy/node#password", 78],
    ["../.authproxy/node_FILE=vault:secret/data/app#password", 78],
    ["AUTHPROXY_FILES=/.authproxy", 78],
    ["AUTHPROXY_FILES=/run/authproxy", 78],
    ["AUTHPROXY_SOCKET=/.authproxy/node", 78],
    ["__proto__=vault:secret/data/app#password", 0],
    ["PATH=/.authproxy:/bin", 0],
    ["AUTHPROXY_SET_AUTHPROXY_FILES=/etc", 0],
  ])("of %s ends as the client says: %i", async (line, status) => {
    const ran = await runWith([reference, line]);
    expect([ran.status, ran.stderr]).toEqual([status, expect.any(String)]);
    expect(ran.stdout.startsWith(password)).toBe(status === 0);
  });
});

test("eight containers that start in the same instant have each its own command and token", async () => {
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

test("killed between rewriting and becoming runc: the start fails, the next one does not", async () => {
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
