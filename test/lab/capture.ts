// Question: what did /proc, the cgroup file system and the engine say about one peer, at one time?
// Output:   all that the server reads of it, as one JSON value, from which a test can make the same
//           trees again. Not its memory, its command line or its environment.
import { existsSync, readFileSync, readlinkSync } from "node:fs";
import { uptime } from "node:os";
import { join } from "node:path";
import type { Container } from "../../server/engine.ts";
import type { JsonObject } from "../../server/json.ts";

const FILES = ["status", "stat", "cgroup", "mountinfo", "uid_map"];
const LINKS = ["exe", "ns/user", "ns/pid", "ns/mnt"];

export type Capture = {
  pid: number;
  /** Of /proc/PID. */
  files: Record<string, string>;
  links: Record<string, string>;
  /** Every cgroup.procs of the peer's cgroup, by its path below /sys/fs/cgroup. */
  cgroups: Record<string, string>;
  /** /sys/fs/cgroup is the one hierarchy of cgroup v2. */
  unified: boolean;
  /** The server's own, as /proc/self/ns/user says. */
  userNamespace: string;
  bootMs: number;
  container: Container;
  imageLabels: JsonObject | null;
};

export function capture(pid: number, container: Container, image: JsonObject): Capture {
  const at = (name: string) => join("/proc", String(pid), name);
  const files = FILES.map((name) => [name, readFileSync(at(name), "utf8")] as const);
  const links = LINKS.map((name) => [name, readlinkSync(at(name))] as const);
  const unified = existsSync("/sys/fs/cgroup/cgroup.controllers");
  const lines = readFileSync(at("cgroup"), "utf8").trimEnd().split("\n");
  return {
    pid,
    files: Object.fromEntries(files),
    links: Object.fromEntries(links),
    cgroups: Object.fromEntries(lines.flatMap((line) => procsOf(line, unified))),
    unified,
    userNamespace: readlinkSync("/proc/self/ns/user"),
    bootMs: Date.now() - uptime() * 1000,
    container,
    imageLabels: (image.Config as JsonObject | null)?.Labels as JsonObject | null,
  };
}

/** The path of a line of /proc/PID/cgroup, where its hierarchy is mounted here, and who is in it. */
function procsOf(line: string, unified: boolean): [string, string][] {
  const [, controllers = "", ...path] = line.split(":");
  const hierarchy = controllers.replace("name=", "") || (unified ? "" : "unified");
  const directory = join(hierarchy, path.join(":"));
  const file = join("/sys/fs/cgroup", directory, "cgroup.procs");
  return path[0] !== "/" && existsSync(file) ? [[directory, readFileSync(file, "utf8")]] : [];
}
