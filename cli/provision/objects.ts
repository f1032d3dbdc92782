// Question: what must be in Vault, so that this host's server can serve its services, and each of
// them can read its own secrets? Input: the policy file, what was asked for, and the engines that
// Vault has. Pure. Output: objects of Vault, in the order in which they can be made.
// Sources: Vault's API pages of auth/token (roles), auth/approle, secret/pki (roles), sys/policies.
import type { Config, LoginConfig, Service, TokenSource } from "../../server/config.ts";
import type { JsonObject } from "../../server/json.ts";
import { Failure } from "../terminal.ts";
import { domainOf, refuseSharing, requireName, type SecretsEngine, secretPaths } from "./paths.ts";
import { hostPolicy, readersPolicy, servicePolicy, writersPolicy } from "./policies.ts";

/** How long tokens live before they are renewed: an hour in which Vault or the host may be away. */
const PERIOD_SECONDS = 3600;

export type PkiRequest = { mount: string; domain: string; ttlSeconds: number };
export type ProvisionRequest = {
  host: string;
  /** From where its server speaks to Vault, as CIDR; empty: from anywhere. */
  addresses: string[];
  /** Templates of paths. */
  secrets: string[];
  environment?: string | undefined;
  pki?: PkiRequest | undefined;
  /** By whose token the server of a Kubernetes node logs in: NAMESPACE/NAME, and for whom it is made. */
  serviceAccount: string;
  audience: string;
};

/** Where and how the server logs in. */
export type ServerLogin =
  | { kind: "approle"; mount: string; roleId: string }
  | { kind: "kubernetes"; mount: string };

/** `fields` are those that must have these values; others are not looked at. */
export type VaultObject = { kind: string; name: string; path: string; fields: JsonObject };

/** The role by which a host's server logs in. Throws the Failure "config" where that cannot be a name. */
export function roleNameOf(host: string): string {
  return `authproxy-${requireName("the host", host)}`;
}

/** All objects. Throws the Failures "config" and "usage" where they cannot be made soundly. */
export function objectsFor(
  { vault, services }: Config,
  request: ProvisionRequest,
  engines: SecretsEngine[],
): VaultObject[] {
  const { host, addresses, environment, pki } = request;
  const roleName = roleNameOf(host);
  const login = serverLogin(vault.login, roleName);
  if (environment) requireName("the environment", environment);
  if (pki) requirePkiEngine(pki, engines);

  const serviceObjects = Object.entries(services).flatMap(([service, { token }]) => {
    requireName("the service", service);
    const tokenRole = tokenRoleOf(service, token);
    return tokenRole ? objectsOfService(service, tokenRole, request, engines) : [];
  });
  requireOwnRoles(services);

  const hostPolicyName = `authproxy-host-${host}`;
  const rolePath = `auth/${login.mount}/role/${roleName}`;
  const ofLogin =
    login.kind === "approle"
      ? appRole(roleName, rolePath, login.roleId, hostPolicyName, addresses)
      : kubernetesRole(roleName, rolePath, hostPolicyName, request);
  return [
    {
      kind: "auth method",
      name: login.mount,
      path: `sys/auth/${login.mount}`,
      fields: { type: login.kind },
    },
    ...serviceObjects,
    policyObject(hostPolicyName, hostPolicy(services)),
    ...ofLogin,
    ...(environment ? objectsForPeople(environment, request.secrets, engines) : []),
  ];
}

function policyObject(name: string, policy: string): VaultObject {
  return { kind: "policy", name, path: `sys/policies/acl/${name}`, fields: { policy } };
}

/** What the tokens of a server may be used for, and from where. */
function tokenFields(policy: string, addresses: string[]): JsonObject {
  return {
    token_bound_cidrs: addresses,
    token_policies: [policy],
    token_no_default_policy: true,
    token_type: "service",
    token_period: PERIOD_SECONDS,
    token_ttl: 0,
    token_max_ttl: 0,
    token_explicit_max_ttl: 0,
    token_num_uses: 0,
  };
}

