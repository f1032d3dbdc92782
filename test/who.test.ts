// Question: does `authproxy who` show who used which secret, by the logs of a real Vault, the real
// server and real containers?
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { splitLines } from "../cli/input.ts";
import { accessIn } from "../cli/who/access.ts";
import { client, provision, startOpenBao } from "../scripts/openbao.ts";
import { authproxy, start } from "./command.ts";
import { block, terminal } from "./documents.ts";
import { app, lookUp, Stage, vaultAt } from "./stage.ts";

const stage = new Stage();
const vaultLog = join(stage.directory, "vault-audit.log");
const bao = await startOpenBao({ audit: vaultLog });
afterAll(async () => {
  await stage[Symbol.asyncDispose]();
  await bao.stop();
});
const root = client(bao);
const password = `password-${randomUUID()}`;
const { roleId, secretId } = await provision(bao, {
  services: { app: { password }, other: { password } },
});
const other = {
  match: { peer: { uid: 1001 }, container: { Config: { Labels: { app: "other" } } } },
  token: { create: "auth/token/create/other" },
};
const place = { vault: vaultAt(bao.address, bao, roleId), services: { app, other } };
const config = stage.configure(place, secretId);
const server = stage.start(config);
await server.until({ event: "ready" });

// A container that runs, one that has ended, one that tries to read another service's secret, and
// one of another service.
const started = `a password of ${password.length} characters`;
const lives = await stage.container();
await lives.says(started);
const ended = await stage.container();
await ended.says(started);
const nosy = await stage.container({
  environment: { DB_PASSWORD_FILE: "vault:secret/data/other#password" },
});
await nosy.ended;
const foreign = await stage.container({
  labels: { app: "other" },
  environment: { DB_PASSWORD_FILE: "vault:secret/data/other#password" },
});
await foreign.says(started);
await ended.kill();
await server.until({ event: "revoked", container: ended.id });
await server.until({ event: "revoked", container: nosy.id });

// Two people, and one whose token claims to be a container's.
await root.enableAuth({ mount_point: "userpass", type: "userpass" });
const all = 'path "secret/*" { capabilities = ["create", "update", "read", "delete"] }\n';
await root.addPolicy({ name: "people", policy: all });
async function person(name: string) {
  await root.write(`auth/userpass/users/${name}`, { password, token_policies: ["people"] });
  const { auth } = await root.write(`auth/userpass/login/${name}`, { password });
  return client({ ...bao, rootToken: auth.client_token });
}
const alice = await person("alice");
await alice.write("secret/data/app", { data: { password } });
await alice.write("secret/data/app", { data: { password } });
await alice.write("secret/destroy/app", { versions: [1] });
const bob = await person("bob");
await bob.read("secret/data/app");
await expect(bob.read("secret/data/nothing")).rejects.toThrow();
const claim = { meta: { container: lives.id, service: "app" }, policies: ["people"] };
const { auth: claimed } = await root.write("auth/token/create", {
  ...claim,
  display_name: "mallory",
});
await client({ ...bao, rootToken: claimed.client_token }).read("secret/data/app");

const ourLog = join(stage.directory, "audit.log");
writeFileSync(ourLog, server.stdout.replaceAll(/^/gm, "Jan 01 00:00:00 host authproxy[7]: "));
const vaultText = readFileSync(vaultLog, "utf8");
const logs = ["--vault-audit", vaultLog, "--audit", ourLog];

type Row = {
  secret: string;
  who: { container?: string; service?: string; person?: string; entity?: string };
  did: string;
  outcome: string;
  times: number;
  token?: string;
};
async function ask(...words: string[]): Promise<Row[]> {
  const { status, stdout, stderr } = await authproxy(["who", "--json", ...logs, ...words]);
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  return JSON.parse(stdout).uses;
}
/** A row as one line. */
const summary = ({ secret, who, did, outcome, times, token = "" }: Row) =>
  [
    secret,
    who.container ? `${who.service} ${who.container}` : who.person,
    outcome === "done" ? did : `${did}: ${outcome}`,
    ...[times, token.replace(/ \d.*/, "")],
  ].join(" | ");

test("a secret has the containers and people that used it, how, and whose token lives", async () => {
  const rows = (await ask("--secret", "secret/data/app")).map(summary);
  expect(rows.sort()).toEqual(
    [
      `secret/data/app | app ${lives.id} | read | 1 | living`,
      `secret/data/app | app ${ended.id} | read | 1 | until`,
      "secret/data/app | token | changed | 1 | ", // by root, when the test began
      "secret/data/app | userpass-alice | changed | 2 | ",
      "secret/data/app | userpass-alice | deleted | 1 | ",
      "secret/data/app | userpass-bob | read | 1 | ",
      "secret/data/app | token-mallory | read | 1 | ", // its display name is not the service's
    ].sort(),
  );
  expect((await ask("--secret", "secret/app")).map(summary).sort()).toEqual(rows);
  expect((await ask("--secret", "secret/data/ap*")).map(summary).sort()).toEqual(rows);
});

