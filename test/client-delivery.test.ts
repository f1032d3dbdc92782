// Question: in which forms does an application get its secrets, and who can read them then?
//
// Covered beside what users reported (.dockerconfigjson, .env, a key with a space; FILE__X; a variable
// with dots; a secret of 1 MiB; a keystore in base64): keys that are legal and odd in other ways and each
// kind that is not; prefix and suffix of both conventions, lower case, "/" and leading dots in variables;
// secrets that JSON escapes, up to Vault's limit; base64 of a version, a default, a write, a text, bytes,
// and what only looks like it, in each form of delivery.
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
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
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  answer,
  expectFailure,
  newPlace,
  node,
  Playground,
  run,
  secretBytes,
} from "./client-playground.ts";
import {
  grant,
  granted,
  hash,
  hashes,
  password,
  root,
  token,
  user,
  vault,
} from "./client-vault.ts";
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

describe("by the conventions of images, a file", () => {
  const reference = "vault:secret/data/app#password";

  test.each([
    ["FILE__PASSWORD", "PASSWORD"],
    ["GF_SECURITY_ADMIN_PASSWORD__FILE", "GF_SECURITY_ADMIN_PASSWORD"],
    ["spring.datasource.password_FILE", "spring.datasource.password"],
    ["db-password_FILE", "db-password"],
    ["db_password_file", "db_password"],
    // Kubernetes takes all of these as names of variables.
    ["a/b_FILE", "a%2Fb"],
    ["a b_FILE", "a%20b"],
    ["._FILE", "%2E"],
    [".._FILE", "%2E."],
    ["../x_FILE", "%2E.%2Fx"],
    [".hidden_FILE", "%2Ehidden"],
  ])("for %s has the name %s, and the variable its path", async (variable, name) => {
    const environment = { AUTHPROXY_FILES, [variable]: reference };
    const script = "console.log(process.env[process.argv[1]])";
    const ended = await granted({ environment, command: [node, "-e", script, variable] });
    expect(ended).toMatchObject({ exitCode: 0, stdout: `${files}/${name}\n`, stderr: "" });
    expect(readdirSync(files)).toEqual([name]);
    expect(readFileSync(join(files, name), "utf8")).toBe(password);
  });
  test("is of one variable only: names that differ meet in no file", async () => {
    const names = [
      "a/b_FILE",
      "a%2Fb_FILE",
      "a_b_FILE",
      "A_B_FILE",
      ".a_FILE",
      "%2Ea_FILE",
      "a___FILE",
    ];
    const variables = Object.fromEntries(names.map((name) => [name, `\${${reference}}${name}`]));
    expect((await granted({ environment: { AUTHPROXY_FILES, ...variables } })).exitCode).toBe(0);
    const texts = readdirSync(files).map((name) => readFileSync(join(files, name), "utf8"));
    expect(texts.sort()).toEqual(names.map((name) => password + name).sort());
  });
  test.each([
    ["FILE__X", "X_FILE"],
    ["X__FILE", "X_FILE"],
    ["X__DIR", "FILE__X"],
  ])("is refused where %s and %s mean one name", async (one, other) => {
    const environment = { AUTHPROXY_FILES, [one]: "vault:kv/app#*", [other]: "vault:kv/app#*" };
    const ended = await granted({ environment });
    expectFailure(ended, 78, /: another variable has the name X too/, /rename one/);
    expect(readdirSync(files)).toEqual([]);
  });
});

