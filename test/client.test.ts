import { once } from "node:events";
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer } from "node:https";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type OpenBao, startOpenBao } from "../scripts/openbao.ts";
import {
  answer,
  bundle,
  type Ended,
  expectFailure,
  newPlace,
  Playground,
  type Run,
  run,
} from "./client-playground.ts";
import { clientSuite, references } from "./client-suite.ts";
import {
  bao,
  grant,
  granted,
  hash,
  hashes,
  type Minted,
  password,
  token,
  user,
  vault,
} from "./client-vault.ts";
import { memoryDirectory } from "./memory.ts";

const isRoot = process.getuid?.() === 0;
const memory = memoryDirectory();
const files = mkdtempSync(join(memory, "files-"));

clientSuite({
  run,
  begin: run,
  served: granted,
  granted,
  withoutRights: ["setpriv", "--bounding-set=-all"],
  files: mkdtempSync(join(memory, "suite-")),
  pidOf: ({ pid }) => pid,
});

describe("a secret becomes an environment variable", () => {
  test.each(references)("%s", async (_, X, expected) => {
    const ended = await granted({ environment: { X }, command: [...hashes, "X"] });
    expect(ended).toMatchObject({ exitCode: 0, stdout: `${hash(expected)}\n`, stderr: "" });
  });
  test("the token", async () => {
    const ended = await granted({ environment: { X: "vault:login" }, command: [...hashes, "X"] });
    expect(ended).toMatchObject({ exitCode: 0, stdout: `${hash(token)}\n`, stderr: "" });
  });

  test("and forty variables get each its own value", async () => {
    const names = Array.from({ length: 40 }, (_, index) => `X${index}`);
    const paths = ["secret/data/app", "kv/app", "secret/data/app"];
    const keys = ["password", "password", "user"];
    const values = [password, password, user];
    const environment = Object.fromEntries(
      names.map((name, index) => [name, `vault:${paths[index % 3]}#${keys[index % 3]}`]),
    );
    const { stdout } = await granted({ environment, command: [...hashes, ...names] });
    const expected = names.map((_, index) => `${hash(values[index % 3] ?? "")}\n`);
    expect(stdout).toBe(expected.join(""));
  });
});

describe("a secret becomes a file", () => {
  test("on tmpfs, readable only by its owner, with no other file beside it", async () => {
    const ended = await granted({
      environment: { DB_PASSWORD_FILE: "vault:secret/data/app#password", AUTHPROXY_FILES: files },
      command: ["/bin/sh", "-c", 'echo "$DB_PASSWORD_FILE"'],
    });
    expect(ended).toMatchObject({ exitCode: 0, stdout: `${files}/DB_PASSWORD\n`, stderr: "" });
    expect(readFileSync(`${files}/DB_PASSWORD`, "utf8")).toBe(password);
    expect(statSync(`${files}/DB_PASSWORD`).mode & 0o7777).toBe(0o400);
    expect(readdirSync(files)).toEqual(["DB_PASSWORD"]);
  });

  test("that replaces a symbolic link, and not the file behind it", async () => {
    const target = join(newPlace(), "target");
    writeFileSync(target, "untouched");
    symlinkSync(target, join(files, "LINK"));
    const environment = { LINK_FILE: "vault:secret/data/app#password", AUTHPROXY_FILES: files };
    expect((await granted({ environment })).exitCode).toBe(0);
    expect(readFileSync(target, "utf8")).toBe("untouched");
    expect(readFileSync(join(files, "LINK"), "utf8")).toBe(password);
  });

  test("not on a disk, and no token is asked for", async () => {
    const place = newPlace();
    await using server = await Playground.open(answer(grant()));
    const options = ["--socket", server.socket, "--files", place];
    const ended = await run({ options, environment: { X_FILE: "vault:secret/data/app#password" } });
    expectFailure(ended, 78, /is not on tmpfs/, /--tmpfs/);
    expect([server.connections, readdirSync(place)]).toEqual([0, []]);
  });

  test("but not where another reference fails", async () => {
    const environment = {
      ONE_FILE: "vault:secret/data/app#password",
      TWO: "vault:secret/data/app#nothing",
      AUTHPROXY_FILES: files,
    };
    expectFailure(await granted({ environment }), 66, /^authproxy: TWO: /);
    expect(readdirSync(files)).not.toContain("ONE");
  });
});

