// Question: in which cgroup is a process of the host taken for a container's?
// Input:    a container. Output: directories to whose cgroup.procs it writes its number.
import { chownSync, existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { type Container, type Stage, until } from "../stage.ts";
import { pidOf, USER } from "./arena.ts";

const CGROUPS = "/sys/fs/cgroup";

/** The mounted hierarchies: one for version 2, a directory each before. */
function hierarchies(): string[] {
  if (existsSync(join(CGROUPS, "cgroup.controllers"))) return [CGROUPS];
  return readdirSync(CGROUPS).map((name) => join(CGROUPS, name));
}

/** All of the victim's cgroups, which only root can join. */
export async function cgroupsOf(_: Stage, victim: Container): Promise<string[]> {
  return cgroupsOfProcess(await pidOf(victim));
}

export function cgroupsOfProcess(pid: number): string[] {
  const lines = readFileSync(`/proc/${pid}/cgroup`, "utf8").trim().split("\n");
  const paths = new Set(lines.map((line) => line.split(":").slice(2).join(":")));
  const directories = hierarchies().flatMap((root) => [...paths].map((path) => join(root, path)));
  return directories.filter((directory) => existsSync(join(directory, "cgroup.procs")));
}

/** A cgroup with the victim's name, in a directory that was delegated to a user. */
export async function delegated(stage: Stage, victim: Container): Promise<string[]> {
  return makeOwn(stage, `authproxy-attack-${process.pid}/docker/${victim.id}`);
}

const ROOT_SESSION = "user.slice/user-0.slice/user@0.service";

/** As `delegated`, in a user's session, below cgroups that are named as root's session is. */
export async function inUserSession(stage: Stage, victim: Container): Promise<string[]> {
  const session = `user.slice/user-${USER}.slice/user@${USER}.service`;
  return makeOwn(stage, `${session}/${ROOT_SESSION}/libpod-payload-${victim.id}`);
}

/** A cgroup with the victim's name where only root can make one: in root's session. */
export async function inRootSession(stage: Stage, victim: Container): Promise<string[]> {
  return make(stage, `${ROOT_SESSION}/libpod-payload-${victim.id}`).slice(0, 1);
}

function makeOwn(stage: Stage, path: string): string[] {
  const made = make(stage, path);
  for (const directory of made) chownSync(directory, USER, USER);
  return made.slice(0, 1);
}

/** This cgroup, and those above it that were not there before. The stage removes them. */
function make(stage: Stage, path: string): string[] {
  const root = hierarchies().find((directory) => existsSync(join(directory, "cgroup.controllers")));
  let directory = join(root ?? CGROUPS, path);
  const first = mkdirSync(directory, { recursive: true }) ?? directory;
  const made = [directory];
  while (directory !== first) {
    directory = dirname(directory);
    made.push(directory);
  }
  stage.defer(() => until("the cgroups are empty", () => removed(made)));
  return made;
}

function removed(directories: string[]): boolean {
  try {
    for (const directory of directories) rmdirSync(directory);
    return true;
  } catch {
    return !existsSync(directories[0] ?? "");
  }
}
