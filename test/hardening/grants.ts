// Question: does the helper read memory that it never wrote, or keep memory or a descriptor, over
// many grants?
// Input:    how many; each is to a process that has ended by the time that they are counted.
// Promise:  returns when valgrind, under which the helper runs, has found nothing.
import { spawn } from "node:child_process";
import { EventEmitter, once } from "node:events";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { build, helper, run } from "./build.ts";

/** Grants that one process gets before it ends; the helper then lets go of as many. */
const BATCH = 500;
const ANSWER = '{"service":"app","token":"hvs.CAES"}';

export async function grantsUnderValgrind(grants: number): Promise<void> {
  run("valgrind", ["--version"], "sh scripts/prepare.sh hardening");
  const program = build("peercred-plain", [helper], []); // not static: valgrind replaces malloc
  const crowd = build("crowd", [join(import.meta.dirname, "crowd.c")], []);
  const directory = mkdtempSync(join(tmpdir(), "authproxy-grants-"));
  const socket = join(directory, "s");
  const leaks = ["--leak-check=full", "--show-leak-kinds=all", "--errors-for-leak-kinds=all"];
  const child = spawn("valgrind", ["--quiet", ...leaks, "--error-exitcode=99", program, socket]);
  const heard = new EventEmitter();
  const counted = { sent: 0, exit: 0 };
  createInterface(child.stdout).on("line", (line) => {
    const [verb = "", id, outcome] = line.split(" ");
    if (verb === "peer") child.stdin.write(`grant ${id} ${ANSWER}\n`);
    if (verb === "answered" && outcome === "sent") counted.sent++;
    if (verb === "exit") counted.exit++;
    heard.emit(verb);
  });
  const complaints = text(child.stderr);
  const ended = once(child, "close");
  const openDescriptors = () => readdirSync(`/proc/${child.pid}/fd`).length;
  try {
    await once(heard, "ready", { signal: AbortSignal.timeout(30_000) });
    const before = openDescriptors();
    for (let done = 0; done < grants; done += BATCH) {
      const peer = spawn(crowd, [socket, String(BATCH), `${ANSWER}\n`], { stdio: "inherit" });
      const [code] = await once(peer, "exit");
      if (code !== 0) throw new Error(`a peer was not answered: exit ${code}`);
      const signal = AbortSignal.timeout(30_000);
      while (counted.exit < done + BATCH) await once(heard, "exit", { signal });
    }
    const after = openDescriptors();
    if (after !== before) throw new Error(`the helper had ${before} descriptors, has ${after}`);
    if (counted.sent < grants) throw new Error(`${counted.sent} of ${grants} grants were sent`);
    child.stdin.end();
    const [code] = await ended;
    const said = await complaints;
    if (code !== 0 || said !== "") throw new Error(`valgrind found (exit ${code}):\n${said}`);
  } finally {
    child.kill("SIGKILL");
    rmSync(directory, { recursive: true });
  }
}
