// Question: does this process deserve what its container is entitled to? Input: the kernel's facts,
// /proc, and the engine's words, in this rank (invariant 2). Pure. Guaranteed: every check is
// evaluated, in this order; a service can relax only those that the schema lets it name.
import { posix } from "node:path";
import type { Container, Facts, Json, JsonObject, Process, Service } from "../types.ts";
import { Refusal, Unavailable } from "./refusal.ts";

const NOT_YET = ["alone", "clock"]; // a health check that runs; a clock that is being set
// Variables that name programs or libraries, of loaders, shells and languages.
const SEARCH = /^(LD_\w+|\w*(PATH\w*|OPT|OPTS|OPTIONS|LIB)|BASH_ENV|ENV|OPENSSL_CONF)=/;
const TICK_MS = 10;
const TOLERANCE_MS = 2000;

/** Throws the first check that neither holds nor is relaxed; returns the relaxed ones that do not
 * hold, for the audit. */
export function judge(facts: Facts, { match, relax = [] }: Service): string[] {
  const failed = checks(facts, match).filter(([, holds]) => !holds);
  const [name, , cause] = failed.find(([name]) => !relax.includes(name)) ?? [];
  if (!name) return failed.map(([relaxed]) => relaxed);
  throw new (NOT_YET.includes(name) ? Unavailable : Refusal)(name, { cause });
}

/** Each check, for `authproxy explain` too: its name, whether it holds, what was seen. */
export function checks(facts: Facts, match: JsonObject): [string, boolean, Json][] {
  const { peer, process, container, init, imageLabels } = facts;
  const { uids, gids, tracer, namespaces, pids } = process;
  const { State, Config } = container;
  const place = (p: Process) => Object.values(p.namespaces).concat(p.cgroup).join("\n");
  const startedMs = facts.bootMs + init.start_ticks * TICK_MS;
  const latestMs = Date.parse(State.StartedAt) + TOLERANCE_MS;
  const writable = writableProgram(process, container) ?? null;
  const matched = Object.keys((match.container as Partial<Container>).Config?.Labels ?? {});
  const declared = matched.find((key) => imageLabels[key] === Config.Labels?.[key]) ?? null;
  return [
    // A set-user-ID program run after connect() changes /proc, not what the kernel vouched for.
    ["credentials", uids.every((uid) => uid === peer.uid), uids],
    ["credentials", gids.every((gid) => gid === peer.gid), gids],
    ["traced", tracer === 0, tracer],
    // In a user namespace of its own a process may mount what it likes over what we read.
    ["user-namespace", namespaces.user === facts.user_namespace, namespaces.user],
    // Invariant 4: the name of a cgroup is believed only where the engine's own process is too.
    ["namespace", place(process) === place(init), place(process)],
    // Younger than its container: the number that the engine remembers is another process's now.
    ["clock", startedMs <= latestMs, { startedMs, latestMs }],
    ["init", process.init && peer.pid === State.Pid, { pids, State }],
    ["alone", process.alone, "other processes are in the container"],
    ["once", facts.first, "this start of the container has had its token"], // invariant 6
    ["readonly", writable === null, writable],
    ["labels", declared === null, declared],
  ];
}

/** What someone inside could overwrite, to be run at the container's next start: a writable mount
 * that is named anywhere in the program's path, in a word of its command, or in a search path. */
function writableProgram(process: Process, { Path, Args, ...rest }: Container): string | undefined {
  if (!rest.HostConfig.ReadonlyRootfs) return Path;
  const { WorkingDir, Env } = rest.Config;
  const inside = (word: string) => {
    const path = posix.resolve(WorkingDir || "/", word);
    return rest.Mounts.some(({ RW, Destination }) => RW && path.includes(Destination));
  };
  const variable = Env?.find((text) => SEARCH.test(text) && inside(text));
  return [process.exe, Path, ...Args].find(inside) ?? variable?.split("=")[0]; // not its value
}