describe("the socket's directory is refused with the mode", () => {
  test.each([0o775, 0o757, 0o1777].map((mode) => [mode.toString(8), mode] as const))(
    "%s",
    async (_, mode) => {
      await using server = await Playground.open(answer(grant()), newPlace(mode));
      const environment = { X: "vault:secret/data/app#password" };
      const ended = await run({ environment, options: ["--socket", server.socket] });
      expectFailure(ended, 78, /can be written by others/, /0755.*read-only/);
      expect(server.connections).toBe(0);
    },
  );
});

describe("the server's answer is", () => {
  const environment = { X: "vault:secret/data/app#password" };

  test("refused, and the hint does not tell process 1 that it is not the first", async () => {
    if (!isRoot) return;
    await using server = await Playground.open(answer({ error: "refused" }));
    const before = ["unshare", "--pid", "--fork", "--kill-child"];
    const ended = await run({ before, environment, options: ["--socket", server.socket] });
    expectFailure(ended, 77, /refused/, /says why$/);
  });
  test.each<[string, Parameters<typeof Playground.open>[0]]>([
    ["unavailable", answer({ error: "unavailable" })],
    ["no line", (connection) => connection.end()],
    ["half a line", (connection) => connection.end('{"service":')],
    ["a closed connection", (connection) => connection.destroy()],
  ])("%s at first, then a grant", async (_, first) => {
    const answering: typeof first = (connection, count) =>
      (count < 2 ? first : answer(grant()))(connection, count);
    await using server = await Playground.open(answering);
    const ended = await run({ environment, options: ["--socket", server.socket] });
    expect(ended).toMatchObject({ exitCode: 0, stderr: "" });
    expect(server.connections).toBe(3);
  });
  test("nothing, until the deadline", async () => {
    await using server = await Playground.open(() => {});
    const options = ["--socket", server.socket, "--wait", "0.3"];
    expectFailure(await run({ environment, options }), 75, /in time/);
  });
  test.each([["hello"], [{ token: 1 }], [[]]])(
    "not a grant but %j, which is refused",
    async (line) => {
      await using server = await Playground.open(answer(line));
      const ended = await run({ environment, options: ["--socket", server.socket] });
      expectFailure(ended, 78, /does not speak the authproxy protocol/);
      expect(server.connections).toBe(1);
    },
  );
  test("endless, which is refused", async () => {
    const line = "x".repeat(64 * 1024);
    await using server = await Playground.open((connection) => {
      const more = () => connection.write(line, (error) => error ?? more());
      more();
    });
    expectFailure(await run({ environment, options: ["--socket", server.socket] }), 78, /protocol/);
  });
  test.runIf(isRoot)("awaited by process 1, when SIGTERM comes", async () => {
    let kill = () => {};
    await using server = await Playground.open(() => kill());
    const ended = await run({
      before: ["unshare", "--pid", "--fork", "--kill-child"],
      environment,
      options: ["--socket", server.socket],
      during: ({ pid }) => {
        kill = () => {
          const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8");
          process.kill(Number.parseInt(children, 10), "SIGTERM");
        };
      },
    });
    expect(ended).toMatchObject({ exitCode: 143, stdout: "", stderr: "" });
  });
});

