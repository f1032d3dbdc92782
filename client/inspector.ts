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
// Variables that load code into this process, or write what it holds to a file or a log, are refused:
// most are meant for the application, and AUTHPROXY_SET_… gives them to it alone. It is no defence
// against who set them to do harm, as that code runs before the first line of this program: who sets
// the environment of a container is trusted with it, or held to it by `Config.Env` in the server's
// policy. NODE_EXTRA_CA_CERTS and NODE_TLS_REJECT_UNAUTHORIZED change nothing here: see connection.ts.

import { readFileSync } from "node:fs";
import { fail } from "./failure.ts";

const FLAG = "--disable-sigusr1";
const UNREACHABLE = "--inspect-port=255.255.255.255:1024";

const INTRUDERS = ["LD_PRELOAD", "LD_AUDIT", "OPENSSL_CONF", "NODE_DEBUG", "NODE_V8_COVERAGE"];
/** Of NODE_OPTIONS: an inspector is looked for below. */
const INTRUDING =
  /(^|[\s"])(-r|--(require|import|(experimental-)?loader|openssl-config|env-file|experimental-config|trace-tls|tls-keylog|heap|cpu-prof|prof|report|redirect-warnings|abort-on))/;

export function requirePrivate(): void {
  const { NODE_OPTIONS = "" } = process.env;
  const isIntruding = NODE_OPTIONS && INTRUDING.test(NODE_OPTIONS);
  const intruder = isIntruding ? "NODE_OPTIONS" : INTRUDERS.find((name) => process.env[name]);
  if (intruder) {
    fail(
      "config",
      `${intruder} would act on this client, while it holds the token`,
      `for the application alone: AUTHPROXY_SET_${intruder}=… in its place`,
    );
  }
  requireNoInspector();
}

function requireNoInspector(): void {
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
