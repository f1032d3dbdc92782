// Question: does Vault have, after `authproxy provision`, what a host and its services need, and
// nothing more? It runs beside a real OpenBao with an audit log, the real server and real containers.
import { spawn } from "node:child_process";
import { generateKeyPairSync, randomUUID, sign } from "node:crypto";
import { once } from "node:events";
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import fc from "fast-check";
import { afterAll, describe, expect, test, vi } from "vitest";
import { parse } from "../cli/options.ts";
import { provision as provisionHere } from "../cli/provision/main.ts";
import { covers, domainOf, refuseSharing, secretPaths } from "../cli/provision/paths.ts";
import { hostPolicy } from "../cli/provision/policies.ts";
import { client, startOpenBao } from "../scripts/openbao.ts";
import type { Service } from "../server/config.ts";
import type { JsonObject } from "../server/json.ts";
import { authproxy, type Ran } from "./command.ts";
import { asShown, block, terminal } from "./documents.ts";
import { app, Stage, vaultAt } from "./stage.ts";

const stage = new Stage();
const log = join(stage.directory, "vault-audit.log");
const bao = await startOpenBao({ audit: log });
afterAll(async () => {
  await bao.stop();
  await stage[Symbol.asyncDispose]();
});
const root = client(bao);
const password = `password-${randomUUID()}`;
for (const name of ["app", "other", "production/app", "staging/app"])
  await root.write(`secret/data/${name}`, { data: { password } });

const service = (name: string, token: JsonObject = {}): JsonObject => ({
  match: { peer: { uid: 1001 }, container: { Config: { Labels: { app: name } } } },
  token: { create: `auth/token/create/${name}`, ...token },
});
const here = ["--address", "127.0.0.1"];
const rootTokenFile = join(stage.directory, "root-token");
writeFileSync(rootTokenFile, bao.rootToken, { mode: 0o600 });
let files = 0;

/** The policy file of a host, whose role id is its name. */
function policyFile(host: string, services: JsonObject, from = bao): string {
  const file = join(stage.directory, `${files++}.json`);
  const secretFile = join(stage.directory, `secret_id-${host}`);
  const place = JSON.stringify({ vault: vaultAt(from.address, from, host), services });
  writeFileSync(file, place.replace('"secret_id":""', `"secret_id":"${secretFile}"`), {
    mode: 0o600,
  });
  return file;
}

async function provision(config: string, host: string, ...more: string[]): Promise<Ran> {
  const words = ["provision", "--config", config, "--host", host, ...more];
  return await authproxy(words, { VAULT_TOKEN: bao.rootToken });
}

/** Runs the command in this process, which is quicker. */
async function run(config: string, host: string, ...more: string[]): Promise<string> {
  const words = ["--config", config, "--host", host, "--yes", "--token-file", rootTokenFile];
  const asked = parse(["provision", ...words, ...more]);
  if (!("values" in asked)) throw new Error("nobody asked for help");
  const said = vi.spyOn(process.stdout, "write").mockReturnValue(true);
  const remarked = vi.spyOn(process.stderr, "write").mockReturnValue(true);
  try {
    expect(await provisionHere(undefined, asked.values)).toBe(0);
    return said.mock.calls.join("");
  } finally {
    said.mockRestore();
    remarked.mockRestore();
  }
}

type Login = { auth: { client_token: string; policies: string[] } };
const as = (token: string) => client({ ...bao, rootToken: token });
/** Logs in as the server of a host does. */
async function hostNamed(host: string): Promise<string> {
  const { data } = await root.write(`auth/approle/role/authproxy-${host}/secret-id`, {});
  const login = { role_id: host, secret_id: data.secret_id };
  const { auth }: Login = await root.write("auth/approle/login", login);
  return auth.client_token;
}
const meta = { service: "app" };
async function mint(host: string, name: string, more: JsonObject = {}): Promise<string> {
  const asked = { meta, display_name: `authproxy-${name}`, ...more };
  const { auth }: Login = await as(host).write(`auth/token/create/${name}`, asked);
  return auth.client_token;
}
const denied = { response: { statusCode: 403 } };

function audited(): JsonObject[] {
  const lines = readFileSync(log, "utf8").trimEnd().split("\n");
  return lines.map((line) => JSON.parse(line));
}