describe("base64 in Vault", () => {
  const bytes = Buffer.concat([randomBytes(300), Buffer.from([0, 0xff, 0xfe])]);
  const encoded = bytes.toString("base64");
  const text = "pa ss\nwört-7f21";
  beforeAll(async () => {
    await root.write("secret/data/app/encoded", { data: { keystore: "b2xk", text: "b2xk" } });
    const fields = {
      keystore: encoded,
      lines: encoded.replace(/.{76}/g, "$&\n"),
      windows: `${encoded.replace(/.{64}/g, "$&\r\n")}\r\n`,
      text: Buffer.from(text).toString("base64"),
      nothing: "",
      nul: Buffer.from("a\0b").toString("base64"),
      word: "hunter2-7f21",
      url: "_-_-_w==",
      unpadded: "YQ",
      cut: encoded.slice(0, -1),
      number: 1234,
      object: { a: "b2xk" },
    };
    await root.write("secret/data/app/encoded", { data: fields });
    secretBytes.add("hunter2-7f21").add(encoded.slice(0, 40));
  });
  const at = (rest: string) => `vault:secret/data/app/encoded#${rest}`;

  test.each([
    ["in one line", "keystore#base64", bytes],
    ["in lines of 76 characters", "lines#base64", bytes],
    ["in lines of Windows", "windows#base64", bytes],
    ["of a version", "keystore#1#base64", Buffer.from("old")],
    ["that may be missing, and is there", "keystore#base64#?", bytes],
    ["of nothing", "nothing#base64", Buffer.alloc(0)],
    ["of text", "text#base64", Buffer.from(text)],
    [
      "that is not there, of which a default is used as it is",
      "none#base64#?YQ==",
      Buffer.from("YQ=="),
    ],
  ])("becomes a file of the bytes: %s", async (_, rest, expected) => {
    const environment = { AUTHPROXY_FILES, KEYSTORE_FILE: at(rest) };
    expect(await granted({ environment })).toMatchObject({ exitCode: 0, stderr: "" });
    expect(readFileSync(join(files, "KEYSTORE")).equals(expected)).toBe(true);
  });
  test("stays base64 without the word, beside the same secret with it", async () => {
    const A_FILE = at("keystore");
    const B_FILE = at("keystore#base64");
    expect((await granted({ environment: { AUTHPROXY_FILES, A_FILE, B_FILE } })).exitCode).toBe(0);
    expect(readFileSync(join(files, "A"), "utf8")).toBe(encoded);
    expect(readFileSync(join(files, "B")).equals(bytes)).toBe(true);
  });
  test("becomes text in a variable, in a text, and on standard input", async () => {
    const inline = `<\${${at("text#base64")}}>`;
    const environment = { X: at("text#base64"), Y: inline, AUTHPROXY_FILES, Z_FILE: inline };
    const ended = await granted({ environment, command: [...hashes, "X", "Y"] });
    expect(ended.stdout).toBe(`${hash(text)}\n${hash(`<${text}>`)}\n`);
    expect(readFileSync(join(files, "Z"), "utf8")).toBe(`<${text}>`);
    const whole = { X: at("text#base64"), Y_FILE: at("text#base64") };
    const read = await granted({
      environment: whole,
      options: ["--stdin"],
      command: ["/usr/bin/sha256sum"],
    });
    expect(read.stdout).toContain(hash(JSON.stringify({ X: text, Y: text })));
  });
  test("of a write's answer is decoded too", async () => {
    const encrypted = await root.write("transit/encrypt/app", { plaintext: encoded });
    const body = JSON.stringify({ ciphertext: encrypted.data.ciphertext });
    const X_FILE = `>>vault:transit/decrypt/app#plaintext#${body}#base64`;
    const options = ["--allow-write", "transit/decrypt/app"];
    const ended = await granted({ environment: { AUTHPROXY_FILES, X_FILE }, options });
    expect(ended).toMatchObject({ exitCode: 0, stderr: "" });
    expect(readFileSync(join(files, "X")).equals(bytes)).toBe(true);
  });
  test.each([
    ["a word", "word"],
    ["base64 for URLs", "url"],
    ["base64 without its end", "unpadded"],
    ["base64 that was cut", "cut"],
    ["a number", "number"],
    ["an object", "object"],
  ])("is not %s, and the failure shows the key alone", async (_, key) => {
    for (const variable of ["X", "X_FILE"]) {
      const reference = at(`${key}#base64#?default`);
      const ended = await granted({ environment: { AUTHPROXY_FILES, [variable]: reference } });
      const line = new RegExp(`: ${variable}: vault:.*#${key}#base64: the value is not base64$`);
      expectFailure(ended, 78, line);
    }
    expect(readdirSync(files)).toEqual([]);
  });
  test.each([
    ["bytes", "keystore"],
    ["a NUL", "nul"],
  ])("of %s is not put into a variable, a text or JSON", async (_, key) => {
    const reference = at(`${key}#base64`);
    const line = /: the decoded value is not text$/;
    const hint = /NAME_FILE=vault:PATH#KEY#base64/;
    expectFailure(await granted({ environment: { X: reference } }), 78, line, hint);
    const X_FILE = `<\${${reference}}>`;
    expectFailure(await granted({ environment: { AUTHPROXY_FILES, X_FILE } }), 78, line, hint);
    const options = ["--stdin"];
    expectFailure(await granted({ environment: { X_FILE: reference }, options }), 78, line);
  });
});

