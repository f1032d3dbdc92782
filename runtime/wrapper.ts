// Question: what has to change in a container's configuration so that the client runs before the
// container's command?
// Usage:    node wrapper.mjs BUNDLE CLIENT SOCKETS, as authproxy-runc calls it. BUNDLE is the
//           directory that the engine made; CLIENT and SOCKETS are the client directory and the
//           directory of the server's socket, both on this host.
// Input:    BUNDLE/config.json (OCI runtime specification 1.0). The image, and whoever started the
//           container, chose the environment, the command and the mounts in it; the engine wrote it.
// Promise:  if no variable is a reference, the file is not touched. Otherwise `process.args`,
//           `process.env` and `mounts` are changed as below, and everything else keeps its meaning:
//           user, capabilities, limits, seccomp, a read-only root. The file is replaced as a whole.
//           On an error the reason is written to standard error, the exit status is 1, and the
//           container does not start.
import { release } from "node:os";
import { join, resolve } from "node:path";
import { actsOnClient } from "../client/dangerous-variables.ts";
import { mayAskForSecrets } from "../client/environment.ts";

// `import "node:fs"` evaluates every lazy export (`promises` too), which adds 3 ms to the start of a
// container.
const {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  statSync,
  writeFileSync,
} = process.getBuiltinModule("node:fs");

type Mount = { destination: string; type?: string; source?: string; options?: string[] };

/** The members of config.json that are read here. */
export type Spec = {
  root?: { path: string };
  process: { args?: string[]; env?: string[]; user?: { uid?: number; gid?: number } };
  mounts?: Mount[];
  linux?: {
    namespaces?: { type: string; path?: string }[];
    resources?: { memory?: { limit?: number } };
  };
};

/**
 * Where the client directory is mounted in the container. It has a name of its own in the root
 * directory: it hides nothing of an honest image, and whoever writes to a volume cannot move it away.
 */
const CLIENT = "/.authproxy";
const SOCKETS = "/run/authproxy";
const SECRETS = "/run/authproxy-secrets";
const OURS = [CLIENT, SOCKETS, SECRETS];
/** The client was measured to use 15 MB beside its program, which the wrapper has read already. */
const MEMORY_BYTES_MIN = 16 * 2 ** 20;
/** As the kernel does (path_resolution(7)). */
const LINKS_MAX = 40;

const CLIENT_COMMAND = [
  `${CLIENT}/ld.so`,
  "--inhibit-cache",
  "--library-path",
  CLIENT,
  `${CLIENT}/node`,
  // On SIGUSR1 Node opens its inspector: at this address nobody can reach it (client/inspector.ts).
  // --disable-sigusr1 would leave the signal blocked in an application that may need it.
  "--inspect-port=255.255.255.255:1024",
  `${CLIENT}/authproxy.js`,
  "--",
];

/** Says whether the client would look up any variable of the container, or fail on it. */
export function asksForSecrets(spec: Spec): boolean {
  return mayAskForSecrets(spec.process.env ?? []);
}

/**
 * Returns the configuration with the client in front of the command. `clientDirectory` and
 * `socketDirectory` are paths on this host. Throws if the client could not run in this container.
 */
export function wrap(spec: Spec, clientDirectory: string, socketDirectory: string): Spec {
  const command = spec.process.args ?? [];
  if (command.length === 0) throw new Error("the container has no command");
  return {
    ...spec,
    process: {
      ...spec.process,
      args: [...CLIENT_COMMAND, ...command],
      env: environmentForClient(spec.process.env ?? []),
    },
    // Ours come last, so that they cover whatever the container mounts.
    mounts: [...(spec.mounts ?? []), ...clientMounts(spec, clientDirectory, socketDirectory)],
  };
}

/**
 * Renames each variable that would act on the client; the client gives it back to the application. Where
 * the container has that AUTHPROXY_SET_ variable itself, its own counts. Of two entries of a name the last
 * is kept, as runc does; crun would keep both.
 */
function environmentForClient(environment: string[]): string[] {
  const byName = new Map(environment.map((entry) => [entry.replace(/=.*/s, ""), entry]));
  return [...byName].flatMap(([name, entry]) => {
    if (!actsOnClient(name)) return [entry];
    return byName.has(`AUTHPROXY_SET_${name}`) ? [] : [`AUTHPROXY_SET_${entry}`];
  });
}

function clientMounts(spec: Spec, clientDirectory: string, socketDirectory: string): Mount[] {
  const { uid = 0, gid = 0 } = spec.process.user ?? {};
  const readOnly = "bind,rprivate,ro,nosuid,nodev".split(",");
  const inMemory = `nosuid,nodev,noexec,size=4m,mode=0711,uid=${uid},gid=${gid}`.split(",");
  if (canForbidSwap(spec)) inMemory.push("noswap");
  return [
    { destination: SECRETS, type: "tmpfs", source: "tmpfs", options: inMemory },
    {
      destination: SOCKETS,
      type: "bind",
      source: socketDirectory,
      options: [...readOnly, "noexec"],
    },
    { destination: CLIENT, type: "bind", source: clientDirectory, options: readOnly },
  ];
}

/**
 * Throws if one of the container's own mounts will be at, below or above one of ours. A tmpfs above is
 * fine, because only this container writes to it. Anything else above is not: others may write to
 * it, and whoever removes a directory there also removes what is mounted on it (unlink(2), since
 * Linux 3.18). `root` is the image's root directory on this host.
 */
