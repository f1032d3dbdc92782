// Question: is the client, as a parent, a good one, and does the application see what changes?
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, readdirSync, readFileSync, renameSync, rmdirSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer } from "node:https";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { run, secretBytes } from "./client-playground.ts";
import { bao, grant, hash, password, root, token } from "./client-vault.ts";
import { files, PRINTER, watching } from "./client-watching.ts";
import { Gate } from "./gate.ts";

const isRoot = process.getuid?.() === 0;
async function change(path: string, text: string): Promise<string> {
  secretBytes.add(text);
  await root.write(path, { data: { password: text } });
  return text;
}

describe("a secret that changes", () => {
  const X_FILE = "vault:secret/data/app/watched#password";

  test("replaces the old one, and the application gets a signal", async () => {
    const first = await change("secret/data/app/watched", `first-${password}`);
    await watching(
      async ({ child, says, ended }) => {
        await says(hash(first));
        const second = await change("secret/data/app/watched", `second-${password}`);
        const output = await says(hash(second));
        expect(output).toContain("authproxy: changed: X_FILE\n");
        expect(readFileSync(join(files, "X"), "utf8")).toBe(second);
        child.kill();
        expect(await ended).toEqual({ exitCode: 0, signal: null });
      },
      { X_FILE },
      PRINTER,
      ["--on-change", "SIGHUP"],
    );
  });
  test("is seen within --refresh, and never half written", async () => {
    await change("secret/data/app/watched", "a".repeat(10_000));
    const reader = `
      while :; do
        new=$(sha256sum < "$X_FILE" | cut -c 1-64)
        [ "$new" = "$old" ] || echo "$new"
        old=$new
      done`;
    await watching(
      async ({ says }) => {
        await says(hash("a".repeat(10_000)));
        const startMs = performance.now();
        const next = await change("secret/data/app/watched", "b".repeat(10_000));
        const output = await says(hash(next));
        expect(performance.now() - startMs).toBeLessThan(2000);
        const seen = new Set(output.split("\n").filter((line) => /^[0-9a-f]{64}$/.test(line)));
        expect(seen).toEqual(new Set([hash("a".repeat(10_000)), hash(next)]));
      },
      { X_FILE },
      reader,
    );
  });
  test("in a directory: files of its former keys go, and what the application put there stays", async () => {
    await root.write("secret/data/app/watched", { data: { a: "1", b: "2" } });
    const script = 'echo "$TLS_DIR"; touch "$TLS_DIR/own"; exec sleep 600';
    await watching(
      async ({ says }) => {
        await says(`${files}/TLS\n`);
        await root.write("secret/data/app/watched", { data: { b: "3" } });
        await says("changed: TLS_DIR\n");
        expect(readdirSync(join(files, "TLS")).sort()).toEqual(["b", "own"]);
        expect(readFileSync(join(files, "TLS/b"), "utf8")).toBe("3");
      },
      { TLS_DIR: "vault:secret/data/app/watched#*" },
      script,
    );
  });
  test("is written nowhere where another directory is in the place of the first", async () => {
    const first = await change("secret/data/app/watched", `first-${password}`);
    await watching(
      async ({ says, child }) => {
        await says(hash(first));
        renameSync(files, `${files}-moved`);
        mkdirSync(files);
        const second = await change("secret/data/app/watched", `second-${password}`);
        const warning = "warning: the application keeps what it has";
        await says(`${warning}: ${files} is no longer the directory that it was at the start\n`);
        expect([readdirSync(files), readFileSync(`${files}-moved/X`, "utf8")]).toEqual([[], first]);
        expect(child.exitCode).toBe(null);
        // Back in its place, it is written to again, and the application is told.
        rmdirSync(files);
        renameSync(`${files}-moved`, files);
        await says(hash(second));
      },
      { X_FILE },
      PRINTER,
      ["--on-change", "SIGHUP"],
    );
  });
  test("ends the application with --on-change exit, for the restart policy to start it again", async () => {
    await change("secret/data/app/watched", `first-${password}`);
    await watching(
      async ({ says, ended }) => {
        await says(hash(`first-${password}`));
        await change("secret/data/app/watched", `third-${password}`);
        await says("ended\n");
        expect(await ended).toEqual({ exitCode: 75, signal: null });
      },
      { X_FILE },
      PRINTER,
      ["--on-change=exit"],
    );
  });
  test("in the environment cannot be replaced, and is warned of once", async () => {
    await change("secret/data/app/watched", `first-${password}`);
    await watching(
      async ({ says }) => {
        await says("started");
        await change("secret/data/app/watched", `fourth-${password}`);
        await says("warning: the application keeps the old X: take a file or --on-change exit\n");
      },
      { X: X_FILE },
      "echo started; exec sleep 600",
    );
  });
  test("is kept where Vault no longer has it", async () => {
    const first = await change("secret/data/app/watched", `first-${password}`);
    await watching(
      async ({ says }) => {
        await says(hash(first));
        await root.delete("secret/data/app/watched");
        await says("warning: the application keeps what it has: X_FILE: this version was deleted");
        expect(readFileSync(join(files, "X"), "utf8")).toBe(first);
        const again = await change("secret/data/app/watched", `again-${password}`);
        await says(hash(again));
      },
      { X_FILE },
      PRINTER,
      ["--on-change", "SIGHUP"],
    );
  });
});

