// Question: what are the values of these references?
// Input:    references, which the image or whoever starts the container chose; paths that may be
//           written to; Vault's answers.
// Output:   the values. Equal references are one request, so that a certificate and its key come from
//           one answer. Different requests are made together, at most 8 of them.
// Guaranteed: no message shows a value, the body of a write or a default.

import type { ResolvedVariable, SecretVariable } from "./environment.ts";
import { EXIT, Failure, fail } from "./failure.ts";
import { isRotated, lifetimeOf } from "./lifetime.ts";
import { printReference, type ReadReference, type VaultReference } from "./reference.ts";
import {
  decodeBase64,
  decodeUtf8,
  type Fields,
  isFields,
  textOf,
  type VaultBody,
} from "./values.ts";
import type { Vault, VaultResponse } from "./vault.ts";
import { nowMs } from "./wait.ts";

const REQUESTS_AT_ONCE = 8;
/** So many keys of a secret are listed where the one that was asked for is not among them. */
const KEYS_LISTED_MAX = 20;
/** What KV version 2 has besides secrets, below a mount. */
const KV_PATH = /^((data|metadata|subkeys|delete|undelete|destroy)\/|config$)/;
/** So long Vault has to answer what only makes a hint better. */
const HINT_MS_MAX = 2000;

/** A reference that one variable holds. */
export type SecretRequest = {
  readonly variable: string;
  readonly reference: VaultReference;
  /** Equal for references that one request to Vault answers. */
  readonly requestKey: string;
};

export type Secret = {
  readonly fields: Fields;
  readonly leaseId: unknown;
  /** From lifetimeOf(). */
  readonly lifetimeSeconds: number | undefined;
  /** Vault replaces it, and reading it makes nothing: see isRotated(). */
  readonly rotates: boolean;
};

/**
 * Why a request gave no secret. It is kept with the request and not thrown, as several variables may
 * hold the reference: one of them may need a value, and another have a default.
 */
export class UnreadableSecret extends Failure {
  readonly leaseId = undefined;
  readonly lifetimeSeconds = undefined;
  readonly rotates = false;
}

/** There is no such secret or key, so that a default applies. */
class AbsentSecret extends UnreadableSecret {}

/** What each request gave, by its key. */
export type FetchedSecrets = ReadonlyMap<string, Secret | UnreadableSecret>;

let transformFields = (fields: Fields): Fields => fields;

/**
 * Sets a function that gets the fields of each secret and returns those that the application sees. A
 * bundle with additions calls it once, before the client starts: see keystore/authproxy-java.ts.
 */
export function setFieldTransformer(transformer: (fields: Fields) => Fields): void {
  transformFields = transformer;
}

/**
 * Returns the requests that the variables need. Throws a Failure (config) for a write to a path that
 * is not in `allowedWrites`, because a write changes Vault.
 */
export function secretRequests(
  secretVariables: readonly SecretVariable[],
  allowedWrites: readonly string[],
): SecretRequest[] {
  const requests: SecretRequest[] = [];
  for (const { variable, segments } of secretVariables) {
    for (const segment of segments) {
      if (typeof segment === "string" || segment.kind === "login") continue;
      if (segment.kind === "write" && !allowedWrites.includes(segment.path)) {
        fail(
          "config",
          `${variable}: a write to ${segment.path} is not allowed`,
          `allow it by --allow-write ${segment.path}`,
        );
      }
      requests.push({ variable, reference: segment, requestKey: requestKeyOf(segment) });
    }
  }
  return requests;
}

function requestKeyOf(reference: VaultReference): string {
  const detail = reference.kind === "write" ? reference.body : reference.version;
  return `${reference.kind} ${reference.path} ${detail}`;
}

/** Fetches the secrets. Rejects with a Failure where Vault itself cannot be used. */
export async function fetchSecrets(
  requests: readonly SecretRequest[],
  vault: Vault,
): Promise<FetchedSecrets> {
  const references = new Map(requests.map(({ requestKey, reference }) => [requestKey, reference]));
  const secrets = new Map<string, Secret | UnreadableSecret>();
  await forEachAtOnce([...references], async ([requestKey, reference]) => {
    secrets.set(requestKey, await fetchSecret(reference, vault));
  });
  return secrets;
}

