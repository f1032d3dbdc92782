// Question: when is a secret asked for again, by what Vault says of its end?
// Input:    a real OpenBao, for engines that it does not have the fields of their answers, and for odd
//           answers a front before it.
// Covers:   KV of both versions with fields of every name that means an end, as numbers, texts and objects,
//           and with `ttl` or `lease` of 0; pki, ssh (each kind of key, issued and signed), identity tokens,
//           static roles (a real one is in client-rotation.test.ts), AppRoles, totp, gcp, AWS, plugins of
//           code hosts; ends that are over, far away, or no time at all; a lease of no time.
import { describe, expect, onTestFinished, test } from "vitest";
import { lifetimeOf } from "../client/lifetime.ts";
import { parseVaultBody, type VaultBody } from "../client/values.ts";
import { secretBytes } from "./client-playground.ts";
import { bao, grant, granted, root, vault } from "./client-vault.ts";
import { PRINTER, watching } from "./client-watching.ts";
import { Front } from "./front.ts";

const HOUR = 3600;
const nowSeconds = Date.now() / 1000;

await root.mount({ mount_point: "pki", type: "pki" });
await root.write("pki/root/generate/internal", { common_name: "test", ttl: "1000h" });
await root.write("pki/roles/web", { allow_any_name: true, max_ttl: "100h" });
await root.mount({ mount_point: "ssh", type: "ssh" });
await root.write("ssh/config/ca", { generate_signing_key: true });
await root.write("ssh/roles/user", {
  key_type: "ca",
  allow_user_certificates: true,
  allowed_users: "*",
  default_user: "app",
  ttl: "2h",
  max_ttl: "100h",
});
await root.mount({ mount_point: "totp", type: "totp" });
await root.write("totp/keys/app", { generate: true, issuer: "test", account_name: "app" });
await root.write("auth/approle/role/other", { secret_id_ttl: "1h" });
await root.write("identity/oidc/key/app", { allowed_client_ids: "*", verification_ttl: "24h" });
await root.write("identity/oidc/role/app", { key: "app", ttl: "24h" });
await root.addPolicy({
  name: "engines",
  policy: `
path "secret/data/*" { capabilities = ["read"] }
path "kv/*" { capabilities = ["read"] }
path "identity/oidc/token/app" { capabilities = ["read"] }
path "pki/issue/web" { capabilities = ["update"] }
path "ssh/sign/user" { capabilities = ["update"] }
`,
});
// An identity token is for a token with an entity, which a login makes.
await root.enableAuth({ mount_point: "userpass", type: "userpass" });
await root.write("auth/userpass/users/app", { password: "password", token_policies: ["engines"] });
const { auth } = await root.write("auth/userpass/login/app", { password: "password" });
const token: string = auth.client_token;
secretBytes.add(token);

async function ask(
  method: "GET" | "POST",
  path: string,
  body: object = {},
  by = token,
): Promise<VaultBody> {
  const sent = method === "GET" ? "" : JSON.stringify(body);
  const text = await vault(method, path, sent, { "X-Vault-Token": by });
  const answer = parseVaultBody(text);
  expect(answer?.data, text).toBeDefined();
  return answer ?? {};
}
async function askAsRoot(method: "GET" | "POST", path: string, body = {}): Promise<VaultBody> {
  return await ask(method, path, body, bao.rootToken);
}
const within = (seconds: number | undefined, wanted: number) => {
  expect(seconds).toBeLessThanOrEqual(wanted);
  expect(seconds).toBeGreaterThan(wanted - 120);
};
const PUBLIC_KEY =
  "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDX5mEPgXmeX6AeyS4Wr4y8ax3gvHrRzrTJ9zbcVvOBm app";

