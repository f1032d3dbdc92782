// Question: what does the kernel say that only server/peercred.c asks for? It is run once, and ends with
// its input. Nothing is changed: its socket is in the abstract namespace (unix(7)), which is no file.
import { type StdioOptions, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";

export const PEERCRED = join(import.meta.dirname, "../dist/peercred");

/** The user namespace that owns the pid namespace of this process, as the server learns it. Undefined
 * where that cannot be learned: only with CAP_SYS_PTRACE can it. */
export async function askForOwner(pid: number): Promise<string | undefined> {
  const answer = await askPeercred(`owner ${pid}\n`, "--user-namespaces");
  const [, inode] = /^owner ([1-9]\d*) /m.exec(answer) ?? [];
  return inode && `user:[${inode}]`;
}

/** What peercred says before it ends, or why it did not start. */
export async function askPeercred(commands: string, ...options: string[]): Promise<string> {
  const listener = createServer().listen(`\0authproxy-${randomUUID()}`);
  await once(listener, "listening");
  try {
    return await outputOfPeercred(descriptorOf(listener), commands, options);
  } finally {
    listener.close();
  }
}

/** Node has no public name for it. */
function descriptorOf(listener: Server): number {
  return (listener as unknown as { _handle: { fd: number } })._handle.fd;
}

async function outputOfPeercred(socket: number, commands: string, options: string[]) {
  const stdio: StdioOptions = ["pipe", "pipe", "pipe", socket];
  const child = spawn(PEERCRED, ["--inherited", ...options], { stdio, env: {} });
  child.stdin?.on("error", () => {}).end(commands);
  const ended = new Promise<string>((resolve) => {
    child.on("error", (error) => resolve(error.message));
    child.on("close", (code, signal) => resolve(String(signal ?? code)));
  });
  const streams = [child.stdout, child.stderr].map((stream) => (stream ? text(stream) : ""));
  const [said = "", complaint = ""] = await Promise.all(streams);
  const end = await ended;
  return said.trim() || complaint.trim() || end;
}
