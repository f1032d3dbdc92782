// Question: what counts as Vault's answer, how does a token end, and which are never approved? The
// Vault side of the server alone, beside a real OpenBao, with a front before it that answers in its
// place.
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { client, type OpenBao, provision, startOpenBao } from "../scripts/openbao.ts";
import type { TokenSource } from "../server/config.ts";
import type { JsonObject } from "../server/json.ts";
import type { Lease } from "../server/lease-files.ts";
import { Vault } from "../server/vault.ts";
import { VaultApi } from "../server/vault-api.ts";
import { type ForeignAnswer, Front } from "./front.ts";

const events = vi.hoisted((): JsonObject[] => []);
vi.mock("../server/audit.ts", () => ({
  note: (event: string, fields: object) => events.push({ event, ...fields }),
}));

let bao: OpenBao;
let front: Front;
let login: { path: string; body: { role_id: string; secret_id: string } };
beforeAll(async () => {
  bao = await startOpenBao();
  const { roleId, secretId } = await provision(bao, { services: { app: { password: "x" } } });
  login = { path: "auth/approle/login", body: { role_id: roleId, secret_id: secretId } };
  front = await Front.before(bao);
});
afterAll(async () => {
  await front.stop();
  await bao.stop();
});
beforeEach(() => void events.splice(0));
afterEach(() => {
  front.answer = () => undefined;
  front.change = () => {};
  front.delay = () => undefined;
});

const JSON_TYPE = "application/json";
const meta = { service: "app", container: "c0ffee" };
const app = { create: "auth/token/create/app" };

async function loggedIn(): Promise<Vault> {
  const { address, ca } = front.bao;
  const vault = new Vault({ address, ca, namespace: undefined, login });
  void vault.stayLoggedIn();
  await vault.whenLoggedIn;
  return vault;
}

/** A lease of a token that this server has minted. */
async function mint(vault: Vault, source: TokenSource = app): Promise<Lease> {
  const { accessor, namespace } = await vault.create(source, meta);
  const start = { container: meta.container, pid: 1, ticks: 1 };
  return { name: "", ...start, start, stage: "sent", meta, accessor, namespace, ttl: 3600 };
}

/** Undefined where there is no such token. */
async function lookUp(accessor: unknown): Promise<JsonObject | undefined> {
  const answer = client(bao).write("auth/token/lookup-accessor", { accessor });
  return await answer.then(
    ({ data }) => data,
    () => undefined,
  );
}

function ends(): unknown[] {
  return events.map(({ event }) => event).filter((event) => event !== "login");
}

/** What a proxy, a balancer or a maintenance page may say. */
const FOREIGN: Record<string, ForeignAnswer> = {
  "404 without a body": { status: 404 },
  "404 with a page": { status: 404, type: "text/html", body: "<html>hvs.token</html>" },
  "400 in a proxy's JSON": { status: 400, type: JSON_TYPE, body: '{"error":"invalid accessor"}' },
  "400 whose errors are no texts": { status: 400, type: JSON_TYPE, body: '{"errors":[{"a":1}]}' },
  "200 without a body": { status: 200 },
  "200 with an empty object": { status: 200, type: JSON_TYPE, body: "{}" },
  "200 with errors": { status: 200, type: JSON_TYPE, body: '{"errors":["invalid accessor"]}' },
  "200 with a page": { status: 200, type: "text/html", body: "<html>hvs.token</html>" },
  "204 without a type": { status: 204 },
  "302 to a login page": { status: 302, type: "text/html" },
  "text that is no JSON, with a token": { status: 200, type: JSON_TYPE, body: '{"a":hvs.token}' },
};

describe("an answer that is not Vault's", () => {
  test.each(Object.entries(FOREIGN))("is unavailable, and not quoted: %s", async (_, answer) => {
    front.answer = () => answer;
    const { address, ca } = front.bao;
    const api = new VaultApi({ address, ca, namespace: undefined });
    const refusal = await api.call("secret/data/app").catch((error) => error);
    expect(refusal).toMatchObject({ reason: "vault", canRetry: true });
    expect(JSON.stringify(refusal.detail)).toMatch(/status \d+, the answer is not/);
    expect(JSON.stringify(refusal.detail)).not.toContain("hvs");
  });

  test.each(Object.entries(FOREIGN))("ends no revocation: %s", async (_, answer) => {
    const vault = await loggedIn();
    const lease = await mint(vault);
    let wasAnswered = false;
    front.answer = (path) => {
      if (wasAnswered || !path.endsWith("/revoke-accessor")) return undefined;
      wasAnswered = true;
      return answer;
    };
    await vault.revoke(lease);
    expect(ends()).toEqual(["revoke-failed", "revoked"]);
    expect(await lookUp(lease.accessor)).toBeUndefined();
  });
});

