// Question: what does `authproxy runtime` do on a Kubernetes node? Input: the words. Output: lines.
import { containerd } from "./containerd.ts";
import { crio } from "./crio.ts";
import { installHandler, RUNTIME_CLASS, uninstallHandler } from "./node-runtime.ts";
import { HELP_HINT, type Options } from "./options.ts";
import { Failure, print } from "./terminal.ts";

/** Returns the exit code. */
export async function changeHandler(action: string | undefined, options: Options): Promise<number> {
  if (action === "runtimeclass") {
    print([RUNTIME_CLASS]);
    return 0;
  }
  if (options["daemon-json"] || (options.containerd && options.crio)) {
    const message = "--containerd, --crio and --daemon-json are of different engines";
    throw new Failure("usage", message, HELP_HINT);
  }
  const engine = options.crio ? crio : containerd;
  const { config, sockets, restart, yes: isConfirmed, "dry-run": isDryRun } = options;
  const address = options.address?.at(-1)?.replace(/^unix:\/\//, "");
  const settings = { config, address, sockets, restart, isConfirmed, isDryRun };
  if (action === "install") print(await installHandler(engine, settings));
  else if (action === "uninstall") print(await uninstallHandler(engine, settings));
  else throw new Failure("usage", "runtime needs install, uninstall or runtimeclass", HELP_HINT);
  return 0;
}
