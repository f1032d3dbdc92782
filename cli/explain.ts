// Question: why would the server give this process a token, or not? Input: what `observe` saw, and
// the services. Pure: the server's own functions decide. Guaranteed: no value of Config.Env is in
// it.
import { type Check, evaluate, judge } from "../server/checks.ts";
import type { Service } from "../server/config.ts";
import type { Facts } from "../server/facts.ts";
import { documentOf } from "../server/grant.ts";
import type { Json, JsonObject } from "../server/json.ts";
import { choose, type Mismatch, type NamedService, rank } from "../server/policy.ts";
import { type Reason, type Refusal, toRefusal } from "../server/refusal.ts";
import type { Observation } from "./observe.ts";

type Verdict = { answer: "granted" | "refused" | "unavailable"; reason?: Reason; detail?: Json };

export type ExplainedCheck = Pick<Check, "name" | "detail"> & {
  /** Null where only the server knows. */
  holds: boolean | null;
  relaxed: boolean;
};

export type RankedService = { name: string; missing: Mismatch[] };

/** As `authproxy explain --json` prints it. */
export type Explanation = Verdict & {
  service?: string;
  identity: JsonObject;
  /** Of the nearest service, in the server's order. */
  checks: ExplainedCheck[];
  /** The nearest first. */
  services: RankedService[];
};

/** What the server would answer, and why. `services` are the configuration's. */
export function explain(observation: Observation, services: Record<string, Service>): Explanation {
  const { facts } = observation;
  if (!facts) {
    const identity = shownIdentity({ ...observation.partialFacts });
    return { ...verdictOf(observation.refusal), identity, checks: [], services: [] };
  }

  const identity = documentOf(facts) as unknown as JsonObject;
  const namedServices = Object.entries(services);
  const ranked = rank(identity, namedServices);
  const nearest = services[ranked[0]?.name ?? ""];
  const checks = nearest ? explainChecks(facts, nearest) : [];
  const verdict = decide(facts, identity, namedServices);
  return { ...verdict, identity: shownIdentity(documentOf(facts)), checks, services: ranked };
}

/** Annotations of a pod are named, not shown: tools keep whole manifests in them, with the values of
 * the environment. CRI-O hands them on to the OCI runtime. */
function shownIdentity({ container, ...others }: Partial<Facts>): JsonObject {
  const { pod, ...ofEngine } = container ?? {};
  if (!container || !pod)
    return { ...others, ...(container && { container }) } as unknown as JsonObject;
  const { HostConfig } = container;
  const Annotations = namesOnly(HostConfig.Annotations ?? {});
  return {
    ...others,
    container: { ...ofEngine, HostConfig: { ...HostConfig, Annotations } },
    pod: { ...pod, annotations: namesOnly(pod.annotations) },
  } as unknown as JsonObject;
}

function namesOnly(annotations: JsonObject): JsonObject {
  return Object.fromEntries(Object.keys(annotations).map((name) => [name, "…"]));
}

/** The server's decision, as of a start that has had no token. */
function decide(
  facts: Facts,
  identity: JsonObject,
  services: NamedService[],
): Verdict & { service?: string } {
  let chosen: NamedService;
  try {
    chosen = choose(identity, services);
  } catch (error) {
    return verdictOf(toRefusal(error));
  }
  const [name, service] = chosen;
  try {
    judge(facts, undefined, service);
    return { answer: "granted", service: name };
  } catch (error) {
    return { ...verdictOf(toRefusal(error)), service: name };
  }
}

function verdictOf({ reason, detail, canRetry }: Refusal): Verdict {
  return { answer: canRetry ? "unavailable" : "refused", reason, detail };
}

function explainChecks(facts: Facts, service: Service): ExplainedCheck[] {
  return evaluate(facts, undefined, service).map(({ name, holds, detail }) => ({
    name,
    holds: name === "once" ? null : holds,
    relaxed: service.relax?.includes(name) ?? false,
    detail,
  }));
}