/** Its tokens can be used from these addresses only, and so can its secret ids. */
function appRole(name: string, path: string, roleId: string, policy: string, addresses: string[]) {
  const fields = {
    bind_secret_id: true,
    secret_id_num_uses: 0,
    secret_id_ttl: 0,
    secret_id_bound_cidrs: addresses,
    ...tokenFields(policy, addresses),
  };
  return [
    { kind: "AppRole", name, path, fields },
    { kind: "role id", name, path: `${path}/role-id`, fields: { role_id: roleId } },
  ];
}

/** By a token of this service account alone, that was made for this audience. */
function kubernetesRole(name: string, path: string, policy: string, request: ProvisionRequest) {
  const [namespace = "", account = "", ...surplus] = request.serviceAccount.split("/");
  if (!namespace || !account || surplus.length > 0) {
    const message = `--service-account ${request.serviceAccount}: is not NAMESPACE/NAME`;
    throw new Failure("usage", message, "try: --service-account authproxy/authproxy");
  }
  const fields = {
    bound_service_account_names: [account],
    bound_service_account_namespaces: [namespace],
    audience: request.audience,
    ...tokenFields(policy, request.addresses),
  };
  return [{ kind: "Kubernetes role", name, path, fields }];
}

function objectsOfService(
  service: string,
  tokenRole: string,
  { secrets, environment, pki }: ProvisionRequest,
  engines: SecretsEngine[],
): VaultObject[] {
  refuseSharing(service, secrets);
  const policyName = `authproxy-service-${service}`;
  const paths = secretPaths(secrets, service, environment, engines);
  const issuePath = pki && `${pki.mount}/issue/${service}`;
  return [
    policyObject(policyName, servicePolicy(paths, issuePath)),
    {
      kind: "token role",
      name: tokenRole,
      path: `auth/token/roles/${tokenRole}`,
      fields: {
        orphan: true,
        renewable: true,
        token_type: "service",
        path_suffix: "",
        token_period: PERIOD_SECONDS,
        token_explicit_max_ttl: 0,
        token_num_uses: 0,
        allowed_policies: [policyName],
        allowed_policies_glob: [],
        disallowed_policies: [],
        token_no_default_policy: true,
        allowed_entity_aliases: [],
      },
    },
    ...(pki ? [pkiRole(pki, service, environment)] : []),
  ];
}

function requirePkiEngine({ mount }: PkiRequest, engines: SecretsEngine[]): void {
  const isMounted = engines.some((engine) => engine.mount === `${mount}/` && engine.type === "pki");
  if (isMounted) return;
  const message = `--pki ${mount}: no PKI engine is mounted there`;
  throw new Failure("usage", message, "`vault secrets list` shows which there are");
}

/** Issues certificates of one name, and no other. */
function pkiRole(pki: PkiRequest, service: string, environment?: string): VaultObject {
  return {
    kind: "PKI role",
    name: service,
    path: `${pki.mount}/roles/${service}`,
    fields: {
      allowed_domains: [domainOf(pki.domain, service, environment)],
      allow_bare_domains: true,
      allow_subdomains: false,
      allow_any_name: false,
      allow_glob_domains: false,
      allow_wildcard_certificates: false,
      allow_localhost: false,
      allow_ip_sans: false,
      allowed_uri_sans: [],
      allowed_other_sans: [],
      allowed_user_ids: [],
      allowed_domains_template: false,
      allow_token_displayname: false,
      enforce_hostnames: true,
      require_cn: true,
      server_flag: true,
      client_flag: true,
      max_ttl: pki.ttlSeconds,
      ttl: pki.ttlSeconds,
    },
  };
}

