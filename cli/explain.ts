// Question: why would the server give this process a token, or not? Input: what `observe` saw, and
// the services. Pure, and so is its text. Guaranteed: no value of Config.Env is in it.
import { checks, judge } from "../server/checks.ts";
import { choose, mismatches } from "../server/policy.ts";
import { Refusal } from "../server/refusal.ts";
import type { Facts, Json, JsonObject, Mismatch, Service } from "../types.ts";
import { type Observation, withoutValues } from "./observe.ts";
import { explainReason } from "./reasons.ts";
import { columns, paint, printable, shown } from "./terminal.ts";

type Services = Record<string, Service>;
type Verdict = { answer: "granted" | "refused" | "unavailable"; reason?: string; detail?: Json };
export type Explanation = Verdict & {
  service?: string;
  identity: JsonObject;
  /** `holds` is null where only the server knows. */
  checks: { name: string; holds: boolean | null; relaxed: boolean; seen: Json }[];
  /** The nearest first. */
  services: { name: string; missing: Mismatch[] }[];
};

export function explain(observation: Observation, services: Services): Explanation {
  const { facts } = observation;
  if (!facts)
    return { ...told(observation.error), identity: observation.known, checks: [], services: [] };
  const { peer, process, container } = facts;
  const document = { peer, process, container };
  const identity = { peer, process, container: withoutValues(container) } as unknown as JsonObject;
  const ranked = Object.entries(services)
    .map(([name, { match }]) => ({
      name,
      missing: mismatches(match, document as unknown as JsonObject),
    }))
    .sort((a, b) => a.missing.length - b.missing.length);
  const nearest = services[ranked[0]?.name ?? ""];
  const known = { identity, checks: nearest ? judged(facts, nearest) : [], services: ranked };
  try {
    const [service] = choose(document, Object.entries(services));
    try {
      judge(facts, services[service] as Service);
      return { answer: "granted", service, ...known };
    } catch (error) {
      return { ...told(error as Error), service, ...known };
    }
  } catch (error) {
    return { ...told(error as Error), ...known };
  }
}

function told(error: Error): Verdict {
  const gone = /^ESRCH|^ENOENT.*'.proc/.test(error.message);
  const answer = error instanceof Refusal ? "refused" : "unavailable";
  const detail = (error.cause ?? error.message) as Json;
  return { answer, reason: gone ? "exited" : error.message, detail };
}

function judged(facts: Facts, { match, relax = [] }: Service): Explanation["checks"] {
  return checks(facts, match).map(([name, holds, seen]) => ({
    name,
    holds: name === "once" ? null : holds,
    relaxed: relax.includes(name),
    seen,
  }));
}

/** Of the engine's answer, what policies are made of. */
const containerPaths = [
  ...["Id", "Name", "Image", "Path", "Args", "State.Pid", "State.StartedAt"],
  ...["Config.Image", "Config.User", "Config.WorkingDir", "Config.Labels", "Config.Env"],
  ...["HostConfig.ReadonlyRootfs", "HostConfig.Privileged", "HostConfig.PidMode", "Mounts"],
];

export function explanationLines(explanation: Explanation): string[] {
  const { answer, reason = "", detail, service, identity, services } = explanation;
  const section = (title: string, about: string, rows: string[][]) =>
    rows.length > 0
      ? [`${paint("bold", title)}  ${paint("dim", about)}`, ...columns(rows), ""]
      : [];
  return [
    ...section(
      "identity",
      "/proc's word of now; at connect() the kernel's",
      identityRows(identity),
    ),
    ...section("checks", "now; the server judges at connect()", explanation.checks.map(checkRow)),
    ...section("services", "the nearest first", services.map(serviceRow)),
    ...(answer === "granted"
      ? [`${paint("green", "granted")}: it would get a token as ${shown(service)}, once`]
      : reasonLines(answer, reason, detail, service)),
  ];
}

function identityRows({ peer, process, container = {} }: JsonObject): string[][] {
  const rows = (part: string, value: Json | undefined) =>
    Object.entries(value ?? {}).map(([key, seen]) => [`${part}.${key}`, shown(seen)]);
  const inside = containerPaths.flatMap((path) => {
    const seen = path
      .split(".")
      .reduce<Json>((at, key) => (at as JsonObject)?.[key] ?? null, container);
    return seen === null ? [] : [[`container.${path}`, shown(seen)]];
  });
  return [
    ...rows("peer", peer).filter(([key]) => key !== "peer.id"),
    ...rows("process", process),
    ...inside,
  ];
}

function checkRow({ name, holds, relaxed, seen }: Explanation["checks"][number]): string[] {
  if (holds === null) return [paint("dim", "?"), name, "only the server knows"];
  if (holds) return [paint("green", "holds"), name];
  return [paint(relaxed ? "yellow" : "red", relaxed ? "relaxed" : "fails"), name, shown(seen)];
}

function serviceRow({
  name,
  missing: [first, ...others],
}: Explanation["services"][number]): string[] {
  if (!first) return [paint("green", "matches"), printable(name)];
  const more = others.length > 0 ? `, and ${others.length} more` : "";
  return [paint("red", "differs"), printable(name), mismatchText(first) + more];
}

export function mismatchText({ path, ...values }: Mismatch): string {
  if (!("wanted" in values)) return `${printable(path)} differs (values are shown to nobody)`;
  return `${printable(path)}: wanted ${shown(values.wanted)}, seen ${shown(values.seen)}`;
}

/** A refusal in words, and what to do: also of one that the audit stream remembers. */
export function reasonLines(
  answer: string,
  reason: string,
  detail: Json | undefined,
  service?: string,
): string[] {
  const { happened, advice } = explainReason(reason);
  const mismatch = detail as Partial<Mismatch> & JsonObject;
  const seen = mismatch?.path
    ? `the nearest service is ${shown(mismatch.service)}; ${mismatchText(mismatch as Mismatch)}`
    : shown(detail);
  return [
    `${paint("red", answer)}: ${printable(reason)}${service ? `, as ${shown(service)}` : ""}`,
    `  ${printable(happened)}`,
    ...(detail === undefined || detail === reason ? [] : [`  ${paint("dim", seen)}`]),
    `  ${advice}`,
  ];
}
