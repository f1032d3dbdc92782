// Question: does this process deserve what its container is entitled to?
//
// Input: the kernel's facts, /proc, and the engine's words, trusted in this order (invariant 2).
// Pure: no I/O, no clock.
// Guaranteed: every check is evaluated, in the order below; a service can relax only those that the
// schema lets it name.
import type { Service } from "./config.ts";
import type { Container } from "./engine.ts";
import type { Facts } from "./facts.ts";
import { type Json, type JsonObject, wordsOf } from "./json.ts";
import type { Spent } from "./leases.ts";
import { CAPABILITIES, type Process } from "./process.ts";
import { type Reason, Refusal } from "./refusal.ts";
import { writablePart } from "./writable.ts";

/** USER_HZ is 100 (proc(5)). */
const TICK_MS = 10;
/** From what Docker 28 and newer call StartedAt until a busy host's runtime has made the process (moby,
 * daemon/start.go: the time is taken before the task is created; 15 s were seen). */
const CLOCK_TOLERANCE_MS = 30_000;

export type Check = {
  name: Reason;
  /** In place of the name, where it says more. */
  reason?: Reason | undefined;
  holds: boolean;
  /** What was seen, for the audit. */
  detail: Json;
  /** It may hold a moment later: a health check that runs, a clock that is being set. */
  mayPass?: boolean | undefined;
};

/** Returns the names of the checks that are relaxed and do not hold, for the audit. Throws a Refusal
 * with the first check that neither holds nor is relaxed. */
export function judge(facts: Facts, spentBy: Spent | undefined, service: Service): string[] {
  const { relax = [] } = service;
  const relaxed: string[] = [];
  for (const { name, reason = name, holds, detail, mayPass } of evaluate(facts, spentBy, service)) {
    if (holds) continue;
    if (!relax.includes(name)) throw new Refusal(reason, detail, mayPass);
    relaxed.push(name);
  }
  return relaxed;
}

/** All checks, in their order. `spentBy`: why this start of the container can have no token. */
export function evaluate(facts: Facts, spentBy: Spent | undefined, service: Service): Check[] {
  const { match, data } = service;
  const { peer, container, init } = facts;
  const { exe_mount, uids, gids, tracer, pids, namespaces } = facts.process;

  const startedMs = facts.bootMs + init.start_ticks * TICK_MS;
  const latestMs = Date.parse(container.State.StartedAt) + CLOCK_TOLERANCE_MS;
  const capabilities = grantedCapabilities(facts);

  return [
    {
      // A set-user-ID program that is run after connect() changes /proc, not what the kernel fixed.
      name: "credentials",
      holds: uids.every((uid) => uid === peer.uid) && gids.every((gid) => gid === peer.gid),
      detail: { uids, gids },
    },
    { name: "traced", holds: tracer === 0, detail: { tracer } },
    {
      // In a user namespace of its own a process can mount what it likes over what is read here.
      name: "user-namespace",
      holds: namespaces.user === facts.userNamespace,
      detail: { seen: namespaces.user, wanted: facts.userNamespace ?? null },
    },
    {
      // Invariant 4: the name of a cgroup counts only where the engine's own process is as well. And a
      // program that was opened in another mount namespace has the path that it has there. With more
      // mounts than are looked at, whoever made these could lay one over the program too.
      name: "namespace",
      holds:
        namespacesAndCgroup(facts.process) === namespacesAndCgroup(init) &&
        facts.mounts?.numbers.includes(exe_mount) !== false,
      detail: { ...namespaces, cgroup: facts.process.cgroup, exe_mount },
    },
    {
      // Younger than its container: the number that the engine remembers was given to another
      // process.
      name: "clock",
      holds: startedMs <= latestMs,
      detail: { startedMs, latestMs },
      mayPass: true,
    },
    {
      name: "init",
      holds: facts.process.init && peer.pid === container.State.Pid,
      detail: { pids, "State.Pid": container.State.Pid },
    },
    {
      name: "alone",
      holds: facts.process.alone,
      detail: { cgroup: facts.process.others_in },
      mayPass: true,
    },
    { ...without("once", spentBy?.why), mayPass: spentBy?.mayPass }, // invariant 6
    without("readonly", writablePart(facts, data)),
    without("labels", labelOfImage(facts, match), facts.imageLabels ? "labels" : "image-gone"),
    // They forge cgroups, `exe` and mounts, and leave the cgroup in which `alone` looks.
    without("capabilities", capabilities.length > 0 ? capabilities : undefined),
    // An agent of the profile's choice makes the client's sockets, seccomp_unotify(2).
    without("seccomp", agentOfStarter(container, match)),
  ];
}

