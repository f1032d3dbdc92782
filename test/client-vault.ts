// Question: from which Vault does the client get its secrets in the tests?
// Output:   a real OpenBao with a few secrets and a policy, a token of it, the line that the server
//           would send, and the login of a real server. `granted` runs the client against the line.
import { createHash, randomUUID } from "node:crypto";
import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { request } from "node:https";
import { afterAll } from "vitest";
import { client, provision, startOpenBao } from "../scripts/openbao.ts";
import {
  answer,
  type Ended,
  type Place,
  Playground,
  type Run,
  run,
  secretBytes,
} from "./client-playground.ts";

export const password = `pa ss"w$rd-${randomUUID()}`;
export const user = `user-${randomUUID()}`;

const POLICY = `
path "secret/data/app*" { capabilities = ["read"] }
path "secret/data/nowhere" { capabilities = ["read"] }
path "secret/app" { capabilities = ["read"] }
path "kv/*" { capabilities = ["read"] }
path "unmounted/*" { capabilities = ["read"] }
path "team/kv/app" { capabilities = ["read"] }
path "team/kv/data/*" { capabilities = ["read"] }
path "transit/encrypt/app" { capabilities = ["update"] }
path "transit/decrypt/app" { capabilities = ["update"] }
`;

export const bao = await startOpenBao();
afterAll(() => bao.stop());
export const root = client(bao);
export const login = await provision(bao, { services: { app: { password: `old-${password}` } } });
await root.addPolicy({ name: "app", policy: POLICY });
await root.mount({ mount_point: "kv", type: "kv", options: { version: "1" } });
await root.mount({ mount_point: "team/kv", type: "kv", options: { version: "2" } });
await root.mount({ mount_point: "transit", type: "transit" });
await root.write("transit/keys/app", {});
export const secret = {
  password,
  user,
  port: 5432,
  tls: true,
  nested: { a: 1 },
  list: [],
  none: null,
};
await root.write("secret/data/app", { data: secret });
await root.write("secret/data/app/empty", { data: {} });
await root.write("secret/data/app/big", {
  data: { big: "x".repeat(128 * 1024), half: "x".repeat(64 * 1024), nul: "a\0b" },
});
await root.write("secret/data/app/gone", { data: { password } });
await root.delete("secret/data/app/gone");
await root.write("secret/data/app/destroyed", { data: { password } });
await root.write("secret/destroy/app/destroyed", { versions: [1] });
await root.write("kv/app", { password, data: user });
export const twin = { data: { password }, metadata: { version: 1 } };
await root.write("kv/data/twin", twin);
await root.write("kv/twin", { ...twin, ttl: 0 });
// JavaScript would round them.
await vault("POST", "kv/numbers", '{"large":12345678901234567890,"fraction":1.10}');
export const token = (await mint()).auth.client_token;
for (const secretText of [password, user, token, bao.rootToken]) secretBytes.add(secretText);
export type Minted = { auth: { client_token: string }; wrap_info: { token: string } };

export async function mint(headers: Record<string, string> = {}): Promise<Minted> {
  return JSON.parse(await vault("POST", "auth/token/create/app", "{}", headers));
}

export async function vault(
  method: string,
  path: string,
  body: string,
  headers: Record<string, string> = {},
  { address, ca, rootToken } = bao,
): Promise<string> {
  const sent = request(`${address}/v1/${path}`, {
    method,
    ca,
    headers: { "X-Vault-Token": rootToken, ...headers },
  });
  sent.end(body);
  const [response]: [IncomingMessage] = (await once(sent, "response")) as [IncomingMessage];
  return (await response.setEncoding("utf8").toArray()).join("");
}

export function grant(changes: Record<string, unknown> = {}, place: Record<string, unknown> = {}) {
  const { address, ca } = bao;
  const answered = { service: "app", token, wrapped: false, ttl: 300, renewable: true };
  return { ...answered, ...changes, vault: { address, ca, ...place } };
}

/** A run against a server that grants. */
export async function granted(with_: Run, line: unknown = grant(), at?: Place): Promise<Ended> {
  await using server = await Playground.open(answer(line));
  const options = ["--socket", server.socket, ...(with_.options ?? [])];
  return await run({ ...with_, options }, at);
}

/** The command prints a hash of each variable: the output is searched for the secrets themselves. */
export const hashes = [
  "/bin/sh",
  "-c",
  'for name; do eval "printf %s \\"\\$$name\\"" | sha256sum | cut -c 1-64; done',
  "sh",
];
export const hash = (text: string) => createHash("sha256").update(text).digest("hex");
