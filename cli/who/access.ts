// Question: who did what with which secret, by one line of Vault's audit log? Input: the line, as the
// file device writes it (also behind a prefix). Pure.
// Who could forge it: who may write policies and mint tokens in Vault. A host's server cannot claim
// another service: `authproxy provision` fixes the display name by policy, and it must agree here.
// Source: Vault's page "Audit devices"; the entries of OpenBao 2.7.
import type { JsonObject } from "../../server/json.ts";

export type Who =
  | { container: string; service: string; host: string; image: string }
  | { person: string; entity?: string };

export function nameOf(who: Who): string {
  if ("person" in who) return who.entity ? `${who.person} (${who.entity})` : who.person;
  return `${who.service} ${who.container.slice(0, 12)}${who.host ? ` on ${who.host}` : ""}`;
}

export type Deed = "read" | "changed" | "used" | "deleted" | "restored" | "listed" | "sought";
export type Access = {
  /** ISO 8601, in milliseconds. */
  time: string;
  who: Who;
  /** The API path; of a KV engine always that of its data. */
  secret: string;
  did: Deed;
  /** Vault said no, or failed. */
  outcome: "done" | "denied" | "failed";
};

type Entry = {
  time?: string;
  type?: string;
  error?: string;
  auth?: {
    display_name?: string;
    entity_id?: string;
    metadata?: Record<string, string> | null;
  } | null;
  request?: {
    operation?: string;
    path?: string;
    mount_point?: string;
    mount_type?: string;
    namespace?: { path?: string } | null;
  } | null;
  response?: { data?: JsonObject; wrap_info?: JsonObject } | null;
};

/** Undefined: nobody did anything with a secret. Throws where the line is no entry. */
export function accessIn(line: string): Access | undefined {
  // Each request has an entry when it comes and one when it was answered.
  if (line.startsWith("{") && !line.includes('"response"')) return undefined;
  const entry: Entry = JSON.parse(line.slice(Math.max(0, line.indexOf("{"))));
  const { auth, request, response, error } = entry;
  if (entry.type !== "response" || !request?.path || !request.operation) return undefined;
  if (/^(sys|auth|cubbyhole|identity)\//.test(request.path)) return undefined;
  const [path, deed] = deedOf(request.path, request);
  const found = response?.data || response?.wrap_info;
  const nothing = request.operation === "read" && !found && !error;
  return {
    time: new Date(entry.time ?? "").toISOString(),
    who: whoIs(auth),
    secret: `${request.namespace?.path ?? ""}${path}`,
    did: nothing ? "sought" : deed,
    outcome: !error ? "done" : error.includes("permission denied") ? "denied" : "failed",
  };
}

function whoIs(auth: Entry["auth"]): Who {
  const { display_name = "", entity_id: entity, metadata } = auth ?? {};
  const { container = "", service = "", host = "", image = "" } = metadata ?? {};
  // Vault's own sanitising of what was asked for, behind the name of the method.
  const name = `token-authproxy-${service}`.replace(/[^a-zA-Z0-9-]/g, "-").replace(/-+$/, "");
  if (/^[0-9a-f]{64}$/.test(container) && service && display_name.replace(/-+$/, "") === name)
    return { container, service, host, image };
  const role = metadata?.role_name; // of a login by AppRole
  const person = [display_name || "nobody", ...(role ? [role] : [])].join(" ");
  return entity ? { person, entity } : { person };
}

const OPERATIONS: Record<string, Deed> = { read: "read", delete: "deleted", list: "listed" };
/** Of a KV engine of version 2: what an update of MOUNT/<word>/PATH is. */
const WORDS: Record<string, Deed> = { delete: "deleted", destroy: "deleted", undelete: "restored" };

function deedOf(path: string, request: NonNullable<Entry["request"]>): [string, Deed] {
  const { operation = "", mount_type, mount_point = "" } = request;
  const deed = OPERATIONS[operation] ?? (operation === "scan" ? "listed" : undefined);
  if (mount_type !== "kv" || !path.startsWith(mount_point)) return [path, deed ?? "used"];
  const below = path.slice(mount_point.length);
  const [, word = "", name] =
    /^(data|metadata|subkeys|delete|undelete|destroy)\/(.*)$/.exec(below) ?? [];
  const data = name === undefined ? path : `${mount_point}data/${name}`;
  if (deed === "read" && (word === "metadata" || word === "subkeys")) return [data, "listed"];
  return [data, deed ?? WORDS[word] ?? "changed"];
}