describe("Vault", () => {
  const environment = { X: "vault:secret/data/app#password" };
  const wait = ["--wait", "0.5"];

  test.each([
    ["with a password in it", "https://a:b@127.0.0.1:8200"],
    ["that is not a URL", "127.0.0.1"],
  ])("is not asked at an address %s", async (_, address) => {
    const ended = await granted({ environment }, grant({}, { address }));
    expectFailure(ended, 78, /the Vault address that the server gave is not https/, /TLS/);
  });
  test("is asked until the deadline while it is sealed", async () => {
    const sealed = await startOpenBao();
    try {
      await vault("PUT", "sys/seal", "", {}, sealed);
      const line = grant({}, { address: sealed.address, ca: sealed.ca });
      const ended = await granted({ environment, options: wait }, line);
      expectFailure(ended, 69, /unavailable: status 503/, /sealed/);
    } finally {
      await sealed.stop();
    }
  });

  describe("with a certificate of another CA is not trusted", () => {
    let other: OpenBao;
    beforeAll(async () => {
      other = await startOpenBao();
    });
    afterAll(() => other.stop());
    test.each<[string, Record<string, string>]>([
      ["by default", {}],
      ["with NODE_TLS_REJECT_UNAUTHORIZED=0", { NODE_TLS_REJECT_UNAUTHORIZED: "0" }],
      ["with NODE_EXTRA_CA_CERTS", { NODE_EXTRA_CA_CERTS: "CA" }],
      ["with an older TLS asked for", { NODE_OPTIONS: "--tls-min-v1.0" }],
    ])("%s", async (_, changes) => {
      const environmentChanged: Record<string, string> = { ...environment, ...changes };
      if (changes.NODE_EXTRA_CA_CERTS) environmentChanged.NODE_EXTRA_CA_CERTS = bao.caFile;
      const ended = await granted({ environment: environmentChanged }, grant({}, { ca: other.ca }));
      expectFailure(ended, 69, /certificate of https:\S+ is not trusted: [A-Z_]+$/, /ca_file/);
    });
    test("where the server names no CA and the environment does", async () => {
      const changed = { ...environment, NODE_EXTRA_CA_CERTS: bao.caFile };
      const ended = await granted({ environment: changed }, grant({}, { ca: undefined }));
      expectFailure(ended, 69, /is not trusted/);
    });
  });
  /** A Vault that answers as the case wants, with the real one's certificate. */
  async function playing(
    respond: (request: IncomingMessage, response: ServerResponse, count: number) => void,
    with_: Run = { environment },
    host = "127.0.0.1",
  ): Promise<Ended & { requests: number }> {
    const directory = dirname(bao.caFile);
    let requests = 0;
    const server = createServer(
      {
        cert: readFileSync(join(directory, "vault-cert.pem")),
        key: readFileSync(join(directory, "vault-key.pem")),
      },
      (received, response) => respond(received, response, requests++),
    );
    server.listen(0, host);
    await once(server, "listening");
    const place = server.address();
    const port = typeof place === "object" ? place?.port : undefined;
    try {
      const address = `https://${host}:${port}/vault/`;
      return { ...(await granted(with_, grant({}, { address, namespace: "team" }))), requests };
    } finally {
      server.closeAllConnections();
      server.close();
    }
  }
  const kept = (response: ServerResponse) =>
    response.end(
      JSON.stringify({ request_id: "1", data: { data: { password }, metadata: { version: 1 } } }),
    );

  test("with a certificate of another name is not trusted, and gets no request", async () => {
    const ended = await playing((_, response) => kept(response), { environment }, "127.0.0.2");
    expectFailure(ended, 69, /is not trusted: ERR_TLS_CERT_ALTNAME_INVALID/);
    expect(ended.requests).toBe(0);
  });
  test("is asked again while a standby does not have the token yet", async () => {
    const statuses = [403, 412, 429, 500];
    const ended = await playing((_, response, count) => {
      const status = statuses[count];
      if (status) response.writeHead(status).end("{}");
      else kept(response);
    });
    expect(ended).toMatchObject({ exitCode: 0, stderr: "", requests: 5 });
  });
  test("is asked on another connection where it closes after each answer", async () => {
    const ended = await playing((_, response) => kept(response.setHeader("Connection", "close")), {
      environment: { ...environment, Y: "vault:secret/data/other#password" },
    });
    expect(ended).toMatchObject({ exitCode: 0, stderr: "" });
  });
  test("gets the token, the namespace and the encoded path", async () => {
    let seen: Partial<IncomingMessage> = {};
    const ended = await playing(
      (received, response) => {
        seen = received;
        kept(response);
      },
      { environment: { X: "vault:secret/data/a b?#password#2" } },
    );
    expect(ended.exitCode).toBe(0);
    expect(seen.url).toBe("/vault/v1/secret/data/a%20b%3F?version=2");
    expect(seen.headers).toMatchObject({ "x-vault-token": token, "x-vault-namespace": "team" });
  });
  test("is not followed where it redirects", async () => {
    const ended = await playing(
      (_, response) => {
        response.writeHead(307, { Location: "https://127.0.0.1:1/" }).end();
      },
      { environment, options: wait },
    );
    expectFailure(ended, 69, /redirects \(307\), which is not followed/);
  });
  test.each([
    ["by its length", { "Content-Length": 300 * 1024 * 1024 }, ""],
    ["by the size of a chunk", { "Transfer-Encoding": "chunked" }, "12C00000\r\n"],
  ])("is not asked again where its answer is too long, %s", async (_, headers, text) => {
    const ended = await playing((received, response) => {
      response.writeHead(200, headers).flushHeaders();
      received.socket.write(text);
    });
    expectFailure(
      ended,
      69,
      /^authproxy: an answer of Vault is too long: more than 209715200 bytes/,
    );
    expect(ended.requests).toBe(1);
  });
  test.each([
    [403, '{"errors":["permission denied"]}'],
    [200, '{"request_id":"1","data":{"path":"other/","options":{"version":"2"}}}'],
    [200, '{"request_id":"1","data":{"path":"team/","options":{"version":"1"}}}'],
    [403, "<html>no sys/ here</html>"],
  ])("that does not name the mount, but says %d %s, costs a hint alone", async (status, text) => {
    const versioned =
      '{"errors":[],"warnings":["Invalid path for a versioned K/V secrets engine"]}';
    const ended = await playing(
      ({ url }, response) => {
        if (url?.includes("/sys/")) response.writeHead(status).end(text);
        else response.writeHead(404).end(versioned);
      },
      { environment: { X: "vault:team/kv/app#password" } },
    );
    expectFailure(ended, 66, /no such secret$/, /data\/ must stand between its mount and/);
  });
  test.each([
    [404, ""],
    [404, "<html>no route</html>"],
    [404, "[]"],
    [404, '{"message":"no Route matched"}'],
    [404, '{"errors":{"code":404}}'],
    [404, '{"errors":[404]}'],
    [403, "<html>denied</html>"],
    [200, "<html>under maintenance</html>"],
    [200, JSON.stringify({ data: { data: { password: "not Vault's" } } })],
  ])("did not write %d %s: it is asked again, and a default is not used", async (status, text) => {
    const X = "vault:secret/data/app#password#?default";
    const options = ["--wait", "0.5"];
    const never = await playing(
      (_, response) => response.writeHead(status, { "Content-Length": text.length }).end(text),
      { environment: { X }, options },
    );
    const problem = `unavailable: status ${status}, in an answer that is not Vault's`;
    expectFailure(never, 69, new RegExp(problem));
    expect(never.requests).toBeGreaterThan(1);
    const atFirst = await playing(
      (_, response, count) => {
        if (count > 0) kept(response);
        else response.writeHead(status, { "Content-Length": text.length }).end(text);
      },
      { environment: { X }, command: [...hashes, "X"] },
    );
    expect(atFirst).toMatchObject({ exitCode: 0, stdout: `${hash(password)}\n`, requests: 2 });
  });
  test.each([
    ['{"message":"no Route matched","request_id":"1"}'],
    ['{"errors":["not found"]}'],
    ['{"request_id":"1","warnings":["Invalid path"]}'],
  ])("does not say by 404 %s that there is no secret", async (text) => {
    const X = "vault:secret/data/app#password#?default";
    const respond = (_: IncomingMessage, response: ServerResponse) =>
      response.writeHead(404, { "Content-Length": text.length }).end(text);
    expectFailure(await playing(respond, { environment: { X } }), 66, /Vault answers 404/);
  });
  test("says by 404, and an empty list of errors, that there is no secret", async () => {
    const ended = await playing((_, response) => response.writeHead(404).end('{"errors":[]}'), {
      environment: { X: "vault:secret/data/app#password#?default" },
      command: [...hashes, "X"],
    });
    expect(ended).toMatchObject({ exitCode: 0, stdout: `${hash("default")}\n`, requests: 1 });
  });
  test("does not get a write again that it answered without a body", async () => {
    const ended = await playing((_, response) => response.writeHead(204).end(), {
      environment: { X: ">>vault:a/b#c" },
      options: ["--allow-write", "a/b"],
    });
    expectFailure(ended, 66, /Vault answers 204/);
    expect(ended.requests).toBe(1);
  });
  test("does not get a write again whose answer was lost", async () => {
    const ended = await playing((received) => received.socket.destroy(), {
      environment: { X: ">>vault:a/b#c" },
      options: ["--allow-write", "a/b"],
    });
    expectFailure(ended, 69, /no answer from Vault to a write at a\/b/, /may have done it/);
    expect(ended.requests).toBe(1);
  });
  test("gives a lease, and the client warns of its lifetime once", async () => {
    const ended = await playing(
      (_, response) => {
        const lease = { request_id: "1", lease_id: "database/creds/app/x", lease_duration: 3600 };
        response.end(JSON.stringify({ ...lease, data: { password } }));
      },
      { environment: { X: "vault:database/creds/app#password" } },
    );
    expect(ended).toMatchObject({
      exitCode: 0,
      stderr: "authproxy: warning: X ends after 3600 s; --watch would renew it\n",
    });
  });
});