describe("a host", () => {
  test("gets what its policy file needs, which is shown first, and a second run changes nothing", async () => {
    const config = policyFile("first", { app: service("app"), other: service("other") });
    const dry = await provision(config, "first", ...here, "--dry-run");
    expect(dry.status).toBe(0);
    expect(dry.stdout).toMatch(/create +policy +authproxy-service-app\n/);
    expect(dry.stdout).toContain('+ path "secret/data/app" { capabilities = ["read"] }');
    expect(dry.stdout).toContain(" 0 unchanged");
    expect(dry.stdout).toContain("can renew and revoke any token whose accessor it learns");
    expect((await root.policies()).data.keys).not.toContain("authproxy-host-first");
    const unasked = await provision(config, "first", ...here);
    expect(unasked.status).toBe(64);
    expect(unasked.stderr).toContain("nothing is done");
    expect((await root.policies()).data.keys).not.toContain("authproxy-host-first");
    const first = await provision(config, "first", ...here, "--yes");
    expect(first).toEqual(dry);
    const before = audited().length;
    const second = await run(config, "first", ...here);
    expect(second).toContain("0 to create, 0 to change, 8 unchanged");
    const since = audited().slice(before) as { request: { operation: string } }[];
    expect(new Set(since.map(({ request }) => request.operation))).toEqual(new Set(["read"]));
  });

  test("may mint tokens for its services, with no more rights than these have", async () => {
    const config = policyFile("mints", { app: service("app", { body: { ttl: "10m" } }) });
    await run(config, "mints", ...here);
    const host = await hostNamed("mints");
    expect(await mint(host, "app")).toBeTruthy();
    expect(await mint(host, "app", { ttl: "10m" })).toBeTruthy();
    for (const more of [{ policies: ["root"] }, { ttl: "11m" }, { type: "batch" }, { num_uses: 1 }])
      await expect(mint(host, "app", more), JSON.stringify(more)).rejects.toMatchObject(denied);
    await expect(mint(host, "app", { display_name: "authproxy-b" })).rejects.toMatchObject(denied);
    for (const path of ["secret/data/app", "auth/token/accessors", "sys/policies/acl/default"])
      await expect(as(host).read(path), path).rejects.toMatchObject(denied);
    await expect(as(host).write("auth/token/create", {})).rejects.toMatchObject(denied);
  });

  test("is refused another host's service, and Vault's audit log has the refusal", async () => {
    const a = policyFile("host-a", { app: service("app") });
    const b = policyFile("host-b", { other: service("other") });
    await run(a, "host-a", ...here);
    await run(b, "host-b", ...here);
    const [hostA, hostB] = [await hostNamed("host-a"), await hostNamed("host-b")];
    expect(await mint(hostB, "other")).toBeTruthy();
    await expect(mint(hostA, "other")).rejects.toMatchObject(denied);
    expect(audited()).toContainEqual(
      expect.objectContaining({
        type: "response",
        error: expect.stringContaining("permission denied"),
        auth: expect.objectContaining({
          metadata: { role_name: "authproxy-host-a" },
          policies: ["authproxy-host-host-a"],
        }),
        request: expect.objectContaining({ path: "auth/token/create/other" }),
      }),
    );
  });

  test("logs in from its own address only", async () => {
    const config = policyFile("far", { app: service("app") });
    await run(config, "far", "--address", "10.9.8.7", "--address", "10.9.9.0/24");
    await expect(hostNamed("far")).rejects.toThrow();
    const moved = await run(config, "far", ...here);
    expect(moved).toMatch(/token_bound_cidrs +\["10.9.8.7","10.9.9.0\/24"\] -> \["127.0.0.1"\]/);
    expect(await hostNamed("far")).toBeTruthy();
  });

  test("whose tokens are wrapped cannot mint one that is not", async () => {
    const config = policyFile("wraps", { wrapped: service("wrapped", { wrap_ttl: "60s" }) });
    await run(config, "wraps", ...here);
    const host = await hostNamed("wraps");
    await expect(mint(host, "wrapped")).rejects.toMatchObject(denied);
    const request = {
      method: "POST",
      path: "/auth/token/create/wrapped",
      headers: { "X-Vault-Wrap-TTL": "60s" },
      json: { meta, display_name: "authproxy-wrapped" },
    };
    expect((await as(host).request(request)).wrap_info.wrapped_accessor).toBeTruthy();
  });

  test("gets back its own rights where somebody has widened them", async () => {
    const config = policyFile("widened", { app: service("app") });
    await run(config, "widened", ...here);
    await root.write("auth/token/roles/app", { allowed_policies_glob: ["*"], orphan: false });
    const wider = 'path "*" { capabilities = ["read"] }\n';
    await root.addPolicy({ name: "authproxy-service-app", policy: wider });
    const shown = await run(config, "widened", ...here);
    expect(shown).toMatch(/change +token role +app\n +orphan +none -> true\n/);
    expect(shown).toContain('allowed_policies_glob  ["*"] -> none');
    expect(shown).toContain('- path "*" { capabilities = ["read"] }');
    expect(await run(config, "widened", ...here)).toContain(" 0 to change");
  });

  test("loses a service that is no longer in its policy file", async () => {
    const both = { app: service("app"), other: service("other") };
    await run(policyFile("loses", both), "loses", ...here);
    const shown = await run(policyFile("loses", { app: both.app ?? {} }), "loses", ...here);
    expect(shown).toContain('- path "auth/token/create/other"');
    await expect(mint(await hostNamed("loses"), "other")).rejects.toMatchObject(denied);
  });
});

