// Question: has Vault exactly what the policy file of a host needs? Input: that file; what people
// want besides, by options; the token of an administrator of Vault. Output: what is done, before it
// is done. Guaranteed: a second run changes nothing; no secret is printed, and a wrapping token
// only where `--deliver -` asks for it.
import { isIP } from "node:net";
import { hostname } from "node:os";
import type { Json, JsonObject } from "../../server/json.ts";
import { administratorToken, connect, type Vault } from "../administrator.ts";
import { readConfig } from "../configuration.ts";
import { confirm } from "../confirm.ts";
import { HELP_HINT, type Options } from "../options.ts";
import { columns, Failure, paint, print, printable, printJson, remark } from "../terminal.ts";
import { objectsFor, type PkiRequest, type ProvisionRequest } from "./objects.ts";
import { defaultTemplates, type SecretsEngine } from "./paths.ts";
import { apply, planFor, type Step } from "./plan.ts";
import { deliver, destroySecretId, otherAccessors } from "./secret-id.ts";

const UNIT_SECONDS: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400 };
const DEFAULT_PKI_TTL = "72h";
const DEFAULT_WRAP_TTL = "30m";
const DEFAULT_SERVICE_ACCOUNT = "authproxy/authproxy";
const DEFAULT_AUDIENCE = "vault";
const ADDRESS_BITS: Record<number, number> = { 4: 32, 6: 128 };

const ACCESSORS_NOTE =
  "note: this host's server can renew and revoke any token whose accessor it learns: Vault's " +
  "policies cannot say whose (SECURITY.md)";

const SERVICE_ACCOUNT_NOTE =
  "note: whoever may create pods in that service account's namespace, or tokens of the account, can log " +
  "in as this server: let nobody else have a right there. Vault asks the API server about tokens, so " +
  "kubernetes_host and its CA must stand in the config of that auth method";

/** What is to be done. `destroy` are accessors of secret ids. */
type Plan = { vault: string; host: string; steps: Step[]; destroy: Json[] };

/** The command `provision`. Returns the exit code; throws Failures. */
export async function provision(surplus: string | undefined, options: Options): Promise<number> {
  if (surplus) throw new Failure("usage", `provision takes no argument: ${surplus}`, HELP_HINT);
  const request = requestOf(options);
  const {
    json,
    yes,
    deliver: wrappingFile,
    "dry-run": dryRun,
    "keep-only": keptAccessor,
  } = options;
  const isQuiet = json || wrappingFile === "-"; // standard output is for something else
  if (isQuiet && !yes && !dryRun) {
    const message = "what would be done could not be shown before it is done";
    throw new Failure("usage", message, "add --yes or --dry-run");
  }

  const config = readConfig(options.config);
  const vault = connect(config.vault, administratorToken(options));
  const objects = objectsFor(config, request, await readEngines(vault));
  const steps = await planFor(objects, vault);
  const role = steps.find(({ kind }) => kind === "AppRole");
  if (!role && (wrappingFile || keptAccessor)) {
    const message = "the server logs in by its service account: it has no secret id";
    throw new Failure("usage", message, "leave out --deliver and --keep-only");
  }
  const destroy = role && keptAccessor ? await otherAccessors(keptAccessor, vault, role.path) : [];
  const plan: Plan = { vault: config.vault.address, host: request.host, steps, destroy };
  if (!isQuiet) print(planLines(plan));

  const hasChanges = steps.some(({ action }) => action !== "keep") || destroy.length > 0;
  if (!dryRun && (hasChanges || wrappingFile)) {
    await confirm(`Do that in Vault at ${config.vault.address}?`, yes);
    await apply(steps, vault);
    for (const accessor of destroy) await destroySecretId(accessor, vault, role?.path ?? "");
    if (role && wrappingFile)
      await deliverSecretId(role, wrappingFile, options["wrap-ttl"] ?? DEFAULT_WRAP_TTL, vault);
  }
  if (json && wrappingFile !== "-") printJson(printedPlan(plan));
  return 0;
}

