// Question: which running containers could put a socket of their own in the place of the server's?
// The clients of other containers would then take a stranger's secrets for theirs, and nothing in the
// server can stop it. Input: the socket's directory, and of each container's first process what the
// kernel says of its mounts and capabilities, which no container can forge: proc(5), mountinfo and
// CapBnd.
import { readFileSync, realpathSync } from "node:fs";
import { type ContainerName, type EngineAddress, nameOf, runningContainers } from "./containers.ts";

export type Neighbour = ContainerName & {
  /** What it can do: a clause. */
  how: string;
};

/** A line of mountinfo: the file system, the directory of it that is mounted, and where. */
type Mount = { device: string; root: string; point: string; isWritable: boolean };

/** A directory by its file system and its path in that. */
type Place = { device: string; path: string };

const CAP_SYS_ADMIN = 21n;

/** None where the directory does not exist yet. Throws the Failure "unavailable", and what reading
 * /proc throws. */
export async function findNeighbours(
  socketDirectory: string,
  engine?: EngineAddress,
): Promise<Neighbour[]> {
  const place = placeOf(socketDirectory);
  if (!place) return [];
  const neighbours: Neighbour[] = [];
  for (const container of await runningContainers(engine)) {
    const { Pid } = container.State;
    const how = howItCan(place, readProc(Pid, "mountinfo"), readProc(Pid, "status"));
    if (how) neighbours.push({ ...nameOf(container), how });
  }
  return neighbours;
}

function placeOf(directory: string): Place | undefined {
  try {
    return placeIn(readFileSync("/proc/self/mountinfo", "utf8"), realpathSync(directory));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** A file of /proc/PID; empty where the process has ended. */
export function readProc(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "utf8");
  } catch (error) {
    if (["ENOENT", "ESRCH", "EINVAL"].includes((error as NodeJS.ErrnoException).code ?? ""))
      return "";
    throw error;
  }
}

/** Where a directory is, by the mounts of a process that sees it. */
export function placeIn(mountinfo: string, directory: string): Place | undefined {
  const holding = mountsIn(mountinfo).filter(({ point }) => isWithin(directory, point));
  // The longest is the nearest; of two at one place the later one lies on top.
  const nearest = holding.reduce<Mount | undefined>(
    (best, mount) => (best && best.point.length > mount.point.length ? best : mount),
    undefined,
  );
  if (!nearest) return undefined;
  const { device, root, point } = nearest;
  const below = directory.slice(point === "/" ? 0 : point.length);
  return { device, path: `${root === "/" ? "" : root}${below}` || "/" };
}

/** How a process with these mounts and capabilities could replace what is in the directory;
 * undefined where it could not. */
export function howItCan(place: Place, mountinfo: string, status: string): string | undefined {
  const mounts = mountsIn(mountinfo).filter(
    ({ device, root }) => device === place.device && isWithin(place.path, root),
  );
  const writable = mounts.find(({ isWritable }) => isWritable);
  if (writable) return `has the socket's directory writable, at ${writable.point}`;
  const [mount] = mounts;
  if (!mount) return undefined;
  const [, bounding = "0"] = /^CapBnd:\t([0-9a-f]+)$/m.exec(status) ?? [];
  const isAdmin = ((BigInt(`0x${bounding}`) >> CAP_SYS_ADMIN) & 1n) === 1n;
  return isAdmin ? `has CAP_SYS_ADMIN, and can mount over ${mount.point} or remount it` : undefined;
}

/** It is the directory, or below it. */
function isWithin(path: string, directory: string): boolean {
  return directory === "/" || path === directory || path.startsWith(`${directory}/`);
}

/** The mounts that a process sees. */
export function mountsIn(mountinfo: string): Mount[] {
  return mountinfo.split("\n").flatMap((line) => {
    const [, , device = "", root = "", point = "", options = ""] = line.split(" ");
    if (!options) return [];
    const isWritable = options.split(",").includes("rw");
    return [{ device, root: decodeOctal(root), point: decodeOctal(point), isWritable }];
  });
}

/** Space, tab, newline and backslash are octal there. */
function decodeOctal(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, code) => String.fromCharCode(Number.parseInt(code, 8)));
}
