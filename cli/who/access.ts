// Question: who did what with which secret, by one line of Vault's audit log? Input: the line, as
// the file device writes it (also behind a prefix). Pure.
// Who could forge it: whoever may write policies and mint tokens in Vault. A host's server cannot
// claim another service: `authproxy provision` fixes the display name by policy, and it must agree
// here.
// Source: Vault's page "Audit devices"; the entries of OpenBao 2.7.
import type { JsonObject } from "../../server/json.ts";

/** A container's token, or anybody else's. `pod` is NAMESPACE/POD/CONTAINER, on Kubernetes only. */
export type Who =
  | { container: string; service: string; host: string; image: string; pod?: string }
  | { person: string; entity?: string };

/** For people: such as "app 0123456789ab on web-1", "app shop/app-0/app 0123456789ab on web-1". */
export function nameOf(who: Who): string {
  if ("person" in who) return who.entity ? `${who.person} (${who.entity})` : who.person;
  const { service, pod, container, host } = who;
  const place = host ? `on ${host}` : "";
  return [service, pod, container.slice(0, 12), place].filter(Boolean).join(" ");
}

/** The name of a pod's container, by two members of the token's metadata or of an audit line. */
export function podIn({ pod, pod_container }: JsonObject): string | undefined {
  return typeof pod === "string" ? `${pod}/${pod_container}` : undefined;
}

export type Deed = "read" | "changed" | "used" | "deleted" | "restored" | "listed" | "sought";

export type Access = {
  /** ISO 8601, in milliseconds. */
  time: string;
  who: Who;
  /** The API path; of a KV engine always that of its data. */
  secret: string;
  did: Deed;
  /** "denied" and "failed": Vault said no, or had an error. */
  outcome: "done" | "denied" | "failed";
};

type VaultRequest = {
  operation?: string;
  path?: string;
  mount_point?: string;
  mount_type?: string;
  namespace?: { path?: string } | null;
};
type VaultAuth = {
  display_name?: string;
  entity_id?: string;
  metadata?: Record<string, string> | null;
};
type AuditEntry = {
  time?: string;
  type?: string;
  error?: string;
  auth?: VaultAuth | null;
  request?: VaultRequest | null;
  response?: { data?: JsonObject; wrap_info?: JsonObject } | null;
};

/** Below these nothing is a secret. */
const NOT_SECRETS = /^(sys|auth|cubbyhole|identity)\//;

/** Undefined where nobody did anything with a secret. Throws where the line is not an entry. */
export function accessIn(line: string): Access | undefined {
  // Each request has an entry when it comes, and one when it was answered. Only the latter counts,
  // and to look for its word is quicker than to parse both.
  if (line.startsWith("{") && !line.includes('"response"')) return undefined;
  const entry: AuditEntry = JSON.parse(line.slice(Math.max(0, line.indexOf("{"))));
  const { auth, request, response, error } = entry;
  if (entry.type !== "response" || !request?.path || !request.operation) return undefined;
  if (NOT_SECRETS.test(request.path)) return undefined;

  const { secret, deed } = deedOf(request.path, request);
  const hasAnswer = Boolean(response?.data || response?.wrap_info);
  const wasMissing = request.operation === "read" && !hasAnswer && !error;
  return {
    time: new Date(entry.time ?? "").toISOString(),
    who: whoIs(auth),
    secret: `${request.namespace?.path ?? ""}${secret}`,
    did: wasMissing ? "sought" : deed,
    outcome: outcomeOf(error),
  };
}

/** Vault's audit log has no other sign of a denial than the text of the error. */
function outcomeOf(error: string | undefined): Access["outcome"] {
  if (!error) return "done";
  return error.includes("permission denied") ? "denied" : "failed";
}

/** A container, where the token's metadata and its display name agree. */
function whoIs(auth: VaultAuth | null | undefined): Who {
  const { display_name: displayName = "", entity_id: entity, metadata } = auth ?? {};
  const { container = "", service = "", host = "", image = "" } = metadata ?? {};
  // What Vault makes of the display name that was asked for, behind the name of the auth method.
  const expected = `token-authproxy-${service}`.replace(/[^a-zA-Z0-9-]/g, "-").replace(/-+$/, "");
  const isContainer = /^[0-9a-f]{64}$/.test(container) && service !== "";
  if (isContainer && displayName.replace(/-+$/, "") === expected) {
    const pod = podIn(metadata ?? {});
    return { container, service, host, image, ...(pod && { pod }) };
  }

  const loginRole = metadata?.role_name; // of a login by AppRole
  const person = [displayName || "nobody", ...(loginRole ? [loginRole] : [])].join(" ");
  return entity ? { person, entity } : { person };
}

const DEED_BY_OPERATION: Record<string, Deed> = {
  read: "read",
  delete: "deleted",
  list: "listed",
  scan: "listed",
};

/** What an update of MOUNT/WORD/PATH is, in a KV engine of version 2. */
const DEED_BY_WORD: Record<string, Deed> = {
  delete: "deleted",
  destroy: "deleted",
  undelete: "restored",
};

function deedOf(path: string, request: VaultRequest): { secret: string; deed: Deed } {
  const { operation = "", mount_type, mount_point = "" } = request;
  const byOperation = DEED_BY_OPERATION[operation];
  const isKeyValue = mount_type === "kv" && path.startsWith(mount_point);
  if (!isKeyValue) return { secret: path, deed: byOperation ?? "used" };

  const pathInEngine = path.slice(mount_point.length);
  const [, word = "", name] =
    /^(data|metadata|subkeys|delete|undelete|destroy)\/(.*)$/.exec(pathInEngine) ?? [];
  const secret = name === undefined ? path : `${mount_point}data/${name}`;
  const readsNoValue = byOperation === "read" && (word === "metadata" || word === "subkeys");
  if (readsNoValue) return { secret, deed: "listed" };
  return { secret, deed: byOperation ?? DEED_BY_WORD[word] ?? "changed" };
}
