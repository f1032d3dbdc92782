// What tokens there can be, how the server logs in, and what becomes of a token when its process, the
// server or Vault ends.
import { execFileSync, spawn } from "node:child_process";
import { generateKeyPairSync, randomUUID, sign } from "node:crypto";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { client, provision, startOpenBao } from "../scripts/openbao.ts";
import type { JsonObject } from "../server/json.ts";
import { Gate } from "./gate.ts";
import { compile } from "./programs.ts";
import {
  type AuditLine,
  app,
  bao,
  type Container,
  isGone,
  lookUp,
  password,
  Server,
  Stage,
  tokensOf,
  until,
  vaultAt,
} from "./stage.ts";

const REFUSED = 77;
const STARTED = `started with a password of ${password.length} characters`;
const root = client(bao);

/** A token role of the service's policy, that the server may use. */
async function role(stage: Stage, changes: JsonObject): Promise<string> {
  const name = `role-${randomUUID()}`;
  const usual = { allowed_policies: ["app"], orphan: true, renewable: true };
  await root.write(`auth/token/roles/${name}`, { ...usual, ...changes });
  return await allow(stage, `auth/token/create/${name}`, "update");
}

/** Lets the server use a path, from its next login on. */
async function allow(stage: Stage, path: string, ...capabilities: string[]): Promise<string> {
  const name = `may-${randomUUID()}`;
  await root.addPolicy({
    name,
    policy: `path "${path}" { capabilities = ${JSON.stringify(capabilities)} }`,
  });
  const { data } = await root.read("auth/approle/role/authproxy");
  const set = (token_policies: string[]) =>
    root.write("auth/approle/role/authproxy", { token_policies });
  await set([...data.token_policies, name]);
  stage.defer(() => set(data.token_policies));
  return path;
}

function granted(server: Server, container: Container): Promise<AuditLine> {
  return server.until({ event: "granted", container: container.id });
}

function stateOf(stage: Stage): string[] {
  return readdirSync(join(stage.directory, "state"));
}

/** The inode of a listening socket: flags __SO_ACCEPTCON in /proc/net/unix (proc_pid_net(5)). */
function inodeOf(socket: string): string {
  const lines = readFileSync("/proc/net/unix", "utf8").split("\n");
  const line = lines.find((text) => text.includes(" 00010000 ") && text.endsWith(` ${socket}`));
  return line?.trim().split(/\s+/)[6] ?? "";
}

function descriptorsOf(pid: number): string[] {
  const directory = `/proc/${pid}/fd`;
  return readdirSync(directory).map((name) => readlinkSync(join(directory, name)));
}

/** Says the token that its container was given, and lives on. */
const teller = {
  environment: { DB_PASSWORD_FILE: "", VAULT_TOKEN: "vault:login" },
  command: [
    "node",
    "-e",
    "console.log('token: ' + process.env.VAULT_TOKEN); setInterval(() => {}, 1e9)",
  ],
};

