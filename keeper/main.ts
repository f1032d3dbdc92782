// keeper: holds the server's Vault token, mints a token for each service, and keeps each one as
// long as its process lives (invariant 7).
//
// Input: orders of the server that has started us (trusted), Vault's answers, and the files that an
// earlier run has left. Nothing of a container comes here but its id, image digest and uid.
// Life: the server's. After a crash the next run takes up what is on file.
//
//   the server tells us                          we tell the server
//   start DIRECTORY vault                        ready   what an earlier run left is taken up
//   mint NAME lease, source                      minted NAME token, ttl … | failure
//   sent NAME    its process has the token       note EVENT fields      for the audit stream
//   end NAME     it never got it, or has ended   watch PID              its end is to be told
//   watching PID (held from now on), exited PID
import { EventEmitter, once } from "node:events";
import { readFileSync } from "node:fs";
import { startTicks } from "../server/process.ts";
import { Refusal } from "../server/refusal.ts";
import type { Lease, Message, TokenSource, VaultConfig } from "../types.ts";
import { forget, free, readLeases, save } from "./leases.ts";
import { connectVault } from "./vault.ts";

const heard = new EventEmitter().setMaxListeners(0);
const ignore = () => {}; // the server has ended, and so do we
const tell = (verb: string, name: string, fields = {}) =>
  process.send?.({ verb, name, fields }, undefined, undefined, ignore);
const note = (event: string, fields: object) => tell("note", event, fields);

function isRunning(pid: number, ticks: number): boolean {
  try {
    return startTicks(readFileSync(`/proc/${pid}/stat`, "utf8")) === ticks;
  } catch {
    return false; // ENOENT, or ESRCH when it ends while it is read
  }
}

/** Resolves when no process has this pid and start any more. */
async function gone(pid: number, ticks: number): Promise<void> {
  const exited = once(heard, `exited ${pid}`);
  tell("watch", `${pid}`);
  await once(heard, `watching ${pid}`);
  if (isRunning(pid, ticks)) await exited;
}

function serve(directory: string, place: VaultConfig): void {
  const vault = connectVault(place, note);
  const kept = new Map<string, { lease: Lease; exit: AbortController }>(); // by the lease's name

  async function mint(name: string, lease: Lease, source: TokenSource): Promise<void> {
    const exit = new AbortController();
    kept.set(name, { lease, exit });
    try {
      const token = await vault.mint(source, lease);
      save(directory, lease); // from here on a crash does not lose it
      tell("minted", name, { ...lease, token });
    } catch (error) {
      const { message: reason, cause } = error as Error;
      tell("minted", name, { failure: { reason, cause, refused: error instanceof Refusal } });
    }
    await keep(lease, exit.signal);
  }

  /** Tends a token to its end; that its start has had one is known until the first process ends. */
  async function keep(lease: Lease, exit: AbortSignal, secondsLeft = lease.ttl): Promise<void> {
    if (lease.accessor) await vault.tend(lease, exit, secondsLeft);
    else if (!exit.aborted) await once(exit, "abort");
    if (lease.sent) await gone(lease.start.pid, lease.start.ticks);
    forget(directory, lease);
  }

  async function takeUp(lease: Lease): Promise<void> {
    const exit = new AbortController();
    if (lease.sent) void gone(lease.pid, lease.ticks).then(() => exit.abort());
    else exit.abort();
    // Soon, not all at once, and some of them also where each run ends early.
    await keep(lease, exit.signal, ((lease.ttl ?? 0) / 10) * Math.random());
  }

  heard.on("mint", (name, { lease, source }) => mint(name, lease, source));
  heard.on("end", (name) => {
    const { lease, exit } = kept.get(name) ?? {};
    kept.delete(name); // "end" may come twice
    if (lease && !lease.sent) free(directory, lease);
    exit?.abort();
  });
  heard.on("sent", (name) => {
    const { lease } = kept.get(name) ?? {};
    if (lease) save(directory, Object.assign(lease, { sent: true }));
  });
  const left = readLeases(directory);
  for (const { trouble, ...lease } of left) {
    if (trouble) note("set-aside", { file: lease.name, detail: trouble });
    if (!lease.sent) free(directory, lease); // perhaps nobody has its token: it is revoked first
    vault.whenLoggedIn.then(() => takeUp(lease));
  }
  tell("ready", "");
  void vault.stayLoggedIn();
}

heard.once("start", serve);
process.on("message", ({ verb, name, fields }: Message) => {
  heard.emit(verb, name, fields);
  heard.emit(`${verb} ${name}`);
});
process.on("disconnect", () => process.exit());
process.on("uncaughtException", ({ message }) => {
  process.stderr.write(`authproxy: error: keeper: ${message}\n`);
  process.exit(1);
});