describe("a reference fails for", () => {
  test.each<[string, string, number, RegExp, RegExp?]>([
    ["an unknown secret", "vault:secret/data/nowhere#password", 66, /: no such secret$/],
    ["an unknown key", "vault:secret/data/app#passwort", 66, /has no such key/, /password, port/],
    ["an inherited key", "vault:secret/data/app#constructor", 66, /has no such key/],
    ["a deleted version", "vault:secret/data/app/gone#password", 66, /was deleted at 2/],
    ["a destroyed version", "vault:secret/data/app/destroyed#password", 66, /is destroyed/],
    ["an unknown version", "vault:secret/data/app#password#99", 66, /: no such secret$/],
    ["a version in KV version 1", "vault:kv/app#password#1", 66, /only a KV version 2/],
    [
      "a KV version 2 path without data/",
      "vault:secret/app#password",
      66,
      /no such/,
      /secret\/data/,
    ],
    [
      "the same in a mount of two segments",
      "vault:team/kv/app#password",
      66,
      /no such/,
      /so the path is team\/kv\/data\/app$/,
    ],
    [
      "the same where the policy knows the right path only",
      "vault:team/kv/a/b#password",
      77,
      /Vault denies/,
      /so the path is team\/kv\/data\/a\/b$/,
    ],
    [
      "the same where the name begins like data/",
      "vault:team/kv/database/app#password",
      77,
      /Vault denies/,
      /so the path is team\/kv\/data\/database\/app$/,
    ],
    ...["metadata/app", "subkeys/app", "config"].map(
      (path): [string, string, number, RegExp, RegExp] => [
        `${path}, which is denied`,
        `vault:team/kv/${path}#x`,
        77,
        /Vault denies/,
        /"read"/,
      ],
    ),
    ["an unknown mount", "vault:unmounted/app#password", 66, /no secrets engine/],
    ["an empty secret", "vault:secret/data/app/empty#password", 66, /the secret is empty/],
    ["null", "vault:secret/data/app#none", 66, /the value is null/],
    ["version 2 by its look only", "vault:kv/data/twin#password", 66, /has no such key/],
    ["a path that is denied", "vault:sys/mounts#password", 77, /Vault denies/, /"read"/],
    ["a path that is denied, whatever the default", "vault:sys/mounts#a#?b", 77, /Vault denies/],
    ["an unknown mount, whatever the default", "vault:unmounted/a#b#?c", 66, /no secrets engine/],
    [
      "a malformed reference",
      "vault:secret/data/app#",
      78,
      /at character 23: a key/,
      /--plain X \(AUTHPROXY_PLAIN\)$/,
    ],
    ["a write that is not allowed", ">>vault:a/b#c", 78, /write to a\/b is not/, /--allow-write/],
  ])("%s", async (_, X, exitCode, line, hint) => {
    const ended = await granted({ environment: { X } });
    expectFailure(ended, exitCode, line, hint);
    expect(ended.stderr).toMatch(/^authproxy: X: /);
  });
  test.each([
    ["another may be left out", "vault:secret/data/nowhere#password#?"],
    ["another has a default", "vault:secret/data/nowhere#password#?x"],
  ])("the variable that needs it, where %s", async (_, A) => {
    const B = "vault:secret/data/nowhere#password";
    expectFailure(await granted({ environment: { A, B } }), 66, /^authproxy: B: vault:.*no such/);
  });
  test("a malformed reference before a token is asked for", async () => {
    await using server = await Playground.open(answer(grant()));
    await run({ environment: { X: "vault:a#" }, options: ["--socket", server.socket] });
    expect(server.connections).toBe(0);
  });
});

