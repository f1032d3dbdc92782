// Question: does examples/compose do what it says?
// Input:    its files as they are; an engine of the tests' own with the runtime `authproxy`, in a
//           network of its own; Debian's Compose; images that stand in for a registry's (images.ts).
// Output:   it is brought up as its README says, used, its secrets changed while it runs, and down.
import { execFile, spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { beforeAll, expect, test } from "vitest";
import { block, shell } from "../documents.ts";
import { until } from "../stage.ts";
import { docker, openHost, serve, stage } from "./host.ts";
import { exampleImages } from "./images.ts";
import { compose as plugin } from "./plugin.ts";

const root = join(import.meta.dirname, "../..");
const example = join(root, "examples/compose");
const run = promisify(execFile);

const etc = join(stage.directory, "etc");
const host = await openHost();
const { program, DOCKER_CONFIG } = await plugin();
const env = { ...host.env, ...(await exampleImages(host)), DOCKER_CONFIG, REFRESH: "1" };

async function compose(...words: string[]): Promise<string> {
  return (await run(program, words, { cwd: example, env })).stdout.trim();
}

/** As an administrator of its Vault. */
async function administer(script: string): Promise<string> {
  return await compose("exec", "-T", "openbao", "sh", "-euc", script);
}

type Entry = { entry: number; of: string };

/** The next one that timeline tells of. */
async function nextEntry(): Promise<Entry> {
  const words = ["logs", "--follow", "--no-log-prefix", "--tail", "0", "timeline"];
  const log = spawn(program, words, { cwd: example, env, timeout: 50_000 });
  try {
    for await (const line of createInterface(log.stdout)) {
      const [entry] = /\{"entry.*\}/.exec(line) ?? [];
      if (entry) return JSON.parse(entry);
    }
  } finally {
    log.kill();
  }
  throw new Error(`no entry was made: ${await compose("logs", "timeline", "ledger")}`);
}

const blocks = shell("examples/compose/README.md");
/** The commands of the next block, where the test's own directory is /etc/authproxy. */
async function follow(): Promise<void> {
  const here = blocks.shift()?.text.replaceAll("/etc/authproxy", etc) ?? "";
  await run("sh", ["-euc", here], { cwd: example, env });
}

const SERIAL = /^[0-9A-F]+$/;
const SERVICES = ["postgres", "ledger", "timeline"];
const password = () => administer("bao kv get -mount=secret -field=password ledger");

/** What the engine says of a service's container. */
async function inspect(service: string) {
  const id = await compose("ps", "--all", "--quiet", service);
  const text = await docker(host, "inspect", id);
  const [{ State }] = JSON.parse(text);
  return { id, text, startedAt: String(State.StartedAt) };
}

/** What who has this certificate, or none, gets from ledger: an HTTP status. */
async function called(certificate: string): Promise<string> {
  const script = `
import http.client, os, ssl
tls = os.environ["TLS"]
trust = ssl.create_default_context(cafile=f"{tls}/issuing_ca")
${certificate}
try:
    ledger = http.client.HTTPSConnection("ledger.production.example.io", 8443, context=trust)
    ledger.request("GET", "/")
    print(ledger.getresponse().status)
except (OSError, http.client.HTTPException):
    print("no answer")
`;
  const words = ["exec", "-T", "-e", "TLS=/run/authproxy-secrets/TLS", "ledger", "python3", "-c"];
  return await compose(...words, script);
}

/** Whether PostgreSQL takes this password, on its own network. */
async function opens(password: string): Promise<boolean> {
  const words = [
    "exec",
    "-T",
    "-e",
    `PGPASSWORD=${password}`,
    "postgres",
    "psql",
    "-tc",
    "SELECT 1",
  ];
  const asked = compose(...words, "--host", "postgres", "--username", "ledger");
  return await asked.then(
    (answer) => answer === "1",
    () => false,
  );
}

await follow();
const written = readFileSync(join(example, "authproxy.json"), "utf8");
const server = await serve(host, JSON.parse(written.replaceAll("/etc/authproxy", etc)));
beforeAll(async () => {
  stage.defer(() => compose("down", "--volumes", "--timeout", "0"));
  await follow();
});

test("up: each service has its own secrets, and no other place has them", async () => {
  expect(await nextEntry()).toEqual({
    entry: expect.any(Number),
    of: expect.stringMatching(SERIAL),
  });
  const secret = await password();
  expect(await opens(secret)).toBe(true);
  for (const service of SERVICES) {
    const { id, text } = await inspect(service);
    expect(await server.until({ event: "granted", service })).toMatchObject({ container: id });
    expect(text).toContain("vault:");
    expect(text).not.toContain(secret);
  }
  expect(server.stdout).not.toContain(secret);
});

test("used: without a certificate nobody is heard, with another's nobody is served", async () => {
  expect(await called("")).toBe("no answer");
  const own = 'trust.load_cert_chain(f"{tls}/certificate", f"{tls}/private_key")';
  expect(await called(own)).toBe("403");
});

test("rotated: ledger has the new password while it runs, and the old one is none", async () => {
  const before = await password();
  const { startedAt } = await inspect("ledger");
  await follow();
  const after = await password();
  expect(after).not.toBe(before);
  const first = await nextEntry();
  expect((await nextEntry()).entry).toBeGreaterThan(first.entry);
  expect([await opens(before), await opens(after)]).toEqual([false, true]);
  expect((await inspect("ledger")).startedAt).toBe(startedAt);
});

test("the service of docs/compose.md is a PostgreSQL with the password of Vault", async () => {
  const shown = block("docs/compose.md", "POSTGRES_PASSWORD_FILE");
  const here = shown.replace("postgres:17", "example-postgres:1").replace("data/db", "data/ledger");
  const file = join(stage.directory, "compose.yaml");
  const besideVault =
    "networks: { default: { external: true, name: authproxy-example_default } }\n";
  writeFileSync(file, here + besideVault);
  const alone = (...words: string[]) =>
    compose("--project-name", "alone", "--file", file, ...words);
  stage.defer(() => alone("down", "--volumes", "--timeout", "0"));
  await alone("up", "--detach");
  const select = ["--host", "127.0.0.1", "--username", "postgres", "-tc", "SELECT 1"];
  const words = ["exec", "-T", "-e", `PGPASSWORD=${await password()}`, "db", "psql", ...select];
  await until("it answers", async () => (await alone(...words).catch(() => "")) === "1");
  await alone("down", "--timeout", "0");
});

test("restarted: another certificate, and another token", async () => {
  const before = await nextEntry();
  const granted = server.find({ event: "granted", service: "timeline" });
  await compose("restart", "timeline");
  expect((await nextEntry()).of).not.toBe(before.of);
  await server.until({ event: "revoked", accessor: String(granted?.accessor) });
  const serial = before.of.match(/../g)?.join(":");
  expect(await administer(`bao read -field=revocation_time pki/cert/${serial}`)).toMatch(/^[1-9]/);
});

test("down: no token is left", async () => {
  await follow();
  expect(blocks).toEqual([]);
  const granted = server.events.filter(({ event }) => event === "granted");
  expect(granted).toHaveLength(SERVICES.length + 2); // docs/compose.md's; one restarted
  for (const { accessor = "" } of granted) {
    await server.until({ event: "revoked", accessor });
    const found = administer(`bao token lookup -accessor ${accessor}`);
    await expect(found).rejects.toThrow(/invalid accessor/);
  }
});
