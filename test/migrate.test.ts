// Question: does each row of docs/migrate.md give an application the same as what it comes from? The
// right side runs in the real client against a real OpenBao; Vault Agent's left side in the real agent.
// What applications see is compared by hashes: no output holds a secret.
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { type Ended, newPlace, node } from "./client-playground.ts";
import { bao, granted, hash, password, root, secret, token, user } from "./client-vault.ts";
import { memoryDirectory } from "./memory.ts";

const text = readFileSync(join(import.meta.dirname, "../docs/migrate.md"), "utf8");
const files = join(memoryDirectory(), "files");
mkdirSync(files);
beforeEach(() => {
  rmSync(files, { recursive: true });
  mkdirSync(files);
});

type Row = { theirs: string; ours: string };
const section = (title: string) => text.split(/^## /m).find((part) => part.startsWith(title)) ?? "";
const rowsOf = (title: string): Row[] =>
  [...section(title).matchAll(/^\| (?!---)((?:\\\||[^|])*) \| ((?:\\\||[^|])*) \|$/gm)]
    .map(([, theirs = "", ours = ""]) => ({ theirs, ours }))
    .filter(({ ours }) => ours !== "here");

/** What stands between backticks; a | is written \| in a table. */
const code = (cell: string) =>
  [...cell.matchAll(/`([^`]+)`/g)].map(([, inside = ""]) => inside.replaceAll("\\|", "|"));
const variables = (cell: string): Record<string, string> => {
  const named = code(cell).flatMap((one) => /^([A-Za-z_]+)=(.*)$/s.exec(one)?.slice(1) ?? []);
  return named.length === 2 ? { [named[0] ?? ""]: named[1] ?? "" } : {};
};
const options = (cell: string) =>
  code(cell)
    .filter((one) => one.startsWith("--") && one !== "--")
    .flatMap((one) => one.split(" "))
    .map((word) => (word.startsWith("/run/") ? files : word));

/** An application that tells its own variables, files and directories by hashes. */
const TELLS = `
  const { readFileSync: read, readdirSync, existsSync, statSync } = require("node:fs");
  const hash = (bytes) => require("node:crypto").createHash("sha256").update(bytes).digest("hex");
  const tell = (name, value) =>
    name.endsWith("_FILE") ? hash(read(value))
    : name.endsWith("_DIR") ? Object.fromEntries(readdirSync(value).map((key) => [key, hash(read(value + "/" + key))]))
    : hash(value);
  const all = Object.entries(process.env).filter(([name]) => name !== "PATH");
  console.log(JSON.stringify(Object.fromEntries(all.map(([name, value]) => [name, tell(name, value)]))));`;
const command = [node, "-e", TELLS];

type Told = Record<string, string | Record<string, string>>;
async function told(row: Row, environment = {}, more: string[] = []): Promise<Told> {
  const given = { ...variables(row.ours), ...environment };
  const asked = ["--files", files, ...options(row.ours), ...more];
  const ended = await granted({ environment: given, options: asked, command });
  expect(ended).toMatchObject({ exitCode: 0, stderr: "" });
  return JSON.parse(ended.stdout);
}

/** Each test takes the rows that it runs; none may be left. */
const left = [...rowsOf("vault-env"), ...rowsOf("Vault Agent"), ...rowsOf("`docker secret`")];
const rowCount = left.length;
function take(theirs: string, ours: string): Row {
  const at = left.findIndex((row) => row.theirs.includes(theirs) && row.ours.includes(ours));
  const [row] = at < 0 ? [] : left.splice(at, 1);
  if (!row) throw new Error(`docs/migrate.md has no row ${theirs} | ${ours}`);
  return row;
}

const old = `old-${password}`;
const each = Object.fromEntries(
  Object.entries(secret).map(([key, value]) => [
    key,
    hash(typeof value === "string" ? value : JSON.stringify(value)),
  ]),
);

describe("vault-env", () => {
  test.each<[string, string, Told]>([
    ["#password`", "#password`", { DB_PASSWORD: hash(password) }],
    ["#password#1", "#password#1", { DB_PASSWORD: hash(old) }],
    ["DSN=", "DSN=", { DSN: hash(`pg://${user}:${password}@db`) }],
    ["IGNORE_MISSING", "#?", {}],
    ["FROM_PATH", "APP_DIR", { APP_DIR: each }],
  ])("%s: %s", async (theirs, ours, wanted) => {
    expect(await told(take(theirs, ours))).toEqual(wanted);
  });

  test("a write, where it is allowed", async () => {
    const row = take("TEXT=", "--allow-write");
    const { TEXT } = await told(row);
    expect(TEXT).toMatch(/^[0-9a-f]{64}$/);
    const denied = { environment: variables(row.ours), command };
    expect((await granted(denied)).exitCode).toBe(78);
  });

  test("the token itself, with where Vault is", async () => {
    const { VAULT_TOKEN, VAULT_ADDR } = await told(take("vault:login", "VAULT_TOKEN"));
    expect([VAULT_TOKEN, VAULT_ADDR]).toEqual([hash(token), hash(bao.address)]);
  });

  const X = { X: "vault:secret/data/app#password" };
  test("variables of its own are kept, or left out", async () => {
    const VAULT_ADDR = "https://vault.example:8200";
    const kept = await told(take("PASSTHROUGH", "--keep"), { ...X, VAULT_ADDR });
    expect(kept).toEqual({ X: hash(password), VAULT_ADDR: hash(VAULT_ADDR) });
    const row = take("VAULT_ROLE", "nothing");
    const theirs = Object.fromEntries(code(row.theirs).map((one) => one.split("=")));
    expect(Object.keys(theirs)).toEqual(["VAULT_ADDR", "VAULT_ROLE", "VAULT_PATH"]);
    expect(await told(row, { ...X, ...theirs })).toEqual({ X: hash(password) });
  });

  test("staying beside the application", async () => {
    expect(await told(take("DAEMON", "--watch"), { X_FILE: X.X })).toEqual({
      X_FILE: hash(password),
    });
  });
});

