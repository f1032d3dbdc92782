// Question: what may each of them do in Vault, and nothing more? Pure. Output: policies as Vault
// keeps them (HCL), one rule a line, so that a difference can be shown by lines.
// Source: Vault's concepts page "Policies"; the calls of server/vault.ts and server/login.ts.
import type { Service, TokenSource } from "../../server/config.ts";
import type { JsonObject } from "../../server/json.ts";
import type { SecretPath } from "./paths.ts";

const HEAD = "# Made by `authproxy provision`, whose next run undoes what is changed here.\n";

/** `extra` are further fields of the rule, in HCL. */
function rule(path: string, capabilities: string[], extra: Record<string, string> = {}): string {
  const list = JSON.stringify(capabilities);
  const fields = Object.entries(extra).map(([key, value]) => `${key} = ${value} `);
  return `path ${JSON.stringify(path)} { capabilities = ${list} ${fields.join("")}}\n`;
}

function policy(rules: string[]): string {
  return [HEAD, ...new Set(rules)].join("");
}

/** A host's server makes tokens for its services, renews and revokes them by accessor, and looks
 * after its own token. It can read no secret, and ask for no other policies, lifetimes or names. */
export function hostPolicy(services: Record<string, Service>): string {
  const sources = Object.entries(services).map(([name, { token }]) => ({ name, token }));
  const rules = sources.flatMap(({ name, token }) => tokenRules(name, token));
  if (sources.some(({ token }) => token.create)) {
    rules.push(rule("auth/token/renew-accessor", ["update"]));
    rules.push(rule("auth/token/revoke-accessor", ["update"]));
  }
  // What a wrapped token may do has to be asked for.
  if (sources.some(({ token }) => token.wrap_ttl))
    rules.push(rule("auth/token/lookup-accessor", ["update"]));
  rules.push(rule("auth/token/lookup-self", ["read"]));
  rules.push(rule("auth/token/renew-self", ["update"]));
  return policy(rules);
}

function tokenRules(service: string, { create, read, wrap_ttl, body }: TokenSource): string[] {
  const rules: string[] = [];
  if (read) rules.push(rule(read.slice(0, read.indexOf("#")), ["read"]));
  if (!create) return rules;

  const extra: Record<string, string> = { allowed_parameters: allowedParameters(service, body) };
  if (wrap_ttl) {
    // With a minimum the server cannot ask for a token that is not wrapped, and so see it.
    extra.min_wrapping_ttl = '"1s"';
    extra.max_wrapping_ttl = JSON.stringify(wrap_ttl);
  }
  rules.push(rule(create, ["update"], extra));
  return rules;
}

/** What a request for a token may say: `body` as the policy file has it, and of display names, by
 * which Vault's audit log tells services apart, only this service's. */
function allowedParameters(service: string, body: JsonObject = {}): string {
  const parameters: Record<string, unknown[]> = {};
  for (const [key, value] of Object.entries(body)) {
    // An empty list allows any value: that of an object or a list is not fixed.
    const isScalar = ["string", "number", "boolean"].includes(typeof value);
    parameters[key] = isScalar ? [value] : [];
  }
  parameters.meta = [];
  parameters.display_name = [`authproxy-${service}`];
  const fields = Object.entries(parameters).map(
    ([key, values]) => `${JSON.stringify(key)} = ${JSON.stringify(values)}`,
  );
  return `{ ${fields.join(" ")} }`;
}

/** A service reads its secrets, renews leases where its secrets have some, and issues certificates
 * of its own name. `issuePath` is that of its PKI role. */
export function servicePolicy(secrets: SecretPath[], issuePath?: string): string {
  const rules = secrets.map(({ path }) => rule(path, ["read"]));
  if (secrets.some(({ engine }) => engine.type !== "kv"))
    rules.push(rule("sys/leases/renew", ["update"]));
  if (issuePath) rules.push(rule(issuePath, ["update"]));
  rules.push(rule("auth/token/lookup-self", ["read"]));
  return policy(rules);
}

/** For people who may change each service's secrets, and read none. */
export function writersPolicy(secrets: SecretPath[]): string {
  const rules = secrets.map(({ path, engine }) => {
    const capabilities = ["create", "update"];
    if (engine.version === 2) capabilities.push("patch");
    return rule(path, capabilities);
  });
  return policy(rules);
}

/** For people who may read each service's secrets, and see which there are. */
export function readersPolicy(secrets: SecretPath[]): string {
  const rules = secrets.flatMap(({ path, metadata, engine }) =>
    engine.version === 2
      ? [rule(path, ["read"]), rule(metadata, ["read", "list"])]
      : [rule(path, ["read", "list"])],
  );
  return policy(rules);
}
