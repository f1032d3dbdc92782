// Question: which token does this service get? Asked of keeper/main.ts, a process of its own that
// holds all that Vault trusts, and keeps each token as long as its process lives. Guaranteed: the
// server's own Vault token, and how it logs in, are never in this process.
import { fork } from "node:child_process";
import { EventEmitter, once } from "node:events";
import type { Config, Lease, Message, Minted, TokenSource } from "../types.ts";
import { Refusal, Unavailable } from "./refusal.ts";

const PROGRAM = `${import.meta.dirname}/../keeper/main.ts`;

/** `heard` emits what the keeper says by its verb, as (name, fields): "note", "watch". `ready`: it
 * has taken up what an earlier run left. Its end is an uncaught exception, and ours. */
export function startKeeper({ vault, state }: Config) {
  // Silent: a child that inherits one of 0 to 2 makes it blocking, for us too (libuv). When nobody
  // reads the audit stream we would wait.
  const child = fork(PROGRAM, { env: {}, detached: true, silent: true });
  child.stderr?.pipe(process.stderr);
  const heard = new EventEmitter().setMaxListeners(0);
  child.on("close", (code, signal) => {
    throw new Error(`${PROGRAM} has ended: ${signal ?? code}`);
  });
  child.on("message", ({ verb, name, fields }: Message) => {
    heard.emit(verb, name, fields);
    heard.emit(`${verb} ${name}`, fields);
  });
  const tell = (verb: string, name: string, fields = {}) => child.send({ verb, name, fields });
  tell("start", state, vault);

  /** Throws what Vault refuses, or that it cannot be had now. */
  async function mint(lease: Lease, source: TokenSource): Promise<Minted> {
    tell("mint", lease.name, { lease, source });
    const [{ failure, ...minted }] = await once(heard, `minted ${lease.name}`);
    if (!failure) return minted;
    throw new (failure.refused ? Refusal : Unavailable)(failure.reason, failure); // its cause too
  }

  return { heard, tell, mint, ready: once(heard, "ready") };
}
