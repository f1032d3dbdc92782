// Question: what does the runtime wrapper do with an engine's command line, and with a bundle's
// config.json? There is no engine here, and the runtime behind the wrapper is the program `echo`.
// AUTHPROXY_SET_X beside the image's own X: equal names in any order and number, empty values,
// references. container.test.ts has what the application then gets, behind runc.
import { execFileSync, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { planEnvironment } from "../../client/environment.ts";
import { asksForSecrets, type Spec, wrap } from "../../runtime/wrapper.ts";

const root = join(import.meta.dirname, "../..");
const scratch = mkdtempSync(join(tmpdir(), "authproxy-wrapper-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const REFERENCE = "vault:secret/data/app#password";
const ASKING: Spec = {
  process: { args: ["app"], env: [`X=${REFERENCE}`], user: { uid: 7, gid: 8 } },
  mounts: [{ destination: "/proc", type: "proc" }],
};

/** What is installed on a host, with a link by which the wrapper becomes `echo`. */
const host = join(scratch, "host");
mkdirSync(host);
cpSync(join(root, "dist/runtime"), join(host, "runtime"), { recursive: true });
symlinkSync("authproxy-runc", join(host, "runtime/authproxy-echo"));
symlinkSync(join(root, "dist/authproxy"), join(host, "authproxy"));
const sockets = join(scratch, "sockets");
mkdirSync(sockets);
const SAYS = join(host, "runtime/authproxy-echo");

function bundle(spec: Spec | string): string {
  const directory = join(scratch, randomUUID());
  mkdirSync(directory);
  const config = typeof spec === "string" ? spec : JSON.stringify(spec);
  writeFileSync(join(directory, "config.json"), config);
  return directory;
}

function configOf(directory: string): Spec {
  return JSON.parse(readFileSync(join(directory, "config.json"), "utf8"));
}

async function call(words: string[], { program = SAYS, cwd = scratch, env = process.env } = {}) {
  const child = spawn(program, words, { cwd, env, stdio: ["ignore", "pipe", "pipe"] });
  const ended = once(child, "close");
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return { status: Number((await ended)[0]), stdout, stderr };
}

const own = `--sockets=${sockets}`;

describe("the engine's command line", () => {
  const globals = {
    "as containerd writes it": (b: string, log: string) => [
      ...["--root", "/run/docker/runtime", "--log", log, "--log-format", "json"],
      ...["--systemd-cgroup", "create", "--bundle", b, "--pid-file", `${b}/pid`, "id"],
    ],
    "as conmon writes it": (b: string, log: string) => [
      ...["--systemd-cgroup", `--root=/run/runc`, "--log-format=json", `--log=${log}`],
      ...["create", "--bundle", b, "--pid-file", "create", "--console-socket", "/s", "id"],
    ],
    "with a short option": (b: string, log: string) => [`--log`, log, "create", "-b", b, "id"],
    "with an option of crun": (b: string, log: string) => [
      ...["--log-level", "debug", "--log", log, "create", "--bundle", b, "id"],
    ],
    "with each option and its value in one word": (b: string, log: string) => [
      `--log=${log}`,
      "create",
      `--bundle=${b}`,
    ],
  };
  test.each(Object.entries(globals))("%s reaches the runtime unchanged", async (_, words) => {
    const directory = bundle(ASKING);
    const argv = words(directory, join(directory, "log"));
    const ran = await call([own, ...argv]);
    expect(ran).toEqual({ status: 0, stdout: `${argv.join(" ")}\n`, stderr: "" });
    expect(configOf(directory).process.args?.at(-1)).toBe("app");
    expect(configOf(directory).process.args).not.toEqual(["app"]);
    expect(readdirSync(directory)).toEqual(["config.json"]);
  });
  test.each([
    [[`--runtime=/bin/echo`, own]],
    [[own, `--runtime=echo`]],
    [[`--runtime=false`, `--runtime=/bin/echo`, own]],
  ])("%j names another runtime than its own name does", async (options) => {
    const directory = bundle(ASKING);
    const program = join(host, "runtime/authproxy-runc");
    const ran = await call([...options, "create", "--bundle", directory, "id"], { program });
    expect(ran).toEqual({ status: 0, stdout: `create --bundle ${directory} id\n`, stderr: "" });
    expect(configOf(directory).process.args).not.toEqual(["app"]);
    const missing = await call(["--runtime=/no/crun", "state", "id"], { program });
    expect([missing.status, missing.stderr]).toEqual([1, expect.stringContaining("/no/crun")]);
  });
  test("without --bundle the bundle is the working directory", async () => {
    const directory = bundle(ASKING);
    expect((await call([own, "create", "id"], { cwd: directory })).status).toBe(0);
    expect(configOf(directory)).not.toEqual(ASKING);
  });
  test.each([
    ["start", "create"],
    ["state", "id"],
    ["kill", "--all", "create", "9"],
    ["exec", "--process", "/create", "--log", "create"],
    ["delete", "--force", "id"],
    ["run", "id"],
    ["--version"],
    ["--root", "create", "start", "id"],
    ["exec", "id", "", "a  b", "$(false)", "*", "\\n"],
  ])("%j does not start Node", async (...words) => {
    const directory = bundle(ASKING);
    // Here Node could not start: there is no client directory beside the runtime.
    const elsewhere = join(scratch, randomUUID(), "runtime");
    cpSync(join(host, "runtime"), elsewhere, { recursive: true, verbatimSymlinks: true });
    const program = join(elsewhere, "authproxy-echo");
    const ran = await call(words, { program, cwd: directory });
    const said = words[0] === "--version" ? /echo/ : `${words.join(" ")}\n`;
    expect(ran).toMatchObject({ status: 0, stderr: "" });
    expect(ran.stdout).toEqual(typeof said === "string" ? said : expect.stringMatching(said));
    expect(configOf(directory)).toEqual(ASKING);
    const refused = await call([own, "create"], { program, cwd: directory });
    expect(refused.status, "the control").toBe(1);
  });
});

describe("a container that cannot have its secrets does not start", () => {
  const cases: Record<string, [Spec | string, RegExp]> = {
    "its configuration is not JSON": [
      `{"process": {"env": ["X=${REFERENCE}", "PLAIN=a secret"`,
      /^authproxy: config\.json is not JSON$/m,
    ],
    ...Object.fromEntries(
      [1, 6 * 2 ** 20, 16 * 2 ** 20 - 1].map((limit) => [
        `its memory is limited to ${limit} bytes`,
        [{ ...ASKING, linux: { resources: { memory: { limit } } } }, /memory limit is too low/],
      ]),
    ),
    "it has no command": [{ process: { env: [`X=${REFERENCE}`] } }, /has no command/],
    ...Object.fromEntries(
      [
        "/.authproxy",
        "/.authproxy/node",
        "/run/authproxy",
        "/run/authproxy/authproxy.sock",
        "/run/authproxy-secrets/x/y",
        "//run/./x/../authproxy",
        "run/authproxy",
        "/run",
        "/run/",
        "/",
      ].map((destination) => [
        `it mounts ${destination}`,
        [
          { ...ASKING, mounts: [{ destination, type: "bind", source: "/tmp" }] },
          new RegExp(`own mount at ${destination} is in the way of /`),
        ],
      ]),
    ),
  };
  test.each(Object.entries(cases))("%s", async (_, [spec, message]) => {
    const directory = bundle(spec);
    const before = readFileSync(join(directory, "config.json"), "utf8");
    const log = join(directory, "log");
    const { status, stdout, stderr } = await call([own, "--log", log, "create", "-b", directory]);
    expect([status, stdout]).toEqual([1, ""]);
    expect(stderr).toMatch(message);
    // One line of JSON: what containerd reads, and `docker run` shows.
    const lines = readFileSync(log, "utf8").split("\n");
    expect(JSON.parse(lines[0] ?? "")).toEqual({
      level: "error",
      msg: expect.stringMatching(message),
    });
    expect(lines).toHaveLength(2);
    expect(readFileSync(join(directory, "config.json"), "utf8")).toBe(before);
  });
  /** An image with these links, and a directory /empty. */
  function imageWith(links: Record<string, string>): string {
    const image = join(scratch, randomUUID());
    mkdirSync(join(image, "empty"), { recursive: true });
    for (const [path, target] of Object.entries(links)) {
      mkdirSync(join(image, path, ".."), { recursive: true });
      symlinkSync(target, join(image, path));
    }
    return image;
  }
  const mountAt = async (path: string, mounts: NonNullable<Spec["mounts"]>) => {
    const directory = bundle({ ...ASKING, root: { path }, mounts });
    const { status, stderr } = await call([own, "create", "-b", directory]);
    return [status, stderr];
  };
  const chain = Object.fromEntries(
    Array.from({ length: 60 }, (_, i) => [`l${i}`, i > 0 ? `l${i - 1}` : "run"]),
  );
  const links: [what: string, links: Record<string, string>, at: string, wrong: string][] = [
    ["is a link to /run", { data: "/run" }, "/data", "way of /run/authproxy"],
    ["is a relative link", { "var/run": "../run" }, "/var/run", "way of /run/authproxy"],
    ["is a link to /", { data: "/" }, "/data", "way of /.authproxy"],
    ["is a link that climbs out", { "a/b": "../../../../run" }, "/a/b", "way of /run/authproxy"],
    ["has a slash after a link", { data: "/run/" }, "/data/", "way of /run/authproxy"],
    ["is below a link", { data: "/run" }, "/data/authproxy/x", "way of /run/authproxy"],
    ["is below a link to /", { data: "/" }, "/data/.authproxy", "way of /.authproxy"],
    ["climbs from a link's target", { d: "/run/x" }, "/d/../authproxy", "way of /run/authproxy"],
    ["is a chain of links", { a: "b/c", b: "d", "d/c": "/e", e: "run/." }, "/a", "way of /run/a"],
    ["is a chain that is too long", chain, "/l59", "the links at /l59 have no end"],
    ["is a link to itself", { data: "data" }, "/data/x", "the links at /data/x have no end"],
    ["is in a circle of links", { a: "/b/x", b: "a" }, "/a", "the links at /a have no end"],
  ];
  test.each(links)("its mount's destination %s", async (_, links, destination, wrong) => {
    const mount = { destination, type: "bind", source: "/tmp" };
    const [status, stderr] = await mountAt(imageWith(links), [mount]);
    expect([status, stderr]).toEqual([1, expect.stringContaining(wrong)]);
  });
  test("its mount's destination leads through a link in what it mounts before", async () => {
    const volume = imageWith({ x: "/run" });
    const outer = { destination: "/data/", type: "bind", source: volume };
    const inner = (destination: string) => ({ destination, type: "bind", source: "/tmp" });
    const image = imageWith({ alias: "data" });
    for (const at of ["/data/x", "/alias/x", "/data/../data/x/authproxy"]) {
      const wrong = `own mount at ${at} is in the way of /run/authproxy`;
      const [status, stderr] = await mountAt(image, [outer, inner(at)]);
      expect([status, stderr]).toEqual([1, expect.stringContaining(wrong)]);
    }
    // What is mounted over it hides that link.
    const tmpfs = { destination: "/data", type: "tmpfs", source: "tmpfs" };
    expect(await mountAt(image, [outer, tmpfs, inner("/data/x")])).toEqual([0, ""]);
    expect(await mountAt(image, [outer, inner("/data/empty")])).toEqual([0, ""]);
  });
  test.each([
    ["is a link elsewhere", { data: "/srv" }, "/data"],
    ["does not exist yet", {}, "/a/b/c"],
    ["has a name that begins as ours", {}, "/run/authproxy-secrets-of-another"],
    ["is a link to nowhere", { data: "/none/here" }, "/data/x"],
    ["is /var/run, which is no link here", { "var/x": "/run" }, "/var/run"],
  ])("but not where its mount's destination %s", async (_, links, destination) => {
    const mount = { destination, type: "bind", source: "/tmp" };
    expect(await mountAt(imageWith(links as Record<string, string>), [mount])).toEqual([0, ""]);
  });
  test("a missing client directory, socket directory, configuration or runtime is named", async () => {
    const directory = bundle(ASKING);
    const alone = join(scratch, "alone");
    cpSync(join(host, "runtime"), alone, { recursive: true, verbatimSymlinks: true });
    const program = join(alone, "authproxy-echo");
    expect(await call(["create", "-b", directory], { program })).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/^authproxy: .*ld\.so.*not found/),
    });
    expect(await call(["--sockets=/nowhere", "create", "-b", directory])).toMatchObject({
      status: 1,
      stderr:
        "authproxy: on this host there is no directory /nowhere: is the authproxy server running?\n",
    });
    expect(await call([own, "create", "-b", "/nowhere"])).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/^authproxy: ENOENT.*\/nowhere\/config\.json/),
    });
    symlinkSync("authproxy-runc", join(host, "runtime/authproxy-nothing"));
    const nothing = join(host, "runtime/authproxy-nothing");
    expect(await call(["state", "id"], { program: nothing })).toMatchObject({
      status: 1,
      stderr: "authproxy: there is no nothing on the engine's PATH\n",
    });
    expect(configOf(directory)).toEqual(ASKING);
  });
  // On a host with SELinux: test/lab/selinux-inside.ts. `mode` denies root too.
  test.each([
    ["ld.so", /ld\.so: Permission denied/],
    ["node", /node: .*[Pp]ermission denied/],
  ])("a denial of %s names the SELinux module that may be missing", async (name, denied) => {
    const directory = bundle(ASKING);
    const copy = mkdtempSync(join(scratch, "denied-"));
    cpSync(join(host, "runtime"), join(copy, "runtime"), {
      recursive: true,
      verbatimSymlinks: true,
    });
    mkdirSync(join(copy, "authproxy"));
    const script = `#!/bin/sh\necho "node: cannot open shared object file: Permission denied" >&2\nexit 127\n`;
    const mode = name === "ld.so" ? 0o644 : 0o755;
    writeFileSync(join(copy, "authproxy/ld.so"), script, { mode });
    const program = join(copy, "runtime/authproxy-echo");
    const ended = await call([own, "create", "-b", directory], { program });
    expect(ended).toMatchObject({ status: 1, stdout: "" });
    expect(ended.stderr).toMatch(denied);
    expect(ended.stderr).toMatch(/SELinux is enforcing, it needs the module authproxy\n$/);
    expect(configOf(directory)).toEqual(ASKING);
  });
  test("it says so if Node was killed, which leaves no message", async () => {
    const directory = bundle(ASKING);
    const short = join(scratch, "short");
    cpSync(join(host, "runtime"), join(short, "runtime"), {
      recursive: true,
      verbatimSymlinks: true,
    });
    mkdirSync(join(short, "authproxy"));
    writeFileSync(join(short, "authproxy/ld.so"), "#!/bin/sh\nkill -9 $$\n", { mode: 0o755 });
    const program = join(short, "runtime/authproxy-echo");
    expect(await call([own, "create", "-b", directory], { program })).toEqual({
      status: 1,
      stdout: "",
      stderr: expect.stringMatching(/^authproxy: Node was killed\n$/m),
    });
    expect(configOf(directory)).toEqual(ASKING);
  });
  const make: Record<string, (path: string) => void> = {
    "a link to a directory": (path) => symlinkSync("/etc", path),
    "a link to nowhere": (path) => symlinkSync("/nowhere", path),
    "a file": (path) => writeFileSync(path, ""),
    "a pipe": (path) => execFileSync("mkfifo", [path]),
    "a device": (path) => execFileSync("mknod", [path, "c", "1", "3"]),
  };
  test.each(Object.keys(make))("its image has %s where one of our mounts will be", async (kind) => {
    for (const place of ["run", ".authproxy", "run/authproxy", "run/authproxy-secrets"]) {
      const directory = bundle({ ...ASKING, root: { path: "image" } });
      mkdirSync(join(directory, "image", place, ".."), { recursive: true });
      make[kind]?.(join(directory, "image", place));
      const { status, stderr } = await call([own, "create", "--bundle", directory]);
      expect([status, stderr]).toEqual([
        1,
        `authproxy: the image's /${place} is not a directory\n`,
      ]);
      expect(configOf(directory).process).toEqual(ASKING.process);
    }
  });
  test("config.json is a link", async () => {
    const directory = bundle(ASKING);
    const link = join(scratch, randomUUID());
    mkdirSync(link);
    symlinkSync(join(directory, "config.json"), join(link, "config.json"));
    const ran = await call([own, "create", "-b", link]);
    expect(ran).toMatchObject({ status: 1, stderr: expect.stringContaining("ELOOP") });
    expect(configOf(directory)).toEqual(ASKING);
  });
  test("the engine is rootless", async () => {
    const directory = bundle(ASKING);
    const words = ["--user", "--map-root-user", SAYS, own, "create", "-b", directory];
    const { status, stderr } = await call(words, { program: "unshare" });
    expect([status, stderr]).toEqual([1, expect.stringContaining("the engine is rootless")]);
    expect(configOf(directory)).toEqual(ASKING);
  });
});

