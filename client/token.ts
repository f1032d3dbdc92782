// Question:   which Vault token is this container's?
// Input:      the path of the server's socket, and the line that the server writes to it. Whoever can
//             write to the socket's directory could put a socket in its place, so the directory is
//             judged first. A wrapped token may have been opened, or replaced, on its way.
// Output:     the token, or a Failure. What can pass by itself is waited for until the deadline: the
//             socket, a place in its backlog, the server's own Vault.
// Guaranteed: the client never sends a byte to the server (docs/protocol.md).

import { lstatSync, readFileSync, type Stats } from "node:fs";
import { dirname } from "node:path";
import { errorCode, fail } from "./failure.ts";
import { requirePrivate } from "./inspector.ts";
import type { Options } from "./options.ts";
import type { VaultPlace } from "./public.ts";
import { isFields } from "./values.ts";
import { Vault } from "./vault.ts";
import { attemptMs, nowMs, waitBeforeRetry } from "./wait.ts";

/** The engine and Vault have 10 s for each answer, and few take that long. Then it is asked again. */
const ANSWER_MS_MAX = 15_000;
const ANSWER_CHARACTERS_MAX = 256 * 1024;
/** As stat(2) shows a user who is not in the map of this user namespace (user_namespaces(7)). */
const UNMAPPED_UID = 65_534;

/** What can be the cause where the modes of files are as the server makes them. */
const DENIED_HINT =
  "is SELinux enforcing on the host? Then it needs the module authproxy: docs/operate.md, SELinux";

/** What the server grants: its line, without the members that the client does not use. */
export type Grant = {
  readonly service: string;
  /** The token, or where `wrapped` is true, the token of its wrapping. */
  readonly token: string;
  readonly wrapped: boolean;
  readonly vault: VaultPlace;
};

/** What the server answered. A connection that ended before its line did counts as "unavailable". */
export type ServerAnswer = Grant | "refused" | "unavailable" | "malformed";

export type Session = { readonly grant: Grant; readonly token: string };

/**
 * Asks the server for the token, and opens it where it is wrapped. Throws a Failure: config where the
 * socket is not to be trusted, refused, tryAgain at the deadline, or unwrapAlarm.
 */
export async function openSession(options: Options, deadlineMs: number): Promise<Session> {
  requirePrivate();
  const grant = await askServer(options.socket, options.socketOwner, deadlineMs);
  const token = grant.wrapped ? await unwrapToken(grant, deadlineMs) : grant.token;
  return { grant, token };
}

async function askServer(path: string, owner: number, deadlineMs: number): Promise<Grant> {
  for (let attempt = 0; ; attempt++) {
    let missing = findMissing(path, owner);
    let answer: ServerAnswer = "unavailable";
    if (!missing) {
      try {
        answer = await readAnswer(path, Math.min(ANSWER_MS_MAX, attemptMs(deadlineMs)));
      } catch (error) {
        const code = errorCode(error);
        if (code === "EACCES") fail("config", `may not connect to ${path}: EACCES`, DENIED_HINT);
        // ENOENT and ECONNREFUSED: the server restarts. EAGAIN: its backlog is full.
        missing = `${path} gives ${code}`;
      }
    }

    if (answer === "refused") failRefused();
    if (answer === "malformed") {
      fail(
        "config",
        `what answers at ${path} does not speak the authproxy protocol`,
        "another program listens there, or a server of another version",
      );
    }
    if (answer !== "unavailable") return answer;
    if (nowMs() >= deadlineMs) failUnavailable(path, missing);
    await waitBeforeRetry(attempt, deadlineMs);
  }
}

/**
 * Returns what is missing in words, or undefined where the socket may be trusted. Throws a Failure
 * (config) where it may not be. The directory decides: whoever can write there can put another socket
 * in the server's place at any time, also between this check and the connection.
 */
function findMissing(path: string, owner: number): string | undefined {
  const directory = dirname(path);
  const directoryStats = readStats(directory);
  if (!directoryStats) return `there is no directory ${directory}`;
  if (!directoryStats.isDirectory()) fail("config", `${directory} is not a directory`);
  requireOwner(directory, directoryStats, owner);
  if (directoryStats.mode & 0o022) {
    fail(
      "config",
      `${directory} can be written by others than its owner`,
      "the server's socket directory is 0755: mount that one, read-only",
    );
  }

  const socketStats = readStats(path);
  if (!socketStats) return `there is no ${path}`;
  if (!socketStats.isSocket()) fail("config", `${path} is not a socket`);
  requireOwner(path, socketStats, owner);
  return undefined;
}

/** lstat(2), so that a symbolic link is not followed. Undefined: there is no such file. */
function readStats(path: string): Stats | undefined {
  try {
    return lstatSync(path, { throwIfNoEntry: false });
  } catch (error) {
    const code = errorCode(error);
    const hint = code === "EACCES" ? DENIED_HINT : undefined;
    return fail("config", `cannot look at ${path}: ${code}`, hint);
  }
}

function requireOwner(path: string, stats: Stats, owner: number): void {
  if (stats.uid === 0 || stats.uid === owner) return;
  if (stats.uid === UNMAPPED_UID && isRootUnmapped()) return;
  fail(
    "config",
    `${path} belongs to uid ${stats.uid}, not to root`,
    `where a user namespace shows root as that uid: --socket-owner ${stats.uid}`,
  );
}