describe("a KV secret has no end,", () => {
  const soon = Math.floor(nowSeconds) + 90 * 24 * HOUR;
  const secrets: [shows: string, fields: object][] = [
    ["with a certificate that is over", { serial_number: "1", expiration: 1_500_000_000 }],
    ["with a certificate of 90 days", { serial_number: "1", expiration: soon }],
    ["with a certificate's end in text", { serial_number: "1", expiration: String(soon) }],
    ["with a date", { expiration: "2030-01-01T00:00:00Z", expires_at: "2030-01-01T00:00:00Z" }],
    ["with an object", { expiration: { at: soon }, ttl: { seconds: 1 } }],
    ["with a time that is left", { ttl: 60, token_ttl: 60, secret_id_ttl: 60 }],
    ["with that in text", { ttl: "60s", serial_number: "1", expiration: soon }],
    ["with a time that is over", { ttl: 0, serial_number: "1", expiration: soon }],
    ["with that in text", { ttl: "0", expires_at_seconds: soon }],
    ["with an empty time", { ttl: "", valid_before: soon }],
    ["with less than a second", { ttl: "900ms", valid_before: soon }],
    ["with a negative time", { ttl: -1, expire_time: soon }],
    ["with a lease of no time", { lease: "0", expiration: soon }],
    ["with a lease", { lease: "1m", lease_id: "a/b", lease_duration: 60, valid_before: soon }],
    ["with a key that was signed", { signed_key: "signed" }],
    ["with what looks like a static role", { ttl: "5s", last_vault_rotation: "2026-01-01" }],
    ["that looks like version 2", { data: { ttl: 1 }, metadata: { version: 1 } }],
  ];
  test.each(secrets)("%s", async (_, fields) => {
    const signed = "signed_key" in fields;
    const signedKey = await ask("POST", "ssh/sign/user", { public_key: PUBLIC_KEY });
    const kept = signed ? { signed_key: signedKey.data?.signed_key } : fields;
    await root.write("kv/odd", kept);
    await root.write("secret/data/odd", { data: kept });
    expect(lifetimeOf(await ask("GET", "kv/odd"))).toBeUndefined();
    expect(lifetimeOf(await ask("GET", "secret/data/odd"))).toBeUndefined();
  });
});

describe("the end is known of", () => {
  test("a certificate", async () => {
    const issue = { common_name: "web", ttl: "30h" };
    within(lifetimeOf(await ask("POST", "pki/issue/web", issue)), 30 * HOUR);
  });
  test("a signed SSH key, by the request, the role, or the longest that it allows", async () => {
    const lifetime = async (ttl?: string) =>
      lifetimeOf(await ask("POST", "ssh/sign/user", { public_key: PUBLIC_KEY, ttl }));
    within(await lifetime("30h"), 30 * HOUR);
    within(await lifetime(), 2 * HOUR);
    within(await lifetime("100h"), 100 * HOUR);
  });
  test.each([
    ["rsa", 2048],
    ["ec", 256],
    ["ec", 384],
    ["ec", 521],
    ["ed25519", 0],
  ])("an issued SSH key, %s %d", async (key_type, key_bits) => {
    const issue = { key_type, key_bits, ttl: "3h" };
    within(lifetimeOf(await askAsRoot("POST", "ssh/issue/user", issue)), 3 * HOUR);
  });
  test("an SSH key in hardware", () => {
    const string = (bytes: string) => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(bytes.length);
      return Buffer.concat([length, Buffer.from(bytes)]);
    };
    const end = Buffer.alloc(8);
    end.writeBigUInt64BE(BigInt(Math.floor(nowSeconds) + HOUR));
    const certificate = (type: string, keyStrings: number) =>
      Buffer.concat([
        ...[type, "nonce", ...Array.from({ length: keyStrings }, () => "key")].map(string),
        Buffer.alloc(12),
        ...["name", "app"].map(string),
        Buffer.alloc(8),
        end,
        ...["", "", "", "ca", "signature"].map(string),
      ]);
    for (const [type, strings] of [
      ["sk-ssh-ed25519-cert-v01@openssh.com", 2],
      ["sk-ecdsa-sha2-nistp256-cert-v01@openssh.com", 3],
      ["ssh-dss-cert-v01@openssh.com", 4],
    ] as const) {
      const signed_key = `${type} ${certificate(type, strings).toString("base64")}\n`;
      within(lifetimeOf({ data: { serial_number: "1", signed_key } }), HOUR);
      const cut = `${type} ${certificate(type, strings).subarray(0, 40).toString("base64")}`;
      expect(lifetimeOf({ data: { signed_key: cut } })).toBeUndefined();
    }
  });
  test("an identity token", async () => {
    within(lifetimeOf(await ask("GET", "identity/oidc/token/app")), 24 * HOUR);
  });
  test("an AppRole's secret id", async () => {
    within(lifetimeOf(await askAsRoot("POST", "auth/approle/role/other/secret-id")), HOUR);
  });
  const soon = Math.floor(nowSeconds) + HOUR;
  const date = new Date(soon * 1000).toISOString();
  test.each<[string, VaultBody]>([
    ["a lease", { lease_id: "a/b", lease_duration: HOUR, data: { ttl: 1 } }],
    ["a cloud's token", { data: { token: "x", token_ttl: HOUR, expires_at_seconds: 1 } }],
    ["a cloud's token that says only its end", { data: { expires_at_seconds: soon } }],
    ["a cloud's key, by a date", { data: { access_key: "x", expiration: date } }],
    ["a code host's token", { data: { token: "x", expires_at: date } }],
    ["the earliest of several", { data: { expires_at: date, expiration: soon + HOUR } }],
    ["a static role", { data: { ttl: HOUR, last_vault_rotation: date } }],
    ["a static role's without a lease", { lease_id: "", lease_duration: 0, data: { ttl: HOUR } }],
  ])("%s", (_, body) => {
    within(lifetimeOf(body), HOUR);
  });
});

