// Question: as which user does the server run, and which process is it?
// Input: /proc, where the server's child peercred holds the listening socket; and where no server runs,
// the unit that systemd would start.
// Sources: proc(5): PID/net/unix and PID/fd; the flag 00010000 is __SO_ACCEPTCON: the socket listens.
import { spawnSync } from "node:child_process";
import { lstatSync, readdirSync, readFileSync, readlinkSync, type Stats } from "node:fs";

export type User = { uid: number; gid: number; groups: number[] };
export type ServerProcess = User & { pid: number; peercredPid: number };

const LISTENING = "00010000";
const UNIT = "authproxy.service";

/** The server whose socket this is. Undefined where none runs, or where its descriptors cannot be seen:
 * only root can see those of others. */
export function findServer(socket: string): ServerProcess | undefined {
  for (const pid of readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)) {
    if (unlessGone("", () => readFileSync(`/proc/${pid}/comm`, "utf8")) !== "peercred\n") continue;
    const isHolder = unlessGone(
      false,
      () => seesAsWeDo(pid, socket) && holdsOneOf(pid, listeningInodes(pid, socket)),
    );
    if (isHolder) return serverOf(pid);
  }
  return undefined;
}

/** A process of a container may have any name, and listen at the same path in a file system of its own. */
function seesAsWeDo(pid: number, socket: string): boolean {
  const [its, ours] = [lstatSync(`/proc/${pid}/root${socket}`), lstatSync(socket)];
  return its.dev === ours.dev && its.ino === ours.ino;
}

/** Somebody listens at this path, in our network namespace. */
export function isListenedAt(socket: string): boolean {
  return listeningInodes("self", socket).length > 0;
}

/** "Num RefCount Protocol Flags Type St Inode Path" */
function listeningInodes(pid: number | "self", socket: string): string[] {
  const lines = readFileSync(`/proc/${pid}/net/unix`, "utf8").split("\n");
  const fields = lines.map((line) => line.trim().split(/ +/));
  return fields.flatMap(([, , , flags, , , inode = "", ...path]) =>
    flags === LISTENING && path.join(" ") === socket ? [inode] : [],
  );
}

function holdsOneOf(pid: number, inodes: string[]): boolean {
  const wanted = inodes.map((inode) => `socket:[${inode}]`);
  const descriptors = readdirSync(`/proc/${pid}/fd`);
  return descriptors.some((descriptor) =>
    wanted.includes(readlinkSync(`/proc/${pid}/fd/${descriptor}`)),
  );
}

function serverOf(peercredPid: number): ServerProcess {
  const [pid = 0] = statusNumbers(peercredPid, "PPid");
  const [, uid = 0] = statusNumbers(pid, "Uid");
  const [, gid = 0] = statusNumbers(pid, "Gid");
  return { pid, peercredPid, uid, gid, groups: statusNumbers(pid, "Groups") };
}

/** The numbers of a line of /proc/PID/status. */
function statusNumbers(pid: number, field: string): number[] {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const [, words = ""] = new RegExp(`^${field}:\t(.*)$`, "m").exec(status) ?? [];
  return words.split(/\s/).filter(Boolean).map(Number);
}

/** A process that ends, or may not be looked at, is passed over. */
function unlessGone<T>(otherwise: T, read: () => T): T {
  try {
    return read();
  } catch {
    return otherwise;
  }
}

/** The user that systemd would start the server as, or our own if systemd does not know the unit. */
export function userOfUnit(): User {
  const name = outputOf("systemctl", "show", "--property=User", "--value", UNIT);
  const [uid, gid] = name ? [outputOf("id", "-u", name), outputOf("id", "-g", name)] : [];
  if (!uid || !gid) {
    const own = process.getuid?.() ?? 0;
    return { uid: own, gid: process.getgid?.() ?? 0, groups: process.getgroups?.() ?? [] };
  }
  const groups = outputOf("id", "-G", name).split(" ").map(Number);
  const added = outputOf("systemctl", "show", "--property=SupplementaryGroups", "--value", UNIT);
  for (const group of added.split(" ").filter(Boolean))
    groups.push(Number(outputOf("getent", "group", group).split(":")[2]));
  return { uid: Number(uid), gid: Number(gid), groups };
}

/** Empty where the program is not there, or fails. */
function outputOf(program: string, ...words: string[]): string {
  const { status, stdout } = spawnSync(program, words, { encoding: "utf8" });
  return status === 0 ? stdout.trim() : "";
}

/** By owner, group and mode. Root is not treated as one who may all: the server has no such right. */
export function mayWrite({ uid, gid, mode }: Stats, user: User): boolean {
  if (uid === user.uid) return (mode & 0o200) !== 0;
  if (gid === user.gid || user.groups.includes(gid)) return (mode & 0o020) !== 0;
  return (mode & 0o002) !== 0;
}

/** What `read` returns. The server's functions accept files of root and of their own process's user:
 * here that is the server's. */
export function asUser<T>({ uid }: User, read: () => T): T {
  const { getuid } = process;
  process.getuid = () => uid;
  try {
    return read();
  } finally {
    if (getuid) process.getuid = getuid;
  }
}