describe("a value that is not meant as a reference", () => {
  const X_FILE = "vault:secret/data/app#password";
  const print = ["/bin/sh", "-c", 'printf %s "$X"'];
  const around = "quotes or white space stand around it";
  const form = "a reference is vault:PATH#KEY, and within";

  test.each([
    ["Spring's import of a Vault", "vault://"],
    ["a host and a port", "vault:8200"],
    ["an image", "vault:1.13"],
    ["a ciphertext of Vault's", "vault:v1:8SDd3/HDOjf7mq69+yCqYjBX=="],
    ["a host in braces", `http://\${vault:8200}/`],
  ])("is handed on without a word: %s", async (_, X) => {
    const alone = await run({ environment: { X }, command: print });
    expect(alone).toMatchObject({ exitCode: 0, stdout: X, stderr: "" });
    const environment = { X, X_FILE, AUTHPROXY_FILES: files };
    const beside = await granted({ environment, command: print });
    expect(beside).toMatchObject({ exitCode: 0, stdout: X, stderr: "" });
  });
  test.each([
    ["in quotes, as --env-file keeps them", '"vault:secret/data/app#password"', around],
    ["behind a space", " vault:secret/data/app#password", around],
    ["before a line end", "'vault:login'\n", around],
    ["in capital letters", "VAULT:secret/data/app#password", form],
    ["without a key", "vault:secret/data/app", form],
    ["with an empty segment", "vault:/secret/data/app#password", form],
    ["in a text, without braces", "user:vault:secret/data/app#password", form],
  ])("is handed on with a warning where it seems to be one: %s", async (_, X, problem) => {
    const ended = await run({ environment: { X }, command: print });
    expect(ended).toMatchObject({ exitCode: 0, stdout: X });
    expect(ended.stderr).toMatch(
      /^authproxy: warning: X: it looks like a [^\n]*\(--plain confirms that\): [^\n]*\n$/,
    );
    expect(ended.stderr).toContain(problem);
    expect(ended.stderr).not.toMatch(/secret|app|user|login/);
  });
  test("is not looked up where --plain or AUTHPROXY_PLAIN names it", async () => {
    const X = "vault:secret/data/app#";
    const Y = '"vault:secret/data/app#user"';
    const environment = { X, Y, X_FILE, AUTHPROXY_FILES: files };
    const command = ["/bin/sh", "-c", 'echo "$X $Y $AUTHPROXY_PLAIN"'];
    const ended = await granted({ environment, command, options: ["--plain", "X", "--plain=Y"] });
    expect(ended).toMatchObject({ exitCode: 0, stdout: `${X} ${Y} \n`, stderr: "" });
    const named = { ...environment, AUTHPROXY_PLAIN: "X,Y,X_FILE" };
    const told = await run({
      environment: named,
      command: [...command.slice(0, 2), 'echo "$X_FILE"'],
    });
    expect(told).toMatchObject({ exitCode: 0, stdout: `${X_FILE}\n`, stderr: "" });
  });
});