describe("a token", () => {
  test("that is wrapped reaches its container, and is revoked by its accessor", async () => {
    await using stage = new Stage();
    const token = { ...app.token, wrap_ttl: "60s" };
    const server = await stage.server({ services: { app: { ...app, token } } });
    const container = await stage.container();
    await container.says(STARTED);
    const { accessor } = await granted(server, container);
    expect(await lookUp(accessor)).toMatchObject({ orphan: true, path: "auth/token/create/app" });
    await container.kill();
    await server.until({ event: "revoked", accessor: accessor ?? "" });
    expect(await lookUp(accessor)).toBeUndefined();
  });

  test("that is wrapped is looked at all the same: of a wrong role it is revoked", async () => {
    await using stage = new Stage();
    const create = await role(stage, { orphan: false });
    const server = await stage.server({
      services: { app: { ...app, token: { create, wrap_ttl: "60s" } } },
    });
    const container = await stage.container();
    expect(await container.ended).toBe(REFUSED);
    const line = await server.until({ event: "refused", container: container.id });
    expect(line).toMatchObject({ reason: "wrong-role", detail: { create, orphan: false } });
    await until("it is revoked", async () => (await tokensOf(container.id)).length === 0);
  });

  test.each([
    { version: "2", path: "secret/data/ready", write: { data: { token: "ready-token" } } },
    { version: "1", path: "kv1/ready", write: { token: "ready-token" } },
  ])("kept in KV version $version is given to each container, and stays", async (kept) => {
    await using stage = new Stage();
    if (kept.version === "1") {
      await root.mount({ mount_point: "kv1", type: "kv", options: { version: "1" } });
      stage.defer(() => root.unmount({ mount_point: "kv1" }));
    }
    await root.write(kept.path, kept.write);
    await allow(stage, kept.path, "read");
    const services = { app: { ...app, token: { read: `${kept.path}#token` } } };
    const server = await stage.server({ services });
    for (const _ of ["one", "another"]) {
      const container = await stage.container(teller);
      await container.says("token: ready-token");
      expect(await granted(server, container)).toMatchObject({ shared: true });
      await container.kill();
    }
    expect(server.stdout).not.toContain("ready-token");
    expect(server.find({ event: "revoked" })).toBeUndefined();
    await until("no lease is left", () => stateOf(stage).length === 0);
  });

  test("that is not where it should be kept: no-token", async () => {
    await using stage = new Stage();
    const read = "secret/data/app#token";
    await allow(stage, "secret/data/app", "read");
    const server = await stage.server({ services: { app: { ...app, token: { read } } } });
    const container = await stage.container();
    expect(await container.ended).toBe(REFUSED);
    const line = await server.until({ event: "refused", container: container.id });
    expect(line).toMatchObject({ reason: "no-token", detail: { read } });
  });

  test("of a batch, which cannot be revoked: wrong-role", async () => {
    await using stage = new Stage();
    const create = await role(stage, { token_type: "batch", renewable: false });
    const server = await stage.server({ services: { app: { ...app, token: { create } } } });
    const container = await stage.container();
    expect(await container.ended).toBe(REFUSED);
    const line = await server.until({ event: "refused", container: container.id });
    expect(line).toMatchObject({ reason: "wrong-role", detail: { create, type: "batch" } });
  });

  test("of a short life is renewed as long as its process lives", async () => {
    await using stage = new Stage();
    const create = await role(stage, { token_period: "2s" });
    const server = await stage.server({ services: { app: { ...app, token: { create } } } });
    const container = await stage.container();
    const { accessor } = await granted(server, container);
    const { issue_time } = (await lookUp(accessor)) ?? {};
    const bornMs = Date.parse(String(issue_time));
    await until("three lives have passed", () => Date.now() > bornMs + 6000);
    expect(await lookUp(accessor)).toBeDefined();
    await container.kill();
    await server.until({ event: "revoked", accessor: accessor ?? "" });
  });

  test.each([
    { what: "cannot be renewed", changes: { renewable: false, token_explicit_max_ttl: "3s" } },
    { what: "has a longest life", changes: { token_explicit_max_ttl: "3s" } },
    { what: "has few uses", changes: { token_num_uses: 9, token_explicit_max_ttl: "3s" } },
  ])("that $what serves, and its end costs nothing else", async ({ changes }) => {
    await using stage = new Stage();
    const create = await role(stage, changes);
    const server = await stage.server({ services: { app: { ...app, token: { create } } } });
    const container = await stage.container();
    await container.says(STARTED);
    const { accessor } = await granted(server, container);
    await until("it has died", async () => (await lookUp(accessor)) === undefined);
    expect((await container.inspect()).State.Running).toBe(true);
    await container.kill();
    await server.until({ event: "gone", accessor: accessor ?? "" });
    await until("no lease is left", () => stateOf(stage).length === 0);
    expect(isGone(server.pid)).toBe(false);
  });

  test("of another namespace is minted and revoked there", async () => {
    await using stage = new Stage();
    await root.write("sys/namespaces/team", {});
    stage.defer(() => root.delete("sys/namespaces/team"));
    const team = client({ ...bao });
    const headers = { "X-Vault-Namespace": "team" };
    const inTeam = (path: string, json: object) =>
      team.request({ method: "POST", path: `/${path}`, headers, json });
    await inTeam("auth/token/roles/app", { orphan: true, renewable: true });
    await allow(stage, "team/auth/token/*", "update", "sudo");
    const token = { ...app.token, namespace: "team" };
    const server = await stage.server({ services: { app: { ...app, token } } });
    const container = await stage.container(teller);
    await container.says("token: ");
    const { accessor } = await granted(server, container);
    const look = () => inTeam("auth/token/lookup-accessor", { accessor });
    expect((await look()).data.meta).toMatchObject({ service: "app" });
    await container.kill();
    await server.until({ event: "revoked", accessor: accessor ?? "" });
    await expect(look()).rejects.toThrow();
  });
});