describe("a node whose server logs in by its service account", () => {
  const [written = ""] = block("docs/provision.md", '"login": {').split("$ authproxy");
  const login = (role: string): JsonObject =>
    JSON.parse(`{${written.replace("authproxy-pool-a", role)}}`).login;
  function policyFileOfNode(services: JsonObject, role = "authproxy-pool"): string {
    const file = join(stage.directory, `${files++}.json`);
    const { login: _, ...place } = vaultAt(bao.address, bao, "") as JsonObject;
    const engine = { cri: "/run/containerd/containerd.sock" };
    const config = { engine, vault: { ...place, login: login(role) }, services };
    writeFileSync(file, JSON.stringify(config), { mode: 0o600 });
    return file;
  }
  const ofPod: JsonObject = {
    "shop-app": {
      match: { pod: { namespace: "shop", container: "app" } },
      token: { create: "auth/token/create/shop-app" },
    },
  };
  const config = policyFileOfNode(ofPod);

  test("gets a role for that account and audience alone, and a second run changes nothing", async () => {
    const shown = await run(config, "pool", ...here);
    expect(shown).toMatch(/create +auth method +kubernetes\n +type +"kubernetes"/);
    expect(shown).toMatch(/create +Kubernetes role +authproxy-pool\n/);
    expect(shown).toContain("whoever may create pods in that service account's namespace");
    const { data } = await root.read("auth/kubernetes/role/authproxy-pool");
    expect(data).toMatchObject({
      bound_service_account_names: ["authproxy"],
      bound_service_account_namespaces: ["authproxy"],
      audience: "vault",
      token_policies: ["authproxy-host-pool"],
      token_no_default_policy: true,
      token_bound_cidrs: ["127.0.0.1"],
    });
    expect(await run(config, "pool", ...here)).toContain("0 to create, 0 to change");
    const moved = await run(config, "pool", ...here, "--service-account", "system/proxy");
    expect(moved).toMatch(/bound_service_account_names +\["authproxy"\] -> \["proxy"\]/);
    await run(config, "pool", ...here);
  });

  test("logs in by it, and may mint for its pods alone", async () => {
    const jwt = jwtOf("authproxy", "authproxy");
    await using api = await tokenReviewer((token) =>
      token === jwt ? "authproxy:authproxy" : undefined,
    );
    await root.write("auth/kubernetes/config", {
      kubernetes_host: api.address,
      kubernetes_ca_cert: bao.ca,
      token_reviewer_jwt: "reviewer",
      disable_local_ca_jwt: true,
    });
    const { auth }: Login = await as("").write("auth/kubernetes/login", {
      role: "authproxy-pool",
      jwt,
    });
    expect(auth.policies).toEqual(["authproxy-host-pool"]);
    expect(await mint(auth.client_token, "shop-app")).toBeTruthy();
    await expect(mint(auth.client_token, "app")).rejects.toMatchObject(denied);
    const other = jwtOf("shop", "app");
    const stranger = { role: "authproxy-pool", jwt: other };
    await expect(as("").write("auth/kubernetes/login", stranger)).rejects.toThrow();
  });

  test.each<[string, string, string[], RegExp]>([
    [
      "a role of another name",
      policyFileOfNode(ofPod, "other"),
      [],
      /with the role authproxy-pool/,
    ],
    [
      "an account without its namespace",
      config,
      ["--service-account", "a"],
      /is not NAMESPACE\/NAME/,
    ],
    ["an account that is none", config, ["--service-account", "a/b/c"], /is not NAMESPACE\/NAME/],
    ["a secret id", config, ["--deliver", "-"], /it has no secret id/],
    ["the others' secret ids", config, ["--keep-only", "x"], /it has no secret id/],
  ])("is refused %s, and nothing is done", async (_, file, words, message) => {
    await expect(run(file, "pool", ...here, ...words)).rejects.toThrow(message);
  });
});

