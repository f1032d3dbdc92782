// What are the values of these references? Equal requests are made once, so that a certificate and
// its key come from one answer; different ones at the same time, at most 8.

import { fail } from "./failure.ts";
import { type Answer, type Fields, isFields, NumberText, parseJson } from "./json.ts";
import { printReference, type Stored } from "./reference.ts";
import type { Vault } from "./vault.ts";

const AT_ONCE = 8;

export type Asked = { readonly variable: string; readonly reference: Stored };
export type Secret = { readonly fields: Fields; readonly leaseSeconds: number };

/** The secrets by `requestOf` their references. */
export async function fetchSecrets(
  asked: readonly Asked[],
  vault: Vault,
): Promise<Map<string, Secret>> {
  const queue = [...new Map(asked.map((each) => [requestOf(each.reference), each]))];
  const isVersioned = askMounts(vault);
  const secrets = new Map<string, Secret>();
  const worker = async () => {
    for (let next = queue.shift(); next; next = queue.shift()) {
      secrets.set(next[0], await fetchSecret(next[1], vault, isVersioned));
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return secrets;
}

export function requestOf(reference: Stored): string {
  const detail = reference.kind === "write" ? reference.body : reference.version;
  return `${reference.kind} ${reference.path} ${detail}`;
}

/** The one field that the reference names, as text. */
export function pick(asked: Asked, { fields }: Secret): string {
  const { key } = asked.reference;
  const keys = Object.keys(fields);
  if (keys.length === 0) missing(asked, "the secret is empty");
  if (!keys.includes(key)) {
    missing(asked, "the secret has no such key", `it has ${keys.slice(0, 20).join(", ")}`);
  }
  const value = fields[key];
  if (value instanceof NumberText) return value.text;
  if (typeof value === "string" || typeof value === "boolean") return String(value);
  const kind = value === null ? "null" : Array.isArray(value) ? "a list" : "an object";
  return missing(asked, `the value is ${kind}, not text, a number or a boolean`);
}

async function fetchSecret(asked: Asked, vault: Vault, isVersioned: IsVersioned): Promise<Secret> {
  const { reference } = asked;
  const { path } = reference;
  if (reference.kind === "write") {
    const { status, body } = await vault.request({ path, body: reference.body });
    const answer = parseJson(body);
    return status === 200 ? secretOf(asked, answer, answer?.data) : rejected(asked, status, answer);
  }
  const { version } = reference;
  // In KV version 2 a secret is read at MOUNT/data/…; nothing else needs the question, which
  // travels with the read on the same connection and takes no round trip of its own.
  const quick = path.includes("/data/");
  const question = quick ? isVersioned(path) : undefined;
  const { status, body } = await vault.request({ path, version, quick });
  const answer = parseJson(body);
  const { data, metadata } = answer?.data ?? {};
  const looksVersioned = data !== undefined && isFields(metadata);
  if (looksVersioned && ((await question) ?? true)) {
    if (metadata.destroyed === true) missing(asked, "this version is destroyed");
    if (status === 404) missing(asked, `this version was deleted at ${metadata.deletion_time}`);
    return status === 200 ? secretOf(asked, answer, data) : rejected(asked, status, answer);
  }
  if (status !== 200) return rejected(asked, status, answer);
  if (version !== undefined) missing(asked, "only a KV version 2 engine has versions");
  return secretOf(asked, answer, answer?.data);
}

function secretOf(asked: Asked, answer: Answer | undefined, fields: unknown): Secret {
  if (!isFields(fields)) return missing(asked, "Vault's answer holds no secret");
  const duration = answer?.lease_id ? answer.lease_duration : undefined;
  return { fields, leaseSeconds: duration instanceof NumberText ? Number(duration.text) : 0 };
}

type IsVersioned = (path: string) => Promise<boolean | undefined>;

/** Is the engine at a path a KV version 2? Asked of Vault once for each mount; undefined where the
 * token may not know. */
function askMounts(vault: Vault): IsVersioned {
  // A question that fails takes nothing with it: the read says what is wrong with Vault.
  const ask = async (path: string): Promise<Fields | undefined> => {
    const request = { path: `sys/internal/ui/mounts/${path}`, quick: true, impatient: true };
    const response = await vault.request(request).catch(() => undefined);
    return response?.status === 200 ? parseJson(response.body)?.data : undefined;
  };
  // By the path's first segment: the answer says how long the mount's own path is.
  const asked = new Map<string, Promise<Fields | undefined>>();
  return async (path) => {
    const segment = path.slice(0, path.indexOf("/"));
    const first = asked.get(segment) ?? ask(path);
    asked.set(segment, first);
    let mount = await first;
    if (mount && !path.startsWith(String(mount.path))) mount = await ask(path);
    if (!mount) return undefined;
    return mount.type === "kv" && isFields(mount.options) && mount.options.version === "2";
  };
}

/** Of Vault's own error texts none is shown, as some engines quote what they were given. */
function rejected(asked: Asked, status: number, answer: Answer | undefined): never {
  const { kind, path } = asked.reference;
  if (status === 403) {
    const capability = kind === "write" ? "update" : "read";
    const hint = `the service's Vault policy must give "${capability}" on exactly this path`;
    fail("refused", `${where(asked)}: Vault denies this service the path`, hint);
  }
  if (status !== 404) missing(asked, `Vault answers ${status}`);
  const said = JSON.stringify([answer?.errors, answer?.warnings]);
  if (/no handler for route|route entry not found/.test(said)) {
    missing(asked, "no secrets engine is mounted there");
  }
  const versioned = `this is KV version 2, so the path is ${path.replace("/", "/data/")}`;
  return missing(asked, "no such secret", /versioned K\/V/i.test(said) ? versioned : undefined);
}

function missing(asked: Asked, what: string, hint?: string): never {
  return fail("noSuchSecret", `${where(asked)}: ${what}`, hint);
}

/** The body of a write is left out: it may hold what is to be encrypted. */
function where({ variable, reference }: Asked): string {
  const shown = reference.kind === "write" ? { ...reference, body: "{…}" } : reference;
  return `${variable}: ${printReference(shown)}`;
}
