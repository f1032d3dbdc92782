// Question: what has to change in a container's configuration, so that the client runs before its
// command?
// Usage:    node wrapper.mjs BUNDLE CLIENT SOCKETS, by authproxy-runc: the bundle that the engine
//           made, and on this host the client directory and the directory of the server's socket.
// Input:    BUNDLE/config.json (OCI runtime specification 1.0). The image and who started the
//           container chose its environment, command and mounts; the engine wrote the file.
// Promise:  without a reference in the environment the file is not touched. Else `process.args`,
//           `process.env` and `mounts` get what is below, and all else means what it did: user,
//           capabilities, limits, seccomp, a read-only root. It is replaced whole, or an error is
//           one line on standard error, exit 1, and the container does not start.
import { release } from "node:os";
import { join, resolve } from "node:path";

// An import would ask it for each of its exports, `promises` too: 3 ms of a container's start.
const {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  statSync,
  writeFileSync,
} = process.getBuiltinModule("node:fs");

type Mount = { destination: string; type?: string; source?: string; options?: string[] };
export type Spec = {
  root?: { path: string };
  process: { args?: string[]; env?: string[]; user?: { uid?: number; gid?: number } };
  mounts?: Mount[];
  linux?: { namespaces?: { type: string; path?: string }[] };
};

/** In the container. A name of its own in the root: no file of an image is covered, and who writes
 * to a volume cannot move it away. */
const CLIENT = "/.authproxy";
const SOCKETS = "/run/authproxy";
const SECRETS = "/run/authproxy-secrets";

/** As the client's parser has it: the whole value, or within a text. */
const REFERENCE = /^[^=]*=(>>)?vault:|\$\{(>>)?vault:/;

/** What would act on the client's loader, Node or resolver. */
const SET_ASIDE =
  /^(LD|NODE|GLIBC|MALLOC|OPENSSL|SSL|UV)_|^(GCONV_PATH|LOCPATH|HOSTALIASES|LOCALDOMAIN|RES_\w+)=/;

const NODE = [
  ...[`${CLIENT}/ld.so`, "--inhibit-cache", "--library-path", CLIENT, `${CLIENT}/node`],
  // Not --disable-sigusr1, which leaves the signal blocked: nobody has asked this application.
  ...["--inspect-port=255.255.255.255:1024", `${CLIENT}/authproxy.js`, "--"],
];

export function asks({ process }: Spec): boolean {
  return process.env?.some((text) => REFERENCE.test(text)) ?? false;
}

export function wrap(spec: Spec, client: string, sockets: string): Spec {
  const { args = [], env = [], user = {} } = spec.process;
  if (args.length === 0) throw new Error("the container has no command");
  const mounts = spec.mounts ?? [];
  const places = [CLIENT, SOCKETS, SECRETS];
  for (const { destination, type } of mounts) {
    // By a link that nearly every image has, /var/run is /run.
    const path = join("/", destination, "/").replace(/^\/var\/run\//, "/run/");
    // Over a parent a memory of the container's own will do; what others write to will not: who
    // removes a directory there takes away what is mounted on it (unlink(2) since Linux 3.18).
    const isOver = (place: string) => type !== "tmpfs" && place.startsWith(path);
    const place = places.find((each) => path.startsWith(`${each}/`) || isOver(each));
    if (place)
      throw new Error(`the container's own mount at ${destination} is in the way of ${place}`);
  }
  const readOnly = ["bind", "rprivate", "ro", "nosuid", "nodev"];
  const tmpfs = ["nosuid", "nodev", "noexec", "size=4m", "mode=0711", ...neverSwapped(spec)];
  tmpfs.push(`uid=${user.uid ?? 0}`, `gid=${user.gid ?? 0}`);
  return {
    ...spec,
    process: {
      ...spec.process,
      args: [...NODE, ...args],
      env: [
        ...env.filter((text) => !SET_ASIDE.test(text)),
        // After one that was given so: the first of a name is the one that counts.
        ...env.filter((text) => SET_ASIDE.test(text)).map((text) => `AUTHPROXY_SET_${text}`),
      ],
    },
    // The last of all: what the container brings lies under them.
    mounts: [
      ...mounts,
      { destination: SECRETS, type: "tmpfs", source: "tmpfs", options: tmpfs },
      { destination: SOCKETS, type: "bind", source: sockets, options: [...readOnly, "noexec"] },
      { destination: CLIENT, type: "bind", source: client, options: readOnly },
    ],
  };
}

/** tmpfs(5): since Linux 6.4, and not in a user namespace. */
function neverSwapped({ linux }: Spec): string[] {
  const mapsUsers = linux?.namespaces?.some(({ type }) => type === "user");
  const [major = 0, minor = 0] = release().split(".").map(Number.parseFloat);
  return !mapsUsers && (major > 6 || (major === 6 && minor >= 4)) ? ["noswap"] : [];
}

function main([bundle = "", client = "", sockets = ""]: string[]): void {
  const path = join(bundle, "config.json");
  const file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  const { mode } = fstatSync(file);
  const spec: Spec = JSON.parse(readFileSync(file, "utf8"), exactly);
  closeSync(file);
  if (!asks(spec)) return;
  refuseRootless();
  const wrapped = wrap(spec, realpathSync(client), directory(sockets));
  refuseLinks(resolve(bundle, spec.root?.path ?? "rootfs"));
  // Over what a start that was cut off has left: Podman keeps the directory, which is root's alone.
  writeFileSync(`${path}.authproxy`, JSON.stringify(wrapped), { mode });
  renameSync(`${path}.authproxy`, path);
}

/** Limits are up to 2^64 - 1, which is no number of JavaScript's: such stay the text they are. */
function exactly(_: string, value: unknown, { source }: { source?: string } = {}): unknown {
  const { rawJSON } = JSON as unknown as { rawJSON: (text: string) => unknown };
  return typeof value === "number" && !Number.isSafeInteger(value) ? rawJSON(source ?? "") : value;
}

/** In the first user namespace all ids are what they are (user_namespaces(7)). */
function refuseRootless(): void {
  const map = readFileSync("/proc/self/uid_map", "utf8").trim().split(/\s+/);
  if (map.join() !== "0,0,4294967295")
    throw new Error("a rootless engine: its containers cannot be told apart, and get no secrets");
}

/** runc looks for a mount's place within the container, but follows the image's links, and puts a
 * tmpfs even into /proc. Nothing runs in there yet that could change them. */
function refuseLinks(root: string): void {
  for (const place of ["/run", CLIENT, SOCKETS, SECRETS]) {
    const found = lstatSync(join(root, place), { throwIfNoEntry: false });
    if (found && !found.isDirectory()) throw new Error(`the image's ${place} is no directory`);
  }
}

function directory(path: string): string {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) return realpathSync(path);
  throw new Error(`no directory ${path} on this host: does the authproxy server run?`);
}

if (import.meta.main) {
  try {
    main(process.argv.slice(2));
  } catch (error) {
    process.stderr.write((error as Error).message);
    process.exitCode = 1;
  }
}
