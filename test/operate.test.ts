// Question: does the recipe of docs/operate.md make an AppRole by which the server can do its work, and
// nothing more?
// Input:    the document's own block, run as an administrator runs it, against a real OpenBao.
// Siblings: examples/compose/vault.sh, which makes an AppRole too; `authproxy provision` has tests of its
//           own.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { client, type OpenBao, startOpenBao } from "../scripts/openbao.ts";
import { logIn } from "../server/login.ts";
import { VaultApi } from "../server/vault-api.ts";
import { block } from "./documents.ts";

const root = join(import.meta.dirname, "..");
const recipes = [
  {
    name: "docs/operate.md",
    shell: block("docs/operate.md", "bao auth enable approle"),
    role: "authproxy-web1",
    create: "auth/token/create/timeline",
  },
  {
    name: "examples/compose/vault.sh",
    shell: readFileSync(join(root, "examples/compose/vault.sh"), "utf8"),
    role: "authproxy",
    create: "auth/token/create/ledger",
  },
];

describe.each(recipes)("the AppRole of $name", ({ shell, role, create }) => {
  const directory = mkdtempSync(join(tmpdir(), "authproxy-operate-"));
  let bao: OpenBao;
  let api: VaultApi;
  let login: { path: string; body: { role_id: string; secret_id: string } };

  beforeAll(async () => {
    bao = await startOpenBao();
    mkdirSync(join(directory, "home"));
    execFileSync("sh", ["-euc", shell], {
      cwd: directory,
      env: {
        PATH: `${join(root, "dist")}:${process.env.PATH}`,
        HOME: join(directory, "home"),
        BAO_ADDR: bao.address,
        BAO_CACERT: bao.caFile,
        BAO_TOKEN: bao.rootToken,
      },
      stdio: "pipe",
    });
    const administrator = client(bao);
    const { data: id } = await administrator.read(`auth/approle/role/${role}/role-id`);
    const { data: secret } = await administrator.write(`auth/approle/role/${role}/secret-id`, {});
    login = {
      path: "auth/approle/login",
      body: { role_id: id.role_id, secret_id: secret.secret_id },
    };
    api = new VaultApi({ address: bao.address, ca: bao.ca, namespace: undefined });
  });
  afterAll(async () => {
    await bao.stop();
    rmSync(directory, { recursive: true });
  });

  test("gives the server a token that has its own policy, and not Vault's default one", async () => {
    const { policies } = await logIn(api, login);
    expect(policies).toEqual([role]);
  });

  test("lets the server renew that token, so that it need not log in again", async () => {
    const first = await logIn(api, login);
    const renewed = await logIn(api, login, first.client_token);
    expect(renewed.client_token).toBe(first.client_token);
    expect(renewed.lease_duration).toBe(3600);
  });

  test("lets it make a token of the service, renew it and revoke it", async () => {
    api.token = (await logIn(api, login)).client_token;
    const { auth } = await api.call(create, { meta: { service: "x" } });
    const accessor = auth?.accessor ?? "";
    expect(auth).toMatchObject({ orphan: true, lease_duration: 3600 });
    await api.call("auth/token/renew-accessor", { accessor });
    await api.call("auth/token/revoke-accessor", { accessor });
  });

  test("lets it do nothing else: it reads no secret and makes no other token", async () => {
    api.token = (await logIn(api, login)).client_token;
    for (const [path, body] of [
      ["secret/data/timeline"],
      ["secret/data/ledger"],
      ["auth/token/create", {}],
      ["sys/policies/acl"],
    ] as const)
      await expect(api.call(path, body)).rejects.toMatchObject({ detail: { status: 403 } });
  });
});
