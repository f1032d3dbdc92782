// Question: has each start of a container a certificate of its own, for its own name only, as long as
//           it runs, and how long does that of a stopped one serve?
// Input:    a PKI of a real OpenBao, the real server, containers in Node and in Java.
import { execFileSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { connect } from "node:tls";
import { afterAll, expect, test } from "vitest";
import { parse } from "yaml";
import { client, provision } from "../scripts/openbao.ts";
import { javaImage } from "./certificates-java.ts";
import { admit, mountPki, nameOf } from "./certificates-pki.ts";
import { block } from "./documents.ts";
import { app, bao, base, type Container, password, Stage, until } from "./stage.ts";

const dist = join(import.meta.dirname, "../dist");
const root = await mountPki(bao);
const services = ["timeline", "reader"];
await provision(bao, { services: { app: { password }, timeline: {}, reader: {} } });
await admit(bao, "reader");
const env = { PATH: `${dist}:${process.env.PATH}`, BAO_ADDR: bao.address, BAO_CACERT: bao.caFile };
execFileSync("sh", ["-euc", block("docs/certificates.md", "bao write pki/roles")], {
  env: { ...env, BAO_TOKEN: bao.rootToken },
  stdio: "pipe", // it warns of what generate_lease costs
});
// Before the first there is no list of what was issued.
await client(bao).write("pki/issue/reader", { common_name: nameOf("reader"), ttl: "1s" });
const java = await javaImage(base);

/** One label and one token role for each. */
const policy = services.map((service) => {
  const container = { Config: { Labels: { app: service } } };
  return [
    service,
    { match: { ...app.match, container }, token: { create: `auth/token/create/${service}` } },
  ];
});
const stage = new Stage();
afterAll(() => stage[Symbol.asyncDispose]());
await stage.server({ services: Object.fromEntries(policy) });

const program = (name: string) => readFileSync(join(import.meta.dirname, "programs", name), "utf8");

/** Starts it as the service, with a certificate of this many seconds. */
async function start(
  service: string,
  command: string[],
  environment: Record<string, string>,
  image?: string,
) {
  return await stage.container({
    ...(image && { image }),
    labels: { app: service },
    command,
    environment: {
      DB_PASSWORD_FILE: "",
      AUTHPROXY_ALLOW_WRITE: `pki/issue/${service}`,
      ...environment,
    },
  });
}

function reference(service: string, key: string, seconds: number, name = nameOf(service)): string {
  const body = JSON.stringify({ common_name: name, ttl: `${seconds}s` });
  return `>>vault:pki/issue/${service}#${key}#${body}`;
}

/** What a container gets of this environment of a compose file. */
function environmentOf(yaml: string): Record<string, string> {
  return parse(yaml.replaceAll("$$", "$"));
}

type Pair = { cert: string; key: string };
type Visit = { said: string; certificate: X509Certificate | undefined };

/** What a server there says to whom shows this certificate: a line, or the code of a refusal. */
async function visit(port: number, pair: Partial<Pair> = {}): Promise<Visit> {
  const servername = nameOf("timeline");
  const socket = connect({ host: "127.0.0.1", port, servername, ca: root, ...pair });
  let said = "";
  socket.setEncoding("utf8").on("data", (text) => {
    said += text;
  });
  let certificate: X509Certificate | undefined;
  socket.on("secureConnect", () => {
    certificate = socket.getPeerX509Certificate();
  });
  socket.on("error", (error) => {
    said = "code" in error ? String(error.code) : error.message;
  });
  await new Promise((resolve) => socket.once("close", resolve)); // once() would throw on "error"
  return { said, certificate };
}

async function portOf(container: Container): Promise<number> {
  return Number(/listening on (\d+)\./.exec(await container.says("listening on "))?.[1]);
}

/** The serial numbers, as Vault prints them; the list includes what has ended. */
async function issuedSoFar(): Promise<string[]> {
  const { data } = await client(bao).list("pki/certs");
  return data.keys;
}

test("key, certificate and chain come from one request, and are renewed without a restart", async () => {
  const before = await issuedSoFar();
  const part = (key: string) => reference("timeline", key, 8);
  const container = await start("timeline", ["node", "-e", program("tls-server.cjs")], {
    KEY_FILE: part("private_key"),
    CERTIFICATE_FILE: `$\{${part("certificate")}}\n$\{${part("issuing_ca")}}\n`,
    AUTHPROXY_WATCH: "1",
    AUTHPROXY_ON_CHANGE: "SIGHUP",
  });
  const port = await portOf(container);
  const [first, ...others] = (await issuedSoFar()).filter((serial) => !before.includes(serial));
  expect(others).toEqual([]);
  const { State } = await container.inspect();

  // Each visit checks name and chain, up to the root.
  const seen = new Map<string, X509Certificate>();
  await until("two certificates were seen", async () => {
    const { said, certificate } = await visit(port);
    expect(said).toBe("hello\n");
    if (certificate) seen.set(certificate.serialNumber, certificate);
    return seen.size === 2;
  });
  const [initial] = seen.keys();
  expect(initial).toBe(first?.replaceAll(":", "").toUpperCase());
  for (const { subjectAltName, validToDate } of seen.values()) {
    expect(subjectAltName).toBe(`DNS:${nameOf("timeline")}`);
    expect(validToDate.getTime() - Date.now()).toBeLessThan(8000);
  }
  expect((await container.inspect()).State).toMatchObject({
    Pid: State.Pid,
    StartedAt: State.StartedAt,
  });
  await container.stop();
});

test("docs/certificates.md hands over key, chain, CA and lists", async () => {
  const environment = environmentOf(block("docs/certificates.md", "AUTHPROXY_ON_CHANGE: SIGHUP"));
  const container = await start("timeline", ["node", "-e", program("tls-server.cjs")], environment);
  expect((await visit(await portOf(container))).said).toBe("hello\n");
  const read = (name: string) => container.exec("cat", `/run/authproxy-secrets/${name}`);
  const [CA, CRL, CERTIFICATE] = await Promise.all(["CA", "CRL", "CERTIFICATE"].map(read));
  const count = (text = "", what = "") => text.split(`BEGIN ${what}`).length - 1;
  expect(count(CA?.output, "CERTIFICATE")).toBe(2);
  expect(count(CERTIFICATE?.output, "CERTIFICATE")).toBe(2);
  expect(count(CRL?.output, "X509 CRL")).toBe(2);
  await container.stop();
});

test("for another name a container gets none, and is told so", async () => {
  const before = await issuedSoFar();
  const container = await start("timeline", ["node", "-e", "0"], {
    KEY_FILE: reference("timeline", "private_key", 60, nameOf("reader")),
  });
  expect(await container.ended).toBe(66);
  expect(container.output).toBe(
    "authproxy: KEY_FILE: >>vault:pki/issue/timeline#private_key#{…}: Vault answers 400\n" +
      "authproxy: hint: does its role allow it?\n",
  );
  expect(await issuedSoFar()).toEqual(before);
});

const name = nameOf("timeline");
test.each([
  ["above it", { common_name: "production.example.io" }, 400],
  ["below it", { common_name: `a.${name}` }, 400],
  ["of all below it", { common_name: `*.${name}` }, 400],
  ["of this machine", { common_name: "localhost" }, 400],
  ["of a person", { common_name: `a@${name}` }, 400],
  ["at all: none", {}, 400],
  ["beside it", { common_name: name, alt_names: nameOf("reader") }, 403],
  ["of a person beside it", { common_name: name, alt_names: `a@${name}` }, 403],
  ["of an address", { common_name: name, ip_sans: "127.0.0.1" }, 403],
])("a token of the service gets no name %s", async (_, body, statusCode) => {
  const { auth } = await client(bao).write("auth/token/create/timeline", {});
  const own = client({ ...bao, rootToken: auth.client_token });
  const issue = own.write("pki/issue/timeline", body);
  await expect(issue).rejects.toMatchObject({ response: { statusCode } });
});

test("another service's role is not its own", async () => {
  const container = await start("timeline", ["node", "-e", "0"], {
    AUTHPROXY_ALLOW_WRITE: "pki/issue/reader",
    KEY_FILE: reference("reader", "private_key", 60),
  });
  expect(await container.ended).toBe(77);
  expect(container.output).toContain("Vault denies this service the path");
});

const javaServer = [
  "java",
  "-XX:TieredStopAtLevel=1", // starts sooner
  ...["-cp", "/app/classes", "TlsServer"],
];

/** A server that reads the keystores again for each connection, and refuses whom Vault has revoked. */
async function startJava(seconds: number) {
  const environment = {
    TLS_DIR: reference("timeline", "*", seconds),
    CRL_FILE: "vault:pki/cert/crl#certificate",
    AUTHPROXY_WATCH: "1",
    AUTHPROXY_REFRESH: "1",
  };
  return await start("timeline", javaServer, environment, java);
}

/** A server that knows nothing of all this: where the keystores are stands in its options. */
async function startPlainJava() {
  const shown = block("docs/certificates.md", "JDK_JAVA_OPTIONS");
  const environment = environmentOf(shown.replaceAll("TLS", "STORES")); // TLS_DIR is what it reads itself
  return await start("timeline", javaServer, environment, java);
}

/** A client of that server, with a certificate of this many seconds. */
async function startReader(port: number, seconds: number) {
  const environment = {
    TLS_DIR: reference("reader", "*", seconds),
    NAME: nameOf("timeline"),
    PORT: `${port}`,
  };
  return await start("reader", ["node", "-e", program("tls-client.cjs")], environment);
}

/** What somebody takes with him who has once been in the container. */
async function steal(container: Container): Promise<Pair> {
  const read = async (name: string) => {
    const { output } = await container.exec("cat", `/run/authproxy-secrets/TLS/${name}`);
    return output;
  };
  return { cert: await read("certificate"), key: await read("private_key") };
}

const hello = `hello CN=${nameOf("reader")}\n`;

async function issueByHand(path: string, seconds: number): Promise<Pair> {
  const body = { common_name: nameOf("reader"), ttl: `${seconds}s` };
  const { data } = await client(bao).write(path, body);
  return { cert: data.certificate, key: data.private_key };
}

test("a server in Java and a client in Node know each other, and nobody else", async () => {
  const timeline = await startJava(300);
  const port = await portOf(timeline);
  const reader = await startReader(port, 300);
  await reader.says(`the server says: ${hello}`);

  expect((await visit(port)).said).toMatch(/^ERR_SSL_.*ALERT_/);
  await timeline.says("refused: Empty client certificate chain\n");
  // The very name, by the root above the CA.
  await client(bao).write("pki-root/roles/any", { allow_any_name: true, key_type: "ec" });
  const stranger = await issueByHand("pki-root/issue/any", 60);
  expect((await visit(port, stranger)).said).toMatch(/^ERR_SSL_.*ALERT_/);
  await timeline.says("unable to find valid certification path to requested target\n");
});

test("a server in Java uses the renewed keystore without a restart", async () => {
  const timeline = await startJava(6);
  const port = await portOf(timeline);
  const reader = await issueByHand("pki/issue/reader", 60);
  const seen = new Set<string>();
  await until("two certificates were seen", async () => {
    const { said, certificate } = await visit(port, reader);
    expect(said).toBe(hello);
    if (certificate) seen.add(certificate.serialNumber);
    return seen.size === 2;
  });
});

test("a stopped container's certificate is refused by who reads the list, by others only when it ends", async () => {
  const [careful, careless] = await Promise.all([startJava(300), startPlainJava()]);
  const carefulPort = await portOf(careful);
  const carelessPort = await portOf(careless);
  const reader = await startReader(carefulPort, 15);
  await reader.says(`the server says: ${hello}`);
  const stolen = await steal(reader);
  for (const port of [carefulPort, carelessPort]) {
    expect((await visit(port, stolen)).said).toBe(hello);
  }

  await reader.stop();
  await until("it is refused", async () => (await visit(carefulPort, stolen)).said !== hello);
  await careful.says("Certificate has been revoked");
  expect((await visit(carelessPort, stolen)).said).toBe(hello);

  const ends = new X509Certificate(stolen.cert).validToDate;
  expect(Date.now(), "revoked before its end").toBeLessThan(ends.getTime());
  await until("it has ended", async () => (await visit(carelessPort, stolen)).said !== hello);
  await careless.says("validity check failed");
  // What stands in the options is no part of what is printed of them.
  expect(careless.output).toContain("JDK_JAVA_OPTIONS: @/run/authproxy-secrets/JAVA\n");
});
