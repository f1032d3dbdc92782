// authproxy: the client. Gets this container's Vault token from the host's authproxy server, fetches
// the secrets that the environment refers to, and becomes the command.
//
// Exit codes of its own:
//   64 usage              66 no such secret or key    69 Vault unavailable or not trusted
//   70 a defect in here   75 no server in time        76 ALARM: a wrapped token was opened or replaced
//   77 refused            78 bad reference or configuration
//   126 command not executable   127 command not found   128+n ended by signal n while waiting

import { report } from "./failure.ts";
import { main } from "./main.ts";

export { getSecrets, getToken } from "./module.ts";

if (import.meta.main) {
  // As process 1 of a container a signal without a handler is ignored.
  process.on("SIGTERM", () => process.exit(128 + 15));
  process.on("SIGINT", () => process.exit(128 + 2));
  const end = (error: unknown) => process.exit(report(error));
  process.on("uncaughtException", end);
  // Node's own warnings, as on NODE_TLS_REJECT_UNAUTHORIZED, are the application's to print.
  process.removeAllListeners("warning");
  main(process.argv.slice(2)).then(() => process.exit(0), end);
}