describe("Vault's own answer", () => {
  test.each([
    ["a deleted version of a secret, 404 with its data", "secret/data/deleted", { status: 404 }],
    ["nothing at a path, 404 with no errors", "secret/data/nothing", { status: 404, errors: [] }],
    ["no engine", "nowhere/x", { status: 404, errors: [expect.stringContaining("no handler")] }],
    ["no right", "sys/mounts", { status: 403, errors: ["permission denied"] }],
  ])("is final or not by its status: %s", async (_, path, detail) => {
    const root = client(bao);
    await root.write("secret/data/deleted", { data: { a: "1" } });
    await root.delete("secret/data/deleted");
    const { address, ca } = front.bao;
    const api = new VaultApi({ address, ca, namespace: undefined });
    api.token = path === "sys/mounts" ? "wrong" : bao.rootToken;
    const refusal = await api.call(path).catch((error) => error);
    expect(refusal.detail).toMatchObject(detail);
    expect(refusal.canRetry).toBe(detail.status === 403);
  });
});

describe("a revocation", () => {
  test("that Vault has done is noted as revoked, and a second one as gone", async () => {
    const vault = await loggedIn();
    const lease = await mint(vault);
    await vault.revoke(lease);
    await vault.revoke(lease);
    expect(ends()).toEqual(["revoked", "gone"]);
    expect(events.at(-1)).toMatchObject({ ...meta, accessor: lease.accessor });
  });

  test("is gone as well by the error of other versions: invalid accessor", async () => {
    const vault = await loggedIn();
    const body = JSON.stringify({ errors: ["1 error occurred:\n\t* invalid accessor\n\n"] });
    front.answer = (path) =>
      path.endsWith("/revoke-accessor") ? { status: 403, type: JSON_TYPE, body } : undefined;
    await vault.revoke(await mint(vault));
    expect(ends()).toEqual(["gone"]);
  });

  test("with another warning is tried again: nothing says that the token has ended", async () => {
    const vault = await loggedIn();
    const lease = await mint(vault);
    const body = JSON.stringify({ request_id: "1", warnings: ["something was left undone"] });
    let count = 0;
    front.answer = (path) =>
      path.endsWith("/revoke-accessor") && count++ === 0
        ? { status: 200, type: JSON_TYPE, body }
        : undefined;
    await vault.revoke(lease);
    expect(ends()).toEqual(["revoke-failed", "revoked"]);
    expect(events[0]?.detail).toEqual({ errors: ["something was left undone"] });
  });

  test("that Vault refuses is tried again until the token's life is over: expired", async () => {
    const vault = await loggedIn();
    const lease = await mint(vault);
    front.answer = (path) =>
      path.endsWith("/revoke-accessor")
        ? { status: 404, type: JSON_TYPE, body: '{"errors":["namespace not found"]}' }
        : undefined;
    await vault.revoke({ ...lease, ttl: 1 });
    expect(ends()).toEqual(["revoke-failed", "revoke-failed", "expired"]);
    expect(await lookUp(lease.accessor)).toBeDefined(); // its life was an hour, in fact
  });
});

describe("a token is never approved", () => {
  const root = () => client(bao);

  async function refusalOf(source: TokenSource) {
    const vault = await loggedIn();
    const created = await vault.create(source, meta);
    const refusal = await vault.requireOwn(created, source).catch((error) => error);
    return { refusal, created };
  }

  /** A role whose tokens have the server's policy, and only by an entity. */
  async function entityRole(): Promise<TokenSource> {
    const { data } = await root()
      .read("identity/entity/name/twin")
      .catch(async () => {
        await root().write("identity/entity", { name: "twin", policies: ["authproxy"] });
        return await root().read("identity/entity/name/twin");
      });
    const auths = await root().read("sys/auth");
    const mount_accessor = auths.data["token/"].accessor;
    await root().write("identity/entity-alias", {
      name: "twin",
      canonical_id: data.id,
      mount_accessor,
    });
    const usual = { allowed_policies: ["app"], orphan: true, allowed_entity_aliases: ["twin"] };
    await root().write("auth/token/roles/twin", usual);
    const policy = 'path "auth/token/create/twin" { capabilities = ["update"] }';
    const present = (await root().read("sys/policies/acl/authproxy")).data.policy;
    await root().addPolicy({ name: "authproxy", policy: `${present}\n${policy}` });
    return { create: "auth/token/create/twin", body: { entity_alias: "twin" } };
  }

  test.each([{}, { wrap_ttl: "60s" }])(
    "that has the server's policy by its entity: %j",
    async (more) => {
      const { refusal } = await refusalOf({ ...(await entityRole()), ...more });
      expect(refusal).toMatchObject({ reason: "wrong-role", detail: { ours: ["authproxy"] } });
    },
  );

  test("that is not wrapped, and should be", async () => {
    front.change = (headers) => delete headers["x-vault-wrap-ttl"];
    const { refusal, created } = await refusalOf({ ...app, wrap_ttl: "60s" });
    expect(refusal).toMatchObject({
      reason: "wrapping",
      canRetry: false,
      detail: { ...app, wrap_ttl: "60s", wrapped: false },
    });
    expect(await lookUp(created.accessor)).toBeDefined(); // so the lease can revoke it
  });

  test("that is wrapped, and should not be", async () => {
    front.change = (headers, path) => {
      if (path.includes("/create/")) headers["x-vault-wrap-ttl"] = "60s";
    };
    const { refusal, created } = await refusalOf(app);
    expect(refusal).toMatchObject({ reason: "wrapping", detail: { wrapped: true } });
    expect(await lookUp(created.accessor)).toBeDefined();
  });

  test("that is wrapped, and cannot be looked at: its accessor is known all the same", async () => {
    front.answer = (path) => (path.endsWith("/lookup-accessor") ? { status: 404 } : undefined);
    const { refusal, created } = await refusalOf({ ...app, wrap_ttl: "60s" });
    expect(refusal).toMatchObject({ reason: "vault", canRetry: true });
    expect(await lookUp(created.accessor)).toBeDefined();
  });
});