test("Vault's own audit log says which container used which secret", async () => {
  await using stage = new Stage();
  const audit = join(stage.directory, "vault-audit.log");
  const vault = await startOpenBao({ audit });
  stage.defer(() => vault.stop());
  const { roleId, secretId } = await provision(vault, { services: { app: { password } } });
  await stage.server({ vault: vaultAt(vault.address, vault, roleId) }, secretId);
  const container = await stage.container();
  await container.says(STARTED);
  const text = readFileSync(audit, "utf8");
  const lines: JsonObject[] = text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  const reads = lines.filter(
    ({ type, request }) =>
      type === "response" && (request as JsonObject).path === "secret/data/app",
  );
  expect(reads.map(({ auth }) => auth)).toContainEqual(
    expect.objectContaining({
      display_name: "token-authproxy-app",
      metadata: {
        service: "app",
        container: container.id,
        image: (await container.inspect()).Image,
        host: hostname(),
        uid: "1001",
      },
    }),
  );
  expect(text).not.toContain(password); // hashed, as each value there
});

describe("the server logs in", () => {
  async function serves(stage: Stage, login: JsonObject): Promise<Server> {
    const server = await stage.server({ vault: { ...vaultAt(bao.address), login } });
    const container = await stage.container();
    await container.says(STARTED);
    return server;
  }

  test("by a password that lies in a file", async () => {
    await using stage = new Stage();
    await root.enableAuth({ mount_point: "userpass", type: "userpass" });
    stage.defer(() => root.disableAuth({ mount_point: "userpass" }));
    const word = randomUUID();
    const user = { password: word, token_policies: ["authproxy"], token_no_default_policy: true };
    await root.write("auth/userpass/users/host", user);
    const file = join(stage.directory, "password");
    writeFileSync(file, `${word}\n`, { mode: 0o600 });
    const server = await serves(stage, {
      path: "auth/userpass/login/host",
      body_files: { password: file },
    });
    expect(server.stdout + server.stderr).not.toContain(word);
  });

  test("by a JWT that lies in a file", async () => {
    await using stage = new Stage();
    await root.enableAuth({ mount_point: "jwt", type: "jwt" });
    stage.defer(() => root.disableAuth({ mount_point: "jwt" }));
    const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    const pem = publicKey.export({ type: "spki", format: "pem" });
    await root.write("auth/jwt/config", { jwt_validation_pubkeys: [pem] });
    const claims = { user_claim: "sub", bound_audiences: ["vault"] };
    const policies = { token_policies: ["authproxy"], token_no_default_policy: true };
    await root.write("auth/jwt/role/host", { role_type: "jwt", ...claims, ...policies });
    const now = Math.floor(Date.now() / 1000);
    const life = { nbf: now - 60, iat: now - 60, exp: now + 600 };
    const parts = [{ alg: "RS256" }, { sub: "host", aud: "vault", ...life }];
    const signed = parts.map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"));
    const signature = sign("sha256", Buffer.from(signed.join(".")), privateKey);
    const file = join(stage.directory, "jwt");
    const jwt = [...signed, signature.toString("base64url")].join(".");
    writeFileSync(file, jwt, { mode: 0o600 });
    await serves(stage, {
      path: "auth/jwt/login",
      body: { role: "host" },
      body_files: { jwt: file },
    });
  });

  test("by a TLS certificate", async () => {
    await using stage = new Stage();
    const [certificate, key] = ["client.pem", "client.key"].map((name) =>
      join(stage.directory, name),
    );
    const subject = ["-subj", "/CN=host", "-addext", "extendedKeyUsage=clientAuth", "-days", "1"];
    const made = [
      "-x509",
      "-newkey",
      "rsa:2048",
      "-nodes",
      "-keyout",
      `${key}`,
      "-out",
      `${certificate}`,
    ];
    execFileSync("openssl", ["req", ...made, ...subject], { stdio: "pipe" });
    await root.enableAuth({ mount_point: "cert", type: "cert" });
    stage.defer(() => root.disableAuth({ mount_point: "cert" }));
    await root.write("auth/cert/certs/host", {
      certificate: readFileSync(`${certificate}`, "utf8"),
      token_policies: ["authproxy"],
    });
    await serves(stage, {
      ...{ path: "auth/cert/login", body: { name: "host" } },
      ...{ client_cert_file: `${certificate}`, client_key_file: `${key}` },
    });
  });

  test("with a ready token in a file, and with the one that takes its place", async () => {
    await using stage = new Stage();
    const file = join(stage.directory, "token");
    const replace = async () => {
      const wanted = { policies: ["authproxy"], ttl: "1h" };
      const { auth } = await root.write("auth/token/create-orphan", wanted);
      writeFileSync(file, auth.client_token, { mode: 0o600 });
      return auth.client_token;
    };
    const first = await replace();
    const server = await serves(stage, { token_file: file });
    await replace();
    await root.tokenRevoke({ token: first });
    const container = await stage.container();
    await container.says(STARTED);
    await granted(server, container);
  });
});

