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
  const lines = readFileSync(`/proc/${await pidOf(victim)}/cgroup`, "utf8")
    .trim()
    .split("\n");
  const paths = new Set(lines.map((line) => line.split(":").slice(2).join(":")));
  const directories = hierarchies().flatMap((root) => [...paths].map((path) => join(root, path)));
  return directories.filter((directory) => existsSync(join(directory, "cgroup.procs")));
}

/** A cgroup with the victim's name, in a directory that was delegated to a user. */
export async function delegated(stage: Stage, victim: Container): Promise<string[]> {
  const root = hierarchies().find((directory) => existsSync(join(directory, "cgroup.controllers")));
  const forged = join(root ?? CGROUPS, `authproxy-attack-${process.pid}`, "docker", victim.id);
  mkdirSync(forged, { recursive: true });
  const made = [forged, dirname(forged), dirname(dirname(forged))];
  for (const directory of made) chownSync(directory, USER, USER);
  stage.defer(() => until("the cgroups are empty", () => removed(made)));
  return [forged];
}

function removed(directories: string[]): boolean {
  try {
    for (const directory of directories) rmdirSync(directory);
    return true;
  } catch {
    return !existsSync(directories[0] ?? "");
  }
}
