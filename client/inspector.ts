// Question: can anybody look into this process while it holds a secret?
// Input:    the flags that Node was started with, the environment, and what the kernel says of this
//           process. The image, or whoever starts the container, chose the first two.
// Output:   a Failure, before there is a token.
//
// On SIGUSR1 Node opens its inspector: whoever may signal the process, or reach the port, reads its
// memory. A handler in the script comes 20 ms after the process can first be signalled, so Node has to
// be started with one of these:
//
//   --disable-sigusr1                     Node never handles the signal. The application, however,
//                                         inherits SIGUSR1 blocked: Node blocks it early in its start,
//                                         and with this flag never unblocks it.
//   --inspect-port=255.255.255.255:1024   for applications that use SIGUSR1. Nobody can reach what the
//                                         signal opens: TCP neither connects to the broadcast address
//                                         nor answers on it (RFC 1122, 4.2.3.10; Linux: ENETUNREACH).
//
// Variables that act on this process are refused too: most are meant for the application, and
// AUTHPROXY_SET_… hands them to it alone. This is not a defence against whoever set them to do harm,
// as their code runs before the first line of this program. Whoever sets the environment of a container
// is trusted with it, or is held to it by `Config.Env` in the server's policy. NODE_EXTRA_CA_CERTS and
// NODE_TLS_REJECT_UNAUTHORIZED change nothing here: see https.ts.

import { readFileSync } from "node:fs";
import { findRefusedVariable } from "./dangerous-variables.ts";
import { fail } from "./failure.ts";

const NO_SIGUSR1_FLAG = "--disable-sigusr1";
const UNREACHABLE_PORT_FLAG = "--inspect-port=255.255.255.255:1024";

/** Throws a Failure (config) where this process could be looked into. */
export function requirePrivate(): void {
  requireNoDangerousVariable();
  requireNoInspector();
}

function requireNoDangerousVariable(): void {
  const refused = findRefusedVariable(process.env);
  if (!refused) return;
  fail(
    "config",
    `${refused.name} would act on this client while it holds the token: ${refused.reason}`,
    `to hand it to the application alone, set AUTHPROXY_SET_${refused.name}=… in its place`,
  );
}

function requireNoInspector(): void {
  const flags = process.execArgv;
  // Loading node:inspector takes 3 ms. Nothing can have opened it with this one flag alone.
  if (flags.join() === NO_SIGUSR1_FLAG && !process.env.NODE_OPTIONS) return;

  if (process.features.inspector && process.getBuiltinModule("node:inspector").url()) {
    fail("config", "Node's inspector is open", "start node without --inspect");
  }

  const portFlag = flags.findLast((flag) => flag.startsWith("--inspect"));
  if (portFlag === UNREACHABLE_PORT_FLAG) return;
  if (catchesSigusr1()) {
    fail(
      "config",
      "SIGUSR1 would open Node's inspector, and a debugger could read the secrets",
      `ENTRYPOINT ${JSON.stringify([process.execPath, NO_SIGUSR1_FLAG, process.argv[1], "--"])}`,
    );
  }
}

/** Asks the kernel, not the flags: SigCgt in proc_pid_status(5) has one bit a signal, from 1 on. */
function catchesSigusr1(): boolean {
  const status = readFileSync("/proc/self/status", "latin1");
  const lowBits = /^SigCgt:.*([0-9a-f]{8})$/m.exec(status)?.[1] ?? "ffffffff";
  const { SIGUSR1 } = process.getBuiltinModule("node:os").constants.signals;
  return ((Number.parseInt(lowBits, 16) >> (SIGUSR1 - 1)) & 1) === 1;
}
