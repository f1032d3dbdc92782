// Question: does `authproxy doctor` say of a host what a person would find out by hand, and leave it as
// it was? Real server, engine, OpenBao; each failure is provoked.
// Beside the cases that have a test of their own: an engine without a common API version and one whose
// socket everybody may use; a socket that is stale, a file, or missing; a state directory that is
// missing, open, somebody else's or on a disk; a name that is not known, a refused port, no TLS there,
// another authority, another name, little time left, another's answer, a sealed Vault, a listener that
// demands a certificate by TLS 1.2 and 1.3; a proxy in the environment; tokens that are root's, batch,
// counted or have the policy `default`; a role that does not exist, a policy that lacks something.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  cpSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createServer as createHttpServer, request } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import { type AddressInfo, createServer } from "node:net";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Finding } from "../cli/doctor/finding.ts";
import { client, freePort, type OpenBao, startOpenBao } from "../scripts/openbao.ts";
import type { JsonObject } from "../server/json.ts";
import { startDemandingOpenBao } from "./demanding.ts";
import { block, readDocument } from "./documents.ts";
import { Front } from "./front.ts";
import { app, bao, image, password, Stage, until, vaultAt } from "./stage.ts";

const program = join(import.meta.dirname, "../cli/authproxy.ts");
const ENGINE = "/var/run/docker.sock";
const certificates = dirname(bao.caFile);

type Ran = { status: number; stdout: string; stderr: string };
type RunOptions = { uid?: number; under?: string[]; flags?: string[]; env?: NodeJS.ProcessEnv };

/** What no output may hold: each test that makes a secret adds it. */
const secrets = new Set([bao.rootToken, password]);

async function run(words: string[], options: RunOptions = {}): Promise<Ran> {
  const { uid, under = [], flags = [], env } = options;
  const node = [process.execPath, "--disable-warning=ExperimentalWarning", ...flags, program];
  const [command = "", ...argv] = [...under, ...node, "doctor", ...words];
  const user = uid === undefined ? {} : { uid, gid: uid };
  const child = spawn(command, argv, { env: { PATH: process.env.PATH, ...env }, ...user });
  const ended = new Promise<number>((resolve) => child.on("close", resolve));
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  for (const secret of secrets) expect(stdout + stderr).not.toContain(secret);
  expect(stdout + stderr).not.toMatch(/\b(hvs|hvb|s|b)\.[A-Za-z0-9]{20,}/);
  return { status: await ended, stdout, stderr };
}

async function doctor(config: string, options?: RunOptions, ...words: string[]) {
  const { status, stdout, stderr } = await run(["--json", "--config", config, ...words], options);
  expect(stderr).toBe("");
  const findings: Finding[] = JSON.parse(stdout);
  expect(status).toBe(findings.some((finding) => finding.status === "failed") ? 1 : 0);
  for (const { advice, detail } of findings) expect(`${detail}${advice}`).not.toContain("\n");
  return findings;
}

/** All that was found, as "check status: detail: advice". */
const said = (findings: Finding[]) =>
  findings.map(({ check, status, detail, advice }) => `${check} ${status}: ${detail}: ${advice}`);
const linesOf = (findings: Finding[], check: string) =>
  said(findings.filter((finding) => finding.check === check)).join("\n");

/** In memory, as /run is. */
function stateInMemory(stage: Stage): string {
  const state = mkdtempSync("/dev/shm/authproxy-doctor-");
  stage.defer(() => rmSync(state, { recursive: true }));
  return state;
}

