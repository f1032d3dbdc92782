// Question: what does a host see whose SELinux is enforcing, without our module and with it?
// Usage:    selinux-inside.ts FILE, of a SelinuxGuest as JSON.
// Input:    a scene for a server that is installed; /lab/module, what `semodule -i` and the policy's
//           contexts leave on a host (selinux.ts); the guest's first program has loaded Debian's policy.
// Output:   what each part says where the kernel denies it something; who is granted what with the
//           module; what the kernel has denied meanwhile.
// Covers:   the server, peercred, `--check` of a reload, the client in an image, the runtime, `doctor`;
//           denied without the module: the socket's directory to the engine and to a container, the runtime to
//           the engine.
import { execFile, execFileSync } from "node:child_process";
import { once } from "node:events";
import {
  constants,
  cpSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Api } from "./api.ts";
import { type Guest, provide } from "./inside.ts";
import { startRegistry } from "./registry.ts";
import {
  type Actor,
  configure,
  containerOf,
  type Findings,
  play,
  type Scene,
  Server,
} from "./scene.ts";

const SOCKETS = "/run/authproxy";
const PLACES = ["/opt/authproxy", "/etc/authproxy", SOCKETS, "/run/authproxy-state"];
const AUDIT_PAUSE_MS = 1000; // the kernel's audit thread writes a record later
const RECORD_BYTES_MAX = 8192;

/** With images beside the scene's own: layers, and the ports of their registries. */
export type SelinuxGuest = Guest & { images: { layer: string; port: number }[] };

/** The actors that have the client. */
export const CLIENT = "the client in an image";
export const UNCHANGED = "an unchanged image";

type Told = Record<string, string>;
export type SelinuxFindings = {
  /** Without the module: what each actor, the server and doctor said. `relabelled`: the client, where the
   * socket's directory has the type of any other in /run. */
  without: { told: Told; relabelled: string; stderr: string; doctor: string };
  findings: Findings;
  /** Of the server and peercred. */
  domains: string[];
  doctor: string;
  reload: string;
  /** What the kernel has denied with the module. */
  denials: string[];
};

async function playSelinux(scene: Scene): Promise<SelinuxFindings> {
  const log = new DenialLog();
  mkdirSync(SOCKETS, { mode: 0o755 });
  mkdirSync("/run/authproxy-state", { mode: 0o700 });
  const without = await withoutModule(scene);
  installModule();
  await log.next();
  const more: Partial<SelinuxFindings> = {};
  const afterwards = async () => {
    more.domains = ["server/main.js", "dist/peercred"].map(domainOf);
    more.doctor = await doctor();
    more.reload = execFileSync("/usr/bin/sh", [
      "-c",
      '"$0" "$1" --check && echo fine',
      "/opt/authproxy/current/bin/node",
      "/opt/authproxy/current/server/main.js",
    ]).toString();
  };
  const findings = await play({ ...scene, afterwards });
  return { without, findings, denials: await log.next(), ...more } as SelinuxFindings;
}

async function withoutModule(scene: Scene): Promise<SelinuxFindings["without"]> {
  const directory = mkdtempSync(join(tmpdir(), "authproxy-scene-"));
  const server = new Server(configure(scene, directory), true);
  try {
    await server.until((line) => line.event === "ready");
    const told = { [CLIENT]: await tell(CLIENT, scene), [UNCHANGED]: await tell(UNCHANGED, scene) };
    const examined = await doctor();
    execFileSync("/usr/bin/chcon", ["--recursive", "--type=var_run_t", SOCKETS]);
    const relabelled = await tell(CLIENT, scene);
    return { told, relabelled, stderr: server.stderr, doctor: examined };
  } finally {
    await server.end();
  }
}

/** As docs/operate.md has it; but the policy was compiled before, which takes minutes in here. */
function installModule(): void {
  writeFileSync("/sys/fs/selinux/load", readFileSync("/lab/module/policy.bin"));
  const options = { recursive: true, force: true };
  cpSync("/lab/module/files", "/etc/selinux/default/contexts/files", options);
  execFileSync("/usr/sbin/restorecon", ["-R", ...PLACES]);
}

/** What this actor printed, with its exit code; or why it did not start. */
async function tell(name: string, scene: Scene): Promise<string> {
  const actor = scene.actors.find((each) => each.name === name) as Actor;
  const api = new Api(scene.engine);
  const wanted = containerOf(actor, scene.reference, SOCKETS);
  await api.pull(wanted.Image);
  try {
    const { Id } = await api.run(wanted);
    const code = await api.wait(Id);
    const text = await api.output(Id);
    await api.remove(Id);
    return `${code}: ${text}`;
  } catch (error) {
    return (error as Error).message;
  }
}

/** Of the process whose command line has this word. */
function domainOf(word: string): string {
  const pid = readdirSync("/proc").find((name) => {
    try {
      return readFileSync(join("/proc", name, "cmdline"), "utf8").includes(word);
    } catch {
      return false; // no process has this name, or it has ended
    }
  });
  return readFileSync(`/proc/${pid}/attr/current`, "utf8").replace(/\0$/, "");
}

/** By another Node: of the installed one this domain, that of init's scripts, makes authproxy_t. */
async function doctor(): Promise<string> {
  const child = execFile(process.execPath, ["/opt/authproxy/current/cli/authproxy.js", "doctor"]);
  let text = "";
  for (const stream of [child.stdout, child.stderr])
    stream?.on("data", (more: string) => {
      text += more;
    });
  await once(child, "close");
  return text;
}

/** The denials in the kernel's log, where they are when no auditd runs. */
class DenialLog {
  readonly #file = openSync("/dev/kmsg", constants.O_RDONLY | constants.O_NONBLOCK);

  constructor() {
    writeFileSync("/proc/sys/kernel/printk_ratelimit", "0"); // of each there is a record
  }

  /** Those since the last call. */
  async next(): Promise<string[]> {
    await sleep(AUDIT_PAUSE_MS);
    const found: string[] = [];
    const record = Buffer.alloc(RECORD_BYTES_MAX);
    for (;;) {
      try {
        const text = record.toString("utf8", 0, readSync(this.#file, record));
        if (text.includes("avc:  denied")) found.push(text.slice(text.indexOf("avc:")).trim());
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === "EAGAIN") return found;
        throw error;
      }
    }
  }
}

if (import.meta.main) {
  const guest: SelinuxGuest = JSON.parse(readFileSync(process.argv[2] ?? "", "utf8"));
  if (guest.lacks) await provide(guest.lacks);
  for (const { layer, port } of guest.images) await startRegistry(readFileSync(layer), port);
  const results = await playSelinux(guest.scene);
  await new Promise((written) => process.stdout.write(`${JSON.stringify(results)}\n`, written));
  process.exit(0); // the registries and the relay still listen
}
