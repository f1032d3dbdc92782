// authproxy, the client: it gets this container's Vault token from the host's authproxy server, fetches
// the secrets that the environment refers to, and becomes the command. A Node application may also
// import it (public.ts).
//
// This file is the entry of the bundle dist/authproxy.js, which is CommonJS: hence `require.main`.
//
// Exit codes of its own:
//   64 usage              66 no such secret or key    69 Vault unavailable or not trusted
//   70 a defect in here   75 no server in time        76 ALARM: a wrapped token was opened or replaced
//   77 refused            78 bad reference or configuration
//   126 command not executable   127 command not found   128+n ended by signal n while waiting

import { start } from "./main.ts";

export { getSecrets, getToken } from "./module.ts";

if (require.main === module) start();