describe("a host where all is well", () => {
  const stage = new Stage();
  let config: string;
  let findings: Finding[];
  beforeAll(async () => {
    const ca_file = join(stage.directory, "ca.pem");
    writeFileSync(ca_file, bao.ca);
    const vault = { ...vaultAt(bao.address), ca_file };
    const server = await stage.server({ state: stateInMemory(stage), vault });
    config = join(stage.directory, "authproxy.json");
    secrets.add(readFileSync(join(stage.directory, "secret_id"), "utf8"));
    const container = await stage.container();
    await container.says("started with a password");
    await server.until({ event: "granted" });
    findings = await doctor(config);
  });
  afterAll(() => stage[Symbol.asyncDispose]());

  test("is said to be well, each check in a line, and the exit code is 0", async () => {
    expect(said(findings.filter(({ status }) => status === "failed"))).toEqual([]);
    const checks = new Set(findings.map(({ check }) => check));
    const fine = new Set(findings.filter(({ status }) => status === "ok").map((f) => f.check));
    // Of core files and swap this machine decides.
    expect([...checks].filter((check) => !fine.has(check) && check !== "limits")).toEqual([]);
    expect(linesOf(findings, "kernel")).toMatch(/ok: Linux .*, with SO_PEERPIDFD/);
    expect(linesOf(findings, "state")).toContain("leases: 1");
    expect(linesOf(findings, "engine")).toMatch(/Docker .*the server uses 1\.\d+/);
    expect(linesOf(findings, "mounts")).toMatch(/containers that have .*: 1, as it is now/);
    expect(linesOf(findings, "vault")).toMatch(
      /TLSv1\.3, certificate trusted.*\n.*active, version/,
    );
    expect(linesOf(findings, "clock")).toMatch(/ok: Vault's is \d+ s/);
    expect(linesOf(findings, "login")).toContain("with the policies authproxy");
    expect(linesOf(findings, "rights")).toContain("app: auth/token/create/app");

    const [shown = ""] = block("docs/doctor.md", "authproxy doctor").split("#");
    expect(shown.trim()).toBe("authproxy doctor");
    const plain = await run(["--config", config]);
    expect(plain.status).toBe(0);
    expect(plain.stdout).toMatch(/^ok {11}kernel: Linux/m);
    expect(plain.stdout).toMatch(/\n\nok: \d+, warning: \d+, failed: 0, not checked: 0\n$/);
  });

  test("every check is in the documentation, and there is no other in it", async () => {
    const rows = readDocument("docs/doctor.md").match(/^\| `.*?\|/gm) ?? [];
    const documented = rows.flatMap((row) =>
      [...row.matchAll(/`([^`]+)`/g)].map(([, name]) => name),
    );
    const seen = findings.map(({ check }) => check);
    // Where there is something to say, and on a Kubernetes node (pods-commands.test.ts).
    const elsewhere = ["vault for clients", "credential", "kubelet"];
    expect(documented.toSorted()).toEqual([...new Set([...seen, ...elsewhere])].toSorted());
  });

  test("is left as it was: no file is written, no token lives, no service's was made", async () => {
    const accessors = async () => (await client(bao).list("auth/token/accessors")).data.keys;
    const before = [await accessors(), snapshot(stage.directory)];
    // Node itself refuses each write of the command.
    const permissions = [
      "--disable-warning=SecurityWarning",
      "--permission",
      "--allow-fs-read=*",
      "--allow-child-process",
    ];
    const found = await doctor(config, { flags: permissions });
    expect(found.map(({ check, status }) => `${check} ${status}`)).toEqual(
      findings.map(({ check, status }) => `${check} ${status}`),
    );
    expect([await accessors(), snapshot(stage.directory)]).toEqual(before);

    // The programs that it starts write none either.
    const log = join(stage.directory, "strace");
    const calls =
      "trace=open,openat,creat,rename,renameat2,unlink,unlinkat,mkdir,mkdirat,link,symlink";
    await doctor(config, { under: ["strace", "-f", "-o", log, "-e", calls] });
    const traced = readFileSync(log, "utf8");
    expect(traced).toMatch(/openat\(.*authproxy\.json", O_RDONLY/);
    const writing = traced
      .split("\n")
      .filter((line) =>
        /O_WRONLY|O_RDWR|O_CREAT|^\d+ +(creat|rename|unlink|mkdir|link|symlink)/.test(line),
      )
      .filter((line) => !/"\/dev\/(null|tty)"/.test(line));
    expect(writing).toEqual([]);
  });

  test("the server hears one connection of it, as a process of the host", async () => {
    await using other = new Stage();
    const server = await other.server();
    await doctor(join(other.directory, "authproxy.json"));
    const line = await server.until({ event: "refused" });
    expect(line).toMatchObject({ reason: "no-container", uid: 0 });
    expect(server.events.filter(({ event }) => event === "refused")).toHaveLength(1);
  });

  test("without root it says what it cannot look at, and what root can do", async () => {
    chmodSync(stage.directory, 0o755);
    chmodSync(config, 0o644);
    const found = await doctor(config, { uid: 65534 });
    expect(said(found.filter(({ status }) => status === "failed"))).toEqual([]);
    for (const check of ["server", "engine", "state", "containers", "mounts"])
      expect(linesOf(found, check), check).toMatch(/not checked/);
    expect(linesOf(found, "server")).toContain("run it as root");
    expect(linesOf(found, "vault")).toMatch(/ok: .*certificate trusted/);
  });
});

function snapshot(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: "utf8" })
    .map((name) => {
      const { ino, mode, mtimeMs, ctimeMs, size } = lstatSync(join(directory, name));
      return [name, ino, mode, mtimeMs, ctimeMs, size].join(" ");
    })
    .sort();
}

describe("a host where something is wrong", () => {
  const stage = new Stage();
  afterAll(() => stage[Symbol.asyncDispose]());

  /** What is found of one check where no server runs, and the configuration is changed by this. */
  async function found(check: string, changes: JsonObject, options?: RunOptions): Promise<string> {
    const findings = await doctor(stage.configure(changes), options);
    return linesOf(findings, check);
  }
  const place = (name: string) => join(stage.directory, name);
  const closed = async () => `https://127.0.0.1:${await freePort()}`;

  describe("by the configuration:", () => {
    test("a flaw, and then the rest is not looked at", async () => {
      const findings = await doctor(stage.configure({ sokcet: "/x" }));
      expect(linesOf(findings, "configuration")).toMatch(/failed: .*sokcet.*`authproxy check/);
      expect(linesOf(findings, "vault")).toContain("not checked");
      expect(linesOf(findings, "kernel")).toContain("ok");
    });

    test("a file that others can write, and one that is not there", async () => {
      const file = stage.configure();
      chmodSync(file, 0o666);
      expect(linesOf(await doctor(file), "configuration")).toMatch(/failed: .*chmod go-w/);
      chmodSync(file, 0o600);
      expect(linesOf(await doctor("/none.json"), "configuration")).toMatch(/failed: .*\/none.json/);
    });

    test("no service", async () => {
      expect(await found("configuration", { services: {} })).toMatch(/warning: .*no service/);
    });
  });

  describe("by the engine:", () => {
    /** A server in front of the engine that changes its answers. */
    async function engineThat(change: (path: string, answer: JsonObject) => number | undefined) {
      const socket = place(`engine-${performance.now()}`);
      const server = createHttpServer((asked, response) => {
        const { method, url = "" } = asked;
        const options = { socketPath: ENGINE, method: method ?? "GET", path: url };
        request(options, async (got) => {
          const answer = JSON.parse(await text(got));
          const status = change(url, answer) ?? got.statusCode ?? 0;
          response.writeHead(status).end(JSON.stringify(answer));
        }).end();
      });
      await once(server.listen(socket), "listening");
      stage.defer(() => server.close());
      return socket;
    }

    test("none there, a file, nobody who listens", async () => {
      expect(await found("engine", { engine: place("none") })).toMatch(
        /failed: .*ENOENT.*"engine"/,
      );
      expect(await found("engine", { engine: stage.configure() })).toContain("is not a socket");
      const server = createServer().listen(place("stale"));
      await once(server, "listening");
      renameSync(place("stale"), place("gone")); // Node removes what it has bound
      server.close();
      const findings = await doctor(stage.configure({ engine: place("gone") }));
      expect(linesOf(findings, "engine")).toMatch(/failed: .*ECONNREFUSED/);
      expect(linesOf(findings, "containers")).toMatch(/not checked/);
    });

    test("no version of its API that is ours: in its own words", async () => {
      const message = "client version 1.51 is too old. Minimum supported API version is 1.99";
      const engine = await engineThat((path, answer) => {
        answer.ApiVersion = "1.99";
        if (path === "/version") return undefined;
        answer.message = message;
        return 400;
      });
      expect(await found("engine", { engine })).toMatch(/failed: .*client version 1.51 is too old/);
    });

    test("a socket that everybody may use", async () => {
      const engine = await engineThat(() => undefined);
      chmodSync(engine, 0o666);
      expect(await found("engine", { engine })).toMatch(/warning: .*everybody.*chmod 0660/);
    });

    const runtimeAt = (path: string, runtimeArgs: string[] = []) =>
      engineThat((url, answer) => {
        if (url.endsWith("/info")) answer.Runtimes = { authproxy: { path, runtimeArgs } };
        return undefined;
      });
    const trusted = () => {
      // Root's alone: a copy's directory is below /run, not below /tmp.
      const directory = mkdtempSync("/run/authproxy-doctor-");
      stage.defer(() => rmSync(directory, { recursive: true }));
      chmodSync(directory, 0o755);
      const dist = join(import.meta.dirname, "../dist");
      mkdirSync(join(directory, "runtime"));
      mkdirSync(join(directory, "authproxy"));
      for (const file of ["runtime/authproxy-runc", "authproxy/ld.so", "authproxy/authproxy.js"])
        cpSync(join(dist, file), join(directory, file));
      writeFileSync(join(directory, "authproxy/node"), "");
      return directory;
    };

    test("a runtime that is not there, or that gives containers another directory", async () => {
      const missing = { engine: await runtimeAt("/none/authproxy-runc") };
      expect(await found("runtime", missing)).toMatch(/failed: there is no \/none/);
      const program = join(trusted(), "runtime/authproxy-runc");
      const other = { engine: await runtimeAt(program) };
      expect(await found("runtime", other)).toMatch(
        /failed: it gives containers \/run\/authproxy,.*--sockets/,
      );
      const same = { engine: await runtimeAt(program, [`--sockets=${place("run")}`]) };
      expect(await found("runtime", same)).toMatch(/ok/);
    });

    test("a runtime whose loader can be read, or whose files are not root's alone", async () => {
      const directory = trusted();
      const sockets = [`--sockets=${place("run")}`];
      const engine = await runtimeAt(join(directory, "runtime/authproxy-runc"), sockets);
      chmodSync(join(directory, "authproxy/ld.so"), 0o755);
      expect(await found("runtime", { engine })).toMatch(/warning: .*chmod 0711/);
      rmSync(join(directory, "authproxy/node"));
      expect(await found("runtime", { engine })).toMatch(/failed: .*authproxy\/node: not there/);
      chownSync(join(directory, "runtime/authproxy-runc"), 1001, 0);
      expect(await found("runtime", { engine })).toMatch(/failed: .*not root's alone/);
    });
  });

  describe("by the socket and the state:", () => {
    const socketAt = (name: string) => ({ socket: join(place(name), "authproxy.sock") });
    const directory = (name: string, mode = 0o755) => {
      mkdirSync(place(name));
      chmodSync(place(name), mode);
      return socketAt(name);
    };

    test("no directory, no socket, a file in its place", async () => {
      expect(await found("socket", socketAt("no-directory"))).toMatch(
        /failed: there is no .*install -d/,
      );
      const empty = directory("empty");
      expect(await found("socket", empty)).toMatch(/failed: there is no .*: start the server/);
      writeFileSync(empty.socket, "");
      expect(await found("socket", empty)).toMatch(/failed: .*is not a socket/);
    });

    test("a directory that others can write, or nobody can enter, or that is another's", async () => {
      expect(await found("socket", directory("open", 0o777))).toMatch(/failed: .*chmod 0755/);
      expect(await found("socket", directory("shut", 0o700))).toMatch(/failed: .*cannot enter/);
      const others = directory("others");
      chownSync(place("others"), 1001, 1001);
      expect(await found("socket", others)).toMatch(
        /warning: .*belongs to uid 1001.*--socket-owner/,
      );
    });

    test("a socket on which nobody listens, or to which not all may connect", async () => {
      const { socket } = directory("stale-socket");
      const server = createServer().listen(`${socket}.first`);
      await once(server, "listening");
      renameSync(`${socket}.first`, socket);
      server.close();
      chmodSync(socket, 0o660);
      const findings = await doctor(stage.configure({ socket }));
      expect(linesOf(findings, "socket")).toMatch(/failed: .*mode 0660.*chmod 0666/);
      expect(linesOf(findings, "server")).toMatch(/failed: nobody listens .*journalctl/);
    });

    test("somebody else who listens, as systemd does: nobody connects, which would start it", async () => {
      const { socket } = directory("activation");
      const server = createServer().listen(socket);
      let connections = 0;
      server.on("connection", () => connections++);
      await once(server, "listening");
      stage.defer(() => server.close());
      expect(await found("server", { socket })).toMatch(/failed: .*somebody listens for it/);
      expect(connections).toBe(0);
    });

    test("a state directory of another mode, owner or kind; on a disk; not there yet", async () => {
      const state = place("a-state");
      expect(await found("state", { state })).toMatch(/not checked: there is no/);
      mkdirSync(state, { mode: 0o700 });
      expect(await found("state", { state })).toMatch(/warning: .*not in memory.*tmpfs/);
      chmodSync(state, 0o755);
      expect(await found("state", { state })).toMatch(/failed: .*mode 0755: chmod 0700/);
      mkdirSync(place("anybody"));
      chmodSync(place("anybody"), 0o777);
      mkdirSync(place("anybody/state"), { mode: 0o700 });
      const inOpen = { state: place("anybody/state") };
      expect(await found("state", inOpen)).toMatch(/failed: .*anybody: others can write it/);
      chmodSync(state, 0o700);
      chownSync(state, 1001, 1001);
      expect(await found("state", { state })).toMatch(/failed: .*belongs to uid 1001: chown 0/);
      chownSync(state, 0, 0);
      const memory = ["-t", "tmpfs", "-o", "size=4096,mode=0700", "tmpfs", state];
      execFileSync("mount", memory);
      expect(await found("state", { state })).toMatch(/ok: .*in memory; leases: 0/);
      writeFileSync(join(state, "full"), "x");
      const full = await found("state", { state });
      execFileSync("umount", [state]);
      expect(full).toMatch(/failed: .*is full/);
      rmSync(state, { recursive: true });
      writeFileSync(state, "");
      expect(await found("state", { state })).toMatch(/failed: .*is not a directory/);
    });
  });

  describe("by the way to Vault:", () => {
    const vaultIs = (address: string, more: JsonObject = {}) => ({
      vault: { ...vaultAt(address), ...more },
    });
    const own = (address: string) => found("vault", vaultIs(address));

    test("a name that is not known, a port that is closed, no TLS", async () => {
      expect(await own("https://nowhere.invalid:8200")).toMatch(
        /failed: .*(ENOTFOUND|EAI_AGAIN).*resolver/,
      );
      expect(await own(await closed())).toMatch(/failed: .*ECONNREFUSED: nothing listens there/);
      const plain = createHttpServer().listen(0, "127.0.0.1");
      await once(plain, "listening");
      stage.defer(() => plain.close());
      const { port } = plain.address() as AddressInfo;
      expect(await own(`https://127.0.0.1:${port}`)).toMatch(/failed: .*TLS 1.2/);
    });

    test("a proxy in the environment is not used, and that is said", async () => {
      for (const name of ["HTTPS_PROXY", "https_proxy", "all_proxy"]) {
        const env = { [name]: "http://user:proxy-password@proxy:3128" };
        secrets.add("proxy-password");
        const unreachable = await found("vault", vaultIs(await closed()), { env });
        expect(unreachable).toContain(
          `${name} is set, and not used: the token goes to Vault directly`,
        );
        expect(await found("vault", vaultIs(bao.address), { env })).toMatch(/ok: .*trusted/);
      }
    });

    test("another authority, another name", async () => {
      const front = await Front.before(bao);
      stage.defer(() => front.stop());
      expect(await own(front.address)).toMatch(/failed: .*not trusted: .*SELF_SIGNED.*ca_file/);

      const [key, cert] = ["vault-key.pem", "vault-cert.pem"].map((file) =>
        readFileSync(join(certificates, file)),
      );
      const server = createHttpsServer({ key, cert }).listen(0, "127.0.0.2");
      await once(server, "listening");
      stage.defer(() => server.close());
      const { port } = server.address() as AddressInfo;
      expect(await own(`https://127.0.0.2:${port}`)).toMatch(
        /failed: .*ALTNAME_INVALID; valid to .*, for .*localhost.*use a name of the certificate/,
      );
    });

    test("a certificate that has ended", async () => {
      const vault = client(bao);
      await vault.mount({ mount_point: "doctor", type: "pki" });
      const key = { key_type: "ec" };
      await vault.write("doctor/root/generate/internal", { common_name: "doctor", ...key });
      await vault.write("doctor/roles/short", { allow_any_name: true, ttl: "1s", ...key });
      const names = { common_name: "localhost", ip_sans: "127.0.0.1" };
      const { data } = await vault.write("doctor/issue/short", names);
      const ca_file = place("short-ca.pem");
      writeFileSync(ca_file, data.issuing_ca);
      const { certificate: cert, private_key } = data;
      const server = createHttpsServer({ key: private_key, cert }).listen(0, "127.0.0.1");
      await once(server, "listening");
      stage.defer(() => server.close());
      const { port } = server.address() as AddressInfo;
      await until("it has ended", () => Date.now() > (Number(data.expiration) + 1) * 1000);
      const ended = await found("vault", vaultIs(`https://127.0.0.1:${port}`, { ca_file }));
      expect(ended).toMatch(/failed: .*CERT_HAS_EXPIRED; valid to .*renew it/);
    });

    test("little time that is left, another's answer in Vault's place, a clock", async () => {
      const front = await Front.before(bao);
      stage.defer(() => front.stop());
      const beforeFront = vaultIs(front.address, { ca_file: front.caFile });
      expect(await found("vault", beforeFront)).toMatch(
        /warning: .*trusted, valid to .*, 0 days: renew it/,
      );
      front.answer = () => ({ status: 200, type: "text/html", body: "<html>maintenance" });
      expect(await found("vault", beforeFront)).toMatch(
        /failed: .*status 200, not in Vault's form/,
      );

      const [key, cert] = ["key.pem", "front.pem"].map((file) =>
        readFileSync(join(dirname(front.caFile), file)),
      );
      const server = createHttpsServer({ key, cert }, (_, response) => {
        const date = new Date(Date.now() - 3_600_000).toUTCString();
        response.writeHead(200, { Date: date }).end('{"version":"1"}');
      });
      await once(server.listen(0, "127.0.0.1"), "listening");
      stage.defer(() => server.close());
      const { port } = server.address() as AddressInfo;
      const late = vaultIs(`https://127.0.0.1:${port}`, { ca_file: front.caFile });
      expect(await found("clock", late)).toMatch(
        /warning: Vault's is 360[01] s behind this host's: .*NTP/,
      );
    });

    test("the address of containers is looked at too, where it is another", async () => {
      const for_clients = { address: await closed() };
      const findings = await doctor(stage.configure(vaultIs(bao.address, { for_clients })));
      expect(linesOf(findings, "vault for clients")).toMatch(
        /warning: .*ECONNREFUSED: from this host/,
      );
      expect(linesOf(findings, "vault")).toMatch(/ok: /);
    });

    describe("of another OpenBao", () => {
      let other: OpenBao;
      let ports: number[];
      beforeAll(async () => {
        ({ demanding: other, ports } = await startDemandingOpenBao(bao));
        secrets.add(other.rootToken);
      });
      afterAll(() => other.stop());

      test.each([0, 1])(
        "a listener that demands a certificate, by TLS 1.3 and 1.2: %i",
        async (i) => {
          expect(await own(`https://127.0.0.1:${ports[i]}`)).toMatch(
            /failed: .*client certificate.*tls_require_and_verify_client_cert/,
          );
        },
      );

      test("one that is sealed", async () => {
        await client(other).write("sys/seal", {});
        const findings = await doctor(
          stage.configure(vaultIs(other.address, { ca_file: other.caFile })),
        );
        expect(linesOf(findings, "vault")).toMatch(/failed: .*sealed.*unseal/);
        expect(linesOf(findings, "login")).toMatch(/not checked/);
      });
    });
  });

  describe("by the login:", () => {
    test("no file, a secret id that Vault does not know", async () => {
      const path = "auth/approle/login";
      const body_files = { secret_id: place("none") };
      const vault = { ...vaultAt(bao.address), login: { path, body: {}, body_files } };
      expect(await found("credential", { vault })).toMatch(/failed: there is no .*none/);
      const atSystemd = { secret_id: "/run/credentials/authproxy.service/none" };
      const later = { ...vault, login: { path, body: {}, body_files: atSystemd } };
      expect(await found("credential", { vault: later })).toMatch(
        /not checked: .*systemd puts it there/,
      );
      const wrong = await doctor(stage.configure({}, "not-a-secret-id"), {}, "--login");
      expect(linesOf(wrong, "login")).toMatch(/failed: auth\/approle\/login: status 400: invalid/);
      expect(linesOf(wrong, "login")).not.toContain("not-a-secret-id");
    });

    test("a secret id is not used where no server runs, unless --login says so", async () => {
      const config = stage.configure();
      const file = place("secret_id");
      expect(linesOf(await doctor(config), "login")).toMatch(/not checked: .*uses.*--login/);
      expect(linesOf(await doctor(config, {}, "--login"), "login")).toMatch(/ok: by auth\/approle/);
      chmodSync(file, 0o644);
      const open = await doctor(config, {}, "--login");
      expect(linesOf(open, "credential")).toMatch(/warning: .*everybody can read it: chmod 0600/);
    });
  });

  describe("by the server's token:", () => {
    const vault = client(bao);
    /** What is found where the server has this token, from a file. */
    async function withToken(of: JsonObject, services: JsonObject = { app }) {
      const { auth } = await vault.write("auth/token/create", of);
      return { findings: await doctor(tokenConfig(auth.client_token, services)), auth };
    }
    function tokenConfig(token: string, services: JsonObject = { app }): string {
      secrets.add(token);
      writeFileSync(place("token"), token, { mode: 0o600 });
      const login = { token_file: place("token") };
      return stage.configure({ vault: { ...vaultAt(bao.address), login }, services });
    }

    test("it is root's", async () => {
      const findings = await doctor(tokenConfig(bao.rootToken));
      expect(linesOf(findings, "server token")).toMatch(/failed: it is a root token/);
    });

    test("it has the policy `default`, which makes each grant slower", async () => {
      const { findings } = await withToken({ policies: ["authproxy"], period: "1h" });
      expect(linesOf(findings, "server token")).toMatch(
        /warning: .*`default`.*longer: token_no_default_policy=true/,
      );
      expect(linesOf(findings, "rights")).toMatch(/ok: .*auth\/token\/create\/app/);
    });

    test("of the recipe in docs/operate.md it is without `default`, and may all that it has to", async () => {
      const other = await startOpenBao();
      stage.defer(() => other.stop());
      const directory = place("recipe");
      mkdirSync(directory);
      const env = {
        PATH: `${dirname(program)}/../dist:${process.env.PATH}`,
        HOME: directory,
        BAO_ADDR: other.address,
        BAO_CACERT: other.caFile,
        BAO_TOKEN: other.rootToken,
      };
      const sh = (script: string) =>
        execFileSync("sh", ["-ec", script], { cwd: directory, env, encoding: "utf8" });
      sh(block("docs/operate.md", "bao policy write authproxy-web1"));
      const roleId = sh("cat role_id").trim();
      const secretId = sh('bao unwrap -field=secret_id "$(cat wrapped)"').trim();
      secrets.add(secretId).add(other.rootToken);
      const changes = {
        vault: vaultAt(other.address, other, roleId),
        services: { timeline: { ...app, token: { create: "auth/token/create/timeline" } } },
      };
      const findings = await doctor(stage.configure(changes, secretId), {}, "--login");
      expect(said(findings.filter(({ check }) => /^(server token|rights)$/.test(check)))).toEqual([
        "server token ok: not root's, without `default`: undefined",
        expect.stringMatching(/^rights ok: .*create\/timeline/),
      ]);
    });

    const bare = { policies: ["authproxy"], no_default_policy: true };
    test("it is a batch token, or its uses are counted, or it ends", async () => {
      const batch = await withToken({ ...bare, type: "batch", ttl: "1h" });
      expect(linesOf(batch.findings, "server token")).toMatch(/failed: it is a batch token/);
      const counted = await withToken({ ...bare, num_uses: 50, period: "1h" });
      expect(linesOf(counted.findings, "server token")).toMatch(/failed: it can be used \d+ times/);
      const ending = await withToken({ ...bare, renewable: false, ttl: "1h" });
      expect(linesOf(ending.findings, "server token")).toMatch(/warning: it ends in \d+ s/);
    });

    test("it is not renewed, and what it has is named", async () => {
      const { findings, auth } = await withToken({ ...bare, period: "1h" });
      expect(said(findings.filter(({ check }) => /token|rights/.test(check)))).toEqual([
        "server token ok: not root's, without `default`: undefined",
        expect.stringMatching(/^rights ok: .*lookup-self, .*renew-self, .*create\/app/),
      ]);
      const { data } = await vault.write("auth/token/lookup-accessor", { accessor: auth.accessor });
      expect(data.last_renewal).toBeUndefined();
    });

    test("what it may not do, and a role that is not there, are named one by one", async () => {
      const rules = [
        'path "auth/token/lookup-self" { capabilities = ["read"] }',
        'path "auth/token/create/absent" { capabilities = ["update"] }',
        'path "auth/token/create/wrapped" { capabilities = ["update"] min_wrapping_ttl = "1s" }',
        'path "auth/token/renew-accessor" { capabilities = ["update"] }',
      ];
      await vault.addPolicy({ name: "lacking", policy: rules.join("\n") });
      const role = { allowed_policies: "app", orphan: true };
      await vault.write("auth/token/roles/wrapped", role);
      const of = (token: JsonObject) => ({ ...app, token });
      const services = {
        denied: of({ create: "auth/token/create/app" }),
        absent: of({ create: "auth/token/create/absent" }),
        wrapped: of({ create: "auth/token/create/wrapped", wrap_ttl: "60s" }),
        other: of({ create: "auth/userpass/login/x" }),
        shared: of({ read: "secret/data/app#password" }),
      };
      const before = (await vault.list("auth/token/accessors")).data.keys.length;
      const { findings } = await withToken(
        { ...bare, policies: ["lacking"], period: "1h" },
        services,
      );
      expect((await vault.list("auth/token/accessors")).data.keys.length).toBe(before + 1);
      const lines = linesOf(findings, "rights").split("\n");
      const denied = (subject: string) =>
        expect.stringMatching(`^rights failed: ${subject}: Vault denies it: .*policy`);
      expect(lines).toEqual([
        "rights ok: the server's token may auth/token/lookup-self, auth/token/renew-accessor, wrapped: auth/token/create/wrapped: undefined",
        denied("auth/token/renew-self"),
        denied("auth/token/revoke-accessor"),
        denied("auth/token/lookup-accessor"),
        denied("denied: auth/token/create/app"),
        expect.stringMatching(
          "^rights failed: absent: .*no such token role: `authproxy provision`",
        ),
        expect.stringMatching("^rights not checked: other: auth/userpass"),
        denied("shared: secret/data/app"),
      ]);
    });
  });
});

describe("a server that runs", () => {
  test("as another user: owners, rights and files are that user's", async () => {
    await using stage = new Stage();
    chmodSync(stage.directory, 0o755);
    const ca_file = join(stage.directory, "ca.pem");
    writeFileSync(ca_file, bao.ca);
    const config = stage.configure({
      vault: { ...vaultAt(bao.address), ca_file },
      state: join(stage.directory, "own/state"),
    });
    for (const name of ["run", "own"]) {
      mkdirSync(join(stage.directory, name), { recursive: true });
      chownSync(join(stage.directory, name), 1234, 1234);
    }
    chownSync(config, 0, 1234);
    chmodSync(config, 0o640);
    chownSync(join(stage.directory, "secret_id"), 1234, 1234);
    const under = ["setpriv", "--reuid=1234", "--regid=1234", "--clear-groups"];
    const server = stage.start(config, { under });
    await server.until({ event: "ready" });
    const findings = await doctor(config);
    expect(linesOf(findings, "configuration")).toContain("ok");
    expect(linesOf(findings, "server")).toContain(`process ${server.pid}, uid 1234, answers`);
    expect(linesOf(findings, "socket")).toMatch(/warning: .*uid 1234.*--socket-owner/);
    expect(linesOf(findings, "state")).toMatch(/warning: .*not in memory/);
    expect(linesOf(findings, "namespaces")).toMatch(/failed: .*lacks CAP_SYS_PTRACE/);
    expect(linesOf(findings, "engine")).toMatch(
      /failed: .*the server is uid 1234: .*SupplementaryGroups/,
    );
    expect(linesOf(findings, "login")).toContain("ok");

    chmodSync(config, 0o600); // now only root can read it
    const denied = await doctor(config);
    expect(linesOf(denied, "configuration")).toMatch(/failed: .*EACCES.*uid 1234/);
    expect(linesOf(denied, "vault")).toContain("ok");
  });

  test("that does not answer", async () => {
    await using stage = new Stage();
    const server = await stage.server();
    process.kill(server.helper, "SIGSTOP");
    const findings = await doctor(join(stage.directory, "authproxy.json"));
    process.kill(server.helper, "SIGCONT");
    expect(linesOf(findings, "server")).toMatch(/failed: .*no answer in time/);
  });

  test("may write a core file, or may not; and sees a /proc that hides others", async () => {
    const hiding = 'mount -t proc -o hidepid=2 proc /proc && exec "$0" "$@"';
    for (const [size, expected] of [
      ["0", /ok: peercred has \d+ of \d+ descriptors; no core file/],
      ["4096", /warning: process \d+ may write a core file: .*LimitCORE=0/],
    ] as const) {
      await using stage = new Stage();
      const under = ["prlimit", `--core=${size}`, "unshare", "--mount", "sh", "-c", hiding];
      const server = stage.start(stage.configure(), { under });
      await server.until({ event: "ready" });
      const findings = await doctor(join(stage.directory, "authproxy.json"));
      expect(linesOf(findings, "limits")).toMatch(expected);
      expect(linesOf(findings, "namespaces")).toMatch(/ok: .*hidepid=\w+ does not hold it back/);
    }
  });

  test("in a pid namespace of its own", async () => {
    await using stage = new Stage();
    const under = ["unshare", "--pid", "--fork", "--kill-child"];
    const server = stage.start(stage.configure(), { under });
    await server.until({ event: "ready" });
    const findings = await doctor(join(stage.directory, "authproxy.json"));
    expect(linesOf(findings, "namespaces")).toMatch(
      /failed: .*pid namespace of its own: .*--pid=host/,
    );
  });
});

describe("a container whose socket directory", () => {
  test.each([
    ["was removed, and made again", (run: string) => rmSync(run, { recursive: true })],
    ["was moved away, and made again", (run: string) => renameSync(run, `${run}.old`)],
  ])("%s is named, and what to do", async (_, replace) => {
    await using stage = new Stage();
    const server = await stage.server();
    const container = await stage.container();
    await container.says("started with a password");
    const config = join(stage.directory, "authproxy.json");
    expect(linesOf(await doctor(config), "mounts")).toContain("ok");

    await server.end("SIGTERM");
    replace(join(stage.directory, "run"));
    await stage.server();
    const id = container.id.slice(0, 12);
    expect(linesOf(await doctor(config), "mounts")).toMatch(
      new RegExp(`failed: .*\\(${id}\\) has at /run/authproxy another .*restart the container`),
    );
    await container.restart();
    expect(linesOf(await doctor(config), "mounts")).toContain("ok");
  });

  test("is not mounted, but the socket alone, is named", async () => {
    await using stage = new Stage();
    const server = await stage.server();
    const volume = `${server.socket}:/run/authproxy/authproxy.sock`;
    const words = ["run", "--detach", "--volume", volume, "--entrypoint", "node", image];
    const run = [...words, "-e", "setTimeout(() => {}, 600000)"];
    const id = execFileSync("docker", run, { encoding: "utf8" }).trim();
    stage.defer(() => execFileSync("docker", ["rm", "--force", id]));
    const config = join(stage.directory, "authproxy.json");
    expect(linesOf(await doctor(config), "mounts")).toMatch(/warning: .*has the socket itself/);
    await server.end("SIGTERM");
    await stage.server();
    expect(linesOf(await doctor(config), "mounts")).toMatch(/failed: .*another .*authproxy.sock/);
  });
});