/** Calls the function for each item, for at most 8 at once. */
export async function forEachAtOnce<Item>(
  items: readonly Item[],
  action: (item: Item) => Promise<void>,
): Promise<void> {
  const queue = [...items];
  async function workOff(): Promise<void> {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await action(item);
  }
  await Promise.all(Array.from({ length: REQUESTS_AT_ONCE }, workOff));
}

/**
 * Returns the variables with their values. A value is undefined where an optional reference leads
 * nowhere. Throws a Failure that names the variable.
 */
export function resolveVariables(
  secretVariables: readonly SecretVariable[],
  secrets: FetchedSecrets,
  token: string,
): ResolvedVariable[] {
  return secretVariables.map((secretVariable) => {
    return { ...secretVariable, value: resolveValue(secretVariable, secrets, token) };
  });
}

/** Returns the value of the one reference, or text where there are other segments. */
function resolveValue(
  secretVariable: SecretVariable,
  secrets: FetchedSecrets,
  token: string,
): unknown {
  const values = secretVariable.segments.map((segment) => {
    if (typeof segment === "string") return segment;
    if (segment.kind === "login") return token;
    return resolveReference(secretVariable, segment, secrets);
  });
  if (values.length === 1) return values[0];
  return values.map((value) => (value === undefined ? "" : textOf(value))).join("");
}

function resolveReference(
  { variable, form, segments }: SecretVariable,
  reference: VaultReference,
  secrets: FetchedSecrets,
): unknown {
  try {
    const value = findField(reference.key, secrets.get(requestKeyOf(reference)));
    if (!reference.isBase64) return value;
    return decodeField(value, form === "file" && segments.length === 1);
  } catch (error) {
    if (!(error instanceof UnreadableSecret)) throw error;

    const otherwise = reference.kind === "read" ? reference.otherwise : undefined;
    if (error instanceof AbsentSecret && otherwise !== undefined) return otherwise || undefined;

    const message = `${variable}: ${printHidden(reference)}: ${error.message}`;
    throw new Failure(error.exitCode, message, error.hint);
  }
}

/** Returns what the text in base64 stands for: bytes where it is all of a file, or else text. */
function decodeField(value: unknown, isFile: boolean): Uint8Array | string {
  const bytes = typeof value === "string" ? decodeBase64(value) : undefined;
  if (!bytes) throw new UnreadableSecret(EXIT.config, "the value is not base64");
  if (isFile) return bytes;

  const text = decodeUtf8(bytes);
  if (text !== undefined) return text;
  const hint = "hand it over as a file of its own: NAME_FILE=vault:PATH#KEY#base64";
  throw new UnreadableSecret(EXIT.config, "the decoded value is not text", hint);
}

function findField(key: string, secret: Secret | UnreadableSecret | undefined): unknown {
  if (!secret) throw new Error("the secret was not fetched");
  if (secret instanceof UnreadableSecret) throw secret;

  const { fields } = secret;
  const keys = Object.keys(fields);
  if (keys.length === 0) absent("the secret is empty");
  if (key === "*") return fields;
  if (!keys.includes(key)) {
    const listed = keys.slice(0, KEYS_LISTED_MAX).join(", ");
    absent("the secret has no such key", `it has ${listed}`);
  }
  return fields[key] ?? absent("the value is null");
}

/** The body of a write may hold what is to be encrypted, and a default may be a secret. */
function printHidden(reference: VaultReference): string {
  if (reference.kind === "write") return printReference({ ...reference, body: "{…}" });
  return printReference({ ...reference, otherwise: undefined });
}

/** Fetches one secret. Rejects with a Failure where Vault itself cannot be used. */
export async function fetchSecret(
  reference: VaultReference,
  vault: Vault,
): Promise<Secret | UnreadableSecret> {
  try {
    if (reference.kind === "read") return await fetchByRead(reference, vault);
    const response = await vault.request({ path: reference.path, body: reference.body });
    if (response.status !== 200) await explain(reference, response, vault);
    return secretOf(response.body);
  } catch (error) {
    if (error instanceof UnreadableSecret) return error;
    throw error;
  }
}

