// Question: in which forms does an application get its secrets, and who can read them then?
import {
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
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { answer, expectFailure, newPlace, node, Playground, run } from "./client-playground.ts";
import { grant, granted, hash, password, root, token, user } from "./client-vault.ts";

/** tmpfs on every Linux. */
const files = mkdtempSync("/dev/shm/authproxy-delivery-");
afterAll(() => rmSync(files, { recursive: true, force: true }));
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
  test("loses the files of keys that the secret no longer has", async () => {
    mkdirSync(join(files, "TLS"));
    writeFileSync(join(files, "TLS/old"), "");
    await granted({ environment });
    expect(readdirSync(join(files, "TLS")).sort()).toEqual(["data", "password"]);
  });
  test("replaces a symbolic link, and not the directory behind it", async () => {
    const target = newPlace();
    symlinkSync(target, join(files, "TLS"));
    await granted({ environment });
    expect([readdirSync(target), readdirSync(join(files, "TLS")).length]).toEqual([[], 2]);
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