/** Of the service account: Vault compares what the token and the API server say. */
const UID = randomUUID();

/** A token of a service account, as the API server signs it. */
function jwtOf(namespace: string, name: string): string {
  const encode = (part: JsonObject) => Buffer.from(JSON.stringify(part)).toString("base64url");
  const serviceaccount = { name, uid: UID };
  const claims = {
    iss: "https://kubernetes.default.svc",
    aud: ["vault"],
    sub: `system:serviceaccount:${namespace}:${name}`,
    exp: Math.floor(Date.now() / 1000) + 600,
    iat: Math.floor(Date.now() / 1000),
    "kubernetes.io": { namespace, serviceaccount },
  };
  const signed = `${encode({ alg: "RS256", typ: "JWT" })}.${encode(claims)}`;
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  return `${signed}.${sign("RSA-SHA256", Buffer.from(signed), privateKey).toString("base64url")}`;
}

/** What an API server says of tokens (TokenReview). `accountOf` returns NAMESPACE:NAME. */
async function tokenReviewer(accountOf: (token: string) => string | undefined) {
  const [key, cert] = ["vault-key.pem", "vault-cert.pem"].map((file) =>
    readFileSync(join(dirname(bao.caFile), file)),
  );
  const server = createServer({ key, cert }, async (request, response) => {
    const review = JSON.parse(await text(request));
    const account = accountOf(review.spec.token);
    const username = `system:serviceaccount:${account}`;
    const user = { username, uid: UID, groups: ["system:serviceaccounts"] };
    const status = account ? { authenticated: true, user, audiences: ["vault"] } : {};
    response.setHeader("content-type", "application/json");
    response.statusCode = 201;
    response.end(JSON.stringify({ ...review, status }));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    address: `https://127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
    },
  };
}

test("a service reads its own secrets, and not those of another", async () => {
  const config = policyFile("reads", { app: service("app"), other: service("other") });
  await run(config, "reads", ...here);
  const token = as(await mint(await hostNamed("reads"), "app"));
  expect((await token.read("secret/data/app")).data.data).toEqual({ password });
  for (const path of ["secret/data/other", "secret/data/app2", "secret/metadata/app"])
    await expect(token.read(path), path).rejects.toMatchObject(denied);
  const { data } = await token.read("auth/token/lookup-self");
  expect(data).toMatchObject({
    orphan: true,
    creation_ttl: 3600,
    policies: ["authproxy-service-app"],
  });
});

test("a service issues certificates of its own name only", async () => {
  await root.mount({ mount_point: "pki", type: "pki" });
  await root.write("pki/root/generate/internal", { common_name: "test CA", key_type: "ec" });
  const config = policyFile("issues", { app: service("app"), other: service("other") });
  const pki = ["--pki", "pki", "--domain", "{service}.{environment}.example.io"];
  const more = [...here, ...pki, "--environment", "production"];
  await run(config, "issues", ...more);
  expect(await run(config, "issues", ...more)).toContain(" 0 to change");
  const token = as(await mint(await hostNamed("issues"), "app"));
  const issue = (asked: JsonObject, role = "app") => token.write(`pki/issue/${role}`, asked);
  const own = { common_name: "app.production.example.io" };
  expect((await issue(own)).data.certificate).toContain("BEGIN CERTIFICATE");
  for (const asked of [
    { common_name: "other.production.example.io" },
    { common_name: "a.app.production.example.io" },
    { common_name: "*.app.production.example.io" },
    { ...own, alt_names: "other.production.example.io" },
    { ...own, ip_sans: "127.0.0.1" },
    { ...own, uri_sans: "spiffe://a/b" },
    { ...own, ttl: "100h", alt_names: "localhost" },
  ])
    await expect(issue(asked), JSON.stringify(asked)).rejects.toThrow(/not allowed|SAN/);
  const foreign = { common_name: "other.production.example.io" };
  await expect(issue(foreign, "other")).rejects.toMatchObject(denied);
});

test("people write without reading, or read without writing, in one environment", async () => {
  const config = policyFile("people", { app: service("app") });
  await run(config, "people", ...here, "--environment", "production");
  const person = async (policy: string) => {
    const { auth }: Login = await root.write("auth/token/create", {
      policies: [policy],
      no_default_policy: true,
    });
    return as(auth.client_token);
  };
  const path = "secret/data/production/app";
  const writer = await person("authproxy-writers-production");
  await writer.write(path, { data: { password: `new-${password}` } });
  await writer.update(path, { data: { user: "u" } });
  await expect(writer.read(path)).rejects.toMatchObject(denied);
  const reader = await person("authproxy-readers-production");
  const { data } = await reader.read(path);
  expect(data.data).toEqual({ password: `new-${password}`, user: "u" });
  expect((await reader.read("secret/metadata/production/app")).data.current_version).toBe(3);
  await expect(reader.write(path, { data: {} })).rejects.toMatchObject(denied);
  for (const each of [reader, writer]) {
    await expect(each.read("secret/data/staging/app")).rejects.toMatchObject(denied);
    await expect(each.write("secret/data/staging/app", { data: {} })).rejects.toMatchObject(denied);
  }
});

describe("the secret id", () => {
  const wrapping = join(stage.directory, "wrapping");
  const unwrap = (config: string, host: string, file = wrapping) =>
    authproxy(["unwrap", file, "--config", config, "--host", host]);
  const fresh = () => rmSync(wrapping, { force: true });

  test("comes wrapped to its host, and with it a container gets its secret", async () => {
    await using own = new Stage();
    const token = { create: "auth/token/create/app" };
    const services = { app: { ...app, token }, other: service("other") };
    const config = own.configure({
      vault: vaultAt(bao.address, bao, "whole"),
      services: { app: services.app },
    });
    const secretFile = join(own.directory, "secret_id");
    rmSync(secretFile);
    fresh();
    const made = await provision(config, "whole", ...here, "--yes", "--deliver", wrapping);
    expect(made.status).toBe(0);
    expect(statSync(wrapping).mode & 0o777).toBe(0o600);
    const opened = await unwrap(config, "whole");
    expect(opened).toMatchObject({ status: 0, stderr: "" });
    expect(statSync(secretFile).mode & 0o777).toBe(0o600);
    const secrets = [
      readFileSync(wrapping, "utf8"),
      readFileSync(secretFile, "utf8"),
      bao.rootToken,
    ];
    for (const secret of secrets) {
      expect(secret.trim().length).toBeGreaterThan(20);
      expect(JSON.stringify([made, opened])).not.toContain(secret.trim());
    }
    const secretId = secrets[1]?.trim() ?? "";
    const place = { vault: vaultAt(bao.address, bao, "whole"), services };
    const server = own.start(own.configure(place, secretId)); // its configuration has both services
    await server.until({ event: "ready" });
    const mine = await own.container();
    await mine.says(`started with a password of ${password.length} characters`);
    const nosy = await own.container({
      environment: { DB_PASSWORD_FILE: "vault:secret/data/other#password" },
    });
    expect(await nosy.ended).toBe(77);
    expect(nosy.output).toContain("secret/data/other");
    const foreign = await own.container({ labels: { app: "other" }, wait: 1 });
    const line = await server.until({ service: "other", reason: "vault" });
    expect(line).toMatchObject({ container: foreign.id, detail: { status: 403 } });
    expect(server.find({ event: "granted", service: "other" })).toBeUndefined();
  });

  test("that was opened before, or is another host's, is an alarm and not written", async () => {
    const config = policyFile("alarmed", { app: service("app") });
    const secretFile = join(stage.directory, "secret_id-alarmed");
    fresh();
    await run(config, "alarmed", ...here, "--deliver", wrapping);
    await as(readFileSync(wrapping, "utf8").trim()).write("sys/wrapping/unwrap", {});
    const late = await unwrap(config, "alarmed");
    expect(late.status).toBe(77);
    expect(late.stderr).toContain("ALARM");
    const other = policyFile("not-alarmed", { app: service("app") });
    fresh();
    await run(other, "not-alarmed", ...here, "--deliver", wrapping);
    const foreign = await unwrap(config, "alarmed");
    expect(foreign.stderr).toContain("authproxy-not-alarmed/secret-id, not by");
    expect(existsSync(secretFile)).toBe(false);
    expect((await unwrap(other, "not-alarmed")).status).toBe(0); // the lookup did not open it
  });

  test("is made only where --deliver asks for it, and older ones end by --keep-only", async () => {
    const config = policyFile("rotates", { app: service("app") });
    await run(config, "rotates", ...here);
    const path = "auth/approle/role/authproxy-rotates/secret-id";
    await expect(root.list(path)).rejects.toMatchObject({ response: { statusCode: 404 } });
    const old = await hostNamed("rotates");
    expect(old).toBeTruthy();
    fresh();
    await run(config, "rotates", ...here, "--deliver", wrapping);
    const { stdout } = await unwrap(config, "rotates");
    const accessor = /accessor (\S+)/.exec(stdout)?.[1] ?? "";
    const shown = await run(config, "rotates", ...here, "--keep-only", accessor);
    expect(shown).toContain("1 to destroy");
    expect((await root.list(path)).data.keys).toEqual([accessor]);
    const wrong = await provision(config, "rotates", ...here, "--yes", "--keep-only", randomUUID());
    expect(wrong.status).toBe(64);
    expect((await root.list(path)).data.keys).toEqual([accessor]);
  });

  test("is not written over a file that exists, and goes alone to standard output with --deliver -", async () => {
    const config = policyFile("prints", { app: service("app") });
    writeFileSync(wrapping, "");
    const taken = await provision(config, "prints", ...here, "--yes", "--deliver", wrapping);
    expect(taken.status).toBe(64);
    const { stdout } = await provision(config, "prints", ...here, "--yes", "--deliver", "-");
    const piped = await authproxy(["unwrap", "-", "--config", config, "--host", "prints"], {
      input: stdout,
    });
    expect(piped.status).toBe(0);
  });
});

describe("what cannot be made soundly", () => {
  test.each<[string, JsonObject, string[], RegExp]>([
    [
      "a name with a wildcard",
      { "a*": service("app") },
      here,
      /the service "a\*" cannot be a name/,
    ],
    ["a name in capitals", { App: service("app") }, here, /the service "App" cannot be a name/],
    [
      "two services of one role",
      { app: service("app"), b: service("app") },
      here,
      /"app" has the token role app too/,
    ],
    [
      "minting without a role",
      { app: service("app", { create: "auth/token/create" }) },
      here,
      /auth\/token\/create is not the path of a token role/,
    ],
    [
      "a ready token at any path",
      { app: { ...service("app"), token: { read: "secret/data/*#token" } } },
      here,
      /secret\/data\/\* would mean more in a policy/,
    ],
    [
      "a body with any key",
      { app: service("app", { body: { "*": 1 } }) },
      here,
      /\* would mean more in a policy/,
    ],
    [
      "a namespace of its own",
      { app: service("app", { namespace: "team" }) },
      here,
      /provision makes nothing in another namespace/,
    ],
    ["a missing address", { app: service("app") }, [], /from where the host speaks to Vault/],
    [
      "a name in place of an address",
      { app: service("app") },
      ["--address", "host"],
      /--address host/,
    ],
    [
      "paths that cover another's",
      { app: service("app") },
      [...here, "--secrets", "secret/data/{service}*"],
      /must be a whole part/,
    ],
    [
      "all secrets for every service",
      { app: service("app") },
      [...here, "--secrets", "secret/data/*"],
      /every service would get all of it/,
    ],
    [
      "a service that could be named as another's folder",
      { app: service("app") },
      [...here, "--secrets", "secret/data/{service}/*", "--secrets", "secret/data/x/{service}"],
      /a service could cover secret\/data\/x\/\{service\}/,
    ],
    [
      "what all share, in a service's own place",
      { app: service("app"), common: service("common") },
      [...here, "--secrets", "secret/data/{service}", "--secrets", "secret/data/common"],
      /it is the service common's own/,
    ],
    [
      "a path without an engine",
      { app: service("app") },
      [...here, "--secrets", "kv/{service}"],
      /no secrets engine is mounted/,
    ],
    [
      "a path of KV version 2 without data/",
      { app: service("app") },
      [...here, "--secrets", "secret/{service}"],
      /secret\/ is a KV engine of version 2/,
    ],
    [
      "people of an environment that no path tells apart",
      { app: service("app") },
      [...here, "--environment", "production", "--secrets", "secret/data/{service}"],
      /no path of --secrets holds/,
    ],
    [
      "a domain for all",
      { app: service("app") },
      [...here, "--pki", "pki", "--domain", "example.io"],
      /gives app no domain name of its own/,
    ],
    [
      "a PKI engine that does not exist",
      { app: service("app") },
      [...here, "--pki", "none", "--domain", "{service}.example.io"],
      /--pki none: no PKI engine is mounted there/,
    ],
  ])("%s is refused, and nothing is written", async (_, services, more, message) => {
    const before = audited().length;
    const failure = await run(policyFile("unsound", services), "unsound", ...more).catch(
      (error) => error,
    );
    expect(failure).toMatchObject({
      message: expect.stringMatching(message),
      hint: expect.stringMatching(/./),
      exitCode: expect.toBeOneOf([64, 78]),
    });
    const since = audited().slice(before) as { request: { operation: string } }[];
    expect(since.filter(({ request }) => request.operation !== "read")).toEqual([]);
  });

  test("a token without rights, or none, is reported without a token in the message", async () => {
    const config = policyFile("nobody", { app: service("app") });
    const words = ["provision", "--config", config, "--host", "nobody", ...here, "--yes"];
    const none = await authproxy(words);
    expect(none).toMatchObject({ status: 64, stderr: expect.stringContaining("--token-file") });
    const weak: Login = await root.write("auth/token/create", { policies: ["default"] });
    const refused = await authproxy(words, { VAULT_TOKEN: weak.auth.client_token });
    expect(refused.status).toBe(77);
    expect(refused.stderr).toContain("permission denied");
    expect(refused.stderr).not.toContain(weak.auth.client_token);
    const strange = { VAULT_TOKEN: bao.rootToken, VAULT_SKIP_VERIFY: "1", DEBUG: "*" };
    const elsewhere = policyFile("nobody", { app: service("app") });
    const text = readFileSync(elsewhere, "utf8").replace(/"ca_file":"[^"]*",/, "");
    writeFileSync(elsewhere, text);
    const untrusted = await authproxy(
      words.map((word) => (word === config ? elsewhere : word)),
      { ...strange, NODE_TLS_REJECT_UNAUTHORIZED: "0" },
    );
    expect(untrusted.status).toBe(69);
    expect(untrusted.stderr).toMatch(/certificate/);
    expect(untrusted.stderr).not.toContain(bao.rootToken);
  });
});

test("the administrator's policy in docs/provision.md is enough", async () => {
  const policy = block("docs/provision.md", 'path "sys/mounts"');
  await root.addPolicy({ name: "provisioner", policy });
  const { auth }: Login = await root.write("auth/token/create", {
    policies: ["provisioner"],
    no_default_policy: true,
  });
  const tokenFile = join(stage.directory, "token");
  writeFileSync(tokenFile, auth.client_token, { mode: 0o600 });
  const config = policyFile("documented", { documented: service("documented") });
  const wrapping = join(stage.directory, "documented");
  const words = ["provision", "--config", config, "--host", "documented", ...here, "--yes"];
  const asked = ["--environment", "production", "--pki", "pki", "--domain", "{service}.example.io"];
  const all = [...words, ...asked, "--deliver", wrapping, "--token-file", tokenFile];
  const made = await authproxy(all);
  expect(made.stderr).not.toContain("error");
  expect(made.status).toBe(0);
  const opened = await authproxy(["unwrap", wrapping, "--config", config, "--host", "documented"]);
  const accessor = /accessor (\S+)/.exec(opened.stdout)?.[1] ?? "";
  const rotated = [...words, ...asked, "--keep-only", accessor, "--token-file", tokenFile];
  const { status, stdout } = await authproxy([...rotated, "--json"]);
  expect(status).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ host: "documented", destroy: [] });
});

test("docs/provision.md shows what is printed, delivered and unwrapped", async () => {
  const fresh = await startOpenBao();
  stage.defer(() => fresh.stop());
  const config = policyFile("web-1", { timeline: service("timeline") }, fresh);
  const wrapping = join(stage.directory, "web-1.wrapping");
  const files: Record<string, string> = { "web-1.json": config, "web-1.wrapping": wrapping };
  const placed = (word: string) => files[word] ?? word;
  const [shows] = terminal(block("docs/provision.md", "--dry-run"));
  const words = shows?.words.map(placed) ?? [];
  const env = { VAULT_TOKEN: fresh.rootToken };
  const dry = await authproxy(words, env);
  const said = dry.stdout.replace(fresh.address, "https://vault.example:8200");
  expect(said).toMatch(asShown(shows?.output ?? ""));

  const [delivers, unwraps] = terminal(block("docs/provision.md", "--deliver"));
  const same = words.filter((word) => word !== "--dry-run").slice(1);
  const asked = delivers?.words.flatMap((word) => (word === "…" ? same : placed(word))) ?? [];
  expect(await authproxy([...asked, "--yes"], env)).toMatchObject({ status: 0 });
  const opened = await authproxy([...(unwraps?.words.map(placed) ?? []), "--config", config]);
  expect(opened).toMatchObject({ status: 0, stdout: expect.stringContaining("authproxy-web-1") });
});

test("a person is asked, and any answer but yes is no", async () => {
  const config = policyFile("asked", { app: service("app") });
  const words = ["provision", "--config", config, "--host", "asked", ...here];
  const program = join(import.meta.dirname, "../cli/authproxy.ts");
  const shell = [process.execPath, program, ...words].map((word) => `'${word}'`).join(" ");
  async function answer(line: string): Promise<string> {
    // script(1) gives it a terminal.
    const env = { PATH: process.env.PATH, VAULT_TOKEN: bao.rootToken };
    const child = spawn("script", ["-qec", shell, "/dev/null"], { env });
    let said = "";
    for await (const text of child.stdout.setEncoding("utf8")) {
      said += text;
      if (said.includes("[y/N]")) child.stdin.end(`${line}\n`);
    }
    return said;
  }
  const policies = async (): Promise<string[]> => (await root.policies()).data.keys;
  expect(await answer("")).toContain("nothing is done");
  expect(await answer("no")).toContain("nothing is done");
  expect(await policies()).not.toContain("authproxy-host-asked");
  expect(await answer("yes")).not.toContain("nothing is done");
  expect(await policies()).toContain("authproxy-host-asked");
});

test("no service's paths cover another's, with any templates and names", () => {
  const name = fc.stringMatching(/^[a-c][a-c.-]{0,2}$/);
  const folder = fc.array(fc.constantFrom("a", "b", "{service}"), { minLength: 1, maxLength: 3 });
  const template = fc
    .tuple(folder, fc.constantFrom("", "/*", "*", "/a"))
    .map(([parts, end]) => `secret/data/${parts.join("/")}${end}`);
  const engines = [{ mount: "secret/", type: "kv", version: 2 }];
  let taken = 0;
  fc.assert(
    fc.property(fc.array(template, { minLength: 1, maxLength: 3 }), name, name, (all, a, b) => {
      fc.pre(a !== b);
      let paths: string[][];
      try {
        for (const each of [a, b]) refuseSharing(each, all);
        paths = [a, b].map((each) =>
          secretPaths(all, each, undefined, engines).map(({ path }) => path),
        );
      } catch {
        return; // it was refused as unsound
      }
      taken++;
      const [rules = [], others = []] = paths;
      const own = others.filter((_, i) => all[i]?.includes("{service}"));
      for (const rule of rules)
        for (const other of own) expect(covers(rule, other.replace("*", "y"))).toBe(false);
    }),
    { numRuns: 5000 },
  );
  expect(taken).toBeGreaterThan(500);
});

test("a service's name in a domain is one label", () => {
  expect(domainOf("{service}.example.io", "app")).toBe("app.example.io");
  expect(() => domainOf("{service}.example.io", "a_b")).toThrow("no domain name of its own");
});

test("a host with ready tokens alone may neither renew nor revoke", () => {
  const ready = { ready: { match: {}, token: { read: "secret/data/ready#token" } } };
  const policy = hostPolicy(ready as Record<string, Service>);
  expect(policy).toContain('path "secret/data/ready" { capabilities = ["read"] }');
  expect(policy).not.toMatch(/accessor|create/);
});
