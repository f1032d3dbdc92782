// Question: which paths of Vault are a service's secrets? Input: templates, such as
// secret/data/{environment}/{service}/*, and the secrets engines that Vault has. Pure.
// Guaranteed: no service's path covers another's, nor what the templates give to all.
import { Failure } from "../terminal.ts";

/** `version`: of a KV engine; 0 for all others. */
export type Engine = { mount: string; type: string; version: number };
/** `metadata`: the path of its versions' dates, in a KV engine of version 2. */
export type Secret = { path: string; metadata: string; engine: Engine };

export const usual = (environment?: string) => {
  const folder = environment ? "secret/data/{environment}" : "secret/data";
  return [`${folder}/{service}`, `${folder}/{service}/*`];
};

/** A name that is the same in a path, a policy and an identity: Vault makes policies' names small. */
export function named(kind: string, name: string): string {
  if (/^[a-z0-9][a-z0-9._-]*$/.test(name)) return name;
  const message = `${kind} ${JSON.stringify(name)} cannot be a name in Vault`;
  throw new Failure("config", message, "small letters, digits, and . _ - after the first");
}

/** With `service` "+" the paths of all services. */
export function secretsOf(
  templates: string[],
  service: string,
  environment: string | undefined,
  engines: Engine[],
): Secret[] {
  for (const template of templates) refuseUnsound(template, templates);
  return templates.map((template) => secretOf(template, service, environment, engines));
}

const wrong = (template: string, what: string, hint: string) =>
  new Failure("usage", `--secrets ${template}: ${what}`, hint);

function refuseUnsound(template: string, others: string[]): void {
  const bare = template.replaceAll(/\{(service|environment)\}/g, "x");
  if (!/^[\w.-]+(\/[\w.-]+)*(\/?\*)?$/.test(bare))
    throw wrong(template, "is no path of Vault", "try: --secrets 'secret/data/{service}/*'");
  const segments = template.split("/");
  const own = segments.indexOf("{service}");
  // With {service}-x or {service}*, a service "a" would get what is "a-x"'s.
  if (segments.filter((segment) => segment.includes("{service}")).length !== (own < 0 ? 0 : 1))
    throw wrong(template, "{service} must be a whole part of the path", "between slashes, once");
  if (own < 0 && template.includes("*"))
    throw wrong(template, "every service would get all of it", "what all share is named in full");
  // A service whose name is the next part of the other's path would get all that lies there.
  const before = (of: string) => of.slice(0, of.indexOf("{service}"));
  const inside = others.find(
    (other) =>
      before(other) !== before(template) &&
      other.includes("{service}") &&
      own >= 0 &&
      before(other).startsWith(before(template)),
  );
  if (inside)
    throw wrong(template, `a service could cover ${inside}`, "let {service} stand at one depth");
}

function secretOf(
  template: string,
  service: string,
  environment: string | undefined,
  engines: Engine[],
): Secret {
  if (template.includes("{environment}") && !environment)
    throw wrong(template, "{environment} is not known", "try: --environment NAME");
  const path = template
    .replaceAll("{environment}", environment ?? "")
    .replaceAll("{service}", service);
  const engine = engines
    .filter(({ mount }) => path.startsWith(mount))
    .sort((a, b) => b.mount.length - a.mount.length)[0];
  if (!engine) {
    const hint = "vault secrets list says which there are";
    throw wrong(template, "no secrets engine is mounted there", hint);
  }
  const { mount, version } = engine;
  const below = path.slice(mount.length);
  if (version === 2 && !below.startsWith("data/")) {
    const hint = `its API paths begin with ${mount}data/`;
    throw wrong(template, `${mount} is a KV engine of version 2`, hint);
  }
  return { path, metadata: `${mount}${below.replace(/^data/, "metadata")}`, engine };
}

/** What all services get may not be what one of them calls its own. */
export function refuseSharing(service: string, templates: string[]): void {
  const own = templates.filter((template) => template.includes("{service}"));
  const names = own.map((template) => template.replaceAll("{service}", service));
  const shared = templates.find((template) => names.some((name) => covers(name, template)));
  if (shared)
    throw wrong(shared, `it is the service ${service}'s own`, "keep what all share elsewhere");
}

/** By Vault's rules: a * stands at the end, for anything. */
export function covers(rule: string, path: string): boolean {
  return rule.endsWith("*") ? path.startsWith(rule.slice(0, -1)) : rule === path;
}

export function domainOf(template: string, service: string, environment?: string): string {
  const name = template
    .replaceAll("{environment}", environment ?? "{environment}")
    .replaceAll("{service}", service);
  // RFC 1035, 2.3.1
  if (/^(?!-)[a-z0-9-]+(\.[a-z0-9-]+)*$/.test(name) && template.includes("{service}")) return name;
  const message = `--domain ${template}: gives no domain name of ${service}'s own`;
  throw new Failure("usage", message, "try: --domain '{service}.example.io'");
}
