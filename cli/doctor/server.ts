// Question: does the server run, can containers reach it, and has it what it needs?
// Input: the socket and its directory, the state directory, /proc. A server that runs is asked once, as
// a container would ask: that is one line `no-container` in its audit stream. One that does not run is
// not asked, because systemd would start it.
import { lstatSync, readdirSync, readFileSync, statfsSync, statSync } from "node:fs";
import { connect } from "node:net";
import { dirname } from "node:path";
import type { Config } from "../../server/config.ts";
import { resolveTrusted } from "../../server/trusted-file.ts";
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
import { asUser, isListenedAt, type ServerProcess, type User } from "./user.ts";

const WRITABLE_BY_OTHERS = 0o022;
/** As long as a client waits for one answer. */
const ANSWER_DEADLINE_MS = 15_000;
/** statfs(2): TMPFS_MAGIC and RAMFS_MAGIC. */
const IN_MEMORY = [0x01021994, 0x858458f6];
const SERVER_LOG = "its log says why: journalctl --unit authproxy";

export async function checkServer(
  { socket, state }: Config,
  server: ServerProcess | undefined,
  user: User,
): Promise<Finding[]> {
  return [
    ...(await attempt("socket", "start the server", () => checkSocket(socket))),
    ...(await attempt("server", SERVER_LOG, () => checkAnswer(socket, server))),
    ...(await attempt("state", "correct it, and restart the server", () => [
      checkState(state, server, user),
    ])),
    ...(await attempt("limits", SERVER_LOG, () => checkLimits(server))),
  ];
}

/** As clients look at it before they connect (client/token.ts). */
function checkSocket(socket: string): Finding[] {
  const directory = dirname(socket);
  const findings: Finding[] = [];
  const owned = "clients take it only from root: chown root, or --socket-owner at each client";
  const directoryStats = statSync(directory, { throwIfNoEntry: false });
  if (!directoryStats) {
    const advice = `systemctl start authproxy.socket, or: install -d -m 0755 ${directory}`;
    return [failed("socket", `there is no ${directory}`, advice)];
  }
  const { uid, mode } = directoryStats;
  if (uid !== 0) findings.push(warning("socket", `${directory} belongs to uid ${uid}`, owned));
  if (mode & WRITABLE_BY_OTHERS) {
    const advice = `clients refuse it, as another socket could be put there: chmod 0755 ${directory}`;
    findings.push(failed("socket", `${directory}: others can write it`, advice));
  }
  if (!(mode & 0o001)) {
    const detail = `${directory}: users of containers cannot enter it`;
    findings.push(failed("socket", detail, `chmod 0755 ${directory}`));
  }

  const stats = lstatSync(socket, { throwIfNoEntry: false });
  if (!stats) return [...findings, failed("socket", `there is no ${socket}`, "start the server")];
  if (!stats.isSocket()) {
    const advice = "remove it, and restart the server (the socket unit, under systemd)";
    return [...findings, failed("socket", `${socket} is not a socket`, advice)];
  }
  if (stats.uid !== 0)
    findings.push(warning("socket", `${socket} belongs to uid ${stats.uid}`, owned));
  if ((stats.mode & 0o222) !== 0o222) {
    const detail = `${socket} has the mode 0${(stats.mode & 0o777).toString(8)}`;
    const advice = `every container must be able to connect, identity decides: chmod 0666 ${socket}`;
    findings.push(failed("socket", detail, advice));
  }
  return findings.length > 0 ? findings : [ok("socket", `${socket}: root's, and all may connect`)];
}

async function checkAnswer(socket: string, server: ServerProcess | undefined): Promise<Finding[]> {
  if (server) {
    const who = `process ${server.pid}, uid ${server.uid}`;
    const answer = await ask(socket);
    // "refused", as a process of the host is nobody's service; "unavailable" where another was just
    // judged. Either way the server is alive.
    if (/"error":"(refused|unavailable)"/.test(answer)) return [ok("server", `${who}, answers`)];
    return [failed("server", `${who}, at ${socket}: ${answer}`, SERVER_LOG)];
  }
  const isListened = isListenedAt(socket);
  if (isListened && !isRoot()) return [needsRoot("server")];
  const detail = isListened
    ? `at ${socket} somebody listens for it, but it does not run`
    : `nobody listens at ${socket}`;
  return [failed("server", detail, `systemctl status authproxy authproxy.socket; ${SERVER_LOG}`)];
}

