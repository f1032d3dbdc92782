// Question: what must be in Vault, so that this host's server can serve its services, and each of
// them can read its own secrets? Input: the policy file, what was asked for, and the engines that
// Vault has. Pure. Output: objects of Vault, in the order in which they can be made.
// Sources: Vault's API pages of auth/token (roles), auth/approle, secret/pki (roles), sys/policies.
import type { Config, Service } from "../../server/config.ts";
import type { JsonObject } from "../../server/json.ts";
import { Failure } from "../terminal.ts";
import { domainOf, type Engine, named, refuseSharing, secretsOf } from "./paths.ts";
import { hostPolicy, readersPolicy, servicePolicy, writersPolicy } from "./policies.ts";

/** What tokens live before they are renewed: an hour in which Vault or the host may be away. */
const PERIOD_SECONDS = 3600;

export type Request = {
  host: string;
  /** From where its server speaks to Vault; none: from anywhere. */
  addresses: string[];
  secrets: string[];
  environment?: string | undefined;
  pki?: { mount: string; domain: string; ttlSeconds: number } | undefined;
};

/** `fields` are those that must have these values; others are not looked at. */
export type Wanted = { kind: string; name: string; path: string; fields: JsonObject };

const policyOf = (name: string, policy: string): Wanted => ({
  kind: "policy",
  name,
  path: `sys/policies/acl/${name}`,
  fields: { policy },
});

export const roleOf = (host: string) => `authproxy-${named("the host", host)}`;

export function wanted({ vault, services }: Config, request: Request, engines: Engine[]): Wanted[] {
  const { host, addresses, secrets, environment, pki } = request;
  const { mount, roleId } = loginOf(vault.login);
  const role = roleOf(host);
  if (environment) named("the environment", environment);
  if (pki && !engines.some(({ mount, type }) => mount === `${pki.mount}/` && type === "pki"))
    throw new Failure(
      "usage",
      `--pki ${pki.mount}: no PKI engine is mounted there`,
      "vault secrets list says which there are",
    );
  const own = `authproxy-host-${host}`;
  const roles = new Map<string, string>();
  return [
    { kind: "auth method", name: mount, path: `sys/auth/${mount}`, fields: { type: "approle" } },
    ...Object.entries(services).flatMap(([service, { token }]) =>
      ofService(named("the service", service), tokenRole(service, token, roles)),
    ),
    policyOf(own, hostPolicy(services)),
    {
      kind: "AppRole",
      name: role,
      path: `auth/${mount}/role/${role}`,
      fields: {
        ...{ bind_secret_id: true, secret_id_num_uses: 0, secret_id_ttl: 0 },
        ...{ secret_id_bound_cidrs: addresses, token_bound_cidrs: addresses },
        ...{ token_policies: [own], token_no_default_policy: true, token_type: "service" },
        ...{ token_period: PERIOD_SECONDS, token_ttl: 0, token_max_ttl: 0 },
        ...{ token_explicit_max_ttl: 0, token_num_uses: 0 },
      },
    },
    {
      kind: "role id",
      name: role,
      path: `auth/${mount}/role/${role}/role-id`,
      fields: { role_id: roleId },
    },
    ...(environment ? people(environment) : []),
  ];

  function ofService(service: string, tokenRole: string | undefined): Wanted[] {
    if (!tokenRole) return [];
    refuseSharing(service, secrets);
    const policy = `authproxy-service-${service}`;
    const issue = pki && `${pki.mount}/issue/${service}`;
    return [
      policyOf(policy, servicePolicy(secretsOf(secrets, service, environment, engines), issue)),
      {
        kind: "token role",
        name: tokenRole,
        path: `auth/token/roles/${tokenRole}`,
        fields: {
          ...{ orphan: true, renewable: true, token_type: "service", path_suffix: "" },
          ...{ token_period: PERIOD_SECONDS, token_explicit_max_ttl: 0, token_num_uses: 0 },
          ...{ allowed_policies: [policy], allowed_policies_glob: [], disallowed_policies: [] },
          ...{ token_no_default_policy: true, allowed_entity_aliases: [] },
        },
      },
      ...(pki ? [pkiRole(pki, service, environment)] : []),
    ];
  }

  function people(environment: string): Wanted[] {
    const separate = secrets.filter((template) => template.includes("{environment}"));
    const all = secretsOf(separate, "+", environment, engines);
    const kept = all.filter(({ engine }) => engine.type === "kv");
    if (kept.length === 0) {
      const message = "--environment: no path of --secrets holds {environment}";
      throw new Failure("usage", message, "nothing tells its secrets from others'");
    }
    return [
      policyOf(`authproxy-writers-${environment}`, writersPolicy(kept)),
      policyOf(`authproxy-readers-${environment}`, readersPolicy(kept)),
    ];
  }
}

