// Question: where does the bench get Custodia from?
// Input:    Debian's packages, with all that they depend on (24 MB), by this machine's apt, which
//           checks their signatures. Nothing is installed on this machine.
// Output:   an image in the engine, made once and found again by the version of the package; its size.
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { say } from "./terminal.ts";

const run = (program: string, ...words: string[]) =>
  execFileSync(program, words, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });

/** Undefined where there is no apt or no such package: the peer is then left out, and it is said. */
export function custodiaImage(): string | undefined {
  if (!existsSync("/usr/bin/apt-get")) return undefined;
  const version = /Candidate: (\S+)/.exec(run("apt-cache", "policy", "custodia"))?.[1];
  if (!version || version === "(none)") return undefined;
  const name = `authproxy-bench-custodia:${version}`;
  if (spawnSync("docker", ["image", "inspect", name], { stdio: "ignore" }).status === 0)
    return name;
  say(`fetching Custodia ${version} and what it depends on by apt (24 MB)`);
  const directory = mkdtempSync(join(tmpdir(), "authproxy-custodia-"));
  try {
    const [packages, root] = [join(directory, "packages"), join(directory, "root")];
    mkdirSync(join(packages, "partial"), { recursive: true });
    mkdirSync(root);
    // As if nothing were installed: all that it needs is fetched.
    const nothing = join(directory, "status");
    writeFileSync(nothing, "");
    const options = [`Dir::State::status=${nothing}`, `Dir::Cache::archives=${packages}`];
    const words = ["--yes", "--download-only", "--no-install-recommends", "install", "custodia"];
    run("apt-get", ...options.flatMap((option) => ["-o", option]), ...words);
    const files = readdirSync(packages).filter((file) => file.endsWith(".deb"));
    for (const file of files) run("dpkg-deb", "-x", join(packages, file), root);
    mkdirSync(join(root, "tmp"));
    const archive = join(directory, "root.tar");
    const owned = ["--numeric-owner", "--owner=0", "--group=0"];
    run("tar", "--create", ...owned, "-f", archive, "-C", root, ".");
    run("docker", "import", archive, name);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
  return name;
}

/** A secret for one user, kept in a database file in memory. */
export function custodiaConfiguration(socket: string, uid: number): string {
  return `
[global]
server_socket = ${socket}
auditlog = /tmp/audit.log
umask = 000

[auth:uid]
handler = SimpleCredsAuth
uid = ${uid}

[authz:paths]
handler = SimplePathAuthz
paths = /secrets

[store:database]
handler = SqliteStore
dburi = /tmp/secrets.db
table = secrets

[/]
handler = Root

[/secrets]
handler = Secrets
store = database
`;
}