/** Policies for the people who write the secrets of an environment, and for those who read them. */
function objectsForPeople(
  environment: string,
  templates: string[],
  engines: SecretsEngine[],
): VaultObject[] {
  const ofEnvironment = templates.filter((template) => template.includes("{environment}"));
  const paths = secretPaths(ofEnvironment, "+", environment, engines);
  const keyValuePaths = paths.filter(({ engine }) => engine.type === "kv");
  if (keyValuePaths.length === 0) {
    throw new Failure(
      "usage",
      "--environment: no path of --secrets holds {environment}",
      "write {environment} in a path, so that its secrets can be told from others",
    );
  }
  return [
    policyObject(`authproxy-writers-${environment}`, writersPolicy(keyValuePaths)),
    policyObject(`authproxy-readers-${environment}`, readersPolicy(keyValuePaths)),
  ];
}

/** How the server of this configuration logs in. Throws the Failure "config" where provision knows no
 * such way, or where another role is named. */
function serverLogin(login: LoginConfig, roleName: string): ServerLogin {
  const { path = "", body = {}, body_files = {} } = login;
  if (!("jwt" in body_files)) return { kind: "approle", ...appRoleLogin(login) };
  const [, mount] = /^auth\/(.+)\/login$/.exec(path) ?? [];
  if (mount && body.role === roleName) return { kind: "kubernetes", mount };
  throw new Failure(
    "config",
    `vault.login is not a login by Kubernetes with the role ${roleName}`,
    `try: { "path": "auth/kubernetes/login", "body": { "role": "${roleName}" }, "body_files": ` +
      '{ "jwt": FILE } }, or --host NAME for the role authproxy-NAME; nodes with the same services may ' +
      "have one name",
  );
}

/** Where the server logs in by AppRole, and the id that its role is to have. Throws the Failure
 * "config" where it logs in otherwise. */
export function appRoleLogin({ path = "", body = {} }: LoginConfig): {
  mount: string;
  roleId: string;
} {
  const [, mount] = /^auth\/(.+)\/login$/.exec(path) ?? [];
  const roleId = body.role_id;
  if (mount && typeof roleId === "string" && roleId) return { mount, roleId };
  throw new Failure(
    "config",
    "vault.login is not a login by AppRole with a role_id",
    'try: { "path": "auth/approle/login", "body": { "role_id": "NAME" }, "body_files": ' +
      '{ "secret_id": FILE } }; the role gets the id that you write there, such as the name of ' +
      "the host",
  );
}

/** The role by which a service's tokens are made; undefined where it has a ready token. Throws the
 * Failure "config" where the role, or the host's policy for it, would allow more than that. */
function tokenRoleOf(
  service: string,
  { create, namespace, read = "", body = {} }: TokenSource,
): string | undefined {
  const place = `services.${service}.token`;
  if (namespace) {
    throw new Failure(
      "config",
      `${place}.namespace: provision makes nothing in another namespace`,
      "give such services a policy file and a server of their own",
    );
  }

  // In a policy * and + are wildcards, and {{…}} is a template.
  const policyWords = [read.replace(/#.*$/s, ""), ...Object.keys(body)];
  const ambiguous = policyWords.find((word) => !/^[\w./-]*$/.test(word));
  if (ambiguous !== undefined) {
    const message = `${place}: ${ambiguous} would mean more in a policy`;
    throw new Failure("config", message, "name it in full");
  }

  if (create === undefined) return undefined;
  const [, role] = /^auth\/token\/create\/([^/]+)$/.exec(create) ?? [];
  if (role) return requireName("the token role", role);
  throw new Failure(
    "config",
    `${place}.create: ${create} is not the path of a token role`,
    `write auth/token/create/${service}: without a role the host could make any token`,
  );
}

/** No role is that of two services. */
function requireOwnRoles(services: Record<string, Service>): void {
  const serviceOfRole = new Map<string, string>();
  for (const [service, { token }] of Object.entries(services)) {
    const role = tokenRoleOf(service, token);
    if (!role) continue;
    const other = serviceOfRole.get(role);
    if (other !== undefined) {
      throw new Failure(
        "config",
        `services.${service}.token.create: "${other}" has the token role ${role} too`,
        "each would get what the other may read: give each service a role of its own",
      );
    }
    serviceOfRole.set(role, service);
  }
}
