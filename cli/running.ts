// Question: which running containers would this server's checks refuse at their next start? It is
// asked before an upgrade. Input: what `observe` saw of each container's first process, and the
// services. The server's own functions judge.
//
// A container runs its application now, and ran the client when it asked: user, groups, program and
// the processes in it may be others. So `peer` and `process` of a match are passed over, and the checks
// that time changes are not reported.
import { evaluate } from "../server/checks.ts";
import type { Service } from "../server/config.ts";
import type { Facts } from "../server/facts.ts";
import { documentOf } from "../server/grant.ts";
import type { Json, JsonObject } from "../server/json.ts";
import { mismatchesOf } from "../server/policy.ts";
import type { Reason } from "../server/refusal.ts";
import { type ContainerName, type EngineAddress, nameOf, runningContainers } from "./containers.ts";
import { observe } from "./observe.ts";
import { explainReason } from "./reasons.ts";
import { columns, paint, printable, shown } from "./terminal.ts";

/** A service's container that a check would refuse. */
export type RefusedContainer = ContainerName & {
  service: string;
  /** The name of the check, or the reason where it says more. */
  check: Reason;
  /** As the audit would have it. */
  detail: Json;
};

/** As `authproxy check --running --json` prints it. */
export type RunningReport = {
  /** All that run, with the services that they are. */
  running: (ContainerName & { services: string[] })[];
  /** How many of them are some service's. */
  matching: number;
  refused: RefusedContainer[];
  /** Containers of which not all could be learned, and why. */
  unknown: (ContainerName & { reason: Reason; detail: Json })[];
};

/** Only the server knows `once`; of the others an application may do what its client must not. */
const LATER_CHECKS: Reason[] = ["once", "alone", "credentials"];

/** `userNamespaces`: as the configuration has it. Throws the Failure "unavailable". */
export async function judgeRunning(
  services: Record<string, Service>,
  engine?: EngineAddress,
  userNamespaces = false,
): Promise<RunningReport> {
  const report: RunningReport = { running: [], matching: 0, refused: [], unknown: [] };
  for (const container of await runningContainers(engine)) {
    const observation = await observe(container.State.Pid, engine, userNamespaces);
    const name = nameOf(container);
    if (!observation.facts) {
      const { reason, detail } = observation.refusal;
      if (reason !== "exited") report.unknown.push({ ...name, reason, detail });
      continue;
    }
    const { facts } = observation;
    const mine = Object.entries(services).filter(([, { match }]) => isOf(match, facts));
    report.running.push({ ...name, services: mine.map(([service]) => service) });
    if (mine.length > 0) report.matching++;
    for (const [service, definition] of mine) {
      for (const failed of failingChecks(facts, definition))
        report.refused.push({ ...name, service, ...failed });
    }
  }
  return report;
}

/** The container is the service's; who its process is now is passed over. */
function isOf(match: JsonObject, facts: Facts): boolean {
  const mismatches = mismatchesOf(match, documentOf(facts) as unknown as JsonObject);
  return !mismatches.some(({ path }) => /^(container|pod)(\.|$)/.test(path));
}

/** The checks that would refuse it, in the server's order. */
export function failingChecks(facts: Facts, service: Service): { check: Reason; detail: Json }[] {
  const passed = [...LATER_CHECKS, ...(service.relax ?? [])];
  return evaluate(facts, undefined, service)
    .filter(({ name, holds }) => !holds && !passed.includes(name))
    .map(({ name, reason = name, detail }) => ({ check: reason, detail }));
}

/** What `authproxy check --running` prints, as lines. */
export function runningLines({ running, matching, refused, unknown }: RunningReport): string[] {
  const total = new Set(refused.map(({ id }) => id)).size;
  const checks = [...new Set(refused.map(({ check }) => check))];
  const containers =
    matching === 1 ? "1 running container is" : `${matching} running containers are`;
  return [
    `${containers} of a service; ${total} would be refused`,
    ...checks.flatMap((check) => checkLines(check, refused)),
    ...unknown.flatMap(({ name, reason, detail }) => [
      "",
      `${paint("yellow", "not judged")}  ${printable(name)}: ${explainReason(reason).happened}`,
      `  ${paint("dim", shown(detail))}`,
    ]),
    ...allLines(running),
  ];
}

function allLines(running: RunningReport["running"]): string[] {
  if (running.length === 0) return [];
  const rows = running.map(({ id, name, services }) => {
    const whose = services.length > 0 ? `as ${services.map(printable).join(", ")}` : "no service";
    return [printable(name), id.slice(0, 12), whose];
  });
  return ["", `${paint("bold", "running")}  all containers that are here`, ...columns(rows)];
}

function checkLines(check: Reason, refused: RefusedContainer[]): string[] {
  const { happened, advice } = explainReason(check);
  const rows = refused
    .filter((each) => each.check === check)
    .map(({ id, name, service, detail }) => {
      return [printable(name), id.slice(0, 12), `as ${printable(service)}`, shown(detail)];
    });
  return ["", `${paint("red", check)}  ${happened}`, ...columns(rows), `  ${advice}`];
}
