// Question: does an application keep its database while Vault changes who it is there?
// Input:    a real PostgreSQL, OpenBao's database engine, the real server, and examples/rotation.js
//           behind the client with --watch, each in a container of its own.
// The leases are of seconds here: what takes hours elsewhere is waited for, and nothing is timed.
import { join } from "node:path";
import { build } from "esbuild";
import { afterAll, describe, expect, test } from "vitest";
import { client } from "../scripts/openbao.ts";
import { imageOf } from "./image.ts";
import { driver, startPostgres } from "./postgres.ts";
import { bao, base, buildImage, type Container, Stage, until } from "./stage.ts";

const root = join(import.meta.dirname, "..");
const vault = client(bao);

const stage = new Stage();
afterAll(() => stage[Symbol.asyncDispose]());
const server = await stage.server();
const { port, user, password, query } = await startPostgres(stage);
await query("create table ledger (entry text)");
await query("insert into ledger values ('one')");
for (const role of ["fixed", "turning"])
  await query(`create role ${role} login password 'before'; grant select on ledger to ${role}`);

await vault.mount({ mount_point: "database", type: "database" });
// One connection makes one user at a time: the slow ones have another.
for (const connection of ["ledger", "slow"]) {
  await vault.write(`database/config/${connection}`, {
    plugin_name: "postgresql-database-plugin",
    connection_url: `postgresql://{{username}}:{{password}}@127.0.0.1:${port}/postgres`,
    username: user,
    password,
    allowed_roles: "*",
  });
}
const CREATE = `create role "{{name}}" login password '{{password}}' valid until '{{expiration}}';
  grant select on ledger to "{{name}}"`;
/** How long a lease is, and how long it can be made by renewals. */
const roles = {
  rotated: ["9s", "9s"],
  deaf: ["9s", "9s"],
  renewed: ["3s", "1h"],
  kept: ["1h", "1h"],
};
for (const [role, [default_ttl, max_ttl]] of Object.entries(roles)) {
  const lease = { creation_statements: CREATE, default_ttl, max_ttl };
  await vault.write(`database/roles/${role}`, { db_name: "ledger", ...lease });
}
await vault.write("database/roles/slow", {
  db_name: "slow",
  creation_statements: `select pg_sleep(12); ${CREATE}`,
});
for (const [username, rotation_period] of [
  ["fixed", "1h"],
  ["turning", "15s"],
]) {
  const role = { db_name: "ledger", username, rotation_period };
  await vault.write(`database/static-roles/${username}`, role);
}
const READ = '/*" { capabilities = ["read"] }\n';
await vault.addPolicy({
  name: "app",
  policy: `path "database/creds${READ}path "database/static-creds${READ}`,
});

const program = join(stage.directory, "rotation.mjs");
await build({
  absWorkingDir: root,
  entryPoints: ["examples/rotation.js"],
  outfile: program,
  bundle: true,
  platform: "node",
  format: "esm",
  alias: { postgres: driver },
});
const clientImage = await buildImage("authproxy-test-client", root, "Dockerfile.example", base);
const files = { "/app/rotation.mjs": program };
const image = await imageOf("authproxy-example-rotation", clientImage, files);

async function startApplication(secret: string, environment: Record<string, string>) {
  return await stage.container({
    image,
    command: ["node", "/app/rotation.mjs"],
    environment: {
      DB_PORT: `${port}`,
      DB_USER_FILE: `vault:database/${secret}#username`,
      DB_PASSWORD_FILE: `vault:database/${secret}#password`,
      AUTHPROXY_WATCH: "1",
      ...environment,
    },
  });
}

/** The database's users for a role of Vault's, the oldest first. */
async function usersFor(role: string): Promise<unknown[]> {
  const pattern = `'v-%-${role}-%'`;
  const rows = await query(
    `select rolname from pg_roles where rolname like ${pattern} order by oid`,
  );
  return rows.map(({ rolname }) => rolname);
}

/** As whom the application says that it has logged in, one after the other. */
function loginsOf({ output }: Container): string[] {
  return [...output.matchAll(/^login \d+: (.*)$/gm)].map(([, name = ""]) => name);
}

async function stop(application: Container): Promise<void> {
  await application.stop();
  expect(await application.ended, application.output).toBe(0);
  expect(application.output).toMatch(/^ended after \d+ queries\n$/m);
  await server.until({ event: "revoked", container: application.id });
}

describe.concurrent("an application that is told of a change", () => {
  test("goes on as each new user, drops no query, and leaves no user behind", async () => {
    const application = await startApplication("creds/rotated", {
      AUTHPROXY_ON_CHANGE: "SIGHUP",
      RENEWED_FILE: "vault:database/creds/renewed#username",
      KEPT_FILE: "vault:database/creds/kept#username",
    });
    await application.says("login 1: ");
    const renewed = await usersFor("renewed");
    expect([renewed.length, (await usersFor("kept")).length]).toEqual([1, 1]);
    await application.says("login 3: ");
    const logins = loginsOf(application);
    expect(new Set(logins).size, "each login is another user").toBe(logins.length);
    const [first = ""] = logins;
    await until("the first user is gone", async () => !(await usersFor("rotated")).includes(first));
    await application.says(`login ${logins.length + 1}: `);
    expect(await usersFor("renewed"), "a lease that Vault renews keeps its user").toEqual(renewed);
    await stop(application);
    // Its lease was of an hour: it did not end by itself, it was revoked with the token.
    await until("its last user is gone", async () => (await usersFor("kept")).length === 0);
    await until("each is gone", async () => (await usersFor("rotated")).length === 0);
  });
  test("logs in with a static role's new password", async () => {
    const application = await startApplication("static-creds/fixed", {
      AUTHPROXY_ON_CHANGE: "SIGHUP",
      AUTHPROXY_REFRESH: "1",
    });
    await application.says("login 1: fixed\n");
    await vault.write("database/rotate-role/fixed", {});
    await application.says("login 2: fixed\n");
    await stop(application);
  });
  test("logs in with the password of a static role that Vault rotates, whatever --refresh", async () => {
    // Its period begins now: it must not be over between the client's look and the first login.
    await vault.write("database/rotate-role/turning", {});
    const application = await startApplication("static-creds/turning", {
      AUTHPROXY_ON_CHANGE: "SIGHUP",
      AUTHPROXY_REFRESH: "3600",
    });
    await application.says("login 2: turning\n");
    await stop(application);
  });
  test("has one user where the database takes 12 s to make it", async () => {
    const application = await startApplication("creds/slow", { AUTHPROXY_WAIT: "35" });
    await application.says("login 1: ");
    expect(await usersFor("slow")).toHaveLength(1);
    await stop(application);
  });
});

test.concurrent("one that is not told loses its database with its user", async () => {
  const application = await startApplication("creds/deaf", {});
  expect(await application.ended).toBe(1);
  expect(application.output).toMatch(/^authproxy: changed: DB_\w+_FILE DB_\w+_FILE$/m);
  expect(application.output).toMatch(/^PostgresError: /m);
  expect(loginsOf(application)).toHaveLength(1);
});