describe("Vault Agent", () => {
  const place = newPlace(0o700);
  const tokenFile = join(place, "token");
  writeFileSync(tokenFile, token, { mode: 0o600 });

  function agent(configuration: string): string {
    const file = join(place, "agent.hcl");
    const login = `auto_auth {
      method "token_file" { config = { token_file_path = "${tokenFile}" } }
      sink "file" { config = { path = "${place}/sink" } }
    }`;
    const vault = `vault { address = "${bao.address}" ca_cert = "${bao.caFile}" }`;
    writeFileSync(file, [login, vault, configuration].join("\n"), { mode: 0o600 });
    const program = join(import.meta.dirname, "../dist/bao");
    const argv = ["agent", "-log-level=error", `-config=${file}`];
    const env = { PATH: process.env.PATH, HOME: place };
    return execFileSync(program, argv, { encoding: "utf8", timeout: 30_000, env });
  }
  const template = (contents: string, destination: string, more = "") =>
    `template {
      contents = ${JSON.stringify(contents)}
      destination = ${JSON.stringify(destination)}
      ${more}
    }`;

  test("each template is a reference that gives the same", async () => {
    const found = [
      ["{{ .Data.data.password", "#password`"],
      ["?version=1", "#password#1"],
      ["pg://", "DSN_FILE"],
      ["toJSON", "#*"],
      ["localhost", "#?localhost"],
    ];
    const rows = found.map(([theirs = "", ours = ""]) => take(theirs, ours));
    const files = rows.map((_, i) => join(place, `${i}`));
    const templates = rows.map(({ theirs }, i) => template(code(theirs)[0] ?? "", files[i] ?? ""));
    agent(["exit_after_auth = true", ...templates].join("\n"));
    for (const [i, row] of rows.entries()) {
      const theirs = readFileSync(files[i] ?? "", "utf8");
      expect(Object.values(await told(row)), row.ours).toEqual([hash(theirs)]);
    }
    expect(readFileSync(files[0] ?? "", "utf8")).toBe(password); // the agent has read something
  });

  test("a variable of exec mode is one here, before the same command", async () => {
    const row = take("{{ .Data.data.port", "PORT=");
    take("exec {", "behind");
    const tells = join(place, "tells.cjs");
    writeFileSync(tells, TELLS);
    const contents = JSON.stringify(code(row.theirs)[0]);
    const exec = `exec { command = ["${node}", "${tells}"] }`;
    const said = agent(`env_template "PORT" { contents = ${contents} }\n${exec}`);
    const theirs: Told = JSON.parse(said.split("\n").find((line) => line.startsWith("{")) ?? "");
    expect(theirs.PORT).toBe(hash("5432"));
    expect(await told(row)).toEqual({ PORT: theirs.PORT });
  });

  test("the mode of a file, and the token as one", async () => {
    const [mode, sink] = [take("perms", "--file-mode"), take("sink", "TOKEN_FILE")];
    const theirs = join(place, "mode");
    const perms = code(mode.theirs)[0] ?? "";
    agent(`exit_after_auth = true\n${template("x", theirs, perms)}`);
    const X_FILE = "vault:secret/data/app#password";
    await told(mode, { X_FILE });
    expect(statSync(join(files, "X")).mode).toBe(statSync(theirs).mode);
    const { TOKEN_FILE } = await told(sink);
    expect(TOKEN_FILE).toBe(hash(readFileSync(join(place, "sink"), "utf8")));
  });

  test("how soon a change is seen", async () => {
    const row = take("static_secret_render_interval", "--refresh");
    const X = { X: "vault:secret/data/app#password" };
    expect(await told(row, X)).toEqual({ X: hash(password) });
  });

  const changing = "secret/data/app/changing";
  /** Runs until the application or the client ends by what the row says, after one change. */
  async function changed(row: Row, script: string): Promise<Ended> {
    await root.write(changing, { data: { password: `first-${password}` } });
    return await granted({
      environment: { X_FILE: `vault:${changing}#password` },
      options: ["--files", files, "--refresh", "1", ...options(row.ours)],
      command: ["/bin/sh", "-c", `echo begun; ${script}`],
      during: (child) =>
        child.stdout?.once("data", () => {
          void root.write(changing, { data: { password: `second-${password}` } });
        }),
    });
  }

  test("a change is a signal", async () => {
    const waits = 'trap "sha256sum < $X_FILE; exit 0" HUP; while :; do sleep 0.1; done';
    const ended = await changed(take("kill -HUP", "SIGHUP"), waits);
    expect(ended.exitCode).toBe(0);
    expect(ended.stdout).toContain(hash(`second-${password}`));
  });

  test("a change is a new start", async () => {
    const waits = 'trap "exit 0" TERM; while :; do sleep 0.1; done';
    expect((await changed(take("restart_on", "exit"), waits)).exitCode).toBe(75);
    const rotates = take("docker service update", "exit");
    expect((await changed(rotates, waits)).exitCode).toBe(75);
  });
});

describe("docker secret", () => {
  test("a file whose path stands in a variable", async () => {
    const row = take("DB_PASSWORD_FILE: /run", "DB_PASSWORD_FILE=");
    expect(await told(row)).toEqual({ DB_PASSWORD_FILE: hash(password) });
  });

  test("a file that the application knows by its path", async () => {
    const row = take("read as", "--files /run/secrets");
    await told(row);
    const path = /read as (\S+)/.exec(row.theirs)?.[1] ?? "";
    expect(readFileSync(join(files, basename(path)), "utf8")).toBe(password);
  });

  test("many files", async () => {
    expect(await told(take("a file each", "APP_DIR"))).toEqual({ APP_DIR: each });
  });

  test("their owner and mode", async () => {
    const row = take("uid:", "--file-owner");
    await told(row, { X_FILE: "vault:secret/data/app#password" });
    const { uid, gid, mode } = statSync(join(files, "X"));
    const theirs = code(row.theirs).join(", ");
    expect(`uid: "${uid}", gid: "${gid}", mode: 0${(mode & 0o777).toString(8)}`).toBe(theirs);
  });
});

test("no row is left that nobody ran", () => {
  expect(rowCount).toBeGreaterThan(20);
  expect(left).toEqual([]);
});
