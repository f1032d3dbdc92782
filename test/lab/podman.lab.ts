// Question: does the runtime wrapper serve Podman, which starts runtimes by conmon and in its own words?
// Input:    Podman 5 of Debian's packages, as root; the wrapper by `--runtime`, as dist/ has it; the
//           real server with Podman's socket for its engine; a real Vault.
import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { archiveOf, busybox } from "../compose/archive.ts";
import { block } from "../documents.ts";
import { bao, password, Stage, until, vaultAt } from "../stage.ts";
import { fetchPodman, startPodman } from "./engine.ts";

const REFERENCE = "vault:secret/data/app#password";
const IMAGE = "localhost/busybox:1";
const runtime = join(import.meta.dirname, "../../dist/runtime/authproxy-runc");

const stage = new Stage();
afterAll(() => stage[Symbol.asyncDispose]());
const engine = await startPodman(await fetchPodman("trixie"), "no.registry");
stage.defer(() => engine.stop());

/** The podman command with the wrapper for its runtime: what it printed, and how it ended. */
async function podman(...words: string[]) {
  const ours = ["--runtime", runtime, "--runtime-flag", `sockets=${sockets}`];
  return await run([...engine.command, ...ours, ...words]);
}

async function run([program = "", ...words]: string[]) {
  const ran = promisify(execFile)(program, words, { timeout: 50_000 });
  return await ran.then(
    ({ stdout, stderr }) => ({ status: 0, stdout, stderr }),
    ({ code, stdout, stderr }) => ({ status: Number(code), stdout, stderr }),
  );
}

const sockets = join(stage.directory, "run");
const at = ["--network", "host", "--read-only", "--user", "1001:1001", "--label", "app=app"];
const wanted = ["--env", `PASSWORD=${REFERENCE}`, "--env", `DB_FILE=${REFERENCE}`];
const TELL = ["sh", "-c", 'echo "$PASSWORD $DB_FILE"; cat "$DB_FILE"'];
const match = { peer: { uid: 1001 }, container: { Config: { Labels: { app: "app" } } } };
const services = { app: { match, token: { create: "auth/token/create/app" } } };
const server = await stage.server({ engine: engine.socket, services, vault: vaultAt(bao.address) });

beforeAll(async () => {
  await archiveOf(busybox, async (archive) => {
    const { says } = busybox;
    const changes = says.flatMap((line) => ["--change", line]);
    expect(await podman("import", ...changes, archive, IMAGE)).toMatchObject({ status: 0 });
  });
});

test("a container has its secret as a variable and as a file; Podman knows the reference", async () => {
  const ran = await podman("run", "--name", "asked", ...at, ...wanted, IMAGE, ...TELL);
  const told = `${password} /run/authproxy-secrets/DB\n${password}`;
  expect(ran).toEqual({ status: 0, stdout: told, stderr: "" });
  const { stdout } = await podman("inspect", "asked");
  expect(stdout).toContain(`PASSWORD=${REFERENCE}`);
  expect(stdout).not.toContain(password);
  const [{ Id }] = JSON.parse(stdout);
  const { accessor } = await server.until({ event: "granted", container: Id });
  await server.until({ event: "revoked", accessor: String(accessor) });
});

test("again at its restart, with another token, whatever a start that was cut off has left", async () => {
  const inspected = await podman("inspect", "--format", "{{.OCIConfigPath}}", "asked");
  writeFileSync(`${inspected.stdout.trim()}.authproxy`, "{");
  const ran = await podman("start", "--attach", "asked");
  expect(ran.stdout).toContain(password);
  const ofService = () => server.events.filter(({ event }) => event === "granted");
  expect(new Set(ofService().map(({ accessor }) => accessor)).size).toBe(2);
});

test("a command that is run inside it sees the reference", async () => {
  const words = ["--detach", "--name", "stays", ...at, ...wanted];
  await podman("run", ...words, IMAGE, "sleep", "600");
  await until("the application runs", async () => {
    const { stdout } = await podman("exec", "stays", "cat", "/proc/1/comm");
    return stdout === "sleep\n";
  });
  expect((await podman("exec", "stays", "env")).stdout).toContain(`PASSWORD=${REFERENCE}`);
  expect((await podman("rm", "--force", "--time", "0", "stays")).status).toBe(0);
});

test("as docs/compose.md has it", async () => {
  const shown = block("docs/compose.md", "podman --runtime");
  const [program, , , ...words] = shown.replaceAll("web", "app").trim().split(" ");
  expect([program, ...shown.split(" ").slice(1, 3)]).toEqual([
    "podman",
    "--runtime",
    "…/authproxy-runc",
  ]);
  const more = ["--rm", "--network", "host", "--user", "1001:1001", IMAGE, "sh", "-c"];
  const given = words.flatMap((word) => (word === "…" ? [...more, "echo $PASSWORD"] : word));
  expect(await podman(...given)).toEqual({ status: 0, stdout: `${password}\n`, stderr: "" });
});

test("a container of no service is refused, and its log says so", async () => {
  const ran = await podman("run", "--rm", ...at, "--label", "app=other", ...wanted, IMAGE, ...TELL);
  expect(ran).toMatchObject({ status: 77, stdout: "" });
  expect(ran.stderr).toContain("refused");
});

test("a container that cannot be served does not start, and Podman says why", async () => {
  const mount = ["--tmpfs", "/run/authproxy-secrets"];
  const ran = await podman("run", "--rm", ...at, ...mount, ...wanted, IMAGE, ...TELL);
  expect(ran).toMatchObject({ status: 126, stdout: "" });
  expect(ran.stderr).toContain("own mount at /run/authproxy-secrets is in the way");
});

test("a container without a reference is not touched", async () => {
  const look = ["sh", "-c", "ls -d /.authproxy /run/authproxy 2>&1; env"];
  const ran = await podman("run", "--rm", ...at, "--env", "A=b", IMAGE, ...look);
  expect(ran.stdout).toContain("A=b\n");
  expect(ran.stdout).not.toContain("authproxy\n");
});

test("containers.conf can make it the usual runtime: docs/compose.md", async () => {
  const shown = block("docs/compose.md", "[engine.runtimes]");
  const usual = shown.replace("/usr/local/lib/authproxy/runtime/authproxy-runc", runtime);
  expect(usual).not.toBe(shown);
  const file = join(stage.directory, "containers.conf");
  const place = engine.command.findIndex((word) => word.startsWith("CONTAINERS_CONF="));
  const [, before = ""] = engine.command[place]?.split("=") ?? [];
  writeFileSync(file, readFileSync(before, "utf8") + usual);
  const inNamespace = engine.command.slice(0, engine.command.indexOf("env"));
  await run([...inNamespace, "ln", "--symbolic", sockets, "/run/authproxy"]);
  const command = engine.command.with(place, `CONTAINERS_CONF=${file}`);
  const ran = await run([...command, "run", "--rm", ...at, ...wanted, IMAGE, ...TELL]);
  expect(ran).toMatchObject({ status: 0, stdout: expect.stringContaining(password) });
});
