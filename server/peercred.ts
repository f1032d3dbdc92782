// Question: which process is connected, and did the answer reach that very process?
//
// Input: the lines of peercred, which owns the socket and every client's descriptor; the head of
// peercred.c defines them.
// Guaranteed: this process holds no descriptor of a client and cannot read from one (invariant 1).
import { type ChildProcess, type StdioOptions, spawn } from "node:child_process";
import { closeSync } from "node:fs";
import { unavailable } from "./refusal.ts";

const NO_PROCESS = "0";
const NO_DESCRIPTOR = "later";
const NO_NAMESPACE = "0";
const PROGRAM = `${import.meta.dirname}/../dist/peercred`;

/** What the kernel fixed at connect(), and nobody can forge: SO_PEERCRED, SO_PEERGROUPS and
 * SO_PEERSEC (unix(7)). */
export type Peer = {
  /** Names the connection, for peercred. */
  id: string;
  pid: number;
  uid: number;
  gid: number;
  groups: number[];
  /** The MAC label; empty if the kernel has none. */
  label: string;
};

/** Why peercred dropped a connection by itself. */
export const DROP_REASONS = ["no-pid", "exited", "unreadable", "spoke"] as const;
export type DropReason = (typeof DROP_REASONS)[number];

/** What became of an answer: "sent" if the peer was alive and silent at the last check
 * (invariant 3). */
export const OUTCOMES = ["sent", "spoke", "exited", "closed"] as const;
export type Outcome = (typeof OUTCOMES)[number];

/** `exited` resolves when the process that got a token exits, or at once if none was sent. */
export type Delivery = { outcome: Outcome; exited: Promise<void> };

export type Handlers = {
  /** The socket is open. `hasPidfd`: the kernel has SO_PEERPIDFD. */
  ready(hasPidfd: boolean): void;
  peer(peer: Peer): void;
  /** A connection that peercred has closed. */
  drop(reason: DropReason, peer: Pick<Peer, "pid" | "uid" | "gid">): void;
};

export class Peercred {
  readonly #program: ChildProcess;
  readonly #handlers: Handlers;
  readonly #userNamespaces: boolean;
  /** Commands that wait for their answer, such as "answered ID" or "watching PID". peercred answers
   * them in their order. */
  readonly #unanswered: { answer: string; onAnswer: (word: string) => void }[] = [];
  /** By the id of a process that peercred watches. */
  readonly #exits = new Map<string, () => void>();
  #unfinishedLine = "";

  /** Starts peercred, which listens at this path. If it ends, an error that nobody catches ends this
   * process. `userNamespaces`: as the configuration has it. */
  constructor(socketPath: string, handlers: Handlers, userNamespaces = false) {
    this.#handlers = handlers;
    this.#userNamespaces = userNamespaces;
    // systemd has opened the socket: sd_listen_fds(3).
    const isInherited =
      process.env.LISTEN_FDS === "1" && process.env.LISTEN_PID === `${process.pid}`;
    const words = [isInherited ? "--inherited" : socketPath];
    if (userNamespaces) words.push("--user-namespaces");
    // A child that inherits one of the descriptors 0 to 2 makes it blocking, for this process too
    // (libuv), and the server would stop when nobody reads the audit stream. So there are pipes.
    const stdio: StdioOptions = ["pipe", "pipe", "pipe", isInherited ? 3 : "ignore"];
    // Detached, because a terminal's signals are for the server alone. No variable of the server's
    // environment is handed on (invariant 8).
    this.#program = spawn(PROGRAM, words, { stdio, env: {}, detached: true });
    if (isInherited) closeSync(3); // from now on only peercred can accept a connection

    this.#program.on("error", (error) => endedBy(error.message));
    this.#program.on("close", (code, signal) => endedBy(signal ?? `exit code ${code}`));
    this.#program.stderr?.pipe(process.stderr);
    this.#program.stdin?.on("error", () => {}); // it has ended: "close" says so
    this.#program.stdout?.setEncoding("utf8");
    this.#program.stdout?.on("data", (text: string) => this.#receive(text));
  }