/** The engine maps users, and the host's root is not among them: what belongs to root shows UNMAPPED_UID
 * here. So does what belongs to any other user of the host who is not mapped (SECURITY.md). */
function isRootUnmapped(): boolean {
  try {
    // A line is INSIDE OUTSIDE COUNT: a range that has the host's root begins with it.
    return !/^ *\d+ +0 /m.test(readFileSync("/proc/self/uid_map", "utf8"));
  } catch {
    return false; // the kernel has no user namespaces
  }
}

/** Connects and reads until end of file. Rejects with an error of Node's where it cannot connect. */
async function readAnswer(path: string, timeoutMs: number): Promise<ServerAnswer> {
  const socket = process.getBuiltinModule("node:net").connect({ path });
  const { promise, resolve, reject } = Promise.withResolvers<ServerAnswer>();
  let text = "";
  socket.setEncoding("utf8");
  socket.on("connect", loadTls);
  socket.on("data", (chunk: string) => {
    text += chunk;
    if (text.length > ANSWER_CHARACTERS_MAX) resolve("malformed");
  });
  socket.on("end", () => resolve(parseAnswer(text)));
  socket.on("error", reject);
  const timer = setTimeout(resolve, timeoutMs, "unavailable");
  return await promise.finally(() => {
    clearTimeout(timer);
    socket.destroy();
  });
}

/** Loading TLS takes 5 ms. They are spent while the server and its Vault are at work. */
function loadTls(): void {
  process.getBuiltinModule("node:tls");
}

/**
 * Parses what the server wrote: one line of JSON, then end of file. Members that are not listed here
 * are ignored, because clients stay in images for years. It does no input and output.
 */
export function parseAnswer(text: string): ServerAnswer {
  const lineEnd = text.indexOf("\n");
  if (lineEnd < 0) return "unavailable";
  if (lineEnd !== text.length - 1) return "malformed";

  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch {
    return "malformed";
  }
  if (!isFields(answer)) return "malformed";

  const { error, service, token, wrapped } = answer;
  if (error === "refused" || error === "unavailable") return error;
  if (error !== undefined) return "malformed";

  const vault = parseVaultPlace(answer.vault);
  if (typeof service !== "string" || typeof wrapped !== "boolean") return "malformed";
  if (!isHeaderText(token) || !vault) return "malformed";
  return { service, token, wrapped, vault };
}

function parseVaultPlace(value: unknown): VaultPlace | undefined {
  if (!isFields(value)) return undefined;
  const { address, ca, namespace } = value;
  if (typeof address !== "string") return undefined;
  if (ca !== undefined && typeof ca !== "string") return undefined;
  if (namespace !== undefined && !isHeaderText(namespace)) return undefined;
  return { address, ca, namespace };
}

/** Token and namespace go into the head of a request: a line end would begin another header. */
function isHeaderText(value: unknown): value is string {
  return typeof value === "string" && /^[\x21-\x7e]+$/.test(value);
}

function failRefused(): never {
  let hint = "on the host, authproxy explain --last says why";
  if (process.pid !== 1) {
    hint +=
      `; this is process ${process.pid}, and only a container's first process is served: ` +
      "write ENTRYPOINT and CMD as JSON lists, and do not use --init";
  }
  fail("refused", "the server refused this container", hint);
}

function failUnavailable(path: string, missing: string | undefined): never {
  if (missing) {
    const directory = dirname(path);
    fail("tryAgain", `no server: ${missing}`, `mount it: -v ${directory}:${directory}:ro`);
  }
  fail(
    "tryAgain",
    `the server at ${path} could not give a token in time`,
    "its Vault or the container engine fails: its audit log says which",
  );
}

/**
 * Opens the wrapping and returns the token in it. A wrapped token can be opened once: where it is open
 * already, somebody else has the token, and that is an alarm. The wrapping is looked up first: one that
 * was not made by creating a token was put in its place by somebody who wants another token used.
 */
async function unwrapToken(grant: Grant, deadlineMs: number): Promise<string> {
  // A wrapping token authorizes itself: lookup takes it in the body, unwrap as the caller's token.
  const anonymous = new Vault(grant.vault, undefined, deadlineMs);
  const body = JSON.stringify({ token: grant.token });
  const lookup = await anonymous.request({ path: "sys/wrapping/lookup", body });
  anonymous.close();
  if (lookup.status !== 200) failUnwrap("it was opened before, or never was a wrapping");
  const creationPath = String(lookup.body.data?.creation_path);
  if (!/^auth\/token\/create\/[^/]+$/.test(creationPath)) {
    failUnwrap("it was not made by auth/token/create");
  }

  const wrapping = new Vault(grant.vault, grant.token, deadlineMs);
  const unwrapped = await wrapping.request({ path: "sys/wrapping/unwrap", body: "{}" });
  wrapping.close();
  const token = unwrapped.body.auth?.client_token;
  if (unwrapped.status !== 200 || !isHeaderText(token)) failUnwrap("another opened it just now");
  return token;
}

function failUnwrap(reason: string): never {
  fail(
    "unwrapAlarm",
    `ALARM: the wrapped token cannot be trusted: ${reason}`,
    "another may hold this container's token: revoke it, by its accessor in the server's audit log",
  );
}