async function deliverSecretId(
  role: Step,
  file: string,
  wrapTtl: string,
  vault: Vault,
): Promise<void> {
  const accessor = await deliver(vault, role.path, file, wrapTtl);
  const place = file === "-" ? "on standard output" : `in ${file}`;
  remark("note", `a new secret id of ${role.name}, accessor ${accessor}: its wrapping is ${place}`);
  remark("hint", `within ${wrapTtl}, on that host: authproxy unwrap FILE`);
}

function requestOf(options: Options): ProvisionRequest {
  const { host = hostname().toLowerCase(), environment, secrets } = options;
  const addresses = (options.address ?? []).map(parseNetwork);
  const anyAddress = options["any-address"] ?? false;
  if (anyAddress === addresses.length > 0) {
    throw new Failure(
      "usage",
      "say from where the host speaks to Vault: --address CIDR, or --any-address",
      "bound to its address, a stolen secret id is of no use elsewhere",
    );
  }
  const templates = secrets ?? defaultTemplates(environment);
  return {
    host,
    addresses,
    environment,
    secrets: templates,
    pki: pkiRequest(options),
    serviceAccount: options["service-account"] ?? DEFAULT_SERVICE_ACCOUNT,
    audience: options.audience ?? DEFAULT_AUDIENCE,
  };
}

function pkiRequest({ pki, domain, "pki-ttl": ttl }: Options): PkiRequest | undefined {
  if (!pki !== !domain) throw new Failure("usage", "--pki and --domain need each other", HELP_HINT);
  const ttlSeconds = parseSeconds(ttl ?? DEFAULT_PKI_TTL);
  return pki && domain ? { mount: pki.replace(/\/$/, ""), domain, ttlSeconds } : undefined;
}

/** With a length, which Vault wants for the addresses of a secret id. */
function parseNetwork(address: string): string {
  const [ip = "", length] = address.split("/");
  const bits = ADDRESS_BITS[isIP(ip)];
  if (bits && (!length || Number(length) <= bits)) return `${ip}/${length ?? bits}`;
  const message = `--address ${address}: is not an address`;
  throw new Failure("usage", message, "try: 10.0.0.5, or 10.0.0.0/28");
}

function parseSeconds(duration: string): number {
  const [, number, unit] = /^([1-9]\d*)([smhd]?)$/.exec(duration) ?? [];
  if (number) return Number(number) * (UNIT_SECONDS[unit || "s"] ?? 1);
  throw new Failure("usage", `--pki-ttl ${duration}: is not a duration`, "try: 72h");
}

async function readEngines(vault: Vault): Promise<SecretsEngine[]> {
  const mounts = (await vault.read("sys/mounts")) ?? {};
  return Object.entries(mounts).map(([mount, description]) => {
    const { type, options } = description as { type: string; options: JsonObject | null };
    return { mount, type, version: type === "kv" ? Number(options?.version ?? 1) : 0 };
  });
}

const COLOURS = { create: "green", change: "yellow", keep: "dim" } as const;

function planLines({ vault, host, steps, destroy }: Plan): string[] {
  const rows = columns(
    steps.map(({ action, kind, name }) => [paint(COLOURS[action], action), kind, name]),
  );
  const lines = [`Vault at ${vault}, for the host ${host}`, ""];
  for (const [i, { action, changes }] of steps.entries()) {
    lines.push(rows[i] ?? "");
    if (action === "keep") continue;
    for (const change of changes) lines.push(`            ${printable(change)}`);
  }
  for (const accessor of destroy)
    lines.push(`  ${paint("red", "destroy")}  secret id    accessor ${accessor}`);

  const countOf = (action: Step["action"]) => steps.filter((step) => step.action === action).length;
  const summary =
    `${countOf("create")} to create, ${countOf("change")} to change, ` +
    `${countOf("keep")} unchanged`;
  const destroyed = destroy.length > 0 ? `, ${destroy.length} to destroy` : "";
  const isOfNode = steps.some(({ kind }) => kind === "Kubernetes role");
  const notes = isOfNode ? [ACCESSORS_NOTE, SERVICE_ACCOUNT_NOTE] : [ACCESSORS_NOTE];
  lines.push("", ...notes, "", summary + destroyed);
  return lines;
}

function printedPlan({ steps, ...plan }: Plan) {
  return { ...plan, steps: steps.map(({ fields: _, ...step }) => step) };
}