/** Its first process runs the client once more at SIGHUP, by execve: its pid and start stay. */
const againWords = ["node", "--disable-sigusr1", "/authproxy/authproxy.js", "--", "true"];
const onSignal = `process.once("SIGHUP", () => process.execve("/usr/local/bin/node",
  ${JSON.stringify(againWords)}, { ...process.env, DB_PASSWORD_FILE: "vault:secret/data/app#password" }))`;
const asksAgainOnSignal = {
  command: ["node", "-e", `${onSignal}; setInterval(() => {}, 1e9); console.log("it waits")`],
};

/** A server that has served a container and was killed; `file` is the lease that it has left. */
async function crashed(stage: Stage, changes: JsonObject = {}, run?: { command: string[] }) {
  const config = stage.configure(changes);
  const first = stage.start(config);
  const container = await stage.container(run);
  await container.says(run ? "it waits" : STARTED);
  const { accessor = "" } = await granted(first, container);
  await stage.crash(first, container);
  const [name = ""] = stateOf(stage);
  return { config, container, accessor, name, file: join(stage.directory, "state", name) };
}

describe("a crash of the server", () => {
  test("costs no running container its token, and gives none a second", async () => {
    await using stage = new Stage();
    const create = await role(stage, { token_period: "4s" });
    const { config, container, accessor } = await crashed(stage, {
      services: { app: { ...app, token: { create } } },
    });
    const second = stage.start(config);
    await second.until({ event: "ready" });
    const again = await container.exec(
      ...["node", "--disable-sigusr1", "/authproxy/authproxy.js", "--", "true"],
    );
    expect(again.exitCode).toBe(REFUSED);
    const { issue_time } = (await lookUp(accessor)) ?? {};
    await until("two lives have passed", () => Date.now() > Date.parse(String(issue_time)) + 8000);
    expect(await lookUp(accessor)).toBeDefined();
    await container.kill();
    await second.until({ event: "revoked", accessor });
    await until("no lease is left", () => stateOf(stage).length === 0);
  });

  test("leaves `once` in force for the first process too", async () => {
    await using stage = new Stage();
    const config = stage.configure();
    const first = stage.start(config);
    const container = await stage.container(asksAgainOnSignal);
    await container.says("it waits");
    await granted(first, container);
    await stage.crash(first, container);
    const second = stage.start(config);
    await second.until({ event: "ready" });
    process.kill((await container.inspect()).State.Pid, "SIGHUP");
    expect(await container.ended).toBe(REFUSED);
    await second.until({ event: "refused", container: container.id, reason: "once" });
  });

  test("is made good for a container that ended meanwhile", async () => {
    await using stage = new Stage();
    const { config, container, accessor } = await crashed(stage);
    await container.kill();
    expect(await lookUp(accessor)).toBeDefined();
    const second = stage.start(config);
    await second.until({ event: "revoked", accessor });
    expect(await lookUp(accessor)).toBeUndefined();
    await until("no lease is left", () => stateOf(stage).length === 0);
  });

  test("and an upgrade: a file of the former server is taken up, and `once` holds", async () => {
    await using stage = new Stage();
    const { config, container, accessor, name, file } = await crashed(stage, {
      services: { app: { ...app, relax: ["init", "alone"] } },
    });
    const [, pid, ticks] = name.split("-").map(Number);
    const lease = JSON.parse(readFileSync(file, "utf8"));
    // Version 0.1.0 wrote over what was there, which may leave a newline of the longer text.
    const { stage: _, ...others } = { ...lease, version: 1, sent: true, start: { pid, ticks } };
    const former = JSON.stringify(others);
    writeFileSync(file, `${former}\n\n`);
    const second = stage.start(config);
    await second.until({ event: "ready" });
    await container.exec(...["node", "--disable-sigusr1", "/authproxy/authproxy.js", "--", "true"]);
    await second.until({ event: "refused", container: container.id, reason: "once" });
    await container.kill();
    await second.until({ event: "revoked", accessor });
    await until("no lease is left", () => stateOf(stage).length === 0);
    expect(second.find({ event: "set-aside" })).toBeUndefined();
  });

  test("and an upgrade: a file that was made before its token is no lease", async () => {
    await using stage = new Stage();
    const { config, name, file } = await crashed(stage);
    writeFileSync(file, "pending");
    const second = stage.start(config);
    await second.until({ event: "ready" });
    expect(stateOf(stage)).not.toContain(name);
    expect(second.find({ event: "set-aside" })).toBeUndefined();
  });

  test("and a file that was not finished: it is removed", async () => {
    await using stage = new Stage();
    const { config, file } = await crashed(stage);
    writeFileSync(`${file}.new`, "{", { mode: 0o600 });
    const second = stage.start(config);
    await second.until({ event: "ready" });
    expect(stateOf(stage).filter((name) => name.endsWith(".new"))).toEqual([]);
  });

  test("before the answer was noted as sent: its token lives on, and nobody else gets one", async () => {
    await using stage = new Stage();
    const create = await role(stage, { token_period: "3s" });
    const { config, container, accessor, file } = await crashed(stage, {
      services: { app: { ...app, token: { create }, relax: ["init", "alone"] } },
    });
    const lease = JSON.parse(readFileSync(file, "utf8"));
    writeFileSync(file, JSON.stringify({ ...lease, stage: "sending" }));
    const second = stage.start(config);
    await second.until({ event: "ready" });
    await container.exec(...["node", "--disable-sigusr1", "/authproxy/authproxy.js", "--", "true"]);
    await second.until({ event: "refused", container: container.id, reason: "once" });
    const { issue_time } = (await lookUp(accessor)) ?? {};
    await until("two lives have passed", () => Date.now() > Date.parse(String(issue_time)) + 6000);
    expect(await lookUp(accessor)).toBeDefined();
    await container.kill();
    await second.until({ event: "revoked", accessor });
    await until("no lease is left", () => stateOf(stage).length === 0);
  });

  test("before the answer was noted as sent, and its process asks again: another token, and the former is revoked", async () => {
    await using stage = new Stage();
    const { config, container, accessor, file } = await crashed(stage, {}, asksAgainOnSignal);
    const lease = JSON.parse(readFileSync(file, "utf8"));
    writeFileSync(file, JSON.stringify({ ...lease, stage: "sending" }));
    const second = stage.start(config);
    await second.until({ event: "ready" });
    process.kill((await container.inspect()).State.Pid, "SIGHUP");
    const again = await granted(second, container);
    await second.until({ event: "revoked", accessor });
    expect(await lookUp(accessor)).toBeUndefined();
    expect(await lookUp(again.accessor)).toBeDefined();
    await until("one lease is left", () => stateOf(stage).length === 1);
  });

  test("after a token was given up: it is revoked, and its start may ask again", async () => {
    await using stage = new Stage();
    const { config, container, accessor, file } = await crashed(stage, {}, asksAgainOnSignal);
    const lease = JSON.parse(readFileSync(file, "utf8"));
    writeFileSync(`${file}.${randomUUID()}`, JSON.stringify({ ...lease, stage: "revoking" }), {
      mode: 0o600,
    });
    rmSync(file);
    const second = stage.start(config);
    await second.until({ event: "revoked", accessor });
    await until("it is forgotten", () => stateOf(stage).length === 0);
    process.kill((await container.inspect()).State.Pid, "SIGHUP");
    await granted(second, container);
  });

  test.each([
    { what: "cut", change: (text: string) => text.slice(0, 40), trouble: "is not JSON" },
    { what: "empty", change: () => "", trouble: "is not JSON" },
    {
      what: "of a newer version",
      change: (text: string) => text.replace('"version":2', '"version":3'),
      trouble: "its version is 3, expected 2",
    },
    {
      what: "of an older version",
      change: (text: string) => text.replace('"version":2', '"version":0'),
      trouble: "its version is 0, expected 2",
    },
    {
      what: "of another shape",
      change: (text: string) => text.replace('"ticks":', '"ticks":"1","former":'),
      trouble: "its ticks is not a number",
    },
    {
      what: "of no stage that is known",
      change: (text: string) => text.replace('"stage":"sent"', '"stage":"lost"'),
      trouble: "its stage is not known",
    },
  ])("and a file that is $what: its container is refused, others are served", async (broken) => {
    await using stage = new Stage();
    const { config, container, accessor, name, file } = await crashed(stage, {
      services: { app: { ...app, relax: ["init", "alone"] } },
    });
    const text = broken.change(readFileSync(file, "utf8"));
    const hasAccessor = text.includes(String(accessor));
    writeFileSync(file, text);
    const second = stage.start(config);
    const line = await second.until({ event: "set-aside", file: name });
    expect(line.detail).toBe(broken.trouble); // and nothing of the file
    await container.exec(...["node", "--disable-sigusr1", "/authproxy/authproxy.js", "--", "true"]);
    await second.until({ event: "refused", container: container.id, reason: "once" });
    await (await stage.container()).says(STARTED);
    await container.kill();
    if (hasAccessor) await second.until({ event: "revoked", accessor });
    await until("it is forgotten", () => !stateOf(stage).includes(name));
  });

  test("and a file of a newer version: its token is renewed, and revoked at the end", async () => {
    await using stage = new Stage();
    const create = await role(stage, { token_period: "3s" });
    const services = { app: { ...app, token: { create } } };
    const { config, container, accessor, name, file } = await crashed(stage, { services });
    const text = readFileSync(file, "utf8");
    writeFileSync(file, text.replace('"version":2', '"version":3'));
    const second = stage.start(config);
    const line = await second.until({ event: "set-aside", file: name });
    expect(line.detail).toBe("its version is 3, expected 2");
    const { issue_time } = (await lookUp(accessor)) ?? {};
    await until("two lives have passed", () => Date.now() > Date.parse(String(issue_time)) + 6000);
    expect(await lookUp(accessor)).toBeDefined();
    await container.kill();
    await second.until({ event: "revoked", accessor });
    expect(await lookUp(accessor)).toBeUndefined();
  });

  test("and more processes than peercred has descriptors: their tokens live, and end with them", async () => {
    await using stage = new Stage();
    const gate = await Gate.before(bao.address);
    stage.defer(() => gate.shut());
    const config = stage.configure({ vault: vaultAt(gate.address) });
    const sleepers = Array.from({ length: 30 }, () => spawn("sleep", ["600"]));
    stage.defer(() => {
      for (const sleeper of sleepers) sleeper.kill();
    });
    const state = join(stage.directory, "state");
    mkdirSync(state, { mode: 0o700 });
    const accessors: string[] = [];
    for (const { pid } of sleepers) {
      const { auth } = await root.write("auth/token/create/app", {});
      accessors.push(auth.accessor);
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      const ticks = Number(stat.slice(stat.lastIndexOf(")")).split(" ")[20]);
      const id = randomUUID().replaceAll("-", "").repeat(2);
      const lease = { pid, ticks, stage: "sent", meta: { container: id }, accessor: auth.accessor };
      const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
      const text = JSON.stringify({ version: 2, boot, ...lease, ttl: 3600, renewable: true });
      writeFileSync(join(state, `${id}-${pid}-${ticks}`), text, { mode: 0o600 });
    }
    const held = gate.hold(); // nothing is watched before the server has logged in
    const server = stage.start(config);
    await server.until({ event: "ready" });
    const most = 16;
    execFileSync("prlimit", ["--pid", `${server.helper}`, `--nofile=${most}:${most}`]);
    await held;
    gate.release();
    const watched = () =>
      descriptorsOf(server.helper).filter((target) => target.includes("pidfd")).length;
    const numbers = () => readdirSync(`/proc/${server.helper}/fd`).map(Number);
    await until("all are in use", () => numbers().filter((n) => n < most).length === most);
    const count = watched();
    expect(count).toBeLessThan(sleepers.length);
    const [last] = accessors.slice(-1); // of a process that is not watched
    sleepers.at(-1)?.kill();
    await server.until({ event: "revoked", accessor: last ?? "" });
    for (const sleeper of sleepers.slice(0, 8)) sleeper.kill();
    for (const accessor of accessors.slice(0, 8))
      await server.until({ event: "revoked", accessor });
    await until("others are watched in their place", () => watched() === count);
    expect(server.events.filter(({ event }) => event === "revoked")).toHaveLength(9);
    expect(isGone(server.pid)).toBe(false);
  });

  test.each([
    { what: "others can write", change: (file: string) => chmodSync(file, 0o620) },
    { what: "is somebody else's", change: (file: string) => chownSync(file, 65534, 65534) },
  ])("and a file that $what is not believed", async ({ change }) => {
    await using stage = new Stage();
    const { config, name, file } = await crashed(stage);
    change(file);
    const second = stage.start(config);
    await second.until({ event: "set-aside", file: name });
  });

  test("and another boot: what was left is revoked, and nobody is held for it", async () => {
    await using stage = new Stage();
    const { config, accessor, file } = await crashed(stage);
    const lease = JSON.parse(readFileSync(file, "utf8"));
    writeFileSync(file, JSON.stringify({ ...lease, boot: randomUUID() }));
    const second = stage.start(config);
    await second.until({ event: "revoked", accessor });
    await until("it is forgotten", () => stateOf(stage).length === 0);
  });
});