describe("the end is", () => {
  test("now, of a static role that is being rotated", () => {
    expect(lifetimeOf({ data: { ttl: 0, last_vault_rotation: "2026-01-01" } })).toBe(0);
  });
  test("over, where it was before now", () => {
    expect(lifetimeOf({ data: { expiration: 1_500_000_000 } })).toBe(0);
  });
  test("near, of a code, and not known of one that does not say it, as Vault's", async () => {
    const seconds = lifetimeOf(await askAsRoot("GET", "totp/code/app"));
    expect(seconds).toBeLessThanOrEqual(30);
    expect(lifetimeOf({ data: { code: "123456" } })).toBeUndefined();
  });
  test.each([
    ["no time", { expiration: "soon", expires_at: null, valid_before: true }],
    ["none", { expiration: 0, expires_at_seconds: "0" }],
    ["before 1970", { expires_at: "0001-01-01T00:00:00Z" }],
    ["the ttl of an AppRole without one", { secret_id_ttl: 0 }],
    ["a signed key of an unknown kind", { signed_key: "ssh-new-cert AAAA" }],
    ["a signed key that is none", { signed_key: { a: 1 } }],
    ["for ever, of an SSH key", { signed_key: "" }],
  ])("not known where it is %s", (_, data) => {
    expect(lifetimeOf({ data })).toBeUndefined();
  });
});

/** The front, the line that leads to it, and when it was asked for a path. */
async function frontBefore() {
  const front = await Front.before(bao);
  onTestFinished(() => front.stop());
  const times: [path: string, atMs: number][] = [];
  front.change = (_, path) => times.push([path, performance.now()]);
  const line = grant({ token }, { address: front.address, ca: front.bao.ca });
  const asked = (path: string) => front.requests.filter((each) => each.endsWith(` ${path}`)).length;
  const timesOf = (path: string) => times.filter(([each]) => each === path).map(([, at]) => at);
  return { front, line, asked, timesOf };
}

/** Resolves when the front was asked for this path so often. */
async function untilAsked(asked: (path: string) => number, path: string, times: number) {
  while (asked(path) < times) await new Promise((resolve) => setTimeout(resolve, 20));
}