describe("the server's own token", () => {
  test("is not renewed for each mint that Vault denies", async () => {
    const vault = await loggedIn();
    let renewals = 0;
    let own: unknown;
    front.change = (headers, path) => {
      if (path.endsWith("/create/other")) own = headers["x-vault-token"];
      if (path.endsWith("/renew-self") && headers["x-vault-token"] === own) renewals++;
    };
    const denied = async () => {
      const refusal = vault.create({ create: "auth/token/create/other" }, meta).catch((e) => e);
      expect(await refusal).toMatchObject({ detail: { status: 403 } });
    };
    for (let i = 0; i < 50; i++) await denied();
    expect(renewals).toBe(0); // it has just logged in
    await vi.waitFor(() => expect(renewals).toBe(1), 10_000);
    for (let i = 0; i < 50; i++) await denied();
    expect(renewals).toBe(1);
  });

  test("is replaced where Vault has ended it", async () => {
    const vault = await loggedIn();
    const { data } = await client(bao).list("auth/token/accessors");
    for (const accessor of data.keys) {
      const token = await lookUp(accessor);
      if (token?.display_name === "approle")
        await client(bao).write("auth/token/revoke-accessor", { accessor });
    }
    await expect(vault.create(app, meta)).rejects.toMatchObject({ reason: "vault" });
    await vi.waitFor(() => vault.create(app, meta), { timeout: 10_000, interval: 200 });
  });
});

/** Thousands of leases end in one moment where their process asked again and again (`relax: ["once"]`),
 * where as many containers end, and where the server starts after they have ended. */
describe("where a process with many leases ends", () => {
  async function mintMany(vault: Vault, count: number): Promise<Lease[]> {
    const leases: Lease[] = [];
    while (leases.length < count)
      leases.push(...(await Promise.all(Array.from({ length: 50 }, () => mint(vault)))));
    return leases;
  }

  test("all 5,000 are revoked at the first try, and mints do not wait for it", async () => {
    const { address, ca } = bao;
    const vault = new Vault({ address, ca, namespace: undefined, login });
    void vault.stayLoggedIn();
    await vault.whenLoggedIn;
    const leases = await mintMany(vault, 5000);
    const revocations = Promise.all(leases.map((lease) => vault.revoke(lease)));
    for (let i = 0; i < 40; i++) await mint(vault);
    const before = ends().length;
    expect(before).toBeLessThan(leases.length);
    await revocations;
    expect(ends()).toEqual(leases.map(() => "revoked"));
    expect(await lookUp(leases.at(-1)?.accessor)).toBeUndefined();
  }, 180_000);

  test("a slow Vault is asked eight times at once, and each time has its own deadline", async () => {
    const vault = await loggedIn();
    const leases = await mintMany(vault, 200);
    let atOnce = 0;
    let most = 0;
    front.delay = (path) => {
      if (!path.endsWith("/revoke-accessor")) return undefined;
      most = Math.max(most, ++atOnce);
      return sleep(250).then(() => atOnce--);
    };
    const revocations = Promise.all(leases.map((lease) => vault.revoke(lease))); // 6 s in all
    await mint(vault);
    expect(ends().length).toBeLessThan(leases.length);
    await revocations;
    expect(ends()).toEqual(leases.map(() => "revoked"));
    expect(most).toBeLessThanOrEqual(9); // a timer here may be late
    expect(most).toBeGreaterThan(1);
  });
});
