// Question: does the engine answer, can the server see its containers, and do they see the server?
// Input: the engine's API, by the server's own functions; of each container's first process, what the
// kernel says of its mounts.
import { existsSync, lstatSync, readFileSync, realpathSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import type { Config } from "../../server/config.ts";
import { type Container, EngineApi } from "../../server/engine.ts";
import type { JsonObject } from "../../server/json.ts";
import { nameOf, runningContainers } from "../containers.ts";
import { RUNTIME_NAME, type Runtime } from "../daemon-json.ts";
import { engineKind } from "../host.ts";
import { mountsIn, placeIn, readProc } from "../neighbours.ts";
import { observe } from "../observe.ts";
import { explainReason } from "../reasons.ts";
import { requireTrusted } from "../runtime.ts";
import { enumerate } from "../words.ts";
import {
  attempt,
  type Finding,
  failed,
  isRoot,
  needsRoot,
  ok,
  reasonOf,
  unchecked,
  warning,
} from "./finding.ts";
import { mayWrite, type User } from "./user.ts";

const ENGINE_ADVICE = 'check that it runs, and that "engine" in the configuration is its socket';
/** Where clients look for the server, and where the runtime puts it. */
const SOCKETS_INSIDE = "/run/authproxy";

export async function checkEngine({ socket, engine }: Config, user: User): Promise<Finding[]> {
  const [first, ...more] = await attempt("engine", ENGINE_ADVICE, () => checkApi(engine, user));
  const findings = first ? [first, ...more] : [];
  if (first?.status === "failed" || first?.status === "not checked") {
    const others = ["containers", "mounts", "runtime"];
    const advice = "correct what is said of the engine first";
    return [
      ...findings,
      ...others.map((check) => unchecked(check, "the engine cannot be asked", advice)),
    ];
  }
  return [
    ...findings,
    ...(await attempt("containers", ENGINE_ADVICE, () => checkView(dirname(socket), engine))),
    ...(await attempt("mounts", ENGINE_ADVICE, () => checkMounts(socket, engine))),
    ...(await attempt("runtime", "see docs/runtime.md", () =>
      checkRuntime(dirname(socket), engine),
    )),
  ];
}

async function checkApi(path: string, user: User): Promise<Finding[]> {
  const stats = statSync(path);
  if (!stats.isSocket()) return [failed("engine", `${path} is not a socket`, ENGINE_ADVICE)];
  const findings = [await askVersion(path)];
  if (isRoot() && !mayWrite(stats, user)) {
    const advice = "add the server's user to that group: SupplementaryGroups=docker";
    const detail = `${path} is for uid ${stats.uid} and gid ${stats.gid}, and the server is uid ${user.uid}`;
    findings.push(failed("engine", detail, advice));
  }
  if (stats.mode & 0o002) {
    const advice = "who may connect is root on this host: chmod 0660";
    findings.push(warning("engine", `${path}: everybody may connect`, advice));
  }
  return findings;
}

async function askVersion(path: string): Promise<Finding> {
  try {
    const api = new EngineApi(path);
    const minor = await api.minorVersion();
    const { status, value } = await api.get("/version");
    const offered = `${value.MinAPIVersion ?? "?"} to ${value.ApiVersion}`;
    const name = engineKind(value) === "podman" ? "Podman" : "Docker";
    const detail = `${path}: ${name} ${value.Version}, which offers API ${offered}`;
    if (status === 200) return ok("engine", `${detail}: the server uses 1.${minor}`);
    const advice = "take an engine with which this version of authproxy was tested";
    return failed("engine", `${detail}: ${value.message ?? `status ${status}`}`, advice);
  } catch (error) {
    const reason = reasonOf(error);
    const isDenied = /EACCES|EPERM/.test(reason) && !isRoot();
    return isDenied ? needsRoot("engine") : failed("engine", `${path}: ${reason}`, ENGINE_ADVICE);
  }
}

/** A container is looked at as if its process had connected, by the server's own function: one that
 * has the server's socket, where there is one. */
async function checkView(directory: string, engine: string): Promise<Finding[]> {
  if (!isRoot()) return [needsRoot("containers")];
  const running = await runningContainers(engine);
  const hasSocket = (container: Container) => pointsOf(container, directory).length > 0;
  const [users, others] = [running.filter(hasSocket), running.filter((each) => !hasSocket(each))];
  for (const container of [...users, ...others]) {
    const observation = await observe(container.State.Pid, engine);
    if (observation.facts) {
      const seen = `${subjectOf(container)}: process, cgroup and image can be seen`;
      return [ok("containers", seen)];
    }
    const { refusal } = observation;
    if (refusal.canRetry && refusal.reason !== "engine") continue; // it has just ended
    const { happened, advice } = explainReason(refusal.reason);
    const detail = `${subjectOf(container)}: ${happened}: ${reasonOf(refusal)}`;
    return [failed("containers", detail, advice)];
  }
  return [unchecked("containers", "none runs", "start one, and ask again")];
}

/** A container has the directory that was there when it started. Where that was replaced meanwhile, by
 * another of the same name, the container's clients find no server any more. */
async function checkMounts(socket: string, engine: string): Promise<Finding[]> {
  if (!isRoot()) return [needsRoot("mounts")];
  if (!existsSync(dirname(socket)))
    return [unchecked("mounts", `there is no ${dirname(socket)}`, "start the server first")];
  const directory = realpathSync(dirname(socket));
  const place = placeIn(readFileSync("/proc/self/mountinfo", "utf8"), directory);
  const findings: Finding[] = [];
  let count = 0;
  for (const container of await runningContainers(engine)) {
    const points = pointsOf(container, dirname(socket));
    for (const { device, root, point } of mountsIn(readProc(container.State.Pid, "mountinfo"))) {
      // The kernel's mark of a directory that was removed.
      const path = root.replace(/\/\/deleted$/, "");
      const isOurs = device === place?.device && path === place.path;
      const isSocket = device === place?.device && path === join(place.path, basename(socket));
      if (!isOurs && !isSocket && !points.includes(point)) continue;
      count++;
      findings.push(...compare(container, point, isSocket ? socket : directory));
      if (isSocket) findings.push(socketAlone(container, point));
    }
  }
  if (findings.length > 0) return findings;
  return [ok("mounts", `containers that have ${directory}: ${count}, as it is now`)];
}

/** Where the container should have the directory, by the engine's word; the runtime's mounts are not in
 * that. */
function pointsOf({ Mounts, HostConfig }: Container, directory: string): string[] {
  const named = Mounts as { Source?: string; Destination: string }[];
  const points = named.filter(({ Source }) => Source === directory);
  const isOfRuntime = (HostConfig as JsonObject).Runtime === RUNTIME_NAME;
  return [
    ...points.map(({ Destination }) => Destination.replace(/\/+$/, "")),
    ...(isOfRuntime ? [SOCKETS_INSIDE] : []),
  ];
}

/** None where the container has at `point` what is at `path` of the host. */
function compare(container: Container, point: string, path: string): Finding[] {
  // The kernel's name of a mount point holds no link, so none leads out of the container.
  const mounted = `/proc/${container.State.Pid}/root${point}`;
  const [inside, outside] = [mounted, path].map((file) =>
    lstatSync(file, { throwIfNoEntry: false }),
  );
  if (!inside) return []; // it has ended
  if (inside.dev === outside?.dev && inside.ino === outside.ino) return [];
  return [
    failed(
      "mounts",
      `${subjectOf(container)} has at ${point} another ${path} than the host has now`,
      "it was replaced after the container's start: restart the container, and keep the directory",
    ),
  ];
}

function socketAlone(container: Container, point: string): Finding {
  return warning(
    "mounts",
    `${subjectOf(container)} has the socket itself, at ${point}`,
    "a server that is started again may make another one: mount its directory",
  );
}

function subjectOf(container: Container): string {
  const { name, id } = nameOf(container);
  return `${name} (${id.slice(0, 12)})`;
}

/** The runtime is for images that nobody changed; a host without them needs none. */
async function checkRuntime(directory: string, engine: string): Promise<Finding[]> {
  const { value } = await new EngineApi(engine).get("/info");
  const runtimes = (value.Runtimes ?? {}) as Record<string, Runtime & JsonObject>;
  const registered = runtimes[RUNTIME_NAME];
  if (!registered) return [ok("runtime", "not registered: images bring the client themselves")];

  const { path, runtimeArgs = [] } = registered;
  const loader = join(dirname(path), "../authproxy/ld.so");
  for (const file of [path, loader]) requireTrusted(file);
  const findings: Finding[] = [];
  const program = join(dirname(loader), "node");
  const lacking = [program, join(dirname(loader), "authproxy.js")].filter(
    (file) => !existsSync(file),
  );
  if (lacking.length > 0)
    findings.push(failed("runtime", `${enumerate(lacking)}: not there`, "install it again"));
  const { mode } = statSync(loader);
  if (mode & 0o044) {
    const advice = `its users could trace the client and take the token: chmod 0711 ${loader}`;
    findings.push(warning("runtime", `${loader} can be read by all`, advice));
  }
  const [option] = runtimeArgs.filter((word) => word.startsWith("--sockets="));
  const sockets = option?.slice("--sockets=".length) ?? SOCKETS_INSIDE;
  if (sockets !== directory) {
    const detail = `it gives containers ${sockets}, and the server's socket is in ${directory}`;
    const advice = `authproxy runtime uninstall; authproxy runtime install --sockets ${directory}`;
    findings.push(failed("runtime", detail, advice));
  }
  return findings.length > 0 ? findings : [ok("runtime", `${path}, root's alone`)];
}