test.each(["0", "-1", `${16 * 2 ** 20}`, "9223372036854775807", "null"])(
  "a container whose memory limit is %s starts",
  async (limit) => {
    const config = `{"process":${JSON.stringify(ASKING.process)},"linux":{"resources":{"memory":{"limit":${limit}}}}}`;
    const directory = bundle(config);
    expect((await call([own, "create", "-b", directory])).stderr).toBe("");
    expect(configOf(directory).process.args?.at(-1)).toBe("app");
  },
);

describe("config.json", () => {
  test("keeps the text of large numbers, and members such as __proto__", async () => {
    const limits = '{"hard":18446744073709551615,"soft":9223372036854775807,"e":-1.50}';
    const proto = '"annotations":{"__proto__":"a","constructor":"b"}';
    const { process } = ASKING;
    const config = `{"process":${JSON.stringify(process)},"x":${limits},${proto}}`;
    const directory = bundle(config);
    expect((await call([own, "create", "-b", directory])).status).toBe(0);
    const written = readFileSync(join(directory, "config.json"), "utf8");
    expect(written).toContain(`"x":${limits},${proto}`);
  });
  test("keeps its mode, and is replaced as a whole", async () => {
    const directory = bundle(ASKING);
    const file = join(directory, "config.json");
    execFileSync("chmod", ["0640", file]);
    const before = statSync(file);
    await call([own, "create", "-b", directory]);
    const after = statSync(file);
    expect([after.mode, after.ino === before.ino]).toEqual([before.mode, false]);
  });
  test("is written although an interrupted start has left its unfinished file", async () => {
    const directory = bundle(ASKING);
    writeFileSync(join(directory, "config.json.authproxy"), "{".repeat(100_000));
    expect((await call([own, "create", "-b", directory])).status).toBe(0);
    expect(configOf(directory).process.args?.at(-1)).toBe("app");
    expect(readdirSync(directory)).toEqual(["config.json"]);
  });
  test.each([
    ["behind a text", `"A=see ${REFERENCE}"`],
    ["as others write theirs", '"A=vault://","B=vault:8200","C=vault:1.13","D=vault:v1:x/y=="'],
    ["in quotes", `"A='${REFERENCE}'"`],
    ["but named by AUTHPROXY_PLAIN", `"A=${REFERENCE}","AUTHPROXY_PLAIN=B,A"`],
    ["in an option of the client's", `"AUTHPROXY_A=${REFERENCE}"`],
  ])("is not touched, byte for byte, if there is no reference: %s", async (_, env) => {
    const spec = `{ "process": {"args":["sh"],"env":[${env}]}, "hooks": 1e3 }`;
    const directory = bundle(spec);
    // What only other containers need may be missing.
    const ran = await call(["--sockets=/nowhere", "create", "-b", directory]);
    expect(ran).toMatchObject({ status: 0, stderr: "" });
    expect(readFileSync(join(directory, "config.json"), "utf8")).toBe(spec);
  });
});

