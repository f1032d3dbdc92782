// Question: has Vault what the policy file of a host needs, exactly? Input: that file; what people
// want beside it, by options; the token of an administrator of Vault. Output: what is done, before it
// is done. Guaranteed: a second run changes nothing; no secret is printed, and a wrapping token only
// where `--deliver -` asks for it.
import { isIP } from "node:net";
import { hostname } from "node:os";
import type { JsonObject } from "../../server/json.ts";
import { connect, tokenOf, type Vault } from "../administrator.ts";
import { readConfig } from "../configuration.ts";
import { confirm } from "../confirm.ts";
import { hint, type Options } from "../options.ts";
import { columns, Failure, paint, print, printable, printJson, remark } from "../terminal.ts";
import { type Engine, usual } from "./paths.ts";
import { apply, planOf, type Step } from "./plan.ts";
import { deliver, destroy, othersThan } from "./secret-id.ts";
import { type Request, wanted } from "./wanted.ts";

const UNITS: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400 };

export async function provision(extra: string | undefined, options: Options): Promise<number> {
  if (extra) throw new Failure("usage", `provision takes no ${extra}`, hint);
  const request = requestOf(options);
  const silent = options.json || options.deliver === "-"; // standard output is for something else
  if (silent && !options.yes && !options["dry-run"])
    throw new Failure("usage", "what will be done would not be shown", "add --yes or --dry-run");
  const config = readConfig(options.config);
  const vault = connect(config.vault, tokenOf(options));
  const steps = await planOf(vault, wanted(config, request, await enginesOf(vault)));
  const role = steps.find(({ kind }) => kind === "AppRole");
  if (!role) throw new Error("a plan has an AppRole");
  const { "keep-only": kept, deliver: file } = options;
  const ends = kept ? await othersThan(kept, vault, role.path) : [];
  const report = { vault: config.vault.address, host: request.host, steps, destroy: ends };
  if (!silent) print(planLines(report));
  const todo = steps.filter(({ action }) => action !== "keep").length;
  if (!options["dry-run"] && (todo > 0 || file || ends.length > 0)) {
    await confirm(`Do that in Vault at ${config.vault.address}?`, options.yes);
    await apply(vault, steps);
    for (const accessor of ends) await destroy(accessor, vault, role.path);
    if (file) await handOver(vault, role, file, options["wrap-ttl"] ?? "30m");
  }
  if (options.json && file !== "-") printJson(withoutFields(report));
  return 0;
}

async function handOver(vault: Vault, role: Step, file: string, ttl: string): Promise<void> {
  const accessor = await deliver(vault, role.path, file, ttl);
  const place = file === "-" ? "on standard output" : file;
  remark("note", `a new secret id of ${role.name}, accessor ${accessor}: its wrapping is ${place}`);
  remark("hint", `within ${ttl}, on that host: authproxy unwrap FILE`);
}

function requestOf(options: Options): Request {
  const { host = hostname().toLowerCase(), environment, secrets, pki, domain } = options;
  const addresses = (options.address ?? []).map(network);
  if (addresses.length > 0 === (options["any-address"] ?? false))
    throw new Failure(
      "usage",
      "from where does the host speak to Vault: --address CIDR, or --any-address?",
      "bound to its address, a stolen secret id is of no use elsewhere",
    );
  if (!pki !== !domain) throw new Failure("usage", "--pki and --domain need each other", hint);
  const ttlSeconds = seconds(options["pki-ttl"] ?? "72h");
  return {
    ...{ host, addresses, environment, secrets: secrets ?? usual(environment) },
    pki: pki && domain ? { mount: pki.replace(/\/$/, ""), domain, ttlSeconds } : undefined,
  };
}

/** Vault wants a length for a secret id's addresses. */
function network(address: string): string {
  const [ip = "", length] = address.split("/");
  const bits = { 4: 32, 6: 128 }[isIP(ip)];
  if (bits && (!length || Number(length) <= bits)) return `${ip}/${length ?? bits}`;
  throw new Failure("usage", `--address ${address}: is none`, "try: 10.0.0.5, or 10.0.0.0/28");
}

function seconds(time: string): number {
  const [, number, unit = "s"] = /^([1-9]\d*)([smhd]?)$/.exec(time) ?? [];
  if (number) return Number(number) * (UNITS[unit || "s"] ?? 1);
  throw new Failure("usage", `--pki-ttl ${time}: is no time`, "try: 72h");
}

async function enginesOf(vault: Vault): Promise<Engine[]> {
  const mounts = Object.entries((await vault.read("sys/mounts")) ?? {});
  return mounts.map(([mount, about]) => {
    const { type, options } = about as { type: string; options: JsonObject | null };
    return { mount, type, version: type === "kv" ? Number(options?.version ?? 1) : 0 };
  });
}

type Report = { vault: string; host: string; steps: Step[]; destroy: unknown[] };

const COLOURS = { create: "green", change: "yellow", keep: "dim" } as const;

function planLines({ vault, host, steps, destroy }: Report): string[] {
  const rows = columns(
    steps.map(({ action, kind, name }) => [paint(COLOURS[action], action), kind, name]),
  );
  const count = (wanted: Step["action"]) => steps.filter(({ action }) => action === wanted).length;
  return [
    `Vault at ${vault}, for the host ${host}`,
    "",
    ...steps.flatMap(({ action, changes }, i) => [
      rows[i] ?? "",
      ...(action === "keep" ? [] : changes.map((change) => `            ${printable(change)}`)),
    ]),
    ...destroy.map((accessor) => `  ${paint("red", "destroy")}  secret id    accessor ${accessor}`),
    "",
    `${count("create")} to create, ${count("change")} to change, ${count("keep")} unchanged` +
      (destroy.length > 0 ? `, ${destroy.length} to destroy` : ""),
  ];
}

function withoutFields({ steps, ...report }: Report) {
  return { ...report, steps: steps.map(({ fields: _, ...step }) => step) };
}
