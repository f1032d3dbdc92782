// Question: does the command `authproxy` work on this engine, and the runtime?
// Input:    the configuration of a server that runs, and has decided about a container of its service
//           and one of none; how this engine's containers are started by the runtime.
// Output:   an error where a command does not say what is right; a container that the runtime started.
// Promise:  only Node's own modules: it also runs in a guest, which has no others.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { join } from "node:path";
import type { JsonObject } from "../../server/json.ts";
import type { Api } from "./api.ts";

const program = join(import.meta.dirname, "../../cli/authproxy.ts");
const REFERENCE = "vault:secret/data/app#password";
const VARIABLES = [`PASSWORD=${REFERENCE}`, `KEY_FILE=${REFERENCE}`];
const USER = "1001:1001";
const TELL = ["/app/tell", "PASSWORD", "KEY_FILE"];

/** How the runtime is named: to Docker by `authproxy runtime install`, to Podman by an option. */
export type Runtime =
  | { daemonJson: string }
  | { podman: string[]; program: string; options?: string[] };

type Ran = { status: number; stdout: string; stderr: string };

/** The command of this repository: what it printed, and how it ended. */
export async function authproxy(...words: string[]): Promise<Ran> {
  return await run(process.execPath, [program, ...words]);
}

async function run(file: string, words: string[]): Promise<Ran> {
  const { promise, resolve } = Promise.withResolvers<Ran>();
  execFile(file, words, (error, stdout, stderr) => {
    resolve({ status: error ? Number(error.code) : 0, stdout, stderr });
  });
  return await promise;
}

/** `explain`, `suggest`, `check --running`. `service` and `stranger` are ids of containers that run. */
export async function askAbout(
  configuration: string,
  { service, stranger, match }: { service: string; stranger: string; match: JsonObject },
): Promise<void> {
  const ask = async (status: number, ...words: string[]) => {
    const ran = await authproxy(...words, "--config", configuration, "--json");
    assert.deepEqual({ ...ran, stdout: "" }, { status, stdout: "", stderr: "" }, words.join(" "));
    return JSON.parse(ran.stdout);
  };
  assert.partialDeepStrictEqual(await ask(0, "explain", service), {
    answer: "granted",
    service: "app",
  });
  assert.partialDeepStrictEqual(await ask(77, "explain", stranger), {
    answer: "refused",
    reason: "no-match",
  });
  const [suggested] = Object.values((await ask(0, "suggest", service)).services);
  assert.partialDeepStrictEqual(suggested, { match });
  const { running, refused } = await ask(0, "check", "--running");
  const servicesOf = (id: string) => running.find((each: JsonObject) => each.id === id)?.services;
  assert.deepEqual([servicesOf(service), servicesOf(stranger), refused], [["app"], [], []]);
}

/** Starts a container whose image nobody changed, and which asks for its secret by variables: its id.
 * `sockets` is the directory of the server's socket. */
export async function startByRuntime(
  runtime: Runtime,
  api: Api,
  sockets: string,
  image: string,
): Promise<string> {
  if ("podman" in runtime) {
    const [podman = "", ...words] = runtime.podman;
    words.push("--runtime", runtime.program, "--runtime-flag", `sockets=${sockets}`);
    words.push("run", "--detach", "--read-only", "--network", "host", "--user", USER);
    words.push("--log-driver", "k8s-file", "--label", "app=app");
    words.push(...VARIABLES.flatMap((variable) => ["--env", variable]));
    words.push(...(runtime.options ?? []), image, ...TELL);
    const { status, stdout, stderr } = await run(podman, words);
    assert.equal(status, 0, stderr);
    return stdout.trim();
  }
  const words = ["--daemon-json", runtime.daemonJson];
  const installed = await authproxy("runtime", "install", ...words, "--sockets", sockets);
  assert.partialDeepStrictEqual(installed, { status: 0, stderr: "" });
  assert.match(installed.stdout, /has been told, and follows/);
  const { Id } = await api.run({
    Image: image,
    Cmd: TELL,
    Env: VARIABLES,
    Labels: { app: "app" },
    User: USER,
    HostConfig: { ReadonlyRootfs: true, NetworkMode: "host", Runtime: "authproxy" },
  });
  assert.partialDeepStrictEqual(await authproxy("runtime", "uninstall", ...words), { status: 0 });
  assert.equal((await api.about()).Runtimes?.authproxy, undefined);
  return Id;
}