describe("a healthy application goes on", () => {
  test("while Vault is unreachable, with one warning, and then gets what has changed", async () => {
    const X_FILE = "vault:secret/data/app/watched#password";
    const first = await change("secret/data/app/watched", `first-${password}`);
    const gate = await Gate.before(bao.address);
    try {
      await watching(
        async ({ says, child }) => {
          await says(hash(first));
          await gate.shut();
          await says("warning: the application keeps what it has: Vault at https://127.0.0.1");
          const second = await change("secret/data/app/watched", `second-${password}`);
          expect(child.exitCode).toBe(null);
          await gate.raise();
          const output = await says(hash(second));
          expect(output.split("warning: ").length).toBe(2);
        },
        { X_FILE },
        PRINTER,
        ["--on-change", "SIGHUP", "--wait", "1"],
        { line: grant({}, { address: gate.address }) },
      );
    } finally {
      await gate.shut();
    }
  });
  test("when the token is lost, with one warning that says what helps", async () => {
    const X_FILE = "vault:secret/data/app/watched#password";
    const first = await change("secret/data/app/watched", `first-${password}`);
    const minted = await root.write("auth/token/create/app", {});
    const lost = minted.auth.client_token;
    secretBytes.add(lost);
    await watching(
      async ({ says, child }) => {
        await says(hash(first));
        await root.write("auth/token/revoke", { token: lost });
        await says(
          "Vault denies this service the path; if the token is lost, a restart gets another",
        );
        expect(child.exitCode).toBe(null);
      },
      { X_FILE },
      PRINTER,
      [],
      { line: grant({ token: lost }) },
    );
  });
});

test("a certificate is issued again before it ends, with its key", async () => {
  await root.mount({ mount_point: "pki", type: "pki" });
  await root.write("pki/root/generate/internal", { common_name: "test", ttl: "1h" });
  await root.write("pki/roles/web", { allow_any_name: true, enforce_hostnames: false });
  const policy = 'path "pki/issue/web" { capabilities = ["update"] }';
  await root.addPolicy({ name: "web", policy });
  await root.write("auth/token/roles/web", { allowed_policies: ["web"], orphan: true });
  const { auth } = await root.write("auth/token/create/web", {});
  const body = '{"common_name":"web","ttl":"4s"}';
  const script = `trap 'sha256sum < "$C_FILE"; echo renewed' HUP; echo started; while :; do sleep 0.1; done`;
  await watching(
    async ({ says }) => {
      await says("started");
      const pair = () => [
        readFileSync(join(files, "C"), "utf8"),
        readFileSync(join(files, "K"), "utf8"),
      ];
      const [first] = pair();
      await says("renewed", 2);
      const [certificate = "", key] = pair();
      expect(certificate).not.toBe(first);
      const { createPrivateKey } = process.getBuiltinModule("node:crypto");
      expect(new X509Certificate(certificate).checkPrivateKey(createPrivateKey(key ?? ""))).toBe(
        true,
      );
    },
    {
      C_FILE: `>>vault:pki/issue/web#certificate#${body}`,
      K_FILE: `>>vault:pki/issue/web#private_key#${body}`,
    },
    script,
    ["--on-change", "SIGHUP", "--allow-write", "pki/issue/web"],
    { line: grant({ token: auth.client_token }) },
  );
});