  /** Sends a line, if the peer is alive and has sent nothing. After a "grant" that was sent, peercred
   * watches the process. */
  answer(verb: "grant" | "refuse", id: string, line: object): Promise<Delivery> {
    return new Promise((resolve) => {
      this.#command(`${verb} ${id} ${JSON.stringify(line)}`, `answered ${id}`, (word) => {
        const outcome = oneOf(OUTCOMES, word);
        const isWatched = verb === "grant" && outcome === "sent";
        // Asked for now, because the next line may already say that the process has exited.
        resolve({ outcome, exited: isWatched ? this.#exitOf(id) : Promise.resolve() });
      });
    });
  }

  /** Watches the process that has this number now. `exited` resolves when it exits, or at once if
   * no process has it. Undefined: peercred has no descriptor left to watch it by. */
  watch(pid: number): Promise<{ exited: Promise<void> } | undefined> {
    return new Promise((resolve) => {
      this.#command(`watch ${pid}`, `watching ${pid}`, (id) => {
        if (id === NO_DESCRIPTOR) resolve(undefined);
        else resolve({ exited: id === NO_PROCESS ? Promise.resolve() : this.#exitOf(id) });
      });
    });
  }

  /** The user namespace that owns the pid namespace of this process, as /proc/PID/ns/user would name it.
   * Undefined: the kernel does not tell, or the configuration does not ask. Throws the refusal
   * "internal" if peercred has no descriptor left to ask by. */
  async ownerOfPids(pid: number): Promise<string | undefined> {
    if (!this.#userNamespaces) return undefined;
    return await new Promise((resolve, reject) => {
      this.#command(`owner ${pid}`, `owner ${pid}`, (inode) => {
        if (inode === NO_DESCRIPTOR) reject(unavailable("internal", { code: "EMFILE", pid }));
        else resolve(inode === NO_NAMESPACE ? undefined : `user:[${inode}]`);
      });
    });
  }

  /** `onAnswer` is called with the word of the answer, and at once, so that an `exit` in the next line
   * finds its listener. */
  #command(command: string, answer: string, onAnswer: (word: string) => void): void {
    this.#unanswered.push({ answer, onAnswer });
    this.#program.stdin?.write(`${command}\n`);
  }

  #resolveAnswer(answer: string, word: string): void {
    const first = this.#unanswered.shift();
    if (first?.answer !== answer) throw new Error(`peercred: ${answer}: not the next answer`);
    first.onAnswer(word);
  }

  #exitOf(id: string): Promise<void> {
    return new Promise((resolve) => this.#exits.set(id, resolve));
  }

  #receive(text: string): void {
    const lines = (this.#unfinishedLine + text).split("\n");
    this.#unfinishedLine = lines.pop() ?? "";
    for (const line of lines) this.#handleLine(line);
  }

  #handleLine(line: string): void {
    const [verb, ...words] = line.split(" ");
    const [first = "", second = ""] = words;
    switch (verb) {
      case "ready":
        this.#handlers.ready(first === "pidfd");
        break;
      case "peer":
        this.#handlers.peer(parsePeer(first, words.slice(1)));
        break;
      case "drop":
        this.#handlers.drop(oneOf(DROP_REASONS, first), parseIds(words.slice(1)));
        break;
      case "answered":
        this.#resolveAnswer(`answered ${first}`, second);
        break;
      case "watching":
      case "owner":
        this.#resolveAnswer(`${verb} ${second}`, first);
        break;
      case "exit": // of a process that waits, too: its answer says so
        this.#exits.get(first)?.();
        this.#exits.delete(first);
        break;
      default:
        throw new Error(`peercred: a line that is not in the protocol: ${verb}`);
    }
  }
}

/** The words after the id: PID UID GID GROUPS LABEL, where GROUPS is "" or "1,2,3," and LABEL is the
 * rest of the line. */
function parsePeer(id: string, words: string[]): Peer {
  const [, , , groups = "", ...label] = words;
  return {
    id,
    ...parseIds(words),
    groups: groups.split(",").slice(0, -1).map(Number),
    label: label.join(" "),
  };
}

function parseIds([pid, uid, gid]: string[]) {
  return { pid: Number(pid), uid: Number(uid), gid: Number(gid) };
}

function oneOf<Word extends string>(words: readonly Word[], word: string): Word {
  const candidate = words.find((each) => each === word);
  if (candidate) return candidate;
  throw new Error(`peercred: a word that is not in the protocol: ${word}`);
}

function endedBy(reason: string): never {
  throw new Error(`${PROGRAM} (made by scripts/prepare.sh) has ended: ${reason}`);
}