describe("with --watch,", () => {
  const X_FILE = "vault:secret/data/watched#password";

  async function put(fields: Record<string, unknown>): Promise<void> {
    await root.write("secret/data/watched", { data: fields });
  }

  test.each([
    ["that is over", 1_500_000_000],
    ["of 90 days", Math.floor(nowSeconds) + 90 * 24 * HOUR],
  ])("a certificate in KV %s is looked at every --refresh", async (_, expiration) => {
    const { line, asked, timesOf } = await frontBefore();
    await put({ password: "first", serial_number: "1", expiration });
    await watching(
      async ({ says }) => {
        await untilAsked(asked, "secret/data/watched", 4);
        const times = timesOf("secret/data/watched");
        const gaps = times.slice(1).map((at, index) => at - (times[index] ?? 0));
        expect(Math.min(...gaps), "a second passes between two requests").toBeGreaterThan(990);
        await put({ password: "second", serial_number: "2", expiration: expiration + 1 });
        await says("changed: X_FILE\n");
      },
      { X_FILE },
      PRINTER,
      [],
      { line },
    );
  });

  test("an identity token is asked for once, and does not restart the application", async () => {
    const { line, asked } = await frontBefore();
    await put({ password: "first" });
    await watching(
      async ({ child }) => {
        await untilAsked(asked, "secret/data/watched", 4);
        expect(asked("identity/oidc/token/app")).toBe(1);
        expect(child.exitCode).toBeNull();
      },
      { X_FILE, T_FILE: "vault:identity/oidc/token/app#token" },
      PRINTER,
      ["--on-change", "exit"],
      { line },
    );
  });

  test("an SSH key is signed again before its end", async () => {
    const body = JSON.stringify({ public_key: PUBLIC_KEY, ttl: "6s" });
    await watching(
      async ({ says }) => {
        await says("changed: K_FILE\n", 2);
      },
      { K_FILE: `>>vault:ssh/sign/user#signed_key#${body}` },
      "exec sleep 600",
      ["--allow-write", "ssh/sign/user"],
      { line: grant({ token }) },
    );
  });

  test.each<[string, object]>([
    ["a certificate that is over", { expiration: 1_500_000_000 }],
    ["a certificate of no time", { expiration: Math.floor(nowSeconds) }],
    ["a token of a second", { ttl: 1 }],
    ["a static role that is not rotated", { ttl: 0, last_vault_rotation: "x" }],
    ["a lease of no time", { lease: 0 }],
    ["a lease of less than no time", { lease: -5 }],
    ["a lease of one second", { lease: 1 }],
    ["a lease that is no number", { lease: "x" }],
  ])(
    "nothing is asked for twice in a second: %s",
    async (_, { lease, ...data }: { lease?: unknown }) => {
      const { front, line, asked } = await frontBefore();
      const times: number[] = [];
      front.answer = (path) => {
        if (path === "sys/leases/renew") return { status: 400, body: '{"errors":["no"]}' };
        if (path !== "made/up") return undefined;
        times.push(performance.now());
        const leased = lease === undefined ? {} : { lease_id: "a/b", lease_duration: lease };
        const secret = { password: `${times.length}`, ...data };
        return { status: 200, body: JSON.stringify({ request_id: "1", ...leased, data: secret }) };
      };
      await watching(
        async () => {
          // Another secret shows that time passes.
          await untilAsked(asked, "secret/data/watched", 4);
          const gaps = times.slice(1).map((at, index) => at - (times[index] ?? 0));
          expect(Math.min(...gaps)).toBeGreaterThan(990);
        },
        { X_FILE, Y_FILE: "vault:made/up#password" },
        "exec sleep 600",
        [],
        { line },
      );
    },
  );

  test("what fails is asked for again, and what was made beside it is not", async () => {
    const { front, line, asked } = await frontBefore();
    await put({ password: "first" });
    front.answer = (path) => {
      if (path !== "made/up") return undefined;
      const data = { password: `${asked("made/up")}`, ttl: asked("made/up") === 1 ? 2 : HOUR };
      return { status: 200, body: JSON.stringify({ request_id: "1", data }) };
    };
    await watching(
      async ({ says }) => {
        await says("started");
        await root.delete("secret/data/watched");
        await says("warning: the application keeps what it has: X_FILE: this version was deleted");
        await untilAsked(asked, "secret/data/watched", 6);
        expect(asked("made/up")).toBe(2);
      },
      { X_FILE, Y_FILE: "vault:made/up#password" },
      "echo started; exec sleep 600",
      [],
      { line },
    );
  });

  test("a static role's ttl counts down, which is no change", async () => {
    const { front, line, asked } = await frontBefore();
    front.answer = (path) => {
      if (path !== "database/static-creds/app") return undefined;
      const count = asked("database/static-creds/app");
      const data = { password: count > 4 ? "b" : "a", ttl: 100 - count, last_vault_rotation: "x" };
      return { status: 200, body: JSON.stringify({ request_id: "1", data }) };
    };
    await watching(
      async ({ says }) => {
        const output = await says("changed: X_DIR\n");
        expect(asked("database/static-creds/app")).toBe(5);
        expect(output.split("changed: ")).toHaveLength(2);
      },
      { X_DIR: "vault:database/static-creds/app#*" },
      "exec sleep 600",
      [],
      { line },
    );
  });
});

test("without --watch, what ends is warned of, and KV is not", async () => {
  await root.write("kv/odd", { ttl: "60s", serial_number: "1", expiration: 2_000_000_000 });
  const environment = {
    K: "vault:kv/odd#ttl",
    T: "vault:identity/oidc/token/app#token",
  };
  const ended = await granted({ environment }, grant({ token }));
  expect(ended).toMatchObject({
    exitCode: 0,
    stderr: "authproxy: warning: T ends after 86400 s; --watch would renew it\n",
  });
});
