// Question: can pods and containers have the runtime `authproxy`, and is it as it was installed?
// Input: what the engine says of its runtimes, and their files.
import { existsSync, readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { EngineApi } from "../../server/engine.ts";
import type { JsonObject } from "../../server/json.ts";
import { RUNTIME_NAME, type Runtime } from "../daemon-json.ts";
import { KubernetesNode } from "../kubernetes-node.ts";
import { wordsOfLauncher } from "../node-runtime.ts";
import { requireTrusted } from "../runtime.ts";
import { enumerate } from "../words.ts";
import { type Finding, failed, ok, warning } from "./finding.ts";

/** Where clients look for the server, and where the runtime puts it. */
export const SOCKETS_INSIDE = "/run/authproxy";

/** The runtime is for images that nobody changed; a host without them needs none. */
export async function checkRuntime(directory: string, engine: string): Promise<Finding[]> {
  const { value } = await new EngineApi(engine).get("/info");
  const runtimes = (value.Runtimes ?? {}) as Record<string, Runtime & JsonObject>;
  const registered = runtimes[RUNTIME_NAME];
  if (!registered) return [ok("runtime", "not registered: images bring the client themselves")];

  const { path, runtimeArgs = [] } = registered;
  const findings = checkFilesOfRuntime(path);
  findings.push(...checkSockets(runtimeArgs, directory));
  return findings.length > 0 ? findings : [ok("runtime", `${path}, root's alone`)];
}

function checkSockets(words: string[], directory: string): Finding[] {
  const option = words.find((word) => word.startsWith("--sockets="));
  const sockets = option?.slice("--sockets=".length) ?? SOCKETS_INSIDE;
  if (sockets === directory) return [];
  const detail = `it gives containers ${sockets}, and the server's socket is in ${directory}`;
  const advice = `authproxy runtime uninstall; authproxy runtime install --sockets ${directory}`;
  return [failed("runtime", detail, advice)];
}

/** The handler that a RuntimeClass names. A node whose images bring the client needs none. */
export async function checkHandler(directory: string, socket: string): Promise<Finding[]> {
  const { handlers } = await new KubernetesNode(socket).status();
  if (!handlers)
    return [ok("runtime", "this engine does not say which handlers it has: start a pod with it")];
  const handler = handlers.find(({ name }) => name === RUNTIME_NAME);
  if (!handler) {
    return [
      ok("runtime", `no handler ${RUNTIME_NAME} here: images bring the client and its mounts`),
    ];
  }
  const { program } = handler;
  if (!program) return [ok("runtime", `the handler ${RUNTIME_NAME} is here`)];
  requireTrusted(program);
  const [runtime = program, ...words] = wordsOfLauncher(readFileSync(program, "utf8"));
  const findings = [...checkFilesOfRuntime(runtime), ...checkSockets(words, directory)];
  const isFine = findings.length === 0;
  return isFine ? [ok("runtime", `the handler is ${program}, root's alone`)] : findings;
}

/** What is wrong with the files of the runtime at this path, and the client directory beside it. Throws
 * where they are not root's alone. */
function checkFilesOfRuntime(path: string): Finding[] {
  const loader = join(dirname(path), "../authproxy/ld.so");
  for (const file of [path, loader]) requireTrusted(file);
  const findings: Finding[] = [];
  const program = join(dirname(loader), "node");
  const lacking = [program, join(dirname(loader), "authproxy.js")].filter(
    (file) => !existsSync(file),
  );
  if (lacking.length > 0)
    findings.push(failed("runtime", `${enumerate(lacking)}: not there`, "install it again"));
  const { mode } = statSync(loader);
  if (mode & 0o044) {
    const advice = `its users could trace the client and take the token: chmod 0711 ${loader}`;
    findings.push(warning("runtime", `${loader} can be read by all`, advice));
  }
  return findings;
}