/** What is answered to this process, which sends nothing; or why nothing is. */
function ask(socket: string): Promise<string> {
  const connection = connect(socket).setEncoding("utf8");
  const { promise, resolve } = Promise.withResolvers<string>();
  let text = "";
  connection.on("data", (chunk: string) => {
    text += chunk;
  });
  connection.on("error", (error) => resolve(error.message));
  connection.on("end", () => resolve(text || "it closed the connection without an answer"));
  const timer = setTimeout(resolve, ANSWER_DEADLINE_MS, "no answer in time");
  return promise.finally(() => {
    clearTimeout(timer);
    connection.destroy();
  });
}

/** As the server looks at it (server/lease-files.ts), which would make it. */
function checkState(state: string, server: ServerProcess | undefined, user: User): Finding {
  const stats = lstatSync(state, { throwIfNoEntry: false });
  if (!stats) {
    return server
      ? failed(
          "state",
          `${state} is gone while the server runs`,
          "restart the server, which makes it",
        )
      : unchecked("state", `there is no ${state} yet`, "the server makes it when it starts");
  }
  if (!stats.isDirectory()) return failed("state", `${state} is not a directory`, "remove it");
  if (!isRoot() && stats.uid !== process.getuid?.()) return needsRoot("state");
  const { uid, mode } = stats;
  if (uid !== user.uid)
    return failed("state", `${state} belongs to uid ${uid}`, `chown ${user.uid} ${state}`);
  if ((mode & 0o7777) !== 0o700) {
    const detail = `${state} has the mode 0${(mode & 0o7777).toString(8)}`;
    return failed("state", detail, `chmod 0700 ${state}: no server starts otherwise`);
  }
  try {
    asUser(user, () => resolveTrusted(state));
  } catch (error) {
    return failed("state", reasonOf(error), "no server starts otherwise");
  }

  const { type, bavail } = statfsSync(state);
  if (bavail === 0) return failed("state", `${state}: its file system is full`, "make room there");
  if (!IN_MEMORY.includes(type)) {
    const advice = "a grant waits for the disk: take a directory on tmpfs, such as below /run";
    return warning("state", `${state} is not in memory`, advice);
  }
  const leases = readdirSync(state).filter((name) => !name.endsWith(".new"));
  return ok("state", `${state}: in memory; leases: ${leases.length}`);
}

/** peercred holds a descriptor for each process that has a token, and two for one that waits. */
function checkLimits(server: ServerProcess | undefined): Finding[] {
  if (!server) return [];
  if (!isRoot()) return [needsRoot("limits")];
  const { pid, peercredPid } = server;
  const findings: Finding[] = [];
  const descriptors = readdirSync(`/proc/${peercredPid}/fd`).length;
  const descriptorsMax = limitOf(peercredPid, "Max open files");
  const used = `peercred has ${descriptors} of ${descriptorsMax} descriptors`;
  if (descriptors * 5 > descriptorsMax * 4) {
    const advice = "beyond that nobody gets a token: raise LimitNOFILE of the service";
    findings.push(warning("limits", used, advice));
  }
  if (limitOf(pid, "Max core file size") !== 0) {
    const advice = "tokens are in its memory: LimitCORE=0, or --ulimit core=0";
    findings.push(warning("limits", `process ${pid} may write a core file`, advice));
  }
  const [, swappedKb = "0"] =
    /^VmSwap:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
  if (swappedKb !== "0") {
    const advice = "tokens are in its memory: MemorySwapMax=0";
    findings.push(warning("limits", `process ${pid} has ${swappedKb} kB in swap`, advice));
  }
  return findings.length > 0 ? findings : [ok("limits", `${used}; no core file, nothing in swap`)];
}

/** The soft limit, as /proc/PID/limits has it. */
function limitOf(pid: number, name: string): number {
  const limits = readFileSync(`/proc/${pid}/limits`, "utf8");
  const [, soft = ""] = new RegExp(`^${name} +(\\w+)`, "m").exec(limits) ?? [];
  return soft === "unlimited" ? Number.POSITIVE_INFINITY : Number(soft);
}
