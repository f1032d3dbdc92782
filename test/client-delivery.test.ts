// Question: in which forms does an application get its secrets, and who can read them then?
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { answer, expectFailure, newPlace, node, Playground, run } from "./client-playground.ts";
import { grant, granted, hash, password, root, token, user } from "./client-vault.ts";
import { memoryDirectory } from "./memory.ts";

const files = memoryDirectory();
beforeEach(() => {
  for (const name of readdirSync(files)) rmSync(join(files, name), { recursive: true });
});

const AUTHPROXY_FILES = files;
const isRoot = process.getuid?.() === 0;
const modeOf = (name: string) => (statSync(join(files, name)).mode & 0o7777).toString(8);

describe("a file", () => {
  const environment = { AUTHPROXY_FILES, X_FILE: "vault:secret/data/app#password" };

  test.runIf(isRoot)("has the owner, group and mode that were asked for", async () => {
    const options = ["--file-owner", "999:998", "--file-mode", "0440"];
    expect(await granted({ environment, options })).toMatchObject({ exitCode: 0, stderr: "" });
    const { uid, gid } = statSync(join(files, "X"));
    expect([uid, gid, modeOf("X")]).toEqual([999, 998, "440"]);
  });
  test("has its mode whatever the umask", async () => {
    const before = ["/bin/sh", "-c", 'umask 077; exec "$@"', "sh"];
    await granted({ environment, before, options: ["--file-mode=0444"] });
    expect(modeOf("X")).toBe("444");
  });
  test.runIf(isRoot)("is not given to another user without CAP_CHOWN", async () => {
    const before = ["setpriv", "--bounding-set=-chown", "--inh-caps=-chown"];
    const ended = await granted({ environment, before, options: ["--file-owner=999"] });
    expectFailure(ended, 78, /cannot write .*\/X: EPERM/);
    expect(readdirSync(files).filter((name) => name === "X")).toEqual([]);
  });
  test("of all fields of a secret holds their JSON", async () => {
    await granted({ environment: { AUTHPROXY_FILES, X_FILE: "vault:kv/app#*" } });
    expect(JSON.parse(readFileSync(join(files, "X"), "utf8"))).toEqual({ password, data: user });
  });
  test("is not written for an optional secret that does not exist", async () => {
    const command = ["/bin/sh", "-c", "echo $" + "{X_FILE-unset}"];
    const X_FILE = "vault:secret/data/nowhere#password#?";
    const ended = await granted({ environment: { AUTHPROXY_FILES, X_FILE }, command });
    expect([ended.stdout, readdirSync(files)]).toEqual(["unset\n", []]);
  });
});

describe("a directory", () => {
  const environment = { AUTHPROXY_FILES, TLS_DIR: "vault:kv/app#*" };

  test("has a file for each key of the secret", async () => {
    const command = ["/bin/sh", "-c", 'echo "$TLS_DIR"'];
    const ended = await granted({ environment, command });
    expect(ended).toMatchObject({ exitCode: 0, stdout: `${files}/TLS\n`, stderr: "" });
    expect(readdirSync(join(files, "TLS")).sort()).toEqual(["data", "password"]);
    expect(readFileSync(join(files, "TLS/password"), "utf8")).toBe(password);
    expect([modeOf("TLS"), modeOf("TLS/password")]).toEqual(["700", "400"]);
  });
  test.runIf(isRoot)("may be entered by those who may read its files", async () => {
    await granted({ environment, options: ["--file-owner=999:998", "--file-mode=0440"] });
    const { uid, gid } = statSync(join(files, "TLS"));
    expect([uid, gid, modeOf("TLS"), modeOf("TLS/data")]).toEqual([999, 998, "750", "440"]);
  });
  test("keeps the files in it that the client did not write", async () => {
    mkdirSync(join(files, "TLS"));
    writeFileSync(join(files, "TLS/other"), "");
    await granted({ environment });
    expect(readdirSync(join(files, "TLS")).sort()).toEqual(["data", "other", "password"]);
  });
  test.each([
    ["a symbolic link to a directory", newPlace()],
    ["a symbolic link to nowhere", "/nowhere"],
  ])("is not written where %s is in its place", async (_, target) => {
    symlinkSync(target, join(files, "TLS"));
    expectFailure(await granted({ environment }), 78, /cannot write .*\/TLS: E(NOTDIR|EXIST|LOOP)/);
    expect(existsSync(target) ? readdirSync(target) : []).toEqual([]);
  });
  test.runIf(isRoot)("is not written where a disk is mounted in its place", async () => {
    const disk = newPlace();
    mkdirSync(join(files, "TLS"));
    execFileSync("mount", ["--bind", disk, join(files, "TLS")]);
    try {
      expectFailure(await granted({ environment }), 78, /\/TLS is not on tmpfs/);
    } finally {
      execFileSync("umount", [join(files, "TLS")]);
    }
    expect(readdirSync(disk)).toEqual([]);
  });
  test.runIf(isRoot)("is not written where another user has made it", async () => {
    mkdirSync(join(files, "TLS"));
    chownSync(join(files, "TLS"), 4711, 4711);
    expectFailure(await granted({ environment }), 78, /\/TLS belongs to uid 4711/);
    expect(readdirSync(join(files, "TLS"))).toEqual([]);
  });
  test("is not made of keys that lead out of it", async () => {
    await root.write("kv/odd", { "../evil": password });
    const ended = await granted({ environment: { AUTHPROXY_FILES, X_DIR: "vault:kv/odd#*" } });
    expectFailure(ended, 78, /the key \.\.\/evil cannot be the name of a file/);
    expect(readdirSync(files)).toEqual([]);
  });
  test("may have a default, which is used as a path", async () => {
    const X_DIR = "vault:secret/data/nowhere#*#?/etc/ssl";
    const command = ["/bin/sh", "-c", 'echo "$X_DIR"'];
    const ended = await granted({ environment: { AUTHPROXY_FILES, X_DIR }, command });
    expect(ended.stdout).toBe("/etc/ssl\n");
  });
});