describe("a wrapped token raises the alarm", () => {
  const environment = { X: "vault:secret/data/app#password" };

  test("where something other than a token was wrapped", async () => {
    const body = JSON.stringify({ auth: { client_token: "mine" } });
    const wrapped = await vault("POST", "sys/wrapping/wrap", body, { "X-Vault-Wrap-TTL": "60s" });
    const { wrap_info } = JSON.parse(wrapped) as Minted;
    const line = grant({ token: wrap_info.token, wrapped: true });
    const ended = await granted({ environment }, line);
    expectFailure(ended, 76, /ALARM.*not made by auth\/token\/create/);
  });
});

describe("the client refuses what execve could not carry", () => {
  test("where all variables together exceed a quarter of the stack", async () => {
    const names = Array.from({ length: 40 }, (_, index) => `X${index}`);
    const environment = Object.fromEntries(
      names.map((name) => [name, "vault:secret/data/app/big#half"]),
    );
    const before = ["prlimit", "--stack=8388608:8388608"];
    expectFailure(
      await granted({ environment, before }),
      126,
      /too long: 2\d{6} bytes, of 2093056/,
    );
    const fewer = Object.fromEntries(Object.entries(environment).slice(0, 30));
    expect(await granted({ environment: fewer, before })).toMatchObject({ exitCode: 0 });
  });
});

