// Question: why would the server give this process a token, or not? Input: what `observe` saw, and
// the services. Pure, and so is its text. Guaranteed: no value of Config.Env is in it.
import { type Check, evaluate, judge } from "../server/checks.ts";
import type { Service } from "../server/config.ts";
import type { Facts } from "../server/facts.ts";
import { documentOf } from "../server/grant.ts";
import type { Json, JsonObject } from "../server/json.ts";
import { choose, type Mismatch, type NamedService, rank } from "../server/policy.ts";
import { type Reason, type Refusal, toRefusal } from "../server/refusal.ts";
import type { Observation } from "./observe.ts";
import { explainReason } from "./reasons.ts";
import { columns, paint, printable, shown } from "./terminal.ts";

type Verdict = { answer: "granted" | "refused" | "unavailable"; reason?: Reason; detail?: Json };
type ExplainedCheck = Omit<Check, "holds" | "mayPass"> & {
  /** Null where only the server knows. */
  holds: boolean | null;
  relaxed: boolean;
};
export type Explanation = Verdict & {
  service?: string;
  identity: JsonObject;
  checks: ExplainedCheck[];
  /** The nearest first. */
  services: { name: string; missing: Mismatch[] }[];
};

/** What the server would answer, and why. */
export function explain(observation: Observation, services: Record<string, Service>): Explanation {
  const { facts } = observation;
  if (!facts) {
    const identity = { ...observation.known } as unknown as JsonObject;
    return { ...verdictOf(observation.refusal), identity, checks: [], services: [] };
  }
  const identity = documentOf(facts) as unknown as JsonObject;
  const named = Object.entries(services);
  const ranked = rank(identity, named);
  const nearest = services[ranked[0]?.name ?? ""];
  const known = { identity, checks: nearest ? checksOf(facts, nearest) : [], services: ranked };
  let chosen: NamedService;
  try {
    chosen = choose(identity, named);
  } catch (error) {
    return { ...verdictOf(toRefusal(error)), ...known };
  }
  const [name, service] = chosen;
  try {
    judge(facts, false, service);
    return { answer: "granted", service: name, ...known };
  } catch (error) {
    return { ...verdictOf(toRefusal(error)), service: name, ...known };
  }
}

function verdictOf({ reason, detail, canRetry }: Refusal): Verdict {
  return { answer: canRetry ? "unavailable" : "refused", reason, detail };
}

function checksOf(facts: Facts, { match, relax = [] }: Service): ExplainedCheck[] {
  return evaluate(facts, false, match).map(({ name, holds, detail }) => ({
    name,
    holds: name === "once" ? null : holds,
    relaxed: relax.includes(name),
    detail,
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

function checkRow({ name, holds, relaxed, detail }: Explanation["checks"][number]): string[] {
  if (holds === null) return [paint("dim", "?"), name, "only the server knows"];
  if (holds) return [paint("green", "holds"), name];
  return [paint(relaxed ? "yellow" : "red", relaxed ? "relaxed" : "fails"), name, shown(detail)];
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