const wrapped = (changes: Partial<Spec["process"]>) =>
  wrap({ ...ASKING, process: { ...ASKING.process, ...changes } }, "/client", "/sockets");

describe("the environment", () => {
  test("asks for secrets exactly where the client finds a reference", () => {
    const vectors = join(root, "test/vectors");
    for (const name of readdirSync(vectors)) {
      const { value } = JSON.parse(readFileSync(join(vectors, name), "utf8"));
      const asked = asksForSecrets({ process: { env: ["A=", `X=${value}`] } });
      expect([name, asked]).toEqual([name, !name.startsWith("none-")]);
    }
  });

  test.each([
    [["X=vault:a#b", "AUTHPROXY_SET_X=plain"], true],
    [["AUTHPROXY_SET_X=vault:a#b"], true],
    [["AUTHPROXY_SET_X=plain"], false],
    [["X=vault:a#b", "AUTHPROXY_PLAIN=X"], false],
    [["AUTHPROXY_SET_X=vault:a#b", "AUTHPROXY_PLAIN=X"], false],
    [["AUTHPROXY_FILES=vault:a#b"], false],
    [["X=vault:a#"], true],
  ])("of %j asks for secrets: %s", (env, asks) => {
    expect(asksForSecrets({ process: { env } })).toBe(asks);
  });

  const name = fc.oneof(
    fc.constantFrom(
      "LD_PRELOAD",
      "NODE_OPTIONS",
      "SSL_CERT_DIR",
      "AUTHPROXY_SET_LD_PRELOAD",
      "PATH",
    ),
    fc.constantFrom("__proto__", "constructor", "", "AUTHPROXY_SET_", "NODE_", "A B"),
    fc.string({ maxLength: 6 }).filter((text) => !/[=\0]/.test(text)),
  );
  const variables = fc.dictionary(name, fc.string({ maxLength: 8 }), { noNullPrototype: false });

  test("that the application gets is the same with the wrapper as without it", () => {
    fc.assert(
      fc.property(variables, (given) => {
        const before = { ...given, X: REFERENCE };
        const { env = [] } = wrapped({
          env: Object.entries(before).map((pair) => pair.join("=")),
        }).process;
        const pairs = env.map((entry) => [
          entry.slice(0, entry.indexOf("=")),
          entry.slice(entry.indexOf("=") + 1),
        ]);
        const after: Record<string, string> = Object.fromEntries(pairs);
        // Each name is there once: libraries and shells differ in which of two they take.
        expect(Object.keys(after)).toHaveLength(pairs.length);
        const names = Object.keys(after).filter((key) => !key.startsWith("AUTHPROXY_"));
        expect(names.filter((key) => /^(LD|NODE|SSL)_/.test(key))).toEqual([]);
        const { plain } = planEnvironment(after, []);
        expect(plain).toEqual(planEnvironment(before, []).plain);
      }),
    );
  });
  test("may hold a million references", () => {
    const env = Array.from({ length: 1_000_000 }, (_, i) => `V${i}=${REFERENCE}`);
    expect(wrapped({ env }).process.env).toEqual(env);
  });
  test("may hold entries that are not variables, which runc refuses", () => {
    const env = ["", "novalue", `X=${REFERENCE}`];
    expect(wrapped({ env }).process.env).toEqual(env);
  });
  test.each([
    ["the image sets it too", ["NODE_OPTIONS=image", "AUTHPROXY_SET_NODE_OPTIONS=user"], "user"],
    ["it comes first", ["AUTHPROXY_SET_NODE_OPTIONS=user", "NODE_OPTIONS=image"], "user"],
    ["it is empty", ["NODE_OPTIONS=image", "AUTHPROXY_SET_NODE_OPTIONS="], ""],
    ["it is a reference", ["NODE_OPTIONS=a", `AUTHPROXY_SET_NODE_OPTIONS=${REFERENCE}`], REFERENCE],
    ["only the image's is one", [`NODE_OPTIONS=${REFERENCE}`, "AUTHPROXY_SET_NODE_OPTIONS=b"], "b"],
    ["it holds an =", ["NODE_OPTIONS=a", "AUTHPROXY_SET_NODE_OPTIONS=--x=y"], "--x=y"],
    ["each is set twice", twice("NODE_OPTIONS", "AUTHPROXY_SET_NODE_OPTIONS"), "last"],
    ["only the image's is set, twice", twice("NODE_OPTIONS"), "last"],
    ["only its own is set, twice", twice("AUTHPROXY_SET_NODE_OPTIONS"), "last"],
  ])("has AUTHPROXY_SET_X of the container's own once, where %s", (_, env, value) => {
    const { env: after = [] } = wrapped({ env: ["A=1", ...env, "B=2"] }).process;
    const own = after.filter((entry) => entry.includes("NODE_OPTIONS="));
    expect(own).toEqual([`AUTHPROXY_SET_NODE_OPTIONS=${value}`]);
    expect(after.filter((entry) => !own.includes(entry))).toEqual(["A=1", "B=2"]);
  });
  test("keeps the last of two entries of any name, as runc does", () => {
    const env = ["X=first", `Y=${REFERENCE}`, "X=last"];
    expect(wrapped({ env }).process.env).toEqual(["X=last", `Y=${REFERENCE}`]);
  });
});

/** Entries of these names, each twice. */
function twice(...names: string[]): string[] {
  return ["first", "last"].flatMap((value) => names.map((name) => `${name}=${value}`));
}

test("our mounts come last, and the container's user owns the tmpfs for its secrets", () => {
  const { mounts = [], process } = wrapped({});
  expect(mounts[0]).toEqual({ destination: "/proc", type: "proc" });
  expect(mounts.slice(1).map(({ destination }) => destination)).toEqual([
    "/run/authproxy-secrets",
    "/run/authproxy",
    "/.authproxy",
  ]);
  expect(mounts[1]?.options).toEqual(expect.arrayContaining(["uid=7", "gid=8", "size=4m"]));
  for (const { options } of mounts.slice(2)) expect(options).toContain("ro");
  expect(process.user).toEqual({ uid: 7, gid: 8 });
});

test("the tmpfs is mounted without noswap in a user namespace, which does not allow it", () => {
  const options = (spec: Spec) => wrap(spec, "/client", "/sockets").mounts?.at(-3)?.options;
  expect(options({ ...ASKING, linux: { namespaces: [{ type: "pid" }] } })).toContain("noswap");
  expect(options({ ...ASKING, linux: { namespaces: [{ type: "user" }] } })).not.toContain("noswap");
});
