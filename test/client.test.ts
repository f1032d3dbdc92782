import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer } from "node:https";
import { connect } from "node:net";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type OpenBao, startOpenBao } from "../tools/openbao.ts";
import {
  answer,
  bundle,
  type Ended,
  expectFailure,
  newPlace,
  node,
  Playground,
  type Run,
  run,
} from "./client-playground.ts";
import {
  bao,
  grant,
  granted,
  hash,
  hashes,
  type Minted,
  mint,
  password,
  secret,
  token,
  user,
  vault,
} from "./client-vault.ts";

const isRoot = process.getuid?.() === 0;
/** tmpfs on every Linux. */
const files = mkdtempSync("/dev/shm/authproxy-client-");
afterAll(() => rmSync(files, { recursive: true, force: true }));

describe("a secret becomes an environment variable", () => {
  test.each<[string, string, () => string]>([
    ["KV version 2", "vault:secret/data/app#password", () => password],
    ["an older version", "vault:secret/data/app#password#1", () => `old-${password}`],
    ["a number", "vault:secret/data/app#port", () => "5432"],
    ["a boolean", "vault:secret/data/app#tls", () => "true"],
    ["an object, as JSON", "vault:secret/data/app#nested", () => '{"a":1}'],
    ["a list, as JSON", "vault:secret/data/app#list", () => "[]"],
    [
      "a whole secret, as JSON",
      "vault:secret/data/app#*",
      () => JSON.stringify(secret, Object.keys(secret).concat("a").sort()),
    ],
    ["a default where there is no secret", "vault:secret/data/nowhere#a#?b#c", () => "b#c"],
    ["a default where there is no key", "vault:secret/data/app#nothing#?b", () => "b"],
    ["a default where the version is deleted", "vault:secret/data/app/gone#a#?b", () => "b"],
    ["a default where the value is null", "vault:secret/data/app#none#?b", () => "b"],
    ["no default where there is a value", "vault:secret/data/app#password#?b", () => password],
    [
      "no default where that version is",
      "vault:secret/data/app#password#1#?b",
      () => `old-${password}`,
    ],
    ["an optional one within a text", `a$${"{vault:secret/data/app#nothing#?}"}b`, () => "ab"],
    ["KV version 1", "vault:kv/app#password", () => password],
    ["a field called data in KV version 1", "vault:kv/app#data", () => user],
    ["the token", "vault:login", () => token],
    [
      "two within a text",
      `pg://$${"{vault:secret/data/app#user}"}:$${"{vault:secret/data/app#password}"}@db`,
      () => `pg://${user}:${password}@db`,
    ],
  ])("%s", async (_, X, expected) => {
    const ended = await granted({ environment: { X }, command: [...hashes, "X"] });
    expect(ended).toMatchObject({ exitCode: 0, stdout: `${hash(expected())}\n`, stderr: "" });
  });

  test("forty at once, in the order of their names", async () => {
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

  test("a write to a path that is allowed", async () => {
    const X = '>>vault:transit/encrypt/app#ciphertext#{"plaintext":"aGVsbG8="}';
    const command = ["/bin/sh", "-c", "case $X in vault:v1:*) echo encrypted;; esac"];
    const options = ["--allow-write", "transit/encrypt/app"];
    expect(await granted({ environment: { X }, command, options })).toMatchObject({
      exitCode: 0,
      stdout: "encrypted\n",
    });
  });

  test("a wrapped token is opened", async () => {
    const { wrap_info } = await mint({ "X-Vault-Wrap-TTL": "60s" });
    const line = grant({ token: wrap_info.token, wrapped: true });
    const environment = { X: "vault:secret/data/app#password" };
    const ended = await granted({ environment, command: [...hashes, "X"] }, line);
    expect(ended).toMatchObject({ exitCode: 0, stdout: `${hash(password)}\n`, stderr: "" });
  });
});

describe("a secret becomes a file", () => {
  test("on tmpfs, for its owner alone, with nothing beside it", async () => {
    const ended = await granted({
      environment: { DB_PASSWORD_FILE: "vault:secret/data/app#password", AUTHPROXY_FILES: files },
      command: ["/bin/sh", "-c", 'echo "$DB_PASSWORD_FILE"'],
    });
    expect(ended).toMatchObject({ exitCode: 0, stdout: `${files}/DB_PASSWORD\n`, stderr: "" });
    expect(readFileSync(`${files}/DB_PASSWORD`, "utf8")).toBe(password);
    expect(statSync(`${files}/DB_PASSWORD`).mode & 0o7777).toBe(0o400);
    expect(readdirSync(files)).toEqual(["DB_PASSWORD"]);
  });

  test("takes the place of a symbolic link, not of what it points to", async () => {
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

  test("not where there is no directory", async () => {
    const options = ["--files", "/nowhere/secrets"];
    const ended = await granted({ options, environment: { X_FILE: "vault:secret/data/app#user" } });
    expectFailure(ended, 78, /\/nowhere\/secrets cannot be used: ENOENT/, /--tmpfs \/nowhere/);
  });

  test("none is written where another reference fails", async () => {
    const environment = {
      ONE_FILE: "vault:secret/data/app#password",
      TWO: "vault:secret/data/app#nothing",
      AUTHPROXY_FILES: files,
    };
    expectFailure(await granted({ environment }), 66, /^authproxy: TWO: /);
    expect(readdirSync(files)).not.toContain("ONE");
  });
});

describe("the application", () => {
  const own = {
    AUTHPROXY_WAIT: "5",
    AUTHPROXY_UNKNOWN: "1",
    VAULT_ADDR: "https://elsewhere",
    VAULT_CACERT: "/ca",
    PLAIN: "vau1t:",
  };
  const printEnvironment = ["/usr/bin/env", "-0"];
  const namesOf = ({ stdout }: Ended) =>
    stdout
      .split("\0")
      .map((line) => line.split("=", 1)[0])
      .filter(Boolean)
      .sort();

  test("inherits none of the client's variables", async () => {
    const environment = { ...own, AUTHPROXY_FILES: files, Y_FILE: "vault:secret/data/app#user" };
    const ended = await granted({ environment, command: printEnvironment });
    expect(namesOf(ended)).toEqual(["PATH", "PLAIN", "Y_FILE"]);
    expect(ended.stdout).not.toContain("vault:");
  });

  test("keeps a VAULT_… variable that --keep names", async () => {
    const environment = { ...own, AUTHPROXY_FILES: files, Y_FILE: "vault:secret/data/app#user" };
    const options = ["--keep", "VAULT_CACERT"];
    const ended = await granted({ environment, options, command: printEnvironment });
    expect(namesOf(ended)).toEqual(["PATH", "PLAIN", "VAULT_CACERT", "Y_FILE"]);
  });

  test("that asks for the token learns where Vault is", async () => {
    const script =
      'test -n "$VAULT_TOKEN"; echo "$VAULT_ADDR"; echo "$VAULT_CACERT_BYTES" | head -1';
    const environment = { VAULT_TOKEN: "vault:login" };
    const ended = await granted({ environment, command: ["/bin/sh", "-c", script] });
    expect(ended.stdout).toBe(`${bao.address}\n-----BEGIN CERTIFICATE-----\n`);
  });

  test("without a reference is begun at once: no socket is touched", async () => {
    await using server = await Playground.open(answer(grant()));
    const environment = { ...own, AUTHPROXY_SOCKET: server.socket };
    const ended = await run({ environment, command: printEnvironment, flags: [] });
    expect(namesOf(ended)).toEqual(["PATH", "PLAIN", "VAULT_ADDR", "VAULT_CACERT"]);
    expect(server.connections).toBe(0);
  });

  test("has its name, its arguments, its exit code and the client's pid", async () => {
    await using server = await Playground.open(answer(grant()));
    let pid: number | undefined;
    const ended = await run({
      options: ["--socket", server.socket],
      environment: { X: "vault:secret/data/app#user" },
      command: ["sh", "-c", 'echo "$0 $1 $$"; exit 7', "a b", "--c"],
      during: (child) => {
        pid = child.pid;
      },
    });
    expect(ended).toMatchObject({ exitCode: 7, stdout: `a b --c ${pid}\n`, stderr: "" });
  });

  // Not by way of a shell, which clears the mask itself.
  const signals = ["/bin/grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"];
  const signalsOf = ({ stdout }: Ended) => stdout.match(/[0-9a-f]{16}/g);
  const environment = { X: "vault:secret/data/app#user" };

  test("has no signal ignored or blocked: with the inspector out of reach", async () => {
    const flags = ["--inspect-port=255.255.255.255:1024"];
    const ended = await granted({ environment, flags, command: signals });
    expect(signalsOf(ended)).toEqual(["0000000000000000", "0000000000000000"]);
  });

  test("has SIGUSR1 blocked, by Node's --disable-sigusr1, and no other", async () => {
    const ended = await granted({ environment, command: signals });
    expect(signalsOf(ended)).toEqual(["0000000000000200", "0000000000000000"]);
  });

  test("has the descriptors that it has without the client", async () => {
    const command = ["/bin/ls", "/proc/self/fd"];
    const { stdout } = await granted({ environment, command });
    expect(stdout).toBe((await run({ command, bare: true })).stdout);
  });
});

describe("the socket is looked at before it is trusted", () => {
  const environment = { X: "vault:secret/data/app#password" };
  const at = (socket: string, ...options: string[]) =>
    run({ environment, options: ["--wait", "0.3", "--socket", socket, ...options] });

  test("no directory", async () => {
    const ended = await at("/nowhere/authproxy.sock");
    expectFailure(ended, 75, /no directory \/nowhere/, /-v \/nowhere:\/nowhere:ro/);
    expect(ended.milliseconds).toBeGreaterThan(300);
  });
  test("no socket", async () => {
    const place = newPlace();
    expectFailure(await at(`${place}/authproxy.sock`), 75, /there is no .*authproxy.sock/, /:ro/);
  });
  test("a file", async () => {
    const path = join(newPlace(), "authproxy.sock");
    writeFileSync(path, "");
    expectFailure(await at(path), 78, /is not a socket/);
  });
  test("a symbolic link to a socket", async () => {
    await using server = await Playground.open(answer(grant()));
    const path = join(newPlace(), "authproxy.sock");
    symlinkSync(server.socket, path);
    expectFailure(await at(path), 78, /is not a socket/);
    expect(server.connections).toBe(0);
  });
  test("nobody listens", async () => {
    const path = join(newPlace(), "authproxy.sock");
    const left = `require("net").createServer().listen(${JSON.stringify(path)},
      () => process.kill(process.pid, "SIGKILL"))`;
    spawnSync(node, ["-e", left]);
    expectFailure(await at(path), 75, /gives ECONNREFUSED/);
  });
  test("a full backlog", async () => {
    const path = join(newPlace(), "authproxy.sock");
    const stuck = `require("net").createServer().listen(
      { path: ${JSON.stringify(path)}, backlog: 1 }, () => process.kill(process.pid, "SIGSTOP"))`;
    const server = spawn(node, ["-e", stuck], { stdio: "ignore" });
    try {
      await untilStopped(server.pid);
      for (let count = 0; count < 3; count++) connect(path).on("error", () => {});
      expectFailure(await at(path), 75, /gives EAGAIN/);
    } finally {
      server.kill("SIGKILL");
    }
  });
  for (const mode of [0o775, 0o757, 0o1777]) {
    test(`a directory of mode ${mode.toString(8)}`, async () => {
      await using server = await Playground.open(answer(grant()), newPlace(mode));
      expectFailure(await at(server.socket), 78, /can be written by others/, /0755.*read-only/);
      expect(server.connections).toBe(0);
    });
  }
  describe.runIf(isRoot)("another owner", () => {
    test("of the directory", async () => {
      await using server = await Playground.open(answer(grant()));
      chownSync(server.place, 1234, 0);
      expectFailure(await at(server.socket), 78, /belongs to uid 1234/, /--socket-owner 1234/);
      expect(server.connections).toBe(0);
      expect((await at(server.socket, "--socket-owner", "1234")).exitCode).toBe(0);
    });
    test("of the socket", async () => {
      await using server = await Playground.open(answer(grant()));
      chownSync(server.socket, 1234, 0);
      expectFailure(await at(server.socket), 78, /sock belongs to uid 1234/);
      expect(server.connections).toBe(0);
      expect((await at(server.socket, "--socket-owner=1234")).exitCode).toBe(0);
    });
  });
});

async function untilStopped(pid: number | undefined): Promise<void> {
  const state = () => readFileSync(`/proc/${pid}/status`, "utf8").match(/^State:\t(.)/m)?.[1];
  while (state() !== "T") await sleep(10);
}

describe("the server's answer is", () => {
  const environment = { X: "vault:secret/data/app#password" };

  test("refused: not asked again, and the way to the reason is told", async () => {
    await using server = await Playground.open(answer({ error: "refused" }));
    const ended = await run({ environment, options: ["--socket", server.socket] });
    expectFailure(
      ended,
      77,
      /refused this container/,
      /authproxy explain --last says why; this is process/,
    );
    expect(server.connections).toBe(1);
  });
  test("refused: a first process is not told that it is none", async () => {
    if (!isRoot) return;
    await using server = await Playground.open(answer({ error: "refused" }));
    const before = ["unshare", "--pid", "--fork", "--kill-child"];
    const ended = await run({ before, environment, options: ["--socket", server.socket] });
    expectFailure(ended, 77, /refused/, /says why$/);
  });
  test("unavailable: asked again until the deadline", async () => {
    await using server = await Playground.open(answer({ error: "unavailable" }));
    const options = ["--socket", server.socket, "--wait", "0.5"];
    const ended = await run({ environment, options });
    expectFailure(ended, 75, /could not give a token in time/, /audit log/);
    expect(server.connections).toBeGreaterThan(2);
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
  test("nothing at all", async () => {
    await using server = await Playground.open(() => {});
    const options = ["--socket", server.socket, "--wait", "0.3"];
    expectFailure(await run({ environment, options }), 75, /in time/);
  });
  test.each([["hello"], [{ token: 1 }], [[]]])("no grant: %j", async (line) => {
    await using server = await Playground.open(answer(line));
    const ended = await run({ environment, options: ["--socket", server.socket] });
    expectFailure(ended, 78, /does not speak the authproxy protocol/);
    expect(server.connections).toBe(1);
  });
  test("endless", async () => {
    const line = "x".repeat(64 * 1024);
    await using server = await Playground.open((connection) => {
      const more = () => connection.write(line, (error) => error ?? more());
      more();
    });
    expectFailure(await run({ environment, options: ["--socket", server.socket] }), 78, /protocol/);
  });
  test.each(["SIGTERM", "SIGINT"] as const)("awaited, when %s comes", async (signal) => {
    let kill = () => {};
    await using server = await Playground.open(() => kill());
    const ended = await run({
      environment,
      options: ["--socket", server.socket],
      during: (child) => {
        kill = () => child.kill(signal);
      },
    });
    const exitCode = { SIGTERM: 143, SIGINT: 130 }[signal];
    expect(ended).toMatchObject({ exitCode, signal: null, stdout: "", stderr: "" });
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
    ["without TLS", "http://127.0.0.1:8200"],
    ["with a password in it", "https://a:b@127.0.0.1:8200"],
    ["that is none", "127.0.0.1"],
  ])("an address %s", async (_, address) => {
    const ended = await granted({ environment }, grant({}, { address }));
    expectFailure(ended, 78, /the Vault address that the server gave is not https/, /TLS/);
  });
  test("unreachable", async () => {
    const line = grant({}, { address: "https://127.0.0.1:1" });
    const ended = await granted({ environment, options: wait }, line);
    expectFailure(ended, 69, /unavailable: ECONNREFUSED/, /reached/);
  });
  test("sealed, until the deadline", async () => {
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

  describe("of another CA is not trusted", () => {
    let other: OpenBao;
    beforeAll(async () => {
      other = await startOpenBao();
    });
    afterAll(() => other.stop());
    test.each<[string, Record<string, string>]>([
      ["as it is", {}],
      ["with NODE_TLS_REJECT_UNAUTHORIZED=0", { NODE_TLS_REJECT_UNAUTHORIZED: "0" }],
      ["with NODE_EXTRA_CA_CERTS", { NODE_EXTRA_CA_CERTS: "CA" }],
      ["with an older TLS asked for", { NODE_OPTIONS: "--tls-min-v1.0" }],
    ])("%s", async (_, changes) => {
      const environmentChanged: Record<string, string> = { ...environment, ...changes };
      if (changes.NODE_EXTRA_CA_CERTS) environmentChanged.NODE_EXTRA_CA_CERTS = bao.caFile;
      const ended = await granted({ environment: environmentChanged }, grant({}, { ca: other.ca }));
      expectFailure(ended, 69, /certificate of https:\S+ is not trusted: [A-Z_]+$/, /ca_file/);
    });
    test("nor without a CA, by the environment's", async () => {
      const changed = { ...environment, NODE_EXTRA_CA_CERTS: bao.caFile };
      const ended = await granted({ environment: changed }, grant({}, { ca: undefined }));
      expectFailure(ended, 69, /is not trusted/);
    });
  });
  test("a CA that is none", async () => {
    const line = grant({}, { ca: "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n" });
    expectFailure(await granted({ environment }, line), 69, /is not trusted/);
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
      (received, response) => {
        if (received.url?.includes("/sys/internal/")) response.writeHead(403).end("{}");
        else respond(received, response, requests++);
      },
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
    response.end(JSON.stringify({ data: { data: { password }, metadata: { version: 1 } } }));

  test("of another name is not trusted, and gets no request", async () => {
    const ended = await playing((_, response) => kept(response), { environment }, "127.0.0.2");
    expectFailure(ended, 69, /is not trusted: ERR_TLS_CERT_ALTNAME_INVALID/);
    expect(ended.requests).toBe(0);
  });
  test("by a host's name", async () => {
    const line = grant({}, { address: bao.address.replace("127.0.0.1", "localhost") });
    expect(await granted({ environment }, line)).toMatchObject({ exitCode: 0, stderr: "" });
  });
  test.each([
    ["large", "12345678901234567890"],
    ["fraction", "1.10"],
  ])("a number is handed over as it is written: %s", async (key, number) => {
    const ended = await playing((_, response) => response.end(`{"data":{"${key}":${number}}}`), {
      environment: { X: `vault:a/b#${key}` },
      command: ["/bin/sh", "-c", "echo $X"],
    });
    expect(ended.stdout).toBe(`${number}\n`);
  });
  test("that is a standby which does not know the token yet is asked again", async () => {
    const statuses = [403, 412, 429, 500];
    const ended = await playing((_, response, count) => {
      const status = statuses[count];
      if (status) response.writeHead(status).end("{}");
      else kept(response);
    });
    expect(ended).toMatchObject({ exitCode: 0, stderr: "", requests: 5 });
  });
  test("that closes after each answer is asked on another connection", async () => {
    const ended = await playing((_, response) => kept(response.setHeader("Connection", "close")), {
      environment: { ...environment, Y: "vault:secret/data/other#password" },
    });
    expect(ended).toMatchObject({ exitCode: 0, stderr: "" });
  });
  test("gets the token, the namespace and the path as they are", async () => {
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
  test("that redirects is not followed", async () => {
    const ended = await playing((_, response) => {
      response.writeHead(307, { Location: "https://127.0.0.1:1/" }).end();
    });
    expectFailure(ended, 69, /redirects \(307\), which is not followed/);
    expect(ended.requests).toBe(1);
  });
  test("that answers without end", async () => {
    const ended = await playing(
      (_, response) => {
        response.write("x".repeat(2 * 1024 * 1024));
      },
      { environment, options: wait },
    );
    expectFailure(ended, 69, /unavailable: a malformed answer: it is too long/);
  });
  test("a write whose answer is lost is not sent again", async () => {
    const ended = await playing((received) => received.socket.destroy(), {
      environment: { X: ">>vault:a/b#c" },
      options: ["--allow-write", "a/b"],
    });
    expectFailure(ended, 69, /no answer from Vault to a write at a\/b/, /may have been done/);
    expect(ended.requests).toBe(1);
  });
  test("a lease ends: one warning with its lifetime", async () => {
    const ended = await playing(
      (_, response) => {
        const lease = { lease_id: "database/creds/app/x", lease_duration: 3600 };
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

describe("a reference that leads nowhere", () => {
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
    ["an unknown mount", "vault:unmounted/app#password", 66, /no secrets engine/],
    ["an empty secret", "vault:secret/data/app/empty#password", 66, /the secret is empty/],
    ["null", "vault:secret/data/app#none", 66, /the value is null/],
    ["version 2 by its look only", "vault:kv/data/twin#password", 66, /has no such key/],
    ["a path that is denied", "vault:sys/mounts#password", 77, /Vault denies/, /"read"/],
    ["a path that is denied, whatever the default", "vault:sys/mounts#a#?b", 77, /Vault denies/],
    ["an unknown mount, whatever the default", "vault:unmounted/a#b#?c", 66, /no secrets engine/],
    ["a malformed reference", "vault:secret/data/app", 78, /at character 22: # and a key/],
    ["a write that is not allowed", ">>vault:a/b#c", 78, /write to a\/b is not/, /--allow-write/],
  ])("%s", async (_, X, exitCode, line, hint) => {
    const ended = await granted({ environment: { X } });
    expectFailure(ended, exitCode, line, hint);
    expect(ended.stderr).toMatch(/^authproxy: X: /);
  });
  test.each([
    ["another may be left out", "vault:secret/data/nowhere#password#?"],
    ["another has a default", "vault:secret/data/nowhere#password#?x"],
  ])("names the variable that needs it where %s", async (_, A) => {
    const B = "vault:secret/data/nowhere#password";
    expectFailure(await granted({ environment: { A, B } }), 66, /^authproxy: B: vault:.*no such/);
  });
  test("a malformed reference costs no token", async () => {
    await using server = await Playground.open(answer(grant()));
    await run({ environment: { X: "vault:" }, options: ["--socket", server.socket] });
    expect(server.connections).toBe(0);
  });
});

describe("a wrapped token raises the alarm", () => {
  const environment = { X: "vault:secret/data/app#password" };

  test("where it was opened before", async () => {
    const { wrap_info } = await mint({ "X-Vault-Wrap-TTL": "60s" });
    await vault("POST", "sys/wrapping/unwrap", "{}", { "X-Vault-Token": wrap_info.token });
    const line = grant({ token: wrap_info.token, wrapped: true });
    const ended = await granted({ environment }, line);
    expectFailure(ended, 76, /ALARM.*opened before/, /revoke it/);
  });
  test("where something else was wrapped", async () => {
    const body = JSON.stringify({ auth: { client_token: "mine" } });
    const wrapped = await vault("POST", "sys/wrapping/wrap", body, { "X-Vault-Wrap-TTL": "60s" });
    const { wrap_info } = JSON.parse(wrapped) as Minted;
    const line = grant({ token: wrap_info.token, wrapped: true });
    const ended = await granted({ environment }, line);
    expectFailure(ended, 76, /ALARM.*not made by auth\/token\/create/);
  });
});

describe("a command that cannot be run costs no token", () => {
  const place = newPlace();
  const script = (name: string, text: string | Buffer, mode = 0o755) => {
    writeFileSync(join(place, name), text);
    chmodSync(join(place, name), mode);
  };
  script("no-mark", "echo hello\n");
  script("empty", "");
  script("no-interpreter", "#!/nowhere/sh\n");
  script("nameless-interpreter", "#! \n");
  script("windows", "#!/bin/sh\r\necho hello\r\n");
  script("loop", `#!${place}/loop\n`);
  script("through", `#!${place}/no-mark\n`);
  script("plain", "#!/bin/sh\n", 0o644);
  script("fine", "#!/bin/sh -e\necho fine\n");
  const program = readFileSync(process.execPath).subarray(0, 64 * 1024);
  const foreign = Buffer.from(program);
  foreign.writeUInt16LE(8, 18);
  script("foreign", foreign);
  const loader = program.indexOf("/lib64/ld-linux");
  const loaderless = Buffer.from(program);
  loaderless.write("/none", Math.max(loader, 0));
  if (loader > 0) script("loaderless", loaderless);

  test.each<[string, string, number, RegExp, RegExp?]>([
    ["not found in PATH", "no-such-command", 127, /no-such-command: command not found/],
    ["no such file", "/nowhere/app", 127, /\/nowhere\/app: command not found/],
    ["a directory", place, 126, /not a file/],
    ["not executable", "plain", 126, /plain: not executable for this user/],
    ["not executable, by its path", `${place}/plain`, 126, /not executable/],
    ["a script without #!", "no-mark", 126, /neither a program nor a script/, /add #!\/bin\/sh/],
    ["an empty file", "empty", 126, /neither a program/],
    ["no such interpreter", "no-interpreter", 126, /interpreter \/nowhere\/sh: ENOENT/],
    ["an interpreter without a name", "nameless-interpreter", 126, /no interpreter after #!/],
    ["Windows line ends", "windows", 126, /sh\\u\{d\}: ENOENT/, /Windows line ends/],
    ["a script that interprets itself", "loop", 126, /no interpreter/],
    ["an interpreter that cannot be run", "through", 126, /no-mark: neither/],
    ["another processor's", "foreign", 126, /built for another processor/],
  ])("%s", async (_, command, exitCode, line, hint) => {
    await using server = await Playground.open(answer(grant()));
    const environment = { X: "vault:secret/data/app#user", PATH: `${place}:/usr/bin:/bin` };
    const options = ["--socket", server.socket];
    expectFailure(await run({ environment, options, command: [command] }), exitCode, line, hint);
    expect(server.connections).toBe(0);
  });
  test.runIf(loader > 0)("another C library's", async () => {
    const command = [`${place}/loaderless`];
    expectFailure(await run({ command }), 126, /loaderless: its interpreter \/none.*: ENOENT/);
  });
  test("a script whose interpreter has an argument is run", async () => {
    const environment = { PATH: `/nowhere:${place}:/usr/bin` };
    expect(await run({ environment, command: ["fine"] })).toMatchObject({ stdout: "fine\n" });
  });
});

describe("what execve could not carry", () => {
  test("a value above 128 KiB", async () => {
    const environment = { X: "vault:secret/data/app/big#big" };
    expectFailure(await granted({ environment }), 126, /X: 131075 bytes are too long/, /_FILE/);
  });
  test("a value with a NUL byte", async () => {
    const environment = { X: "vault:secret/data/app/big#nul" };
    expectFailure(await granted({ environment }), 78, /X: the value has a NUL byte/, /_FILE/);
  });
  test("all together above a quarter of the stack", async () => {
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

describe("nobody can look on", () => {
  const environment = { X: "vault:secret/data/app#password" };

  test("SIGUSR1 would open the inspector", async () => {
    await using server = await Playground.open(answer(grant()));
    const ended = await run({ environment, flags: [], options: ["--socket", server.socket] });
    expectFailure(ended, 78, /SIGUSR1 would open/, /ENTRYPOINT \[.*"--disable-sigusr1",.*"--"\]$/);
    expect(server.connections).toBe(0);
  });
  test("NODE_OPTIONS may say so too", async () => {
    const options = { NODE_OPTIONS: "--disable-sigusr1" };
    const ended = await granted({ environment: { ...environment, ...options }, flags: [] });
    expect(ended).toMatchObject({ exitCode: 0, stderr: "" });
  });
  test.each([
    ["NODE_OPTIONS", "--max-old-space-size=64 --require=/agent.cjs"],
    ["NODE_OPTIONS", "-r /agent.cjs"],
    ["NODE_OPTIONS", '"--import" /agent.mjs'],
    ["NODE_OPTIONS", "--trace-tls"],
    ["NODE_OPTIONS", "--heapsnapshot-near-heap-limit=1"],
    ["LD_PRELOAD", "/lib/x86_64-linux-gnu/libc.so.6"],
    ["NODE_V8_COVERAGE", "/tmp"],
    ["NODE_DEBUG", "tls"],
  ])("%s=%s would look on: no token is asked for", async (name, value) => {
    const place = newPlace();
    writeFileSync(join(place, "agent.cjs"), "");
    writeFileSync(join(place, "agent.mjs"), "");
    await using server = await Playground.open(answer(grant()));
    const ended = await run({
      environment: { ...environment, [name]: value.replace("/agent", `${place}/agent`) },
      options: ["--socket", server.socket],
    });
    const lines = ended.stderr.split("\n").filter((line) => line.startsWith("authproxy: "));
    expect([ended.exitCode, ended.stdout, server.connections]).toEqual([78, "", 0]);
    expect(lines).toEqual([
      `authproxy: ${name} would act on this client, while it holds the token`,
      `authproxy: hint: for the application alone: AUTHPROXY_SET_${name}=… in its place`,
    ]);
  });
  test("the application alone gets what would", async () => {
    const changes = { AUTHPROXY_SET_NODE_OPTIONS: "--require /agent.cjs" };
    const command = ["/bin/sh", "-c", 'echo "$NODE_OPTIONS"'];
    const ended = await granted({ environment: { ...environment, ...changes }, command });
    expect(ended).toMatchObject({ exitCode: 0, stdout: "--require /agent.cjs\n", stderr: "" });
  });
  test("an inspector that is out of reach does not hide one that is not", async () => {
    const flags = ["--inspect-port=255.255.255.255:1024", "--inspect-port=127.0.0.1:0"];
    expect((await granted({ environment, flags })).exitCode).toBe(78);
  });
  test.each<[string, string[], Record<string, string>]>([
    ["a flag", ["--disable-sigusr1", "--inspect=127.0.0.1:0"], {}],
    ["NODE_OPTIONS", ["--disable-sigusr1"], { NODE_OPTIONS: "--inspect=127.0.0.1:0" }],
  ])("the inspector is open by %s", async (_, flags, changes) => {
    const ended = await granted({ environment: { ...environment, ...changes }, flags });
    expect(ended.exitCode).toBe(78);
    // Node itself says where it listens.
    expect(ended.stderr).toMatch(/^authproxy: Node's inspector is open/m);
  });
  test("a defect is one line, without what it was about", async () => {
    const flags = ["--disable-sigusr1", "--require", join(newPlace(), "defect.cjs")];
    const defect = `process.execve = () => {}; Object.entries = () => { throw new TypeError(${JSON.stringify(password)}); };`;
    writeFileSync(flags[2] ?? "", defect);
    expectFailure(await granted({ environment, flags }), 70, /internal error: TypeError, no code$/);
  });
});

test("the bundle is one file that needs no other, of at most 40 kB", () => {
  const text = readFileSync(bundle, "utf8");
  expect(Buffer.byteLength(text)).toBeLessThanOrEqual(40_000);
  const required = [...text.matchAll(/require\("([^"]+)"\)/g)].map(([, name]) => name);
  expect(required.every((name) => name?.startsWith("node:"))).toBe(true);
});