describe("nobody can look into the client", () => {
  const environment = { X: "vault:secret/data/app#password" };

  test.each([
    ["LD_PRELOAD", "/lib/x86_64-linux-gnu/libc.so.6"],
    ["NODE_V8_COVERAGE", "/tmp"],
  ])("%s=%s is refused before a token is asked for", async (name, value) => {
    await using server = await Playground.open(answer(grant()));
    const options = ["--socket", server.socket];
    const ended = await run({ environment: { ...environment, [name]: value }, options });
    expectFailure(ended, 78, /would act on this client/, /AUTHPROXY_SET_/);
    expect(server.connections).toBe(0);
  });
  test("an inspector opened by NODE_OPTIONS is refused", async () => {
    const changes = { NODE_OPTIONS: "--inspect=127.0.0.1:0" };
    const ended = await granted({ environment: { ...environment, ...changes } });
    expect(ended.exitCode).toBe(78);
    // Node itself says where it listens.
    expect(ended.stderr).toMatch(/^authproxy: Node's inspector is open/m);
  });
});

describe("the bundle", () => {
  const text = readFileSync(bundle, "utf8");
  const lines = text.split("\n").filter((line) => line.trim() !== "");

  test("needs no other file", () => {
    const required = [...text.matchAll(/require\("([^"]+)"\)/g)].map(([, name]) => name);
    expect(required.length).toBeGreaterThan(0);
    expect(required.filter((name) => !name?.startsWith("node:"))).toEqual([]);
  });
  test("is not minified: it keeps the names and the layout", () => {
    for (const name of ["openSession", "fetchSecrets", "becomeProgram", "findRefusedVariable"])
      expect(text).toMatch(new RegExp(`^(async )?function ${name}\\(`, "m"));
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(200);
    const characters = lines.reduce((sum, line) => sum + line.trim().length, 0);
    expect(characters / lines.length).toBeLessThan(40);
  });
  test("names the module above its code, and has no keystores", () => {
    const modules = [...text.matchAll(/^\/\/ (client\/\S+)$/gm)].map(([, path]) => path);
    expect(modules).toEqual(expect.arrayContaining(["client/main.ts", "client/https.ts"]));
    expect(text).not.toMatch(/keystore|pkcs|createCipheriv/i);
  });
});
