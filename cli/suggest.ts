// Question: which service block would be this running container's, and no other's? Input: what
// `observe` saw of its first process, and the environment that its image declares. Pure.
// Guaranteed: `choose` matches the block to this container. Of its environment it holds only values
// that the image declares, references and the client's own options, which are not secrets.
import { evaluate } from "../server/checks.ts";
import type { Service } from "../server/config.ts";
import type { Facts } from "../server/facts.ts";
import type { JsonObject } from "../server/json.ts";
import { isInterpreter, writablePart } from "../server/writable.ts";
import { DATA_OPENS, RELAXATION_OPENS } from "./advise.ts";
import { pinEverything } from "./pins.ts";
import { explainReason } from "./reasons.ts";

export type Suggestion = { services: Record<string, Service>; notes: string[] };

/** `imageEnv` is the environment that the image declares, `store` the kind of the engine's image
 * store where it is known. The notes say what was left out, and what
 * has to be decided. */
export function suggest(facts: Facts, imageEnv: string[], store?: string): Suggestion {
  const { peer, container } = facts;
  const { match, notes } = pinEverything(facts, imageEnv, store);
  if (facts.process.uid_inside !== peer.uid) {
    notes.push(
      'its users are mapped: the server serves it where its configuration has "user_namespaces": true',
    );
  }
  if (peer.label) {
    notes.push(
      `the kernel labels it ${JSON.stringify(peer.label)}: if the audit stream shows the same ` +
        '"label" at each start, match it under "peer" too',
    );
  }
  const name = serviceName(container);
  const create = `auth/token/create/${name}`;
  const service: Service = { match, token: { create } };
  const data = dataMounts(facts);
  if (data.length > 0) {
    service.data = data;
    notes.push(`data ${data.join(", ")}: ${DATA_OPENS}. If it holds code, keep that in the image`);
  }
  const relaxations = relaxationsOf(facts, service);
  service.relax = relaxations.names;
  notes.push(...relaxations.notes);
  notes.push(`${create} is a guess: write the token role that this service has in Vault`);
  return { services: { [name]: service }, notes };
}

/** Compose's name of the service, or the container's; of a pod what its labels call the application, or
 * the container's name, after the namespace: two namespaces may have the same application. */
function serviceName({ Name, Config, pod }: Facts["container"]): string {
  const usualName = Config.Labels?.["com.docker.compose.service"] ?? Name;
  const application =
    pod && (pod.labels["app.kubernetes.io/name"] ?? pod.labels.app ?? pod.container);
  const wanted = pod ? `${pod.namespace}-${application}` : usualName;
  const name = String(wanted).replace(/[^A-Za-z0-9_.-]/g, "");
  const isNumber = !/\D/.test(name); // a key that the server refuses
  return isNumber ? `service-${name}` : name;
}

/** The writable mounts that only words of the command name, which an interpreter might run. None where
 * the check `readonly` would not hold even so. */
function dataMounts(facts: Facts): string[] {
  const data: string[] = [];
  for (let found = writablePart(facts); found; found = writablePart(facts, data)) {
    const isWord = /^(Args|Healthcheck)\./.test(found.part);
    if (!isWord || isInterpreter(String(facts.container.Path))) return [];
    data.push(found.mount);
  }
  return data;
}

/** A container that needs one of these to be relaxed needs it at each start. */
const RELAXED_AS_NEEDED: string[] = ["readonly", "capabilities", "seccomp"];

/** The checks that have to be relaxed for the container as it was started. Whatever else would keep
 * it from its token is a note. */
function relaxationsOf(facts: Facts, service: Service): { names: string[]; notes: string[] } {
  const { Init, Runtime } = facts.container.HostConfig as unknown as JsonObject;
  // With the runtime "authproxy" the client is the first process even so (docs/runtime.md).
  const hasInit = Init === true && Runtime !== "authproxy";
  const names = hasInit ? ["init", "alone"] : [];
  const notes: string[] = [];
  for (const { name, reason = name, holds } of evaluate(facts, undefined, service)) {
    if (holds || name === "once" || names.includes(name)) continue;
    if (RELAXED_AS_NEEDED.includes(name)) names.push(name);
    else if (name === "alone")
      notes.push("other processes run in it now, which is fine if they came after its token");
    else notes.push(`as it runs now it would be refused: ${explainReason(reason).happened}`);
  }
  for (const name of names) {
    const opens = RELAXATION_OPENS[name];
    notes.push(`relax ${name}: ${opens}. Without it: ${explainReason(name).advice}`);
  }
  return { names, notes };
}