test("a lease is renewed until Vault renews it no more, and its secret is then fetched again", async () => {
  const directory = dirname(bao.caFile);
  const asked: string[] = [];
  const respond = (received: IncomingMessage, response: ServerResponse) => {
    asked.push(received.url ?? "");
    const renewals = asked.filter((url) => url.endsWith("/renew")).length;
    const duration = received.url?.endsWith("/renew") && renewals === 2 ? 0 : 2;
    const lease = { request_id: "1", lease_id: "database/creds/app/x", lease_duration: duration };
    response.end(JSON.stringify({ ...lease, data: { password: `role-${renewals}` } }));
  };
  const tls = {
    cert: readFileSync(join(directory, "vault-cert.pem")),
    key: readFileSync(join(directory, "vault-key.pem")),
  };
  const server = createServer(tls, respond).listen(0, "127.0.0.1");
  await once(server, "listening");
  const place = server.address();
  const address = `https://127.0.0.1:${typeof place === "object" ? place?.port : ""}`;
  try {
    await watching(
      async ({ says }) => {
        await says(hash("role-0"));
        await says(hash("role-2"));
        const [first, ...later] = asked;
        expect(first).toBe("/v1/database/creds/app");
        const renew = "/v1/sys/leases/renew";
        expect(later.slice(0, 3)).toEqual([renew, renew, "/v1/database/creds/app"]);
      },
      { X_FILE: "vault:database/creds/app#password" },
      PRINTER,
      ["--on-change", "SIGHUP"],
      { line: grant({}, { address }) },
    );
  } finally {
    server.closeAllConnections();
    server.close();
  }
});

describe("a good parent", () => {
  const environment = { X: "vault:secret/data/app#password" };
  const pid1 = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];

  test.each(
    isRoot
      ? [
          ["not as pid 1", []],
          ["as pid 1", pid1],
        ]
      : [["not as pid 1", []]],
  )("passes on an exit code, %s", async (_, before) => {
    await watching(
      async ({ ended }) => expect(await ended).toEqual({ exitCode: 7, signal: null }),
      environment,
      "exit 7",
      [],
      { before: before as string[] },
    );
  });
  test("passes on the signal that ended the application, as 128+n", async () => {
    await watching(
      async ({ ended }) => expect((await ended).exitCode).toBe(128 + 9),
      environment,
      "kill -KILL $$",
    );
  });
  test.each(["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR2", "SIGWINCH", "SIGCONT"] as const)(
    "hands on %s",
    async (signal) => {
      const name = signal.slice(3);
      await watching(
        async ({ child, says, ended }) => {
          await says("started");
          child.kill(signal);
          await says(`got ${name}`);
          expect((await ended).exitCode).toBe(3);
        },
        environment,
        `trap 'echo got ${name}; exit 3' ${name}; echo started; while :; do sleep 0.05; done`,
      );
    },
  );
  test("hands on SIGUSR1, where the inspector is out of reach", async () => {
    await watching(
      async ({ child, says }) => {
        await says("started");
        child.kill("SIGUSR1");
        await says("got it");
      },
      environment,
      "trap 'echo got it' USR1; echo started; while :; do sleep 0.05; done",
      [],
      { flags: ["--inspect-port=255.255.255.255:1024"] },
    );
  });
  test("gives the application no signal blocked or ignored, and no descriptor", async () => {
    await watching(
      async ({ says }) => {
        const output = await says("SigIgn:\t0000000000000000");
        expect(output).toContain("SigBlk:\t0000000000000000");
        const bare = await run({ bare: true, command: ["/bin/sh", "-c", "ls /proc/self/fd"] });
        await says(`descriptors: ${bare.stdout.replaceAll("\n", " ")}`);
      },
      environment,
      'grep -E "^Sig(Blk|Ign)" /proc/self/status; echo "descriptors: $(ls /proc/self/fd | tr "\\n" " ")"; sleep 600',
    );
  });
  test("gives the application the JSON object on standard input", async () => {
    await watching(
      async ({ says }) => {
        await says(hash(JSON.stringify({ X: password })));
      },
      environment,
      "sha256sum | cut -c 1-64; sleep 600",
      ["--stdin"],
    );
  });
  test("prints no token, and keeps none in its arguments or environment", async () => {
    await watching(
      async ({ says, child }) => {
        await says("started");
        for (const name of ["cmdline", "environ"]) {
          expect(readFileSync(`/proc/${child.pid}/${name}`, "latin1")).not.toContain(token);
        }
      },
      environment,
      "echo started; sleep 600",
    );
  });
});