export function loginOf({ path = "", body = {} }: Config["vault"]["login"]) {
  const mount = /^auth\/(.+)\/login$/.exec(path)?.[1];
  const roleId = body.role_id;
  if (mount && typeof roleId === "string" && roleId) return { mount, roleId };
  throw new Failure(
    "config",
    "vault.login is no login by AppRole with a role_id",
    'try: { "path": "auth/approle/login", "body": { "role_id": "NAME" }, "body_files": { "secret_id":' +
      " FILE } }; the role gets the id that stands there, a name of the host will do",
  );
}

/** Of a service whose tokens are minted by a role that no other service has. */
function tokenRole(
  service: string,
  { create, namespace, read = "", body = {} }: Service["token"],
  roles: Map<string, string>,
): string | undefined {
  const place = `services.${service}.token`;
  if (namespace) {
    const message = `${place}.namespace: provision makes nothing in another namespace`;
    throw new Failure(
      "config",
      message,
      "give such services a policy file and a server of their own",
    );
  }
  // In a policy * and + are wildcards, and {{…}} is a template.
  const strange = [read.replace(/#.*$/s, ""), ...Object.keys(body)].find(
    (word) => !/^[\w./-]*$/.test(word),
  );
  if (strange !== undefined)
    throw new Failure(
      "config",
      `${place}: ${strange} would mean more in a policy`,
      "name it in full",
    );
  if (create === undefined) return undefined; // a ready token
  const role = /^auth\/token\/create\/([^/]+)$/.exec(create)?.[1];
  if (!role)
    throw new Failure(
      "config",
      `${place}.create: ${create} is no token role`,
      `write auth/token/create/${service}: without a role the host could mint any token`,
    );
  const other = roles.get(role);
  if (other)
    throw new Failure(
      "config",
      `${place}.create: "${other}" has the token role ${role} too`,
      "each of them would get what the other may read: give each a role of its own",
    );
  roles.set(named("the token role", role), service);
  return role;
}

/** Issues certificates of one name, and no other. */
function pkiRole(
  { mount, domain, ttlSeconds }: NonNullable<Request["pki"]>,
  service: string,
  environment?: string,
): Wanted {
  return {
    kind: "PKI role",
    name: service,
    path: `${mount}/roles/${service}`,
    fields: {
      allowed_domains: [domainOf(domain, service, environment)],
      ...{ allow_bare_domains: true, allow_subdomains: false, allow_any_name: false },
      ...{ allow_glob_domains: false, allow_wildcard_certificates: false, allow_localhost: false },
      ...{ allow_ip_sans: false, allowed_uri_sans: [], allowed_other_sans: [] },
      ...{ allowed_user_ids: [], allowed_domains_template: false, allow_token_displayname: false },
      ...{ enforce_hostnames: true, require_cn: true, server_flag: true, client_flag: true },
      ...{ max_ttl: ttlSeconds, ttl: ttlSeconds },
    },
  };
}
