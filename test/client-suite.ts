// Question: what must the client do wherever it runs, whatever its Node and its C library?
// Input:    how it is run there: as a process of this machine, or in containers of an image.
// Promise:  no case asks for more than what every image here has: Node, a shell, a few commands.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { chmodSync, chownSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { constants } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import {
  answer,
  type Ended,
  expectFailure,
  newPlace,
  node,
  Playground,
  type Run,
} from "./client-playground.ts";
import {
  bao,
  grant,
  hash,
  hashes,
  password,
  secret,
  token,
  twin,
  user,
  vault,
} from "./client-vault.ts";

export type Client = {
  /** Where there is no server, or the case plays it. */
  run: (with_: Run) => Promise<Ended>;
  /** As what is begun there usually is: in an image, as a container's first process. */
  begin: (with_: Run) => Promise<Ended>;
  /** So begun, and served by the server that there is. */
  served: (with_: Run) => Promise<Ended>;
  /** Served by a stand-in that says this line. */
  granted: (with_: Run, line: unknown) => Promise<Ended>;
  /** What takes from root the right to pass over the modes of files; absent where it is no root's. */
  withoutRights?: string[];
  /** A directory in memory for the files of secrets. */
  files: string;
  /** The number that what is begun has for itself. */
  pidOf: (child: ChildProcess) => number | undefined;
};

const isRoot = process.getuid?.() === 0;

/** What a variable holds, and what it becomes. */
export const references: [shows: string, value: string, expected: string][] = [
  ["KV version 2", "vault:secret/data/app#password", password],
  ["an older version", "vault:secret/data/app#password#1", `old-${password}`],
  ["a number", "vault:secret/data/app#port", "5432"],
  ["a large number, as it is written", "vault:kv/numbers#large", "12345678901234567890"],
  ["a fraction, as it is written", "vault:kv/numbers#fraction", "1.10"],
  ["a boolean", "vault:secret/data/app#tls", "true"],
  ["an object, as JSON", "vault:secret/data/app#nested", '{"a":1}'],
  ["a list, as JSON", "vault:secret/data/app#list", "[]"],
  [
    "a whole secret, as JSON",
    "vault:secret/data/app#*",
    JSON.stringify(secret, Object.keys(secret).concat("a").sort()),
  ],
  ["a default where there is no secret", "vault:secret/data/nowhere#a#?b#c", "b#c"],
  ["a default where there is no key", "vault:secret/data/app#nothing#?b", "b"],
  ["a default where the version is deleted", "vault:secret/data/app/gone#a#?b", "b"],
  ["a default where the value is null", "vault:secret/data/app#none#?b", "b"],
  ["no default where there is a value", "vault:secret/data/app#password#?b", password],
  ["no default where that version is", "vault:secret/data/app#password#1#?b", `old-${password}`],
  ["an optional one within a text", `a$${"{vault:secret/data/app#nothing#?}"}b`, "ab"],
  ["KV version 1", "vault:kv/app#password", password],
  ["a field called data in KV version 1", "vault:kv/app#data", user],
  ["what looks like version 2 in version 1", "vault:kv/data/twin#data", JSON.stringify(twin.data)],
  ["the same without a lease's time", "vault:kv/twin#data", JSON.stringify(twin.data)],
  [
    "two within a text",
    `pg://$${"{vault:secret/data/app#user}"}:$${"{vault:secret/data/app#password}"}@db`,
    `pg://${user}:${password}@db`,
  ],
];

/** What a process has from who became it; all but its number and its memory. */
const inherited = [
  ...["limits", "status", "oom_score_adj", "coredump_filter", "timerslack_ns", "personality"],
  ...["fdinfo/0", "fdinfo/1", "fdinfo/2"],
].map((name) => `/proc/self/${name}`);
/** Lines of these files that are about the process itself, or differ from run to run. */
const itsOwn =
  /^(State|Tgid|Ngid|Pid|PPid|NSpid|NStgid|NSpgid|NSsid|Vm\w+|Rss\w+|Threads|SigQ|\w*ctxt_switches|ino|mnt_id|x86_\w+|untag_mask):?\s/;