describe("the state directory", () => {
  test("is made for the server alone, and holds no secret", async () => {
    await using stage = new Stage();
    await stage.server();
    const container = await stage.container(teller);
    const [, token = ""] = /token: (\S+)/.exec(await container.says("\n")) ?? [];
    expect(token).not.toBe("");
    const directory = join(stage.directory, "state");
    expect(statSync(directory).mode & 0o777).toBe(0o700);
    const [name = ""] = stateOf(stage);
    expect(statSync(join(directory, name)).mode & 0o777).toBe(0o600);
    const text = readFileSync(join(directory, name), "utf8");
    expect(text).toContain(container.id);
    expect(text).not.toContain(token);
  });

  test.each([
    { what: "others can read", change: (file: string) => chmodSync(file, 0o755) },
    { what: "is somebody else's", change: (file: string) => chownSync(file, 65534, 65534) },
  ])("that $what is no place to start in", async ({ change }) => {
    await using stage = new Stage();
    const config = stage.configure();
    const directory = join(stage.directory, "state");
    execFileSync("mkdir", ["-m", "0700", directory]);
    change(directory);
    const server = stage.start(config);
    expect(await server.ended).toBe(1);
    expect(server.stderr).toContain(`${directory}: must be a directory of the server's own user`);
  });

  test("loses nothing that is not a lease", async () => {
    await using stage = new Stage();
    const config = stage.configure();
    execFileSync("mkdir", ["-m", "0700", join(stage.directory, "state")]);
    const file = join(stage.directory, "state", "notes.txt");
    writeFileSync(file, "mine");
    await stage.start(config).until({ event: "ready" });
    expect(readFileSync(file, "utf8")).toBe("mine");
  });
});

