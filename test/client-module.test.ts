// Question: what does a Node application get that imports the client?
import { spawnSync } from "node:child_process";
import { copyFileSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { answer, bundle, newPlace, node, Playground, run } from "./client-playground.ts";
import { bao, grant, hash, password, token, user } from "./client-vault.ts";
import { block } from "./documents.ts";

const root = join(import.meta.dirname, "..");
const place = newPlace();
copyFileSync(bundle, join(place, "authproxy.js"));
copyFileSync(join(root, "client/public.ts"), join(place, "authproxy.d.ts"));

/** Runs a module whose `print` shows no secret: texts are hashed. */
async function application(script: string, answering = answer(grant()), name = "app.mjs") {
  const prelude = `import { createHash } from "node:crypto";
    import { getSecrets, getToken } from "./authproxy.js";
    const hidden = (_, value) => typeof value === "string"
      ? createHash("sha256").update(value).digest("hex") : value;
    const print = (value) => console.log(JSON.stringify(value, hidden));`;
  writeFileSync(join(place, name), prelude + script);
  await using server = await Playground.open(answering);
  const ended = await run({
    bare: true,
    command: [node, "--disable-sigusr1", join(place, name)],
    environment: { AUTHPROXY_SOCKET: server.socket, AUTHPROXY_WAIT: "1" },
  });
  return { ...ended, connections: server.connections };
}

describe("getToken", () => {
  test("gives the token and where Vault is, and asks the server once", async () => {
    const script =
      "const [a, b] = await Promise.all([getToken(), getToken()]);" +
      "print([a.service, a.token, a.vault.address, a.vault.ca, a.token === (await getToken()).token, b]);";
    const { stdout, stderr, connections } = await application(script);
    const all = { service: hash("app"), token: hash(token) };
    const vault = { address: hash(bao.address), ca: hash(bao.ca) };
    expect([stderr, connections]).toEqual(["", 1]);
    expect(JSON.parse(stdout)).toEqual([
      all.service,
      all.token,
      vault.address,
      vault.ca,
      true,
      { ...all, vault },
    ]);
  });
  test("asks the server again where that failed", async () => {
    const script =
      "const { exitCode, message } = await getToken().catch((error) => error);" +
      "console.log(exitCode, message); print((await getToken()).token);";
    const { stdout, connections } = await application(script, (connection, count) =>
      answer(count === 0 ? { error: "refused" } : grant())(connection, count),
    );
    expect(stdout).toBe(`77 the server refused this container\n"${hash(token)}"\n`);
    expect(connections).toBe(2);
  });
});

describe("getSecrets", () => {
  test("gives the values under their names", async () => {
    const script = `print(await getSecrets({
      password: "vault:secret/data/app#password",
      url: "pg://\${vault:secret/data/app#user}@db",
      port: "vault:secret/data/app#port",
      none: "vault:secret/data/app#nothing#?",
      plain: "text",
    })); await getSecrets({ a: "vault:kv/app#data" });`;
    const { stdout, stderr, connections } = await application(script);
    expect([stderr, connections]).toEqual(["", 1]);
    expect(JSON.parse(stdout)).toEqual({
      password: hash(password),
      url: hash(`pg://${user}@db`),
      port: hash("5432"),
      plain: hash("text"),
    });
  });
  test("rejects with the name, the reason and the client's exit code", async () => {
    const script = `for (const reference of ["vault:secret/data/app#nothing", "vault:a#b#c"]) {
      const { exitCode, message } = await getSecrets({ db: reference }).catch((error) => error);
      console.log(exitCode, message);
    }`;
    const [missing, malformed] = (await application(script)).stdout.split("\n");
    expect(missing).toBe("66 db: vault:secret/data/app#nothing: the secret has no such key");
    expect(malformed).toMatch(/^78 db: malformed reference at character 11/);
  });
  test("gives text that is not a reference as it is, with a warning where it seems to be one", async () => {
    const script = `const values = await getSecrets({ a: "vault:8200", b: "Vault:a/b#c", c: "x" });
      console.log(JSON.stringify(values));`;
    const { stdout, stderr } = await application(script);
    expect(JSON.parse(stdout)).toEqual({ a: "vault:8200", b: "Vault:a/b#c", c: "x" });
    expect(stderr).toMatch(
      /^authproxy: warning: b: it looks like a reference and is plain text.*\n$/,
    );
  });
});

test("the example in docs/client.md gives what it says", async () => {
  const lines = block("docs/client.md", "import { getToken");
  const own = lines.replace(/^import .* from "\/authproxy\/authproxy.js";$/m, "");
  expect(own).not.toBe(lines);
  const { stdout } = await application(`${own} print([password, token, vault.address]);`);
  expect(JSON.parse(stdout)).toEqual([password, token, bao.address].map(hash));
});

test("can be imported and required, with the same functions", async () => {
  const script = `
    import { createRequire } from "node:module";
    import * as imported from "./authproxy.js";
    const required = createRequire(import.meta.url)("./authproxy.js");
    console.log(imported.getToken === required.getToken, imported.getSecrets === getSecrets,
      Object.keys(required).sort().join());`;
  const { stdout, stderr, connections } = await application(script);
  expect([stdout, stderr, connections]).toEqual(["true true getSecrets,getToken\n", "", 0]);
});

test("an import alone catches no signal and touches no socket", async () => {
  const script = 'console.log(process.listenerCount("SIGTERM"), typeof getToken);';
  const { stdout, connections } = await application(script);
  expect([stdout, connections]).toEqual(["0 function\n", 0]);
});

test("the types in public.ts describe the functions", () => {
  const source = `import { getSecrets, getToken } from "./authproxy.js";
    const { token, vault }: { token: string; vault: { address: string } } = await getToken();
    const { a } = await getSecrets({ a: "vault:a/b#c" });
    const text: string | undefined = a;
    // @ts-expect-error: not asked for
    const { b } = await getSecrets({ a: "vault:a/b#c" });
    // @ts-expect-error: a reference is text
    await getSecrets({ a: 1 });
    console.log(token, vault, text, b);`;
  writeFileSync(join(place, "app.mts"), source);
  writeFileSync(join(place, "package.json"), "{}");
  symlinkSync(join(root, "node_modules"), join(place, "node_modules"));
  const options = ["--noEmit", "--strict", "--target", "es2024", "--module", "nodenext"];
  const tsc = join(root, "node_modules/typescript/bin/tsc");
  const { stdout, status } = spawnSync(
    process.execPath,
    [tsc, ...options, "--types", "node", "app.mts"],
    { cwd: place, encoding: "utf8" },
  );
  expect([stdout, status]).toEqual(["", 0]);
  expect(readFileSync(join(place, "authproxy.d.ts"), "utf8")).not.toContain("import");
});