test("a container has the secrets that it read, and those that it tried to read", async () => {
  expect((await ask("--container", ended.id.slice(0, 12))).map(summary)).toEqual([
    `secret/data/app | app ${ended.id} | read | 1 | until`,
  ]);
  const [tried = "", ...none] = (await ask("--container", nosy.id)).map(summary);
  expect(none).toEqual([]); // the client asks again for two seconds
  expect(tried.replace(/\d+ \| until/, "until")).toBe(
    `secret/data/other | app ${nosy.id} | read: denied | until`,
  );
  const named = (await lives.inspect()).Name.slice(1);
  expect((await ask("--container", named)).map(summary)).toEqual([
    `secret/data/app | app ${lives.id} | read | 1 | living`,
  ]);
});

test("a service has all of its containers, and no others", async () => {
  const rows = await ask("--service", "app");
  const ids = new Set([lives.id, ended.id, nosy.id]);
  expect(new Set(rows.map(({ who }) => who.container))).toEqual(ids);
  expect(await ask("--service", "app", "--secret", "secret/data/other")).toHaveLength(1);
  expect(await ask("--service", "none")).toEqual([]);
});

test("the table has the entities of people, and no secret", async () => {
  const { status, stdout } = await authproxy(["who", ...logs]);
  expect(status).toBe(0);
  expect(stdout).toMatch(/secret\/data\/app +userpass-alice \([0-9a-f-]{36}\) +changed +2 /);
  expect(stdout).toMatch(new RegExp(`app ${lives.id.slice(0, 12)} on \\S+ +read +1 .* living\n`));
  expect(stdout).toMatch(/secret\/data\/nothing +userpass-bob \(.*\) +sought +1 /);
  expect(stdout).toMatch(/ read: denied +\d /);
  expect(stdout).not.toContain(password);
});

test("the table is as docs/who.md shows it", async () => {
  const rotated = join(stage.directory, "audit.log.1.gz");
  writeFileSync(rotated, gzipSync(""));
  const places: Record<string, string> = {
    ...{ "/var/log/vault/audit.log": vaultLog, "audit.log.1.gz": rotated },
    "web-1.log": ourLog,
  };
  const [shown] = terminal(block("docs/who.md", "--vault-audit"));
  const words = shown?.words.map((word) => places[word] ?? word) ?? [];
  const { status, stdout } = await authproxy(words);
  expect(status).toBe(0);
  const time = "\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d";
  const who = "(\\w+ [0-9a-f]{12} on [\\w.-]+|[\\w-]+( \\([0-9a-f…-]+\\))?)";
  const token = `(living|until ${time}|not in the audit streams)`;
  const columns = ["secret/\\S+", who, "[a-z]+(: denied)?", "\\d+", time, time];
  const row = new RegExp(`^${columns.join(" {2,}")}( {2,}${token})?$`);
  for (const table of [stdout, shown?.output ?? ""]) {
    const [head = "", ...rows] = table.trim().split("\n");
    const titles = head.split(/ {2,}/);
    expect(titles).toEqual(["secret", "who", "did", "times", "first", "last", "token"]);
    expect(rows.length).toBeGreaterThan(2);
    for (const line of rows) {
      expect(line).toMatch(row);
      // Each column begins below its title.
      for (const title of titles.slice(1, -1))
        expect(line.slice(0, head.indexOf(title)), title).toMatch(/\S {2,}$/);
    }
  }
});

test("a container that no audit stream has is marked", async () => {
  const { stdout } = await authproxy(["who", "--vault-audit", vaultLog, "--audit", "/dev/null"]);
  expect(stdout).toMatch(new RegExp(`app ${lives.id.slice(0, 12)} .* not in the audit streams\n`));
  const alone = await authproxy(["who", "--vault-audit", vaultLog]);
  expect(alone.stdout).not.toMatch(/not in|living/);
});

