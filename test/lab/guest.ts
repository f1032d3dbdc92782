// Question: how does a kernel of another version, or with another security module, run here?
// Input:    trees with a kernel, Docker or Podman, and busybox; a tree with qemu; what to play; which
//           security module.
// Output:   the results of inside.ts, or of another program, from a guest whose root file system is
//           these trees.
// Promise:  needs no KVM: a machine that is itself a guest often has one that hangs. The guest
//           writes to a snapshot that qemu drops. One second attempt: an emulated machine may stall.
import { execFile } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import type { Tree } from "../../scripts/debian.ts";
import { insecureRegistry, inTree } from "./engine.ts";
import type { Guest, Results } from "./inside.ts";

const run = promisify(execFile);
const project = join(import.meta.dirname, "../..");
const ATTEMPTS = 2;
const MODULES = ["virtio_pci", "virtio_blk", "virtio_net", "overlay"];
const DISK_SPARE = 64; // MB
/** As dockerd has it: without the plugin for Kubernetes. */
const CONTAINERD = 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n';
const DIRECTORIES = ["proc", "sys", "dev", "run", "tmp", "root", "var/lib", "lab/bin"];
/** In /usr/share: what apparmor_parser goes by. */
const PARSER_NEEDS = "apparmor-features";
const FIRST_INIT = `#!/bin/busybox sh
/bin/busybox mount -t devtmpfs none /dev
for module in /modules/*; do /bin/busybox insmod "$module"; done
/bin/busybox mount -t ext4 -o rw /dev/vda /root
exec /bin/busybox switch_root /root /lab/init
`;

/** The emulator of a processor, and what the kernel calls its two serial lines. */
type Machine = { emulator: string[]; console: string; results: string; deadlineMs: number };
export const X64: Machine = {
  emulator: ["qemu-system-x86_64", "-cpu", "max"],
  console: "ttyS0",
  results: "ttyS1",
  deadlineMs: 400_000, // two cores may have much else to do
};
/** `virt` has no processor of its own. This one has no pointer authentication, which is slow to emulate. */
export const ARM64: Machine = {
  emulator: ["qemu-system-aarch64", "-machine", "virt", "-cpu", "cortex-a57"],
  console: "ttyAMA0",
  results: "ttyAMA1",
  deadlineMs: 540_000, // nothing of it is this machine's own
};

/** By what the kernel has it; "": none. */
const KERNEL_OPTIONS = {
  "": "lsm=",
  apparmor: "lsm=apparmor apparmor=1",
  // Until the guest's first program has loaded the policy nothing can be enforced.
  selinux: "lsm=selinux selinux=1 enforcing=0 log_buf_len=16M",
};

export type Wanted = {
  /** Where two have the same file, the last one's counts. */
  trees: Tree[];
  qemu: Tree;
  /** The lab's image. */
  layer: string;
  /** The certificate of Vault's authority: /lab/vault-ca.pem in the guest. */
  ca: string;
  guest: Guest;
  security?: keyof typeof KERNEL_OPTIONS;
  machine?: Machine;
  /** What plays in the guest, in this folder. */
  program?: string;
  /** More of this machine's files and directories, and where they are in the guest. */
  files?: [from: string, to: string][];
  /** What else is to be done with the root. */
  prepare?: (root: string) => Promise<void>;
};

