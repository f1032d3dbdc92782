// Question: what may each of them do in Vault, and nothing more? Pure. Output: policies as Vault keeps
// them (HCL), one rule a line, so that a difference can be shown by lines.
// Source: Vault's concepts page "Policies"; the calls of keeper/vault.ts and keeper/login.ts.
import type { Service } from "../../server/config.ts";
import type { JsonObject } from "../../server/json.ts";
import type { Secret } from "./paths.ts";

const HEAD = "# Made by `authproxy provision`, whose next run undoes what is changed here.\n";

type Fields = Record<string, string>;

function rule(path: string, capabilities: string[], more: Fields = {}): string {
  const list = JSON.stringify(capabilities);
  const fields = Object.entries(more).map(([key, value]) => `${key} = ${value} `);
  return `path ${JSON.stringify(path)} { capabilities = ${list} ${fields.join("")}}\n`;
}

function policy(rules: string[]): string {
  return [HEAD, ...new Set(rules)].join("");
}

/** A host's server mints for its services, renews and revokes by accessor, and sees to itself. It
 * can read no secret, and ask for no other policies, lifetimes or names. */
export function hostPolicy(services: Record<string, Service>): string {
  const all = Object.entries(services);
  const mints = all.flatMap(([name, { token }]) => {
    const { create, read, wrap_ttl } = token;
    const ready = read ? [rule(read.slice(0, read.indexOf("#")), ["read"])] : [];
    // With a shortest wrapping the server gets no token that it could see.
    const wrapped = wrap_ttl && {
      min_wrapping_ttl: '"1s"',
      max_wrapping_ttl: JSON.stringify(wrap_ttl),
    };
    const asked = { allowed_parameters: parameters(name, token.body), ...wrapped };
    return create ? [...ready, rule(create, ["update"], asked)] : ready;
  });
  const minted = all.some(([, { token }]) => token.create);
  const wrapped = all.some(([, { token }]) => token.wrap_ttl);
  return policy([
    ...mints,
    ...(minted ? [rule("auth/token/renew-accessor", ["update"])] : []),
    ...(minted ? [rule("auth/token/revoke-accessor", ["update"])] : []),
    ...(wrapped ? [rule("auth/token/lookup-accessor", ["update"])] : []),
    rule("auth/token/lookup-self", ["read"]),
    rule("auth/token/renew-self", ["update"]),
  ]);
}

/** What a request for a token may say: the display name, by which Vault's audit log tells services
 * apart, only this one; `body` as the policy file has it. */
function parameters(service: string, body: JsonObject = {}): string {
  const own = { meta: [], display_name: [`authproxy-${service}`] };
  const simple = (value: unknown) => ["string", "number", "boolean"].includes(typeof value);
  const asked = Object.entries(body).map(([key, value]) => [key, simple(value) ? [value] : []]);
  const all = Object.entries({ ...Object.fromEntries(asked), ...own });
  const fields = all.map(([key, values]) => `${JSON.stringify(key)} = ${JSON.stringify(values)}`);
  return `{ ${fields.join(" ")} }`;
}

/** A service reads its secrets; it renews leases where there are some; it issues its own name. */
export function servicePolicy(secrets: Secret[], issue?: string): string {
  const leased = secrets.some(({ engine }) => engine.type !== "kv");
  return policy([
    ...secrets.map(({ path }) => rule(path, ["read"])),
    ...(leased ? [rule("sys/leases/renew", ["update"])] : []),
    ...(issue ? [rule(issue, ["update"])] : []),
    rule("auth/token/lookup-self", ["read"]),
  ]);
}

/** People who may change each service's secrets, and read none. */
export function writersPolicy(secrets: Secret[]): string {
  const changes = (version: number) => ["create", "update", ...(version === 2 ? ["patch"] : [])];
  return policy(secrets.map(({ path, engine }) => rule(path, changes(engine.version))));
}

/** People who may read each service's secrets, and see which there are. */
export function readersPolicy(secrets: Secret[]): string {
  return policy(
    secrets.flatMap(({ path, metadata, engine }) =>
      engine.version === 2
        ? [rule(path, ["read"]), rule(metadata, ["read", "list"])]
        : [rule(path, ["read", "list"])],
    ),
  );
}
