// Can somebody attach a debugger to this process while it holds a secret? On SIGUSR1 Node opens its
// inspector: whoever may signal the process, or reach the port, reads its memory. A handler in the
// script comes 20 ms after the process could first be signalled, so Node has to be started without:
//
//   --disable-sigusr1                        Node never handles the signal. The application, however,
//                                            inherits SIGUSR1 blocked: Node blocks it early at its
//                                            start and, so told, never unblocks it.
//   --inspect-port=255.255.255.255:1024      for applications that use SIGUSR1: what opens then, no
//                                            one can reach. TCP neither connects to nor answers on the
//                                            broadcast address (RFC 1122, 4.2.3.10; Linux: ENETUNREACH).
//
// Not prevented here, as it acts before the first line of this program: NODE_OPTIONS=--require and
// LD_PRELOAD run code in this process, NODE_OPTIONS=--trace-tls prints what it receives. Who sets the
// environment of a container is trusted with it, or held to it by `Config.Env` in the server's policy.

import { readFileSync } from "node:fs";
import { fail } from "./failure.ts";

const FLAG = "--disable-sigusr1";
const UNREACHABLE = "--inspect-port=255.255.255.255:1024";

export function requireNoInspector(): void {
  const flags = process.execArgv;
  // Loading the inspector's module takes 3 ms: only where something could have opened it.
  if (flags.join() === FLAG && !process.env.NODE_OPTIONS) return;
  if (process.features.inspector && process.getBuiltinModule("node:inspector").url()) {
    fail("config", "Node's inspector is open: start node without --inspect");
  }
  if (flags.findLast((flag) => flag.startsWith("--inspect")) === UNREACHABLE) return;
  if (catchesSigusr1()) {
    fail(
      "config",
      "SIGUSR1 would open Node's inspector, and a debugger could read the secrets",
      `ENTRYPOINT ${JSON.stringify([process.execPath, FLAG, process.argv[1], "--"])}`,
    );
  }
}

/** Asks the kernel, not the flags: SigCgt in proc_pid_status(5), one bit a signal from 1 on. */
function catchesSigusr1(): boolean {
  const status = readFileSync("/proc/self/status", "latin1");
  const low32 = /^SigCgt:.*([0-9a-f]{8})$/m.exec(status)?.[1] ?? "ffffffff";
  const { SIGUSR1 } = process.getBuiltinModule("node:os").constants.signals;
  return ((Number.parseInt(low32, 16) >> (SIGUSR1 - 1)) & 1) === 1;
}