export async function runGuest<R = Results>(wanted: Wanted): Promise<R> {
  const directory = mkdtempSync(join(tmpdir(), "authproxy-guest-"));
  try {
    await makeRoot(directory, wanted);
    await makeInitramfs(directory);
    await makeDisk(directory, wanted);
    for (let attempt = 1; ; attempt++) {
      try {
        return await boot(directory, wanted);
      } catch (error) {
        if (attempt === ATTEMPTS) throw error;
      }
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** The trees, by hard links, and /lab with the project's files. */
async function makeRoot(
  directory: string,
  { trees, layer, ca, guest, security, files = [], prepare }: Wanted,
): Promise<void> {
  const root = join(directory, "root");
  mkdirSync(root);
  // SELinux's labels belong to inodes: those of the trees stay as they are.
  const options = [
    "--archive",
    "--remove-destination",
    ...(security === "selinux" ? [] : ["--link"]),
  ];
  for (const { path } of trees) await run("cp", [...options, `${path}/.`, root]);
  for (const name of DIRECTORIES) mkdirSync(join(root, name), { recursive: true });
  const lab = join(root, "lab");
  const copy = (name: string) =>
    cpSync(join(project, name), join(lab, "authproxy", name), { recursive: true });
  for (const name of ["server", "dist/peercred", "package.json", "test/lab"]) copy(name);
  if (guest.scene.asked) copyCommand(copy);
  if (guest.scene.runtimes) copyRuntime(copy, lab);
  copyFileSync(layer, join(lab, "layer.tar"));
  writeFileSync(join(lab, "guest.json"), JSON.stringify(guest));
  writeFileSync(join(lab, "vault-ca.pem"), ca);
  copyFileSync(join(import.meta.dirname, "guest-init.sh"), join(lab, "init"));
  chmodSync(join(lab, "init"), 0o755);
  copyFileSync(process.execPath, join(lab, "bin/node"));
  for (const name of ["ip", "mount", "mkdir", "sleep", "dd", "tail", "cat", "sync", "poweroff"])
    symlinkSync("/usr/bin/busybox", join(lab, "bin", name));
  for (const name of ["passwd", "group"]) writeFileSync(join(root, "etc", name), "root:x:0:\n");
  writeFileSync(join(root, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n");
  for (const [from, to] of files) cpSync(from, join(root, to), { recursive: true });
  if (existsSync(join(root, "usr/bin/podman")))
    configurePodman(join(root, "etc"), `127.0.0.1:${guest.lacks?.registryPort}`);
  mkdirSync(join(root, "etc/containerd"), { recursive: true });
  rmSync(join(root, "etc/containerd/config.toml"), { force: true });
  writeFileSync(join(root, "etc/containerd/config.toml"), CONTAINERD);
  await prepare?.(root);
}

/** The root as an image of ext4. */
async function makeDisk(directory: string, { qemu }: Wanted): Promise<void> {
  const root = join(directory, "root");
  const shared = readdirSync(join(root, "usr/share")).filter((name) => name !== PARSER_NEEDS);
  for (const name of ["boot", "usr/lib/modules", ...shared.map((name) => `usr/share/${name}`)])
    rmSync(join(root, name), { recursive: true, force: true });
  const { stdout } = await run("du", ["--summarize", "--block-size=1M", root]);
  const size = `${Math.ceil(Number.parseInt(stdout, 10) * 1.1) + DISK_SPARE}M`;
  const disk = join(directory, "disk");
  await inTree(qemu, ["mkfs.ext4", "-q", "-O", "^has_journal", "-d", root, disk, size]);
}

type Copy = (name: string) => void;

/** With what it imports. */
function copyCommand(copy: Copy): void {
  for (const name of ["cli", "client", "node_modules/jsonc-parser"]) copy(name);
}

function copyRuntime(copy: Copy, lab: string): void {
  for (const name of ["dist/authproxy", "dist/runtime"]) copy(name);
  symlinkSync("authproxy-runc", join(lab, "authproxy/dist/runtime/authproxy-crun"));
}

/** With crun, which is Debian's own choice, and this machine's registry. */
function configurePodman(etc: string, registry: string): void {
  const settings = join(etc, "containers");
  writeFileSync(join(settings, "registries.conf.d/lab.conf"), insecureRegistry(registry));
  const engine =
    '[engine]\nruntime = "crun"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n';
  writeFileSync(join(settings, "containers.conf"), engine);
  for (const name of ["hosts", "resolv.conf"]) writeFileSync(join(etc, name), "");
}

/** What finds the disk: busybox, and the modules that the kernel has not built in. */
async function makeInitramfs(directory: string): Promise<void> {
  const root = join(directory, "initramfs");
  const tree = join(directory, "root");
  for (const name of ["bin", "dev", "root", "modules"])
    mkdirSync(join(root, name), { recursive: true });
  const busybox = "/usr/bin/busybox"; // this machine's: the trees may be another processor's
  copyFileSync(join(tree, "usr/bin/busybox"), join(root, "bin/busybox"));
  writeFileSync(join(root, "init"), FIRST_INIT, { mode: 0o755 });
  const modules = join(tree, "usr/lib/modules");
  const files = readdirSync(modules, { recursive: true, encoding: "utf8" });
  const unpacked = new Set<string>();
  /** After those it depends on, as its own .modinfo section names them. */
  const add = async (name: string): Promise<void> => {
    const file = files.find(
      (path) => basename(path).replace(/\.ko(\.xz)?$/, "") === name && /\.ko/.test(path),
    );
    if (!file || unpacked.has(name)) return; // built in
    unpacked.add(name);
    const unpack = file.endsWith(".xz") ? "xzcat" : "cat";
    const { stdout: bytes } = await run(busybox, [unpack, join(modules, file)], {
      encoding: "buffer",
      maxBuffer: 1 << 26,
    });
    const needs = /\0depends=([^\0]*)\0/.exec(bytes.toString("latin1"))?.[1] ?? "";
    for (const other of needs.split(",").filter(Boolean)) await add(other.replaceAll("-", "_"));
    const order = String(readdirSync(join(root, "modules")).length).padStart(2, "0");
    writeFileSync(join(root, "modules", `${order}-${name}.ko`), bytes);
  };
  for (const name of MODULES) await add(name);
  // Newer packages have the kernel beside its modules.
  const kernel = [join(tree, "boot"), modules]
    .filter((path) => existsSync(path))
    .flatMap((path) =>
      readdirSync(path, { recursive: true, encoding: "utf8" }).map((name) => join(path, name)),
    )
    .find((path) => basename(path).startsWith("vmlinuz"));
  copyFileSync(kernel ?? "", join(directory, "kernel"));
  const archive = `cd "${root}" && "${busybox}" find . | "${busybox}" cpio -o -H newc >"${directory}/initramfs.cpio"`;
  await run("sh", ["-ec", archive]);
}

async function boot<R>(
  directory: string,
  { qemu, security = "", machine = X64, program = "inside.ts" }: Wanted,
): Promise<R> {
  const console = join(directory, "console");
  const results = join(directory, "results");
  const words = [...machine.emulator, "-accel", "tcg", "-smp", "1"];
  words.push("-m", "2500", "-display", "none", "-monitor", "none", "-no-reboot");
  words.push("-kernel", join(directory, "kernel"));
  words.push("-initrd", join(directory, "initramfs.cpio"));
  words.push("-drive", `file=${directory}/disk,if=virtio,format=raw,snapshot=on`);
  // Without a ROM to start from the network: qemu for arm64 has none.
  words.push("-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile=");
  words.push("-serial", `file:${console}`, "-serial", `file:${results}`);
  // The guest has no source of randomness but the emulated processor's.
  const append = `console=${machine.console} quiet panic=-1 random.trust_cpu=1 mitigations=off ${KERNEL_OPTIONS[security]}`;
  // Of words that it does not know, the kernel makes variables of the first process.
  const variables = `results=${machine.results} program=${program}`;
  words.push("-append", `${append} ${variables}`);
  try {
    await inTree(qemu, ["nice", ...words], machine.deadlineMs);
    return JSON.parse(readFileSync(results, "utf8"));
  } catch (error) {
    const lines = readFileSync(console, "utf8").trimEnd().split("\n").slice(-12).join("\n");
    throw new Error(`the guest brought no result (${(error as Error).message}):\n${lines}`);
  }
}
