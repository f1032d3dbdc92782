// Question: who is connected, and did our answer reach that very process? Input: the lines of
// peercred, which owns the socket and every client's descriptor; its head defines them.
// Guaranteed: this process holds no descriptor of a client and cannot read from one (invariant 1).
import { type StdioOptions, spawn } from "node:child_process";
import { EventEmitter } from "node:events";
import type { Peer } from "../types.ts";

const BINARY = `${import.meta.dirname}/../dist/peercred`;

/** `heard` emits each line of the helper by its verb, as (id, words), and once more by verb and id.
 * The helper's end is an uncaught exception, and ours. */
export function listen(socket: string) {
  // A listening socket, by systemd: sd_listen_fds(3).
  const given = process.env.LISTEN_FDS === "1" && process.env.LISTEN_PID === `${process.pid}`;
  const stdio: StdioOptions = ["pipe", "pipe", "pipe", given ? 3 : "ignore"];
  const word = given ? "--inherited" : socket;
  // Detached: the signals of a terminal are for us alone. No variable of ours: invariant 8.
  const helper = spawn(BINARY, [word], { stdio, env: {}, detached: true });
  const heard = new EventEmitter().setMaxListeners(0);
  let rest = "";
  const end = (why: unknown, signal?: unknown) => {
    throw new Error(`${BINARY} (scripts/prepare.sh makes it) has ended: ${signal ?? why}`);
  };
  helper.on("error", end).on("close", end);
  helper.stderr?.pipe(process.stderr); // not inherited, as in keeper.ts
  helper.stdin?.on("error", () => {}); // it has ended
  helper.stdout?.setEncoding("utf8").on("data", (text: string) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const [verb = "", id = "", ...words] = line.split(" ");
      heard.emit(verb, id, words);
      heard.emit(`${verb} ${id}`, words[0]);
    }
  });
  /** Of a grant, "sent" if the peer was alive and silent at the last check (invariant 3). */
  async function answer(verb: "grant" | "refuse", id: string, value: object): Promise<string> {
    helper.stdin?.write(`${verb} ${id} ${JSON.stringify(value)}\n`);
    return await new Promise((resolve) => heard.once(`answered ${id}`, resolve));
  }

  /** Holds a process until its end: "watching PID ID", then "exit ID". */
  const watch = (pid: number) => helper.stdin?.write(`watch ${pid}\n`);

  return { heard, answer, watch };
}

export function peerFrom(id: string, words: string[]): Peer {
  const [pid = -1, uid = -1, gid = -1] = words.slice(0, 3).map(Number);
  const groups = (words[3] ?? "").split(",").slice(0, -1).map(Number);
  return { id, pid, uid, gid, groups, label: words.slice(4).join(" ") };
}
