// Which token does the server give this container? Looks at the socket before trusting it, connects,
// reads, and never sends a byte. Waits, up to the deadline, for what can come: the socket, a free
// place in its backlog, the server's own Vault.

import { lstatSync, type Stats } from "node:fs";
import { dirname } from "node:path";
import { type Answer, type Grant, parseAnswer } from "./answer.ts";
import { codeOf, fail } from "./failure.ts";
import { nowMs, triesMs, waitForTry } from "./wait.ts";

/** The server answers within 10 s; what takes longer is stuck. */
const ANSWER_MS = 15_000;
const ANSWER_BYTES = 256 * 1024;

/** `whileWaiting` is called on each connection, while the server works. */
export async function askForToken(
  path: string,
  owner: number,
  deadlineMs: number,
  whileWaiting: () => void,
): Promise<Grant> {
  for (let attempt = 0; ; attempt++) {
    let missing = findSocket(path, owner);
    let answer: Answer = "unavailable";
    if (!missing) {
      try {
        answer = await ask(path, Math.min(ANSWER_MS, triesMs(deadlineMs)), whileWaiting);
      } catch (error) {
        // ENOENT and ECONNREFUSED: the server restarts. EAGAIN: its backlog is full.
        missing = `${path} gives ${codeOf(error)}`;
      }
    }
    if (typeof answer === "object") return answer;
    if (answer === "refused") return refused();
    if (answer === "malformed") {
      return fail(
        "config",
        `what answers at ${path} does not speak the authproxy protocol`,
        "another program listens there, or a server of another version",
      );
    }
    if (nowMs() >= deadlineMs) return gaveUp(path, missing);
    await waitForTry(attempt, deadlineMs);
  }
}

/** Gives what is missing, undefined if the socket may be trusted, and throws if it may not be. The
 * directory decides: who can write there can put a socket of his own in the server's place, now or
 * between this look and the connection. */
function findSocket(path: string, owner: number): string | undefined {
  const directory = dirname(path);
  const place = look(directory);
  if (!place) return `there is no directory ${directory}`;
  if (!place.isDirectory()) fail("config", `${directory} is not a directory`);
  requireOwner(directory, place, owner);
  if (place.mode & 0o022) {
    fail(
      "config",
      `${directory} can be written by others than its owner`,
      "the server's socket directory is 0755: mount that one, read-only",
    );
  }
  const socket = look(path);
  if (!socket) return `there is no ${path}`;
  if (!socket.isSocket()) fail("config", `${path} is not a socket`);
  requireOwner(path, socket, owner);
  return undefined;
}

function look(path: string): Stats | undefined {
  try {
    return lstatSync(path, { throwIfNoEntry: false });
  } catch (error) {
    return fail("config", `cannot look at ${path}: ${codeOf(error)}`);
  }
}

function requireOwner(path: string, { uid }: Stats, owner: number): void {
  if (uid === 0 || uid === owner) return;
  fail(
    "config",
    `${path} belongs to uid ${uid}, not to root`,
    `where a user namespace makes root show as that uid: --socket-owner ${uid}`,
  );
}

function ask(path: string, timeoutMs: number, whileWaiting: () => void): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const socket = process.getBuiltinModule("node:net").connect({ path });
  let text = "";
  socket.setEncoding("utf8");
  socket.on("connect", whileWaiting);
  socket.on("data", (chunk: string) => {
    text += chunk;
    if (text.length > ANSWER_BYTES) resolve("malformed");
  });
  socket.on("end", () => resolve(parseAnswer(text)));
  socket.on("error", reject);
  const timer = setTimeout(resolve, timeoutMs, "unavailable");
  return promise.finally(() => {
    clearTimeout(timer);
    socket.destroy();
  });
}

function refused(): never {
  const notFirst =
    `; this is process ${process.pid}, and only a container's first process is served: ` +
    "write ENTRYPOINT and CMD as JSON lists, and leave --init away";
  return fail(
    "refused",
    "the server refused this container",
    `on the host, authproxy explain --last says why${process.pid === 1 ? "" : notFirst}`,
  );
}

function gaveUp(path: string, missing: string | undefined): never {
  if (missing) {
    const directory = dirname(path);
    fail("tryAgain", `no server: ${missing}`, `mount it: -v ${directory}:${directory}:ro`);
  }
  return fail(
    "tryAgain",
    `the server at ${path} could not give a token in time`,
    "its Vault or the container engine fails: its audit log says which",
  );
}