describe("a running server", () => {
  test("takes a new policy by SIGHUP, and keeps the old one when the new is bad", async () => {
    await using stage = new Stage();
    const strangers = { ...app, match: { container: { Config: { Labels: { app: "stranger" } } } } };
    const config = stage.configure();
    const server = stage.start(config);
    await server.until({ event: "ready" });
    const early = await stage.container({ labels: { app: "stranger" } });
    expect(await early.ended).toBe(REFUSED);
    stage.configure({ services: { app, strangers } });
    process.kill(server.pid, "SIGHUP");
    expect(await server.until({ event: "reload" })).toMatchObject({
      services: ["app", "strangers"],
    });
    await (await stage.container({ labels: { app: "stranger" } })).says(STARTED);
    writeFileSync(config, "{}");
    process.kill(server.pid, "SIGHUP");
    const failed = await server.until({ event: "reload-failed" });
    expect(failed.detail).toContain(`${config}: vault is missing`);
    await (await stage.container({ labels: { app: "stranger" } })).says(STARTED);
  });

  test("serves a container at its second try, whose first one failed after its lease was open", async () => {
    await using stage = new Stage();
    const gate = await Gate.before(bao.address);
    stage.defer(() => gate.shut());
    const server = await stage.server({ vault: vaultAt(gate.address) });
    await (await stage.container()).says(STARTED); // the server has logged in
    await gate.shut();
    const container = await stage.container();
    await server.until({ event: "retry", container: container.id, reason: "vault" });
    await gate.raise();
    await container.says(STARTED);
    const ofContainer = server.events.filter((line) => line.container === container.id);
    expect(ofContainer.map(({ event }) => event)).not.toContain("refused");
    expect(stateOf(stage).filter((name) => name.startsWith(container.id))).toHaveLength(1);
  });

  test("finishes what is in flight at SIGTERM, and the next one takes its leases up", async () => {
    await using stage = new Stage();
    const gate = await Gate.before(bao.address);
    stage.defer(() => gate.shut());
    const config = stage.configure({ vault: vaultAt(gate.address) });
    const first = stage.start(config);
    await (await stage.container()).says(STARTED);
    const held = gate.hold();
    const container = await stage.container();
    await held;
    const ended = first.end("SIGTERM");
    gate.release();
    const { accessor } = await granted(first, container);
    expect(await ended).toBe(0);
    await container.says(STARTED);
    const second = stage.start(config);
    await second.until({ event: "ready" });
    await container.kill();
    await second.until({ event: "revoked", accessor });
  });

  test("is replaced under a stream of starting containers, and none fails", async () => {
    await using stage = new Stage();
    const config = stage.configure();
    const socket = join(stage.directory, "run/authproxy.sock");
    // As systemd does: the socket outlives the server, and each new one inherits it.
    const forever = 'while :; do LISTEN_FDS=1 sh -c \'LISTEN_PID=$$ exec "$@"\' sh "$@"; done';
    const main = join(import.meta.dirname, "../server/main.ts");
    const words = ["-c", forever, "sh", process.execPath, main, "--config", config];
    const child = spawn(compile("activate"), [socket, "/bin/sh", ...words], { detached: true });
    stage.defer(() => process.kill(-(child.pid ?? 0), "SIGKILL"));
    await once(child.stdout, "data"); // it listens
    const status = () => readFileSync(`/proc/${child.pid}/status`, "utf8");
    await until("it has stopped itself", () => /^State:\tT/m.test(status()));
    chmodSync(socket, 0o666);
    child.kill("SIGCONT");
    const servers = new Server(child, socket);
    const started: Container[] = [];
    for (let round = 1; round <= 4; round++) {
      const starting = [1, 2, 3].map(() => stage.container());
      const isReady = () =>
        servers.events.filter(({ event }) => event === "ready").length === round;
      await until("a server is ready", isReady);
      const [, server = ""] =
        readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, "utf8").match(/(\d+) $/) ??
        [];
      expect(descriptorsOf(Number(server))).not.toContain(`socket:[${inodeOf(socket)}]`);
      process.kill(Number(server), "SIGTERM"); // some of the three are served, others wait
      started.push(...(await Promise.all(starting)));
    }
    for (const container of started) await container.says(STARTED);
    for (const { event, reason } of servers.events)
      expect([event, reason]).not.toContain("refused");
  });
});
