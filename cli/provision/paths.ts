// Question: which paths of Vault are a service's secrets? Input: templates, such as
// secret/data/{environment}/{service}/*, and the secrets engines that Vault has. Pure.
// Guaranteed: no service's path covers another's, nor what the templates give to all.
import { Failure } from "../terminal.ts";

/** `mount` ends with a slash. `version` is that of a KV engine, and 0 of any other. */
export type SecretsEngine = { mount: string; type: string; version: number };

/** `metadata` is the path of the secret's versions, in a KV engine of version 2. */
export type SecretPath = { path: string; metadata: string; engine: SecretsEngine };

/** The templates where --secrets gives none. */
export function defaultTemplates(environment?: string): string[] {
  const folder = environment ? "secret/data/{environment}" : "secret/data";
  return [`${folder}/{service}`, `${folder}/{service}/*`];
}

/** Returns a name that is the same in a path, a policy and an identity: Vault lowers the case of
 * policy names. `subject` is what has the name, such as "the host". Throws the Failure "config". */
export function requireName(subject: string, name: string): string {
  if (/^[a-z0-9][a-z0-9._-]*$/.test(name)) return name;
  throw new Failure(
    "config",
    `${subject} ${JSON.stringify(name)} cannot be a name in Vault`,
    "use small letters and digits, and . _ - after the first character",
  );
}

/** The paths of a service, or with "+" those of all services. Throws the Failure "usage". */
export function secretPaths(
  templates: string[],
  service: string,
  environment: string | undefined,
  engines: SecretsEngine[],
): SecretPath[] {
  for (const template of templates) requireSound(template, templates);
  return templates.map((template) => {
    if (template.includes("{environment}") && !environment)
      throw templateFailure(template, "{environment} has no value", "try: --environment NAME");
    const path = filled(template, service, environment ?? "");
    return withEngine(path, template, engines);
  });
}

function templateFailure(template: string, problem: string, hint: string): Failure {
  return new Failure("usage", `--secrets ${template}: ${problem}`, hint);
}

function filled(template: string, service: string, environment: string): string {
  return template.replaceAll("{environment}", environment).replaceAll("{service}", service);
}

function requireSound(template: string, templates: string[]): void {
  const example = template.replaceAll(/\{(service|environment)\}/g, "x");
  if (!/^[\w.-]+(\/[\w.-]+)*(\/?\*)?$/.test(example)) {
    const hint = "try: --secrets 'secret/data/{service}/*'";
    throw templateFailure(template, "is not a path of Vault", hint);
  }

  // With {service}-x or {service}* a service "a" would get what belongs to "a-x".
  const segments = template.split("/");
  const isOfService = segments.includes("{service}");
  const mentions = segments.filter((segment) => segment.includes("{service}")).length;
  if (mentions !== (isOfService ? 1 : 0)) {
    const problem = "{service} must be a whole part of the path";
    throw templateFailure(template, problem, "write it between slashes, once");
  }
  if (!isOfService && template.includes("*")) {
    const hint = "name in full what all services share";
    throw templateFailure(template, "every service would get all of it", hint);
  }

  // A service that is named as the next part of the other's path would get everything there.
  const inside = isOfService && templates.find((other) => isDeeper(other, template));
  if (inside) {
    const problem = `a service could cover ${inside}`;
    throw templateFailure(template, problem, "put {service} at the same depth in all templates");
  }
}

/** {service} stands in `other` below the place where it stands in this template. */
function isDeeper(other: string, template: string): boolean {
  if (!other.includes("{service}")) return false;
  const folder = template.slice(0, template.indexOf("{service}"));
  const otherFolder = other.slice(0, other.indexOf("{service}"));
  return otherFolder !== folder && otherFolder.startsWith(folder);
}

function withEngine(path: string, template: string, engines: SecretsEngine[]): SecretPath {
  const [engine] = engines
    .filter(({ mount }) => path.startsWith(mount))
    .sort((a, b) => b.mount.length - a.mount.length);
  if (!engine) {
    const hint = "`vault secrets list` shows which there are";
    throw templateFailure(template, "no secrets engine is mounted there", hint);
  }
  const { mount, version } = engine;
  const pathInEngine = path.slice(mount.length);
  if (version === 2 && !pathInEngine.startsWith("data/")) {
    const problem = `${mount} is a KV engine of version 2`;
    throw templateFailure(template, problem, `its API paths begin with ${mount}data/`);
  }
  return { path, metadata: `${mount}${pathInEngine.replace(/^data/, "metadata")}`, engine };
}

/** Throws the Failure "usage" where what all services get is what this service calls its own. */
export function refuseSharing(service: string, templates: string[]): void {
  const ownTemplates = templates.filter((template) => template.includes("{service}"));
  const ownPaths = ownTemplates.map((template) => template.replaceAll("{service}", service));
  const shared = templates.find((template) => ownPaths.some((path) => covers(path, template)));
  if (shared) {
    const problem = `it is the service ${service}'s own`;
    throw templateFailure(shared, problem, "keep what all services share elsewhere");
  }
}

/** By Vault's rules: a * at the end is for anything. */
export function covers(rule: string, path: string): boolean {
  return rule.endsWith("*") ? path.startsWith(rule.slice(0, -1)) : rule === path;
}

/** The domain name of a service, of its own. Throws the Failure "usage". */
export function domainOf(template: string, service: string, environment?: string): string {
  const name = filled(template, service, environment ?? "{environment}");
  // RFC 1035, 2.3.1
  const isName = /^(?!-)[a-z0-9-]+(\.[a-z0-9-]+)*$/.test(name);
  if (isName && template.includes("{service}")) return name;
  throw new Failure(
    "usage",
    `--domain ${template}: gives ${service} no domain name of its own`,
    "try: --domain '{service}.example.io'",
  );
}
