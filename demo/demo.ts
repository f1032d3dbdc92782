// npm run demo: a container that holds no secret starts with its secrets. Everything is real: the
// Vault (OpenBao), the server, the image, the containers; and each claim is checked as it is made.
//
//   story.ts  what is shown, in order      stage.ts   what it plays on, and its cleaning up
//   tell.ts   how it is printed            search.ts  whether bytes hold a secret
//
// Exit code: 0 if every check held, 1 if not, 128+n after signal n.
import { constants } from "node:os";
import { setImmediate } from "node:timers/promises";
import { Stage } from "./stage.ts";
import { tell } from "./story.ts";
import { complain, fallSilent, say, title, told } from "./tell.ts";

async function main(): Promise<number> {
  if (process.getuid?.() !== 0) {
    complain("needs root, as the server does: it looks at the processes of others (try: sudo)");
    return 1;
  }
  const stage = new Stage();
  const interrupted = Promise.withResolvers<never>();
  let signal: NodeJS.Signals | undefined;
  for (const name of ["SIGHUP", "SIGINT", "SIGTERM"] as const) {
    process.on(name, () => {
      if (!signal) complain(`${name}: cleaning up`);
      signal ??= name;
      interrupted.reject(new Error(name));
    });
  }
  process.stdout.on("error", interrupted.reject); // its reader has gone
  let failure: unknown;
  try {
    await Promise.race([tell(stage), interrupted.promise]);
  } catch (error) {
    failure = error;
  }
  if (failure) fallSilent();
  await setImmediate(); // Ctrl-C may have ended a command of ours before it was told to us
  await stage.close();
  if (signal) return 128 + constants.signals[signal];
  if (!failure) return 0;
  complain(failure instanceof Error ? failure.message : String(failure));
  return 1;
}

const startedMs = performance.now();
const exitCode = await main();
if (exitCode === 0) {
  const { steps, checks } = told();
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
  title(`Shown: ${steps} things in ${checks} checks, and all held.`);
  say(
    `It took ${seconds} s. All is gone again but two images, kept as a cache: they hold no secret.`,
  );
  say("Read next: README.md to protect a container of yours, SECURITY.md for what this is not.");
}
process.exit(exitCode);