async function fetchByRead(reference: ReadReference, vault: Vault): Promise<Secret> {
  const { path, version } = reference;
  // KV version 2 reads a secret at MOUNT/data/… Any other read may make something, such as a user.
  const isRepeatable = path.includes("/data/");
  const response = await vault.request({ path, version, isRepeatable });
  const { status, body } = response;

  const envelope = kvEnvelopeOf(body);
  if (envelope) {
    const { data, metadata } = envelope;
    if (metadata.destroyed === true) absent("this version is destroyed");
    if (status === 404) absent(`this version was deleted at ${metadata.deletion_time}`);
    return status === 200 ? secretOf(body, data) : await explain(reference, response, vault);
  }
  if (status !== 200) await explain(reference, response, vault);
  if (version !== undefined) unreadable("only a KV version 2 engine has versions");
  return secretOf(body);
}

/**
 * Returns what KV version 2 puts around a secret: `data` and `metadata`, alone and without a lease. A
 * secret of version 1 may have fields of these names, but comes with the mount's TTL as its
 * lease_duration, or with a third field, `ttl`, that says another one.
 */
function kvEnvelopeOf(body: VaultBody): { data: unknown; metadata: Fields } | undefined {
  const { data, metadata, ...others } = body.data ?? {};
  const hasOthers = Object.keys(others).length > 0;
  const hasLease = textOf(body.lease_duration ?? 0) !== "0";
  if (hasOthers || hasLease || data === undefined || !isFields(metadata)) return undefined;
  return { data, metadata };
}

function secretOf(body: VaultBody, fields: unknown = body.data): Secret {
  if (!isFields(fields)) unreadable("Vault's answer holds no secret");
  const lifetimeSeconds = lifetimeOf(body);
  return {
    fields: transformFields(fields),
    leaseId: body.lease_id,
    lifetimeSeconds,
    rotates: lifetimeSeconds !== undefined && isRotated(fields),
  };
}

/** Vault's own error texts are not shown: some engines quote what they were given. */
async function explain(
  reference: VaultReference,
  { status, body }: VaultResponse,
  vault: Vault,
): Promise<never> {
  const { kind, path } = reference;
  if (status === 403) {
    const capability = kind === "write" ? "update" : "read";
    const hint = `the service's Vault policy must give "${capability}" on exactly this path`;
    const message = "Vault denies this service the path";
    throw new UnreadableSecret(EXIT.refused, message, (await findDataPath(path, vault)) ?? hint);
  }
  // This is mostly 400, for a name that a PKI role does not admit.
  if (status !== 404) unreadable(`Vault answers ${status}`, "does its role allow it?");

  const explanation = JSON.stringify([body.errors, body.warnings]);
  if (/no handler for route|route entry not found/.test(explanation)) {
    unreadable("no secrets engine is mounted there");
  }
  if (/versioned K\/V/i.test(explanation)) {
    const hint = "this is KV version 2: data/ must stand between its mount and the secret's name";
    unreadable("no such secret", (await findDataPath(path, vault)) ?? hint);
  }
  // Only an empty list of errors says that there is nothing. Gateways answer 404 too.
  if (explanation !== "[[],null]") unreadable("Vault answers 404");
  absent("no such secret");
}

/**
 * Returns a hint with the path that is meant, where the path leads into KV version 2 and lacks its
 * `data/`. Vault names the mount, which may have any number of segments, to each token that may use some
 * path in it.
 */
async function findDataPath(path: string, vault: Vault): Promise<string | undefined> {
  // A gateway before Vault may not pass sys/ on: a hint is not worth the whole wait.
  const deadlineMs = nowMs() + HINT_MS_MAX;
  const mounts = `sys/internal/ui/mounts/${path}`;
  const request = { path: mounts, isRepeatable: true, returnsDenial: true, deadlineMs };
  const answer = await vault.request(request).catch(() => undefined);
  const { path: mount, options } = answer?.body.data ?? {};
  if (typeof mount !== "string" || !path.startsWith(mount)) return undefined;
  if (!isFields(options) || options.version !== "2") return undefined;

  const name = path.slice(mount.length);
  if (KV_PATH.test(name)) return undefined;
  return `this is KV version 2, so the path is ${mount}data/${name}`;
}

function unreadable(message: string, hint?: string): never {
  throw new UnreadableSecret(EXIT.noInput, message, hint);
}

function absent(message: string, hint?: string): never {
  throw new AbsentSecret(EXIT.noInput, message, hint);
}
