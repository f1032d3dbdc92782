// Question: how is an explanation, or a refusal of the audit stream, printed for people? Pure.
import type { Json, JsonObject } from "../server/json.ts";
import type { Mismatch } from "../server/policy.ts";
import type { ExplainedCheck, Explanation, RankedService } from "./explain.ts";
import { explainReason } from "./reasons.ts";
import { columns, paint, printable, shown } from "./terminal.ts";

/** The members of the engine's answer that policies are made of. */
const CONTAINER_PATHS = [
  "Id",
  "Name",
  "Image",
  "Path",
  "Args",
  "State.Pid",
  "State.StartedAt",
  "Config.Image",
  "Config.User",
  "Config.WorkingDir",
  "Config.Labels",
  "Config.Env",
  "HostConfig.ReadonlyRootfs",
  "HostConfig.Privileged",
  "HostConfig.CapAdd",
  "HostConfig.PidMode",
  "Mounts",
];

/** All that policies of pods are made of; annotations hold much else. */
const POD_PATHS = ["namespace", "name", "uid", "container", "labels"];

/** What `authproxy explain` prints, as lines. */
export function explanationLines(explanation: Explanation): string[] {
  const { answer, reason = "", detail, service, identity, checks, services } = explanation;
  const verdict =
    answer === "granted"
      ? [`${paint("green", "granted")}: it would get a token as ${shown(service)}, once`]
      : reasonLines(answer, reason, detail, service);
  return [
    ...section(
      "identity",
      "as /proc says now; at connect() the kernel says it",
      identityRows(identity),
    ),
    ...section("checks", "as of now; the server judges at connect()", checks.map(checkRow)),
    ...section("services", "the nearest first", services.map(serviceRow)),
    ...verdict,
  ];
}

function section(title: string, remark: string, rows: string[][]): string[] {
  if (rows.length === 0) return [];
  return [`${paint("bold", title)}  ${paint("dim", remark)}`, ...columns(rows), ""];
}

function identityRows({
  peer,
  process: peerProcess,
  container = {},
  pod = {},
}: JsonObject): string[][] {
  return [
    ...memberRows("peer", peer).filter(([name]) => name !== "peer.id"), // peercred's own number
    ...memberRows("process", peerProcess),
    ...rowsAt("pod", pod, POD_PATHS),
    ...rowsAt("container", container, CONTAINER_PATHS),
  ];
}

/** Rows of the members that the part has. */
function rowsAt(part: string, members: Json, paths: string[]): string[][] {
  return paths.flatMap((path) => {
    const value = valueAt(members, path);
    return value === null ? [] : [[`${part}.${path}`, shown(value)]];
  });
}

function memberRows(part: string, members: Json | undefined): string[][] {
  return Object.entries(members ?? {}).map(([key, value]) => [`${part}.${key}`, shown(value)]);
}

function valueAt(object: Json, path: string): Json {
  let value = object;
  for (const key of path.split(".")) value = (value as JsonObject | null)?.[key] ?? null;
  return value;
}

function checkRow({ name, holds, relaxed, detail }: ExplainedCheck): string[] {
  if (holds === null) return [paint("dim", "?"), name, "only the server knows"];
  if (holds) return [paint("green", "holds"), name];
  const state = relaxed ? paint("yellow", "relaxed") : paint("red", "fails");
  return [state, name, shown(detail)];
}

function serviceRow({ name, missing }: RankedService): string[] {
  const [first, ...others] = missing;
  if (!first) return [paint("green", "matches"), printable(name)];
  const more = others.length > 0 ? `, and ${others.length} more` : "";
  return [paint("red", "differs"), printable(name), mismatchText(first) + more];
}

function mismatchText({ path, ...values }: Mismatch): string {
  if (!("wanted" in values)) return `${printable(path)} differs (values are not shown)`;
  return `${printable(path)}: wanted ${shown(values.wanted)}, seen ${shown(values.seen)}`;
}

/** A refusal in words, and what to do about it. `answer` is "refused" or "unavailable"; `reason`
 * and `detail` are the server's, or an older server's. */
export function reasonLines(
  answer: string,
  reason: string,
  detail: Json | undefined,
  service?: string,
): string[] {
  const { happened, advice } = explainReason(reason);
  const serviceText = service ? `, as ${shown(service)}` : "";
  const hasDetail = detail !== undefined && detail !== reason;
  return [
    `${paint("red", answer)}: ${printable(reason)}${serviceText}`,
    `  ${printable(happened)}`,
    ...(hasDetail ? [`  ${paint("dim", detailText(detail))}`] : []),
    `  ${advice}`,
  ];
}

/** The detail of "no-match" is the nearest service and its first mismatch. */
function detailText(detail: Json): string {
  const mismatch = detail as Partial<Mismatch> & { service?: Json };
  if (!mismatch?.path) return shown(detail);
  return `the nearest service is ${shown(mismatch.service)}; ${mismatchText(mismatch as Mismatch)}`;
}