describe("logs", () => {
  const file = (name: string, content: string | Buffer) => {
    const path = join(stage.directory, name);
    writeFileSync(path, content);
    return path;
  };
  const lines = vaultText.split("\n");
  const half = Math.floor(lines.length / 2);
  const older = lines.slice(0, half).join("\n");
  const newer = lines.slice(half).join("\n");

  test("that are rotated, compressed or from standard input give the same answer", async () => {
    const whole = await authproxy(["who", ...logs]);
    const files = [file("audit.log.1.gz", gzipSync(older)), "-"];
    const words = files.flatMap((name) => ["--vault-audit", name]);
    const parts = await authproxy(["who", ...words, "--audit", ourLog], { input: newer });
    expect(parts).toEqual(whole);
  });

  test("with broken lines give the rest, and the number of lines that were passed over", async () => {
    const whole = await ask();
    const mine = lines.find((line) => line.includes('"response"')) ?? "";
    const broken = [older, mine.slice(0, -40), "no JSON", '{"response":1}', newer].join("\n");
    const zipped = gzipSync(`${broken}\n`);
    const cut = Buffer.concat([zipped, gzipSync("x".repeat(99)).subarray(0, -9)]); // as of a file that is still being written
    const names = ["--vault-audit", file("broken.gz", cut), "--audit", file("our", `{"time":\n`)];
    const { stdout, stderr } = await authproxy(["who", "--json", ...names]);
    const found = JSON.parse(stdout).uses;
    const bare = ({ token: _, ...row }: Row) => row;
    expect(found.map(bare)).toEqual(whole.map(bare));
    expect(stderr).toContain("broken.gz: a line is broken; passed over, 2 in all");
    expect(stderr).toMatch(/broken\.gz: a line cannot be decompressed: .*; passed over, 1 in all/);
    expect(stderr).toContain("our: a line is broken; passed over, 1 in all");
  });

  test("of any size take no more memory than the answer", async () => {
    const about = ['"type":"response"', '"path":"secret/data/app"'];
    const response = lines.find((line) => about.every((part) => line.includes(part))) ?? "";
    const block = `${response}\n`.repeat(Math.ceil(1_000_000 / response.length));
    const times = block.split("\n").length - 1;
    const small = { NODE_OPTIONS: "--max-old-space-size=32" };
    const child = start(["who", "--vault-audit", "-", "--json"], small);
    const said = text(child.stdout);
    const done = once(child, "close");
    for (let megabytes = 0; megabytes < 100; megabytes++)
      if (!child.stdin.write(block)) await once(child.stdin, "drain");
    child.stdin.end();
    expect(await done).toEqual([0, null]);
    const counted = JSON.parse(await said).uses.map((row: Row) => row.times);
    expect(counted).toEqual([times * 100]);
  });

  test("with an endless line are read without it, in bounded memory", async () => {
    const tooLong: string[] = [];
    const chunks = ["a\nb", "b".repeat(100), "b".repeat(100), "\nc\n", "d"].map(Buffer.from);
    async function* source() {
      yield* chunks;
    }
    const found: string[] = [];
    for await (const line of splitLines(source(), () => tooLong.push("b"), 50)) found.push(line);
    expect({ found, tooLong }).toEqual({ found: ["a", "c", "d"], tooLong: ["b"] });
  });

  test("that come in pieces of any size have the same lines", async () => {
    const content = fc.string({ unit: fc.constantFrom("a", "é", "\n", "𝒳") });
    await fc.assert(
      fc.asyncProperty(content, fc.integer({ min: 1, max: 7 }), async (whole, size) => {
        const bytes = Buffer.from(whole);
        async function* source() {
          for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
        }
        const found: string[] = [];
        for await (const line of splitLines(source(), () => {})) found.push(line);
        const wanted = whole.split("\n");
        if (wanted.at(-1) === "") wanted.pop();
        expect(found).toEqual(wanted);
      }),
    );
  });

  test("that do not exist, or are missing, are reported", async () => {
    const missing = await authproxy(["who", "--vault-audit", "/nowhere"]);
    expect(missing).toMatchObject({ status: 66, stderr: expect.stringContaining("/nowhere") });
    expect(await authproxy(["who"])).toMatchObject({ status: 64 });
    const twice = await authproxy(["who", "--vault-audit", "-", "--audit", "-"]);
    expect(twice.stderr).toContain("standard input can be only one of the files");
  });
});

