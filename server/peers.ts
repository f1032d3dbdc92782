// Question: who is connected, and did our answer reach that very process? Input: the lines of
// peercred, which owns the socket and every client's descriptor; its head defines them.
// Guaranteed: this process holds no descriptor of a client and cannot read from one (invariant 1).
import { spawn } from "node:child_process";
import { EventEmitter, once } from "node:events";
import { fileURLToPath } from "node:url";
import type { Peer } from "./types.ts";

const STDIO: ["pipe", "pipe", "inherit"] = ["pipe", "pipe", "inherit"];
const BINARY = fileURLToPath(new URL("../dist/peercred", import.meta.url));

/** Listens on a path, or on the socket that systemd passed on (sd_listen_fds(3)). `heard` emits each
 * line by its verb, as (id, words), and once more by its verb and id. */
export function listen(socket: string, onEnd: (why: string) => void) {
  const inherited = process.env.LISTEN_PID === String(process.pid);
  const helper = spawn(BINARY, [inherited ? "--inherited" : socket], {
    stdio: (inherited ? [...STDIO, 3] : STDIO) as typeof STDIO,
    env: {},
    detached: true, // signals of a terminal are for us alone
  });
  const heard = new EventEmitter();
  let rest = "";
  helper.on("error", (error) => onEnd(error.message));
  helper.on("exit", (code, signal) => onEnd(`${BINARY} has ended: ${signal ?? code}`));
  helper.stdin.on("error", () => {}); // it has ended
  helper.stdout.setEncoding("utf8").on("data", (text: string) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const [verb = "", id = "", ...words] = line.split(" ");
      heard.emit(verb, id, words);
      heard.emit(`${verb} ${id}`, words[0]);
    }
  });

  return {
    heard,
    /** For a grant: "sent", if the peer is alive and silent at the last check (invariant 3). */
    async answer(verb: "grant" | "refuse", id: string, answer: object): Promise<string> {
      helper.stdin.write(`${verb} ${id} ${JSON.stringify(answer)}\n`);
      return (await once(heard, `answered ${id}`))[0];
    },
  };
}

export function peerFrom(id: string, [pid, uid, gid, groups = "", ...label]: string[]): Peer {
  const numbers = groups.split(",").slice(0, -1).map(Number);
  const peer = { id, pid: Number(pid), uid: Number(uid), gid: Number(gid), groups: numbers };
  return { ...peer, label: label.join(" ") };
}