export function clientSuite(client: Client): void {
  const { run, begin, served, granted, files, pidOf } = client;
  const environment = { X: "vault:secret/data/app#password" };

  describe("references", () => {
    test("of every kind are resolved together", async () => {
      const names = references.map((_, index) => `X${index}`);
      const values = references.map(([, value], index) => [names[index], value]);
      const ended = await served({
        environment: Object.fromEntries(values),
        command: [...hashes, ...names],
      });
      expect([ended.exitCode, ended.stderr]).toEqual([0, ""]);
      const found = ended.stdout.trimEnd().split("\n");
      const wanted = references.map(([shows, , expected]) => [shows, hash(expected)]);
      expect(references.map(([shows], index) => [shows, found[index]])).toEqual(wanted);
    });
    test("may write to a path that is allowed", async () => {
      const X = '>>vault:transit/encrypt/app#ciphertext#{"plaintext":"aGVsbG8="}';
      const command = ["/bin/sh", "-c", "case $X in vault:v1:*) echo encrypted;; esac"];
      const options = ["--allow-write", "transit/encrypt/app"];
      expect(await served({ environment: { X }, command, options })).toMatchObject({
        exitCode: 0,
        stdout: "encrypted\n",
      });
    });
    test("to the token come with variables that say where Vault is", async () => {
      const script =
        'test -n "$VAULT_TOKEN"; echo "$VAULT_ADDR"; echo "$VAULT_CACERT_BYTES" | head -n 1';
      const command = ["/bin/sh", "-c", script];
      const ended = await served({ environment: { VAULT_TOKEN: "vault:login" }, command });
      expect(ended.stdout).toBe(`${bao.address}\n-----BEGIN CERTIFICATE-----\n`);
    });
  });

  describe("a secret is handed over", () => {
    const place = { AUTHPROXY_FILES: files };

    test("as a file that only its owner may read, whatever the umask", async () => {
      const ended = await served({
        environment: { ...place, X_FILE: "vault:secret/data/app#password" },
        command: [
          "/bin/sh",
          "-c",
          'echo "$X_FILE"; ls -l "$X_FILE" | cut -c 1-10; sha256sum < "$X_FILE" | cut -c 1-64',
        ],
      });
      expect(ended).toMatchObject({
        exitCode: 0,
        stdout: `${files}/X\n-r--------\n${hash(password)}\n`,
        stderr: "",
      });
    });
    test("as a directory with a file for each key", async () => {
      const ended = await served({
        environment: { ...place, TLS_DIR: "vault:kv/app#*" },
        command: ["/bin/sh", "-c", 'ls -a "$TLS_DIR"; sha256sum < "$TLS_DIR/data" | cut -c 1-64'],
      });
      expect(ended).toMatchObject({
        exitCode: 0,
        stdout: `.\n..\ndata\npassword\n${hash(user)}\n`,
        stderr: "",
      });
    });
    test("on standard input, as one JSON object in a file without a name", async () => {
      const ended = await served({
        environment: { ...environment, PORT: "vault:secret/data/app#port" },
        options: ["--stdin"],
        command: [
          "/bin/sh",
          "-c",
          'sha256sum | cut -c 1-64; ls -l /proc/self/fd/0; echo "$' + '{X-none}"',
        ],
      });
      expect([ended.exitCode, ended.stderr]).toEqual([0, ""]);
      const [sum, link, variable] = ended.stdout.split("\n");
      // Docker 20.10 puts variables in any order.
      const texts = [
        { X: password, PORT: 5432 },
        { PORT: 5432, X: password },
      ].map((values) => hash(JSON.stringify(values)));
      expect(texts).toContain(sum);
      expect(link).toMatch(/-> \/dev\/shm\/#\d+ \(deleted\)$/);
      expect(variable).toBe("none");
    });
    test("but not on a disk", async () => {
      const X_FILE = "vault:secret/data/app#password";
      const ended = await run({ options: ["--files", newPlace()], environment: { X_FILE } });
      expectFailure(ended, 78, /is not on tmpfs/, /--tmpfs/);
    });
    test("but not where there is no directory", async () => {
      const X_FILE = "vault:secret/data/app#user";
      const ended = await run({ options: ["--files", "/nowhere/x"], environment: { X_FILE } });
      expectFailure(ended, 78, /\/nowhere\/x cannot be used: ENOENT/, /--tmpfs \/nowhere\/x/);
    });
    test("but not as a variable of more than 128 KiB", async () => {
      const X = "vault:secret/data/app/big#big";
      const ended = await served({ environment: { X } });
      expectFailure(ended, 126, /X: 131075 bytes are too long/, /_FILE/);
    });
    test("but not as a variable with a NUL byte", async () => {
      const X = "vault:secret/data/app/big#nul";
      expectFailure(await served({ environment: { X } }), 78, /X: the value has a NUL/, /_FILE/);
    });
  });

  describe("the application", () => {
    const own = {
      AUTHPROXY_WAIT: "5",
      AUTHPROXY_UNKNOWN: "1",
      VAULT_ADDR: "https://elsewhere",
      VAULT_CACERT: "/ca",
      PLAIN: "vau1t:",
    };
    const printEnvironment = ["/usr/bin/env"];
    // HOME and HOSTNAME are an engine's.
    const namesOf = ({ stdout }: Ended) =>
      [...stdout.matchAll(/^(\w+)=/gm)]
        .map(([, name = ""]) => name)
        .filter((name) => name !== "HOME" && name !== "HOSTNAME")
        .sort();

    test("inherits none of the client's variables", async () => {
      const changes = { ...own, AUTHPROXY_FILES: files, Y_FILE: "vault:secret/data/app#user" };
      const ended = await served({ environment: changes, command: printEnvironment });
      expect(namesOf(ended)).toEqual(["PATH", "PLAIN", "Y_FILE"]);
      expect(ended.stdout).not.toContain("vault:");
    });
    test("keeps a VAULT_… variable that --keep names", async () => {
      const changes = { ...own, AUTHPROXY_FILES: files, Y_FILE: "vault:secret/data/app#user" };
      const options = ["--keep", "VAULT_CACERT"];
      const ended = await served({ environment: changes, options, command: printEnvironment });
      expect(namesOf(ended)).toEqual(["PATH", "PLAIN", "VAULT_CACERT", "Y_FILE"]);
    });
    test("starts at once without a reference, and no socket is touched", async () => {
      await using server = await Playground.open(answer(grant()));
      const changes = { ...own, AUTHPROXY_SOCKET: server.socket };
      const ended = await run({ environment: changes, command: printEnvironment, flags: [] });
      expect(namesOf(ended)).toEqual(["PATH", "PLAIN", "VAULT_ADDR", "VAULT_CACERT"]);
      expect(server.connections).toBe(0);
    });
    test("has its name, its arguments, its exit code and the client's pid", async () => {
      let pid: number | undefined;
      const ended = await served({
        environment,
        command: ["sh", "-c", 'echo "$0 $1 $$"; exit 7', "a b", "--c"],
        during: (child) => {
          pid = pidOf(child);
        },
      });
      expect(ended).toMatchObject({ exitCode: 7, stdout: `a b --c ${pid}\n`, stderr: "" });
    });
    test("ends by a signal, and --watch exits with 128+n", async () => {
      const command = ["/bin/sh", "-c", "kill -KILL $$"];
      const ended = await served({ environment, options: ["--watch"], command });
      expect(ended).toMatchObject({ exitCode: 128 + 9, signal: null });
    });
    test("has the descriptors that it has without the client", async () => {
      const command = ["/bin/ls", "/proc/self/fd"];
      const { stdout } = await served({ environment, command });
      expect(stdout).toBe((await begin({ command, bare: true })).stdout);
    });
    test.each([
      ["only another limit of open files", "--inspect-port=255.255.255.255:1024", ""],
      ["that and SIGUSR1 blocked", "--disable-sigusr1", "SigBlk:\t0000000000000200"],
    ])("inherits %s, with %s", async (_, flag, blocked) => {
      const command = ["/bin/cat", ...inherited];
      // Node opens what is closed and raises the limit: that is said in docs/client.md.
      const facts = ({ stdout }: Ended) =>
        stdout.split("\n").filter((line) => !itsOwn.test(line) && !/^Max open files/.test(line));
      const bare = facts(await begin({ command, bare: true }));
      const found = facts(await served({ environment, flags: [flag], command }));
      expect(found.filter((line) => !bare.includes(line)).join("\n")).toBe(blocked);
      expect(found).toHaveLength(bare.length);
    });
  });

  describe("a command that cannot be run is refused before a token is asked for:", () => {
    const place = newPlace();
    const script = (name: string, text: string | Buffer, mode = 0o755) => {
      writeFileSync(join(place, name), text);
      chmodSync(join(place, name), mode);
    };
    script("no-mark", "echo hello\n");
    script("empty", "");
    script("no-interpreter", "#!/nowhere/sh\n");
    script("nameless-interpreter", "#! \n");
    script("windows", "#!/bin/sh\r\necho hello\r\n");
    script("loop", `#!${place}/loop\n`);
    script("through", `#!${place}/no-mark\n`);
    script("plain", "#!/bin/sh\n", 0o644);
    script("fine", "#!/bin/sh -e\necho fine\n");
    const program = readFileSync(process.execPath).subarray(0, 64 * 1024);
    const foreign = Buffer.from(program);
    foreign.writeUInt16LE(8, 18);
    script("foreign", foreign);
    const loader = program.indexOf("/lib64/ld-linux");
    const loaderless = Buffer.from(program);
    loaderless.write("/none", Math.max(loader, 0));
    if (loader > 0) script("loaderless", loaderless);

    test.each<[string, string, number, RegExp, RegExp?]>([
      ["no such command in PATH", "no-such-command", 127, /no-such-command: command not found/],
      ["no such file", "/nowhere/app", 127, /\/nowhere\/app: command not found/],
      ["a directory", place, 126, /not a file/],
      ["a file that is not executable", "plain", 126, /plain: not executable for this user/],
      ["a path that is not executable", `${place}/plain`, 126, /not executable/],
      ["a script without #!", "no-mark", 126, /neither a program nor a script/, /add #!\/bin\/sh/],
      ["an empty file", "empty", 126, /neither a program/],
      ["no such interpreter", "no-interpreter", 126, /interpreter \/nowhere\/sh: ENOENT/],
      ["an interpreter without a name", "nameless-interpreter", 126, /no interpreter after #!/],
      ["Windows line ends", "windows", 126, /sh\\u\{d\}: ENOENT/, /Windows line ends/],
      ["a script that interprets itself", "loop", 126, /no interpreter/],
      ["an interpreter that cannot be run", "through", 126, /no-mark: neither/],
      ["a program of another processor", "foreign", 126, /built for another processor/],
    ])("%s", async (_, command, exitCode, line, hint) => {
      await using server = await Playground.open(answer(grant()));
      const changes = { X: "vault:secret/data/app#user", PATH: `${place}:/usr/bin:/bin` };
      const options = ["--socket", server.socket];
      const ended = await run({ environment: changes, options, command: [command] });
      expectFailure(ended, exitCode, line, hint);
      expect(server.connections).toBe(0);
    });
    test.runIf(loader > 0)("a program of another C library", async () => {
      const command = [`${place}/loaderless`];
      expectFailure(await run({ command }), 126, /loaderless: its interpreter \/none.*: ENOENT/);
    });
    test("but not a script whose interpreter has an argument", async () => {
      const changes = { PATH: `/nowhere:${place}:/usr/bin` };
      expect(await run({ environment: changes, command: ["fine"] })).toMatchObject({
        stdout: "fine\n",
      });
    });
  });

  describe("the socket is refused for", () => {
    const at = (socket: string, ...options: string[]) =>
      run({ environment, options: ["--wait", "0.3", "--socket", socket, ...options] });

    test("a missing directory", async () => {
      const ended = await at("/nowhere/authproxy.sock");
      expectFailure(ended, 75, /no directory \/nowhere/, /-v \/nowhere:\/nowhere:ro/);
      expect(ended.milliseconds).toBeGreaterThan(300);
    });
    test("a missing socket", async () => {
      const ended = await at(`${newPlace()}/authproxy.sock`);
      expectFailure(ended, 75, /there is no .*authproxy.sock/, /:ro/);
    });
    test("a file in its place", async () => {
      const path = join(newPlace(), "authproxy.sock");
      writeFileSync(path, "");
      expectFailure(await at(path), 78, /is not a socket/);
    });
    test("a symbolic link in its place", async () => {
      await using server = await Playground.open(answer(grant()));
      const path = join(newPlace(), "authproxy.sock");
      symlinkSync(server.socket, path);
      expectFailure(await at(path), 78, /is not a socket/);
      expect(server.connections).toBe(0);
    });
    test("a server that does not listen", async () => {
      const path = join(newPlace(), "authproxy.sock");
      const left = `require("net").createServer().listen(
        { path: ${JSON.stringify(path)}, writableAll: true },
        () => process.kill(process.pid, "SIGKILL"))`;
      spawnSync(node, ["-e", left]);
      expectFailure(await at(path), 75, /gives ECONNREFUSED/);
    });
    test("a full backlog", async () => {
      const path = join(newPlace(), "authproxy.sock");
      const stuck = `require("net").createServer().listen(
        { path: ${JSON.stringify(path)}, backlog: 1, writableAll: true },
        () => process.kill(process.pid, "SIGSTOP"))`;
      const server = spawn(node, ["-e", stuck], { stdio: "ignore" });
      try {
        await untilStopped(server.pid);
        for (let count = 0; count < 3; count++) connect(path).on("error", () => {});
        expectFailure(await at(path), 75, /gives EAGAIN/);
      } finally {
        server.kill("SIGKILL");
      }
    });
    // On a host with SELinux the kernel's answers are the same: test/lab/selinux-inside.ts.
    describe.runIf(isRoot)("a denial, which does not pass by itself:", () => {
      const before = client.withoutRights ?? [];
      const denied = (socket: string) =>
        run({ environment, before, options: ["--wait", "60", "--socket", socket] });
      test("of the connection", async () => {
        await using server = await Playground.open(answer(grant()));
        chmodSync(server.socket, 0o000);
        const ended = await denied(server.socket);
        expectFailure(ended, 78, /may not connect to .*sock: EACCES/, /module authproxy/);
        expect(server.connections).toBe(0);
      });
      test("of a look at the socket", async () => {
        await using server = await Playground.open(answer(grant()));
        chmodSync(server.place, 0o600);
        const ended = await denied(server.socket);
        expectFailure(ended, 78, /cannot look at .*sock: EACCES/, /module authproxy/);
        expect(server.connections).toBe(0);
      });
    });
    test("a directory that others can write", async () => {
      await using server = await Playground.open(answer(grant()), newPlace(0o757));
      expectFailure(await at(server.socket), 78, /can be written by others/, /0755.*read-only/);
      expect(server.connections).toBe(0);
    });
    describe.runIf(isRoot)("another owner", () => {
      test("of the directory", async () => {
        await using server = await Playground.open(answer(grant()));
        chownSync(server.place, 1234, 0);
        expectFailure(await at(server.socket), 78, /belongs to uid 1234/, /--socket-owner 1234/);
        expect(server.connections).toBe(0);
      });
      test("of the socket, unless --socket-owner names it", async () => {
        await using server = await Playground.open(answer(grant()));
        chownSync(server.socket, 1234, 0);
        expectFailure(await at(server.socket), 78, /sock belongs to uid 1234/);
        expect(server.connections).toBe(0);
        expect((await at(server.socket, "--socket-owner=1234")).exitCode).toBe(0);
      });
      test("who is uid 65534, where root is another", async () => {
        await using server = await Playground.open(answer(grant()));
        for (const path of [server.place, server.socket]) chownSync(path, 65_534, 0);
        expectFailure(await at(server.socket), 78, /belongs to uid 65534/);
        expect(server.connections).toBe(0);
      });
    });
  });

  describe("the server's answer is", () => {
    test("refused, and the client does not ask again but says where the reason is", async () => {
      await using server = await Playground.open(answer({ error: "refused" }));
      const ended = await run({ environment, options: ["--socket", server.socket] });
      const why = /says why; this is process \d/;
      expectFailure(ended, 77, /refused this container/, why);
      expect(server.connections).toBe(1);
    });
    test("unavailable, and the client asks again until the deadline", async () => {
      await using server = await Playground.open(answer({ error: "unavailable" }));
      const options = ["--socket", server.socket, "--wait", "3"];
      const ended = await run({ environment, options });
      expectFailure(ended, 75, /could not give a token in time/, /audit log/);
      expect(server.connections).toBeGreaterThan(2);
    });
    test("half a line, then a closed connection, then a grant that is used", async () => {
      await using server = await Playground.open((connection, count) => {
        if (count === 0) connection.end('{"service":');
        else if (count === 1) connection.destroy();
        else answer(grant())(connection, count);
      });
      const ended = await run({ environment, options: ["--socket", server.socket] });
      expect(ended).toMatchObject({ exitCode: 0, stderr: "" });
      expect(server.connections).toBe(3);
    });
    test("not a grant, and the client fails", async () => {
      await using server = await Playground.open(answer({ token: 1 }));
      const ended = await run({ environment, options: ["--socket", server.socket] });
      expectFailure(ended, 78, /does not speak the authproxy protocol/);
      expect(server.connections).toBe(1);
    });
    // SIGWINCH stops Apache's images.
    const stops = ["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR2", "SIGWINCH"] as const;
    test.each(stops)("awaited when %s ends the client", async (signal) => {
      let kill = () => {};
      await using server = await Playground.open(() => kill());
      const ended = await begin({
        environment,
        options: ["--socket", server.socket],
        during: (child) => {
          kill = () => child.kill(signal);
        },
      });
      const exitCode = 128 + constants.signals[signal];
      expect(ended).toMatchObject({ exitCode, signal: null, stdout: "", stderr: "" });
    });
  });

  describe("Vault", () => {
    test("is not asked without TLS", async () => {
      const ended = await granted({ environment }, grant({}, { address: "http://127.0.0.1:8200" }));
      expectFailure(ended, 78, /the Vault address that the server gave is not https/, /TLS/);
    });
    test("is unavailable where it cannot be reached", async () => {
      const line = grant({}, { address: "https://127.0.0.1:1" });
      const ended = await granted({ environment, options: ["--wait", "2"] }, line);
      expectFailure(ended, 69, /unavailable: ECONNREFUSED/, /reached/);
    });
    test.each<[string, Record<string, string>]>([
      ["as it is", {}],
      ["with NODE_TLS_REJECT_UNAUTHORIZED=0", { NODE_TLS_REJECT_UNAUTHORIZED: "0" }],
      ["with an older TLS asked for", { NODE_OPTIONS: "--tls-min-v1.0" }],
    ])("is not trusted where the CA is not a certificate, %s", async (_, changes) => {
      const ca = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n";
      const ended = await granted(
        { environment: { ...environment, ...changes } },
        grant({}, { ca }),
      );
      expectFailure(ended, 69, /is not trusted/);
    });
    test("is trusted by the name of its host", async () => {
      const line = grant({}, { address: bao.address.replace("127.0.0.1", "localhost") });
      expect(await granted({ environment }, line)).toMatchObject({ exitCode: 0, stderr: "" });
    });
    test("opens the wrapped token once", async () => {
      const wrapped = await vault("POST", "auth/token/create/app", "{}", {
        "X-Vault-Wrap-TTL": "60s",
      });
      const line = grant({ token: JSON.parse(wrapped).wrap_info.token, wrapped: true });
      const command = [...hashes, "X"];
      const ended = await granted({ environment, command }, line);
      expect(ended).toMatchObject({ exitCode: 0, stdout: `${hash(password)}\n`, stderr: "" });
      expectFailure(await granted({ environment }, line), 76, /ALARM.*opened before/, /revoke it/);
    });
  });

  describe("nobody can look into the client:", () => {
    test("it refuses to run where SIGUSR1 would open the inspector", async () => {
      await using server = await Playground.open(answer(grant()));
      const ended = await run({ environment, flags: [], options: ["--socket", server.socket] });
      expectFailure(
        ended,
        78,
        /SIGUSR1 would open/,
        /ENTRYPOINT \[.*"--disable-sigusr1",.*"--"\]$/,
      );
      expect(server.connections).toBe(0);
    });
    test("it accepts --disable-sigusr1 in NODE_OPTIONS", async () => {
      const options = { NODE_OPTIONS: "--disable-sigusr1" };
      const ended = await served({ environment: { ...environment, ...options }, flags: [] });
      expect(ended).toMatchObject({ exitCode: 0, stderr: "" });
    });
    test.each([
      ["NODE_OPTIONS", "--max-old-space-size=64 --require=/agent.cjs", "--require runs"],
      ["NODE_OPTIONS", "-r /agent.cjs", "-r runs"],
      ["NODE_OPTIONS", '"--import" /agent.mjs', "--import runs"],
      ["NODE_OPTIONS", "--trace-tls", "--trace-tls prints"],
      ["NODE_OPTIONS", "--heapsnapshot-near-heap-limit=1", "--heap writes"],
      ["NODE_DEBUG", "tls", "NODE_DEBUG logs"],
    ])("%s=%s is refused before a token is asked for", async (name, value, reason) => {
      const place = newPlace();
      writeFileSync(join(place, "agent.cjs"), "");
      writeFileSync(join(place, "agent.mjs"), "");
      await using server = await Playground.open(answer(grant()));
      const ended = await run({
        environment: { ...environment, [name]: value.replace("/agent", `${place}/agent`) },
        options: ["--socket", server.socket],
      });
      const lines = ended.stderr.split("\n").filter((line) => line.startsWith("authproxy: "));
      expect([ended.exitCode, ended.stdout, server.connections]).toEqual([78, "", 0]);
      const [line, hint, ...others] = lines;
      expect(line).toContain(
        `authproxy: ${name} would act on this client while it holds the token: ${reason}`,
      );
      expect(hint).toContain(`set AUTHPROXY_SET_${name}=… in its place`);
      expect(others).toEqual([]);
    });
    test("AUTHPROXY_SET_… hands such a variable to the application alone", async () => {
      const changes = { AUTHPROXY_SET_NODE_OPTIONS: "--require /agent.cjs" };
      const command = ["/bin/sh", "-c", 'echo "$NODE_OPTIONS"'];
      const ended = await served({ environment: { ...environment, ...changes }, command });
      expect(ended).toMatchObject({ exitCode: 0, stdout: "--require /agent.cjs\n", stderr: "" });
    });
    test("a reachable inspector is refused behind an unreachable one", async () => {
      const flags = ["--inspect-port=255.255.255.255:1024", "--inspect-port=127.0.0.1:0"];
      expect((await run({ environment, flags })).exitCode).toBe(78);
    });
    test("an open inspector is refused", async () => {
      const flags = ["--disable-sigusr1", "--inspect=127.0.0.1:0"];
      const ended = await run({ environment, flags });
      expect(ended.exitCode).toBe(78);
      // Node itself says where it listens.
      expect(ended.stderr).toMatch(/^authproxy: Node's inspector is open/m);
    });
    test("a defect is reported in one line, without the error's message", async () => {
      const flags = ["--disable-sigusr1", "--require", join(newPlace(), "defect.cjs")];
      const defect = `process.execve = () => {}; Object.entries = () => { throw new TypeError(${JSON.stringify(token)}); };`;
      writeFileSync(flags[2] ?? "", defect);
      const ended = await run({ environment, flags });
      expectFailure(ended, 70, /internal error: TypeError, no code$/);
    });
  });
}

async function untilStopped(pid: number | undefined): Promise<void> {
  const state = () => readFileSync(`/proc/${pid}/status`, "utf8").match(/^State:\t(.)/m)?.[1];
  while (state() !== "T") await sleep(10);
}
