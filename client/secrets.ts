// What are the values of these references? Equal requests are made once, so that a certificate and
// its key come from one answer; different ones at the same time, at most 8.

import { EXIT, Failure } from "./failure.ts";
import { type Answer, type Fields, isFields, parseJson, textOf } from "./json.ts";
import { withKeystores } from "./keystore/fields.ts";
import { printReference, type Stored } from "./reference.ts";
import type { Vault } from "./vault.ts";

const AT_ONCE = 8;

export type Asked = {
  readonly variable: string;
  readonly reference: Stored;
  /** Equal for what one request to Vault answers. */
  readonly request: string;
};
export type Secret = {
  readonly fields: Fields;
  readonly leaseId: unknown;
  /** Until the lease, or a certificate, ends; 0 where nothing ends. */
  readonly leaseSeconds: number;
};

/** Kept with the request, as several variables may ask for it: one must have it, another need not. */
export class Unreadable extends Failure {
  /** There is no such secret, as against one that cannot be read. */
  absent = false;
}

export type Secrets = ReadonlyMap<string, Secret | Unreadable>;

/** The secrets by their requests. */
export async function fetchSecrets(asked: readonly Asked[], vault: Vault): Promise<Secrets> {
  const queue = [...new Map(asked.map(({ request, reference }) => [request, reference]))];
  const secrets = new Map<string, Secret | Unreadable>();
  const worker = async () => {
    for (let next = queue.shift(); next; next = queue.shift()) {
      const [request, reference] = next;
      const secret = fetchSecret(reference, vault).catch((error: unknown) => {
        if (error instanceof Unreadable) return error;
        throw error;
      });
      secrets.set(request, await secret);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return secrets;
}

export function ask(variable: string, reference: Stored): Asked {
  const detail = reference.kind === "write" ? reference.body : reference.version;
  return { variable, reference, request: `${reference.kind} ${reference.path} ${detail}` };
}

/** What the reference names: a field's value, or the whole; undefined where it may be left out. */
export function pick({ variable, reference, request }: Asked, secrets: Secrets): unknown {
  try {
    return fieldOf(reference.key, secrets.get(request));
  } catch (error) {
    if (!(error instanceof Unreadable)) throw error;
    const { exitCode, hint, absent, message } = error;
    if (reference.kind === "read" && reference.otherwise !== undefined && absent) {
      return reference.otherwise || undefined;
    }
    throw new Failure(exitCode, `${variable}: ${shown(reference)}: ${message}`, hint);
  }
}

function fieldOf(key: string, secret: Secret | Unreadable | undefined): unknown {
  if (!secret || secret instanceof Unreadable) throw secret ?? new Error();
  const { fields } = secret;
  const keys = Object.keys(fields);
  if (keys.length === 0) absent("the secret is empty");
  if (key === "*") return fields;
  if (!keys.includes(key)) {
    absent("the secret has no such key", `it has ${keys.slice(0, 20).join(", ")}`);
  }
  return fields[key] ?? absent("the value is null");
}

async function fetchSecret(reference: Stored, vault: Vault): Promise<Secret> {
  const { path } = reference;
  if (reference.kind === "write") {
    const { status, body } = await vault.request({ path, body: reference.body });
    const answer = parseJson(body);
    return status === 200 ? secretOf(answer, answer?.data) : rejected(reference, status, answer);
  }
  const { version } = reference;
  // In KV version 2 a secret is read at MOUNT/data/…
  const quick = path.includes("/data/");
  const { status, body } = await vault.request({ path, version, quick });
  const answer = parseJson(body);
  // KV version 2 answers these two, and no lease. A secret of version 1 may have fields of these names,
  // but comes with the mount's TTL as its lease_duration, or what a third field, `ttl`, says.
  const { data, metadata, ...others } = answer?.data ?? {};
  const isBare = Object.keys(others).length === 0 && textOf(answer?.lease_duration ?? 0) === "0";
  if (isBare && data !== undefined && isFields(metadata)) {
    if (metadata.destroyed === true) absent("this version is destroyed");
    if (status === 404) absent(`this version was deleted at ${metadata.deletion_time}`);
    return status === 200 ? secretOf(answer, data) : rejected(reference, status, answer);
  }
  if (status !== 200) return rejected(reference, status, answer);
  if (version !== undefined) unreadable("only a KV version 2 engine has versions");
  return secretOf(answer, answer?.data);
}

function secretOf(answer: Answer | undefined, fields: unknown): Secret {
  if (!isFields(fields)) return unreadable("Vault's answer holds no secret");
  const { lease_id: leaseId, lease_duration: duration } = answer ?? {};
  // A certificate has no lease, but an end, in seconds since 1970.
  const seconds = fields.serial_number
    ? Number(textOf(fields.expiration)) - Date.now() / 1000
    : Number(leaseId && textOf(duration));
  const all = import.meta.keystores ? withKeystores(fields) : fields;
  return { fields: all, leaseId, leaseSeconds: Math.floor(seconds) || 0 };
}

/** Of Vault's own error texts none is shown, as some engines quote what they were given. */
function rejected({ kind, path }: Stored, status: number, answer: Answer | undefined): never {
  if (status === 403) {
    const capability = kind === "write" ? "update" : "read";
    const hint = `the service's Vault policy must give "${capability}" on exactly this path`;
    throw new Unreadable(EXIT.refused, "Vault denies this service the path", hint);
  }
  // 400 above all: a name that a PKI role does not admit.
  if (status !== 404) unreadable(`Vault answers ${status}`, "does its role allow it?");
  const said = JSON.stringify([answer?.errors, answer?.warnings]);
  if (/no handler for route|route entry not found/.test(said)) {
    unreadable("no secrets engine is mounted there");
  }
  const versioned = `this is KV version 2, so the path is ${path.replace("/", "/data/")}`;
  if (/versioned K\/V/i.test(said)) unreadable("no such secret", versioned);
  return absent("no such secret");
}

function unreadable(what: string, hint?: string): never {
  throw new Unreadable(EXIT.noSuchSecret, what, hint);
}

function absent(what: string, hint?: string): never {
  throw Object.assign(new Unreadable(EXIT.noSuchSecret, what, hint), { absent: true });
}

/** The body of a write is left out: it may hold what is to be encrypted. A default: a secret. */
function shown(reference: Stored): string {
  if (reference.kind === "write") return printReference({ ...reference, body: "{…}" });
  return printReference({ ...reference, otherwise: undefined });
}