function refuseMountsInTheWay(mounts: Mount[], root: string): void {
  let hostPath: HostPath = (path) => join(root, path);
  for (const { destination, type, source = "none" } of mounts) {
    const outside = hostPath;
    const path = join(resolveInContainer(destination, outside), "/");
    for (const ours of OURS) {
      const isAtOrBelow = path.startsWith(`${ours}/`);
      const isAbove = ours.startsWith(path);
      if (isAtOrBelow || (isAbove && type !== "tmpfs")) {
        throw new Error(`the container's own mount at ${destination} is in the way of ${ours}`);
      }
    }
    hostPath = (inside) =>
      inside.startsWith(path) ? join(source, inside.slice(path.length)) : outside(inside);
  }
}

/** Where a path of the container is on this host. In a tmpfs there is nothing yet, and no such path. */
type HostPath = (path: string) => string;

/**
 * Returns where a mount at this destination will be. runc follows the links on the way, those of the
 * image and those in what was mounted before, and takes the container's root for their "/". It makes
 * the directories that do not exist.
 */
function resolveInContainer(destination: string, hostPath: HostPath): string {
  const names = destination.split("/");
  let path = "/";
  let links = 0;
  while (names.length > 0) {
    const next = join(path, names.shift() ?? "");
    const target = readLink(hostPath(next));
    if (target === undefined) {
      path = next;
    } else {
      if (++links > LINKS_MAX) throw new Error(`the links at ${destination} have no end`);
      if (target.startsWith("/")) path = "/";
      names.unshift(...target.split("/"));
    }
  }
  return path;
}

/** Returns what the link at this path holds, or undefined if there is none. */
function readLink(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    // EINVAL: something else is there. ENOENT, ENOTDIR: nothing is.
    return undefined;
  }
}

/** The option `noswap` of tmpfs(5) exists since Linux 6.4, and not in a user namespace. */
function canForbidSwap({ linux }: Spec): boolean {
  if (linux?.namespaces?.some(({ type }) => type === "user")) return false;
  const [major = 0, minor = 0] = release().split(".").map(Number);
  return major * 1000 + minor >= 6004;
}

function rewriteConfiguration(bundle: string, clientPath: string, socketPath: string): void {
  const path = join(bundle, "config.json");
  const file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  const { mode } = fstatSync(file);
  const spec: Spec = JSON.parse(readFileSync(file, "utf8"), keepNumberAsWritten);
  closeSync(file);
  if (!asksForSecrets(spec)) return;
  refuseRootlessEngine();
  requireMemory(spec);
  const wrapped = wrap(spec, realpathSync(clientPath), requireDirectory(socketPath));
  const root = resolve(bundle, spec.root?.path ?? "rootfs");
  refuseLinksInImage(root);
  refuseMountsInTheWay(spec.mounts ?? [], root);
  // Overwrite what an interrupted start has left: Podman keeps the bundle, which only root can write.
  const unfinished = `${path}.authproxy`;
  writeFileSync(unfinished, JSON.stringify(wrapped), { mode });
  renameSync(unfinished, path);
}

/**
 * A reviver for JSON.parse. Limits go up to 2^64 - 1, which a number of JavaScript cannot hold: such
 * a number keeps its text.
 */
function keepNumberAsWritten(_key: string, value: unknown, context?: { source?: string }): unknown {
  if (typeof value !== "number" || Number.isSafeInteger(value)) return value;
  // The type of JSON in TypeScript's es2024 lacks this function.
  const { rawJSON } = JSON as unknown as { rawJSON: (text: string) => unknown };
  return rawJSON(context?.source ?? "");
}

/**
 * With less the client is certain to be killed, or the host reads its program from the disk again and
 * again. The limit is a number, or what keepNumberAsWritten() returns.
 */
function requireMemory({ linux }: Spec): void {
  const limitBytes = linux?.resources?.memory?.limit;
  if (typeof limitBytes === "number" && limitBytes > 0 && limitBytes < MEMORY_BYTES_MIN) {
    throw new Error(`the container's memory limit is too low for the client: give it 64 MB`);
  }
}

/** Only in the initial user namespace does each id map to itself (user_namespaces(7)). */
function refuseRootlessEngine(): void {
  if (!/^\s*0\s+0\s+4294967295\s*$/.test(readFileSync("/proc/self/uid_map", "utf8"))) {
    throw new Error(
      "the engine is rootless: its containers cannot be told apart, and get no secrets",
    );
  }
}

/**
 * Throws if the image has anything but a directory where a mount of ours will be. runc looks for the
 * place inside the container but follows the image's links, and mounts a tmpfs even into /proc. No
 * process of the container runs yet, so nothing can change after this check.
 */
function refuseLinksInImage(root: string): void {
  for (const place of ["/run", ...OURS]) {
    const found = lstatSync(join(root, place), { throwIfNoEntry: false });
    if (found?.isDirectory() === false) throw new Error(`the image's ${place} is not a directory`);
  }
}

/** Returns the real path of a directory on this host. */
function requireDirectory(path: string): string {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) return realpathSync(path);
  throw new Error(`on this host there is no directory ${path}: is the authproxy server running?`);
}

if (import.meta.main) {
  const [bundle = "", clientDirectory = "", socketDirectory = ""] = process.argv.slice(2);
  try {
    rewriteConfiguration(bundle, clientDirectory, socketDirectory);
  } catch (error) {
    // JSON.parse's message quotes the text: a variable in it may be a secret.
    process.stderr.write(
      error instanceof SyntaxError ? "config.json is not JSON" : (error as Error).message,
    );
    process.exitCode = 1;
  }
}
