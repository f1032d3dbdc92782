// Question: does the engine answer, can the server see its containers, and do they see the server?
// Input: the engine's API, by the server's own functions; of each container's first process, what the
// kernel says of its mounts. A Kubernetes node's engine has checks of its own beside these: node.ts.
import { existsSync, lstatSync, readFileSync, readlinkSync, realpathSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import type { Config } from "../../server/config.ts";
import { type Container, EngineApi } from "../../server/engine.ts";
import type { JsonObject } from "../../server/json.ts";
import { serverUserNamespace } from "../../server/process.ts";
import { askEngine } from "../ask-engine.ts";
import { type EngineAddress, nameOf, runningContainers } from "../containers.ts";
import { RUNTIME_NAME } from "../daemon-json.ts";
import { engineKind, mapsUsers } from "../host.ts";
import { KubernetesNode } from "../kubernetes-node.ts";
import { mountsIn, placeIn, readProc } from "../neighbours.ts";
import { observe } from "../observe.ts";
import { explainReason } from "../reasons.ts";
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
import { askNode, checkKubelet } from "./node.ts";
import { checkHandler, checkRuntime, SOCKETS_INSIDE } from "./runtime.ts";
import { mayWrite, type User } from "./user.ts";

const ENGINE_ADVICE = 'check that it runs, and that "engine" in the configuration is its socket';

export async function checkEngine(config: Config, user: User): Promise<Finding[]> {
  const { socket, engine } = config;
  const [first, ...more] = await attempt("engine", ENGINE_ADVICE, () => checkApi(engine, user));
  const findings = first ? [first, ...more] : [];
  if (first?.status === "failed" || first?.status === "not checked") {
    const others = ["containers", "user namespaces", "mounts", "runtime"];
    const advice = "correct what is said of the engine first";
    return [
      ...findings,
      ...others.map((check) => unchecked(check, "the engine cannot be asked", advice)),
    ];
  }
  return [
    ...findings,
    ...(await attempt("containers", ENGINE_ADVICE, () => checkView(dirname(socket), engine))),
    ...(await attempt("user namespaces", ENGINE_ADVICE, () => checkUserNamespaces(config))),
    ...(await attempt("mounts", ENGINE_ADVICE, () => checkMounts(socket, engine))),
    ...(await attempt("runtime", "see docs/runtime.md", () =>
      typeof engine === "string"
        ? checkRuntime(dirname(socket), engine)
        : checkHandler(dirname(socket), engine.cri),
    )),
    ...(typeof engine === "string" ? [] : checkKubelet()),
  ];
}

async function checkApi(engine: EngineAddress, user: User): Promise<Finding[]> {
  const path = typeof engine === "string" ? engine : engine.cri;
  const stats = statSync(path);
  if (!stats.isSocket()) return [failed("engine", `${path} is not a socket`, ENGINE_ADVICE)];
  const findings = typeof engine === "string" ? [await askVersion(path)] : await askNode(path);
  if (isRoot() && !mayWrite(stats, user)) {
    const advice =
      typeof engine === "string"
        ? "add the server's user to that group: SupplementaryGroups=docker"
        : "run the server as root (User=root): the sockets of nodes' engines are root's";
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
async function checkView(directory: string, engine: EngineAddress): Promise<Finding[]> {
  if (!isRoot()) return [needsRoot("containers")];
  const running = await runningContainers(engine);
  const ofRuntime = await idsOfRuntime(running, engine);
  const hasSocket = (container: Container) => pointsOf(container, directory, ofRuntime).length > 0;
  const [users, others] = [running.filter(hasSocket), running.filter((each) => !hasSocket(each))];
  const unseen: Container[] = [];
  for (const container of [...users, ...others]) {
    const observation = await observe(container.State.Pid, engine);
    if (observation.facts) {
      const seen = `${subjectOf(container)}: process, cgroup and image can be seen`;
      return [ok("containers", seen)];
    }
    const { refusal } = observation;
    if (refusal.canRetry && refusal.reason !== "engine") {
      unseen.push(container); // it has just ended
      continue;
    }
    const { happened, advice } = explainReason(refusal.reason);
    const detail = `${subjectOf(container)}: ${happened}: ${reasonOf(refusal)}`;
    return [failed("containers", detail, advice)];
  }
  const [stillRunning] = await stillAmong(unseen, engine);
  if (!stillRunning) return [unchecked("containers", "none runs", "start one, and ask again")];
  const { Pid } = stillRunning.State;
  return [
    failed(
      "containers",
      `${subjectOf(stillRunning)}: the engine calls its process ${Pid}, and /proc here has no such process`,
      "be in the host's pid namespace: hostPID: true, or --pid=host",
    ),
  ];
}

/** Docker says that it maps users; of other engines a container shows it that runs. */
async function checkUserNamespaces({ engine, user_namespaces }: Config): Promise<Finding[]> {
  if (!isRoot()) return [needsRoot("user namespaces")];
  const running = await runningContainers(engine);
  const apart = running.find(({ State }) => namespaceOf(State.Pid) !== serverUserNamespace);
  const isOfEngine =
    typeof engine === "string" && mapsUsers((await askEngine("info", engine)) as JsonObject);
  if (!apart && !isOfEngine) return [ok("user namespaces", "no container has one of its own")];
  const who = apart
    ? `${subjectOf(apart)} has one of its own`
    : "the engine makes them (userns-remap)";
  if (user_namespaces) return [ok("user namespaces", `${who}, and is served`)];
  return [
    warning(
      "user namespaces",
      `${who}, and the server refuses it`,
      'add "user_namespaces": true to the configuration, and start the server again',
    ),
  ];
}

/** Of a process that has ended, this one's: nothing is to be said of it. */
function namespaceOf(pid: number): string {
  try {
    return readlinkSync(`/proc/${pid}/ns/user`);
  } catch {
    return serverUserNamespace;
  }
}

/** Those whose process is the same a moment later. */
async function stillAmong(containers: Container[], engine: EngineAddress): Promise<Container[]> {
  if (containers.length === 0) return [];
  const now = await runningContainers(engine);
  return containers.filter(({ Id, State }) =>
    now.some((other) => other.Id === Id && other.State.Pid === State.Pid),
  );
}

/** A container has the directory that was there when it started. Where that was replaced meanwhile, by
 * another of the same name, the container's clients find no server any more. */
async function checkMounts(socket: string, engine: EngineAddress): Promise<Finding[]> {
  if (!isRoot()) return [needsRoot("mounts")];
  if (!existsSync(dirname(socket)))
    return [unchecked("mounts", `there is no ${dirname(socket)}`, "start the server first")];
  const directory = realpathSync(dirname(socket));
  const place = placeIn(readFileSync("/proc/self/mountinfo", "utf8"), directory);
  const findings: Finding[] = [];
  let count = 0;
  const running = await runningContainers(engine);
  const ofRuntime = await idsOfRuntime(running, engine);
  for (const container of running) {
    const points = pointsOf(container, dirname(socket), ofRuntime);
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

/** The ids of the containers that were made with the runtime. */
async function idsOfRuntime(running: Container[], engine: EngineAddress): Promise<string[]> {
  if (typeof engine === "string") {
    const isOfRuntime = ({ HostConfig }: Container) =>
      (HostConfig as JsonObject).Runtime === RUNTIME_NAME;
    return running.filter(isOfRuntime).map(({ Id }) => Id);
  }
  const pods = await new KubernetesNode(engine.cri).pods();
  const made = pods.filter(({ handler }) => handler === RUNTIME_NAME);
  return made.flatMap(({ containers }) => containers.map(({ id }) => id));
}

/** Where the container should have the directory, by the engine's word; the runtime's mounts are not in
 * that. CRI calls the path on the host Name. */
function pointsOf({ Id, Mounts }: Container, directory: string, ofRuntime: string[]): string[] {
  const named = Mounts as { Source?: string; Name?: string; Destination: string }[];
  const points = named.filter(({ Source, Name }) => [Source, Name].includes(directory));
  return [
    ...points.map(({ Destination }) => Destination.replace(/\/+$/, "")),
    ...(ofRuntime.includes(Id) ? [SOCKETS_INSIDE] : []),
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