describe("an entry of Vault's log", () => {
  const entry = (request: object, more: object = {}) =>
    JSON.stringify({
      ...{ time: "2026-01-02T03:04:05.123456789Z", type: "response" },
      auth: { display_name: "userpass-alice" },
      ...{ request, response: { data: {} }, ...more },
    });
  const kv = { mount_type: "kv", mount_point: "secret/" };
  test.each([
    [{ ...kv, operation: "read", path: "secret/data/a" }, "secret/data/a", "read"],
    [{ ...kv, operation: "create", path: "secret/data/a" }, "secret/data/a", "changed"],
    [{ ...kv, operation: "patch", path: "secret/data/a" }, "secret/data/a", "changed"],
    [{ ...kv, operation: "delete", path: "secret/metadata/a" }, "secret/data/a", "deleted"],
    [{ ...kv, operation: "update", path: "secret/destroy/a" }, "secret/data/a", "deleted"],
    [{ ...kv, operation: "update", path: "secret/undelete/a" }, "secret/data/a", "restored"],
    [{ ...kv, operation: "read", path: "secret/metadata/a" }, "secret/data/a", "listed"],
    [{ ...kv, operation: "list", path: "secret/metadata/" }, "secret/data/", "listed"],
    [{ mount_type: "pki", operation: "update", path: "pki/issue/a" }, "pki/issue/a", "used"],
    [
      { mount_type: "database", operation: "read", path: "database/creds/a" },
      "database/creds/a",
      "read",
    ],
    [
      { ...kv, operation: "read", path: "secret/data/a", namespace: { path: "team/" } },
      "team/secret/data/a",
      "read",
    ],
  ])("%j", (request, secret, did) => {
    const time = "2026-01-02T03:04:05.123Z";
    expect(accessIn(entry(request))).toMatchObject({ secret, did, outcome: "done", time });
    expect(accessIn(`@cee: ${entry(request)}`)).toMatchObject({ secret, did });
    const denied = { error: "1 error occurred:\n\t* permission denied\n\n" };
    expect(accessIn(entry(request, denied))).toMatchObject({ secret, outcome: "denied" });
  });

  test("about tokens, policies and logins is not about a secret; neither is a request without its response", () => {
    for (const path of ["auth/token/create/a", "sys/policies/acl/a", "cubbyhole/response"])
      expect(accessIn(entry({ operation: "read", path }))).toBeUndefined();
    const asked = entry({ ...kv, operation: "read", path: "secret/data/a" }, { type: "request" });
    expect(accessIn(asked)).toBeUndefined();
  });
});

describe("--revoke", () => {
  const revoke = (env: NodeJS.ProcessEnv, ...words: string[]) =>
    authproxy(["who", "--revoke", "--audit", ourLog, "--config", config, ...words], env);
  const administrator = { VAULT_TOKEN: bao.rootToken };
  const accessorOf = (id: string) => server.find({ event: "granted", container: id })?.accessor;

  test("does nothing without a selector, a token and a confirmation", async () => {
    for (const words of [[], ["--secret", "secret/data/app"]])
      expect(await revoke(administrator, "--yes", ...words)).toMatchObject({ status: 64 });
    expect(await revoke({}, "--service", "app", "--yes")).toMatchObject({ status: 64 });
    expect(await revoke(administrator, "--service", "app")).toMatchObject({ status: 64 });
    const shown = block("docs/who.md", "--revoke").trim().split(" ").slice(1);
    const places: Record<string, string> = { "web-1.log": ourLog, "6f1c2a9b04de": lives.id };
    const words = shown.map((word) => places[word] ?? word);
    const unasked = await authproxy([...words, "--config", config], administrator);
    expect(unasked).toMatchObject({ status: 64, stderr: expect.stringContaining("--yes") });
    const dry = await revoke(administrator, "--service", "app", "--dry-run");
    expect(dry.stdout).toContain("living tokens, by the audit streams: 1\n");
    expect(await lookUp(accessorOf(lives.id), bao)).toBeDefined();
  });

  test("revokes no token that is not that container's, whatever the stream says", async () => {
    const line = { time: new Date(), event: "granted", service: "app", container: "a".repeat(64) };
    const forged = join(stage.directory, "forged");
    writeFileSync(forged, JSON.stringify({ ...line, accessor: accessorOf(foreign.id) }));
    const words = ["who", "--revoke", "--audit", forged, "--config", config, "--service", "app"];
    const { stdout } = await authproxy([...words, "--yes"], administrator);
    expect(stdout).toContain("not that container's: left alone");
    expect(await lookUp(accessorOf(foreign.id), bao)).toBeDefined();
  });

  test("revokes the tokens of a service and no others; a second time they had ended", async () => {
    const { status, stdout } = await revoke(administrator, "--service", "app", "--yes");
    expect({ status, stdout }).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/ revoked\n/),
    });
    expect(await lookUp(accessorOf(lives.id), bao)).toBeUndefined();
    expect(await lookUp(accessorOf(foreign.id), bao)).toBeDefined();
    const again = await revoke(administrator, "--container", lives.id, "--yes", "--json");
    expect(JSON.parse(again.stdout)).toMatchObject([{ container: lives.id, result: "had ended" }]);
    expect(stdout + again.stdout + again.stderr).not.toContain(bao.rootToken);
  });
});