describe("the directory for all of them", () => {
  const X_FILE = "vault:secret/data/app#password";
  const own = () => {
    const directory = join(files, "own");
    mkdirSync(directory);
    return directory;
  };

  /** The client refuses the directory before it asks for a token. */
  async function expectRefused(directory: string, line: RegExp, options: string[] = []) {
    await using server = await Playground.open(answer(grant()));
    const at = ["--socket", server.socket, "--files", directory, ...options];
    const ended = await run({ options: at, environment: { X_FILE } });
    expectFailure(ended, 78, line, /--tmpfs .*:mode=0700,uid=UID/);
    expect([server.connections, readdirSync(directory)]).toEqual([0, []]);
  }

  test.each([
    [0o757, 0o755],
    [0o775, 0o755],
    [0o777, 0o755],
    [0o733, 0o711],
  ])("cannot be written by others: of the mode %o is left %o", async (mode, left) => {
    const directory = own();
    chmodSync(directory, mode);
    const ended = await granted({ environment: { AUTHPROXY_FILES: directory, X_FILE } });
    expect([ended.exitCode, modeOf("own"), modeOf("own/X")]).toEqual([0, left.toString(8), "400"]);
  });
  test.runIf(isRoot)("is refused where others can write and another owns it", async () => {
    const directory = own();
    chownSync(directory, 4711, 4711);
    chmodSync(directory, 0o777);
    const options = ["--file-owner=4711"];
    await expectRefused(directory, /own can be written by others/, options);
  });
  test("may be written by others with the sticky bit, as Docker's --tmpfs makes it", async () => {
    const directory = own();
    chmodSync(directory, 0o1777);
    const ended = await granted({ environment: { AUTHPROXY_FILES: directory, X_FILE } });
    expect([ended.exitCode, readdirSync(directory)]).toEqual([0, ["X"]]);
  });
  test.runIf(isRoot)(
    "is refused where it is another user's, but not the files' owner's",
    async () => {
      const directory = own();
      chownSync(directory, 4711, 4711);
      await expectRefused(directory, /own belongs to uid 4711/);
      await expectRefused(directory, /own belongs to uid 4711/, ["--file-owner=4712"]);
      const options = ["--files", directory, "--file-owner=4711"];
      expect((await granted({ environment: { X_FILE }, options })).exitCode).toBe(0);
    },
  );
  test("is refused in shared memory, by a link too, which other containers may have", async () => {
    const shared = mkdtempSync("/dev/shm/authproxy-delivery-");
    try {
      await expectRefused(shared, /is in \/dev\/shm, which other containers may have too/);
      const link = join(files, "link");
      symlinkSync(shared, link);
      await expectRefused(link, /link is in \/dev\/shm/);
    } finally {
      rmSync(shared, { recursive: true });
    }
  });
  test("may be behind a link of the image", async () => {
    symlinkSync(own(), join(files, "link"));
    const environment = { AUTHPROXY_FILES: join(files, "link"), X_FILE };
    const command = ["/bin/sh", "-c", 'echo "$X_FILE"; sha256sum <"$X_FILE" | cut -c 1-64'];
    const ended = await granted({ environment, command });
    expect(ended.stdout).toBe(`${files}/link/X\n${hash(password)}\n`);
  });
});