describe("a long secret", () => {
  const MiB = 1024 * 1024;

  // Vault escapes "<" to six bytes. A request may have 32 MiB.
  test.each([
    ["1 MiB", "x".repeat(MiB)],
    ["1 MiB, which JSON escapes to 6", "<".repeat(MiB)],
    ["5 MiB, which JSON escapes to 30", "<".repeat(5 * MiB)],
  ])("of %s becomes a file", async (_, value) => {
    await vault("POST", "secret/data/app/long", JSON.stringify({ data: { value } }));
    const X_FILE = "vault:secret/data/app/long#value";
    const ended = await granted({ environment: { AUTHPROXY_FILES, X_FILE } });
    expect(ended).toMatchObject({ exitCode: 0, stderr: "" });
    expect(hash(readFileSync(join(files, "X"), "utf8"))).toBe(hash(value));
  });
  test.runIf(isRoot)("for which its tmpfs is too small fails, and says so", async () => {
    await vault(
      "POST",
      "secret/data/app/long",
      JSON.stringify({ data: { value: "x".repeat(MiB) } }),
    );
    const small = join(files, "small");
    mkdirSync(small);
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k,mode=0700", "none", small]);
    try {
      const environment = { AUTHPROXY_FILES: small, X_FILE: "vault:secret/data/app/long#value" };
      const ended = await granted({ environment });
      expectFailure(ended, 78, /cannot write .*\/small\/X: ENOSPC$/, /\/small a larger size=$/);
      expect(readdirSync(small)).toEqual([]);
    } finally {
      execFileSync("umount", [small]);
    }
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
  test("has a file for each key that can be the name of one, however odd", async () => {
    const keys = [
      ...[".dockerconfigjson", ".env", "..data", "...", "a key", "-rf", "~", "*", "$(id)", "'\"\\"],
      ...["ключ", "a\nb", "\u0001", "__proto__", "spring.datasource.password", "x".repeat(255)],
    ];
    const fields = JSON.stringify(keys.map((key) => [key, `value of ${key}`]));
    const body = `{${JSON.parse(fields).map((pair: string[]) => pair.map((text) => JSON.stringify(text)).join(":"))}}`;
    await vault("POST", "kv/odd", body);
    const ended = await granted({ environment: { AUTHPROXY_FILES, X_DIR: "vault:kv/odd#*" } });
    expect(ended).toMatchObject({ exitCode: 0, stderr: "" });
    expect(readdirSync(join(files, "X")).sort()).toEqual([...keys].sort());
    for (const key of keys) {
      expect(readFileSync(join(files, "X", key), "utf8")).toBe(`value of ${key}`);
    }
  });
  test.each([
    ["a path out of it", "../evil"],
    ["a path within it", "a/b"],
    ["an absolute path", "/etc/passwd"],
    ["the directory itself", "."],
    ["the directory above", ".."],
    ["nothing", ""],
    ["a NUL", "a\0b"],
    ["256 bytes", "x".repeat(256)],
    ["256 bytes in fewer letters", "ж".repeat(128)],
  ])("is not made where a key is %s", async (_, key) => {
    await root.write("kv/odd", { [key]: password, fine: "1" });
    const ended = await granted({ environment: { AUTHPROXY_FILES, X_DIR: "vault:kv/odd#*" } });
    const hint = /is not empty, \. or \.\., and has at most 255 bytes and no \/ or NUL.*NAME_FILE=/;
    expectFailure(ended, 78, /\/X: the key .* cannot be the name of a file/, hint);
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
