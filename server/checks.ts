// Question: does this process deserve what its container is entitled to?
//
// Input: the kernel's facts, /proc, and the engine's words, trusted in this order (invariant 2).
// Pure: no I/O, no clock.
// Guaranteed: every check is evaluated, in the order below; a service can relax only those that the
// schema lets it name.
import { posix } from "node:path";
import type { Service } from "./config.ts";
import type { Container } from "./engine.ts";
import type { Facts } from "./facts.ts";
import type { Json, JsonObject } from "./json.ts";
import type { Process } from "./process.ts";
import { type Reason, Refusal } from "./refusal.ts";

/** Variables that name programs or libraries, for loaders, shells and languages. */
const SEARCH_VARIABLE = /^(LD_\w+|\w*(PATH\w*|OPT|OPTS|OPTIONS|LIB)|BASH_ENV|ENV|OPENSSL_CONF)=/;
/** USER_HZ is 100 (proc(5)). */
const TICK_MS = 10;
const CLOCK_TOLERANCE_MS = 2000;

export type Check = {
  name: Reason;
  holds: boolean;
  /** What was seen, for the audit. */
  detail: Json;
  /** It may hold a moment later: a health check that runs, a clock that is being set. */
  mayPass?: boolean;
};

/** Returns the names of the checks that are relaxed and do not hold, for the audit. Throws a Refusal
 * with the first check that neither holds nor is relaxed. */
export function judge(facts: Facts, spentBy: string | undefined, service: Service): string[] {
  const { match, relax = [] } = service;
  const relaxed: string[] = [];
  for (const { name, holds, detail, mayPass } of evaluate(facts, spentBy, match)) {
    if (holds) continue;
    if (!relax.includes(name)) throw new Refusal(name, detail, mayPass);
    relaxed.push(name);
  }
  return relaxed;
}

/** All checks, in their order. `spentBy`: why this start of the container can have no token. */
export function evaluate(facts: Facts, spentBy: string | undefined, match: JsonObject): Check[] {
  const { peer, container, init } = facts;
  const { uids, gids, tracer, pids, namespaces } = facts.process;

  const startedMs = facts.bootMs + init.start_ticks * TICK_MS;
  const latestMs = Date.parse(container.State.StartedAt) + CLOCK_TOLERANCE_MS;
  const writable = writableProgram(facts.process, container);
  const declared = labelOfImage(facts, match);

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
      holds: namespaces.user === facts.serverUserNamespace,
      detail: namespaces.user,
    },
    {
      // Invariant 4: the name of a cgroup counts only where the engine's own process is as well.
      name: "namespace",
      holds: namespacesAndCgroup(facts.process) === namespacesAndCgroup(init),
      detail: namespacesAndCgroup(facts.process),
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
      detail: "other processes are in the container",
      mayPass: true,
    },
    {
      name: "once", // invariant 6
      holds: spentBy === undefined,
      detail: spentBy ?? null,
    },
    { name: "readonly", holds: writable === undefined, detail: writable ?? null },
    { name: "labels", holds: declared === undefined, detail: declared ?? null },
  ];
}

function namespacesAndCgroup({ namespaces, cgroup }: Process): string {
  return [namespaces.user, namespaces.pid, namespaces.mnt, ...cgroup].join("\n");
}

/** A label that the service matches, and that the image declares itself. */
function labelOfImage({ container, imageLabels }: Facts, match: JsonObject): string | undefined {
  const wanted = (match.container as Partial<Container> | undefined)?.Config?.Labels ?? {};
  const labels = container.Config.Labels ?? {};
  return Object.keys(wanted).find((label) => imageLabels[label] === labels[label]);
}

/** What someone inside could overwrite, to be run at the container's next start: a writable mount
 * whose path occurs in the program's path, in a word of its command or in a search path. */
function writableProgram({ exe }: Process, container: Container): string | undefined {
  const { Path, Args, Config, HostConfig, Mounts } = container;
  if (!HostConfig.ReadonlyRootfs) return Path;

  const writableMounts = Mounts.filter(({ RW }) => RW);
  const isOnWritableMount = (word: string) => {
    const path = posix.resolve(Config.WorkingDir || "/", word);
    return writableMounts.some(({ Destination }) => path.includes(Destination));
  };
  const word = [exe, Path, ...Args].find(isOnWritableMount);
  const variable = Config.Env?.find(
    (text) => SEARCH_VARIABLE.test(text) && isOnWritableMount(text),
  );
  return word ?? variable?.split("=", 1)[0]; // not its value
}