describe("standard input", () => {
  const environment = {
    DB_PASSWORD: "vault:secret/data/app#password",
    USER_FILE: "vault:secret/data/app#user",
    PORT: "vault:secret/data/app#port",
    ALL: "vault:kv/app#*",
    URL: `pg://$${"{vault:secret/data/app#user}"}@db`,
    NONE: "vault:secret/data/app#nothing#?",
    VAULT_TOKEN: "vault:login",
    PLAIN: "1",
  };
  const expected = {
    DB_PASSWORD: password,
    USER: user,
    PORT: 5432,
    ALL: { data: user, password },
    URL: `pg://${user}@db`,
    VAULT_TOKEN: token,
  };
  const options = ["--stdin"];

  test("is one JSON object of all secrets, and none is in the environment or has a path", async () => {
    const script =
      'const text = require("node:fs").readFileSync(0);' +
      'const digest = require("node:crypto").createHash("sha256").update(text).digest("hex");' +
      "console.log(JSON.stringify([digest, Object.keys(process.env).sort()]));";
    const ended = await granted({ environment, options, command: [node, "-e", script] });
    expect(ended).toMatchObject({ exitCode: 0, stderr: "" });
    const names = ["PATH", "PLAIN", "VAULT_ADDR", "VAULT_CACERT_BYTES"];
    expect(JSON.parse(ended.stdout)).toEqual([hash(JSON.stringify(expected)), names]);
    expect(readdirSync("/dev/shm").filter((name) => name.startsWith("authproxy."))).toEqual([]);
  });
  test("is a file without a name, readable only by its owner, at offset 0", async () => {
    const script =
      'const { fstatSync, readlinkSync } = require("node:fs"); const { mode, nlink } = fstatSync(0);' +
      'const [, at, flags] = /pos:\\s+(\\d+)\\s+flags:\\s+(\\d+)/.exec(require("node:fs").readFileSync("/proc/self/fdinfo/0"));' +
      'console.log(mode.toString(8), nlink, / \\(deleted\\)$/.test(readlinkSync("/proc/self/fd/0")), at, (parseInt(flags, 8) & 3));';
    const ended = await granted({ environment, options, command: [node, "-e", script] });
    expect(ended).toMatchObject({ exitCode: 0, stdout: "100400 0 true 0 0\n" });
  });
  test("is untouched where there is no reference", async () => {
    const command = ["/bin/readlink", "/proc/self/fd/0"];
    expect((await run({ options, command })).stdout).toBe("/dev/null\n");
  });
  test.runIf(isRoot).each([
    ["on a disk", newPlace(), /\/dev\/shm is not on tmpfs/],
    ["where a file cannot be without a name", "/proc", /\/dev\/shm cannot be used: ENOTSUP/],
  ])("is not %s", async (_, there, line) => {
    await using server = await Playground.open(answer(grant()));
    const mount = `mount --bind ${there} /dev/shm; exec "$@"`;
    const before = ["unshare", "--mount", "/bin/sh", "-c", mount, "sh"];
    const at = [...options, "--socket", server.socket];
    expectFailure(await run({ environment, before, options: at }), 78, line);
    expect(server.connections).toBe(0);
  });
  test("needs no directory for files", async () => {
    const ended = await granted({ environment, options: [...options, "--files", "/nowhere"] });
    expect(ended).toMatchObject({ exitCode: 0, stderr: "" });
  });
});

test("two variables with one name are refused, as files and on standard input", async () => {
  await using server = await Playground.open(answer(grant()));
  const reference = "vault:kv/app#*";
  const at = ["--socket", server.socket];
  const files = await run({ environment: { X_FILE: reference, X_DIR: reference }, options: at });
  expectFailure(files, 78, /X_DIR: another variable has the name X too/);
  const environment = { X: reference, X_FILE: reference };
  expectFailure(await run({ environment, options: [...at, "--stdin"] }), 78, /has the name X too/);
  expect(server.connections).toBe(0);
});