/** A check that holds where nothing was found. */
function without(name: Reason, found: Json | undefined, reason?: Reason): Check {
  return { name, reason, holds: found === undefined, detail: found ?? null };
}

/** Threads and hierarchies are all looked at where another process may act on this one, or may have
 * left its cgroup. */
export function needsCloseLook(facts: Facts, { relax = [] }: Service): boolean {
  const canLeaveCgroups = grantedCapabilities(facts).includes("SYS_ADMIN");
  return canLeaveCgroups || relax.includes("alone") || !facts.process.alone || sharesPids(facts);
}

function sharesPids({ container, init }: Facts): boolean {
  return !init.init || !["", "private"].includes(container.HostConfig.PidMode ?? "");
}

function namespacesAndCgroup({ namespaces, cgroup }: Process): string {
  return [namespaces.user, namespaces.pid, namespaces.mnt, ...cgroup].join("\n");
}

/** The names of the labels that a service matches on. */
export function matchedLabels(match: JsonObject): string[] {
  const { Config } = (match.container ?? {}) as Partial<Container>;
  return Object.keys(Config?.Labels ?? {});
}

/** A label that the service matches, and that the image declares itself, or may declare. */
function labelOfImage({ container, imageLabels }: Facts, match: JsonObject): string | undefined {
  const isPinned = (match.container as Partial<Container> | undefined)?.Image !== undefined;
  const isKnown = imageLabels && (imageLabels.areOfManifest || isPinned);
  const given = container.Config.Labels ?? {};
  return matchedLabels(match).find(
    (label) => !isKnown || imageLabels.labels[label] === given[label],
  );
}

/** By the engine's word, which a process cannot take back, and by the kernel's. SYS_PTRACE reaches the
 * processes of its own pid namespace only. In a user namespace of the container's own a capability
 * reaches less, but SYS_ADMIN mounts over the program there too. */
function grantedCapabilities(facts: Facts): string[] {
  const { process: peer, init, container } = facts;
  const { Privileged, CapAdd } = container.HostConfig;
  const added = wordsOf(CapAdd).map((name) => name.toUpperCase().replace(/^CAP_/, ""));
  const isAll = Privileged || added.includes("ALL");
  const held = [...added, ...peer.capabilities, ...init.capabilities];
  return Object.keys(CAPABILITIES).filter(
    (name) => (isAll || held.includes(name)) && (name !== "SYS_PTRACE" || sharesPids(facts)),
  );
}

/** By what the starter of a container can have its system calls answered: a profile that asks an
 * agent, one that is not shown (Podman names a file), an annotation of crun's. */
function agentOfStarter({ HostConfig }: Container, match: JsonObject): string | undefined {
  const pins = (match.container as Partial<Container> | undefined)?.HostConfig;
  for (const option of wordsOf(HostConfig.SecurityOpt)) {
    const separator = option.includes("=") ? "=" : ":";
    const [key = "", ...values] = option.split(separator);
    if (key.trim().toLowerCase() !== "seccomp") continue;
    const profile = values
      .join(separator)
      .replace(/\\u([0-9a-f]{4})/gi, (_, code) => String.fromCharCode(Number.parseInt(code, 16)));
    if (/SCMP_ACT_NOTIFY/i.test(profile)) return "SCMP_ACT_NOTIFY";
    const isShown = /^\s*\{|^(unconfined|builtin)$/.test(profile);
    if (!isShown && !pins?.SecurityOpt) return "SecurityOpt: a file";
  }
  const pinned = pins?.Annotations ?? {};
  return Object.keys(HostConfig.Annotations ?? {}).find(
    (name) => /^run\.oci\./i.test(name) && !Object.hasOwn(pinned, name),
  );
}
