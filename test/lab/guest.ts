// Question: how does a kernel of another version, or with another security module, run here?
// Input:    trees with a kernel, a Docker engine and busybox; a tree with qemu; what to play; which
//           security module.
// Output:   the results of inside.ts, from a guest whose root file system is these trees.
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
import { placeArchive } from "../../scripts/package.ts";
import { inTree } from "./engine.ts";
import type { Tree } from "./fetch.ts";
import type { Guest, Results } from "./inside.ts";
import { labelTree, makePolicies, type Policies, policyIn } from "./selinux.ts";

const run = promisify(execFile);
const project = join(import.meta.dirname, "../..");
const DEADLINE_MS = 240_000;
const ATTEMPTS = 2;
const MODULES = ["virtio_pci", "virtio_blk", "virtio_net", "overlay"];
const DISK_SPARE = 64; // MB
const DIRECTORIES = ["proc", "sys", "dev", "run", "tmp", "root", "var/lib", "lab/bin"];
/** In /usr/share: what apparmor_parser goes by. */
const PARSER_NEEDS = "apparmor-features";
/** What guest-init.sh and the runtime need; where the trees do not have them, busybox does. */
const APPLETS = "sh ip mount mkdir sleep dd tail sync poweroff cat grep tr".split(" ");
/** As dockerd has it: without the plugin for Kubernetes. */
const CONTAINERD = 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n';
const FIRST_INIT = `#!/bin/busybox sh
/bin/busybox mount -t devtmpfs none /dev
for module in /modules/*; do /bin/busybox insmod "$module"; done
/bin/busybox mount -t ext4 -o rw /dev/vda /root
exec /bin/busybox switch_root /root /lab/init
`;

/** What the kernel has it by; "": none. */
type SecurityModule =
  | { name: "" | "apparmor" }
  /** Its tree has the tools. */
  | { name: "selinux"; tree: Tree };

export type Wanted = {
  /** What a file of the last one replaces is gone. */
  trees: Tree[];
  qemu: Tree;
  /** Layers of images: /lab/NAME.tar in the guest. */
  layers: Record<string, string>;
  /** The certificate of Vault's authority: /lab/vault-ca.pem in the guest. */
  ca: string;
  guest: Guest;
  security?: SecurityModule;
};

export async function runGuest(wanted: Wanted): Promise<Results> {
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

/** The trees, and /lab with the project's files. */
async function makeRoot(directory: string, { security, ...wanted }: Wanted): Promise<void> {
  const root = join(directory, "root");
  const selinux = security?.name === "selinux" ? security.tree : undefined;
  // Labels belong to inodes: those of the trees stay as they are.
  const copy = ["--archive", ...(selinux ? [] : ["--link"]), "--remove-destination"];
  mkdirSync(root);
  for (const { path } of [...wanted.trees, ...(selinux ? [selinux] : [])])
    await run("cp", [...copy, `${path}/.`, root]);
  for (const name of DIRECTORIES) mkdirSync(join(root, name), { recursive: true });
  const lab = join(root, "lab");
  for (const name of ["server", "dist/peercred", "package.json", "test/lab"])
    cpSync(join(project, name), join(lab, "authproxy", name), { recursive: true });
  for (const [name, layer] of Object.entries(wanted.layers))
    copyFileSync(layer, join(lab, `${name}.tar`));
  writeFileSync(join(lab, "guest.json"), JSON.stringify(wanted.guest));
  writeFileSync(join(lab, "vault-ca.pem"), wanted.ca);
  copyFileSync(join(import.meta.dirname, "guest-init.sh"), join(lab, "init"));
  chmodSync(join(lab, "init"), 0o755);
  copyFileSync(process.execPath, join(lab, "bin/node"));
  const missing = APPLETS.filter((name) => !existsSync(join(root, "usr/bin", name)));
  for (const name of missing) symlinkSync("busybox", join(root, "usr/bin", name));
  writeFileSync(join(root, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n");
  writeFileSync(join(root, "etc/group"), "root:x:0:\n");
  if (!existsSync(join(root, "var/run"))) symlinkSync("../run", join(root, "var/run"));
  rmSync(join(root, "etc/containerd"), { recursive: true, force: true });
  mkdirSync(join(root, "etc/containerd"));
  writeFileSync(join(root, "etc/containerd/config.toml"), CONTAINERD);
  if (selinux) await installSelinux(root, await makePolicies(selinux));
}

/** What a host has that follows docs/operate.md, before our module is there: /lab/module has what it
 * brings. */
async function installSelinux(root: string, policies: Policies): Promise<void> {
  rmSync(join(root, "etc/selinux"), { recursive: true });
  cpSync(join(policies.debian, "etc/selinux"), join(root, "etc/selinux"), { recursive: true });
  copyFileSync(policyIn(policies.debian), join(root, "lab/policy.bin"));
  const contexts = "etc/selinux/default/contexts/files";
  cpSync(join(policies.withModule, contexts), join(root, "lab/module/files"), { recursive: true });
  copyFileSync(policyIn(policies.withModule), join(root, "lab/module/policy.bin"));
  await placeArchive(join(root, "opt/authproxy/lab"));
  symlinkSync("lab", join(root, "opt/authproxy/current"));
  mkdirSync(join(root, "etc/authproxy"), { mode: 0o750 });
  copyFileSync(join(root, "lab/vault-ca.pem"), join(root, "etc/authproxy/vault-ca.pem"));
}

/** The root as an image of ext4; with the labels that it has then. */
async function makeDisk(directory: string, { qemu, security }: Wanted): Promise<void> {
  const root = join(directory, "root");
  const shared = readdirSync(join(root, "usr/share")).filter((name) => name !== PARSER_NEEDS);
  for (const name of ["boot", "usr/lib/modules", ...shared.map((name) => `usr/share/${name}`)])
    rmSync(join(root, name), { recursive: true, force: true });
  if (security?.name === "selinux") await labelTree(security.tree, root);
  const { stdout } = await run("du", ["--summarize", "--block-size=1M", root]);
  const size = `${Math.ceil(Number.parseInt(stdout, 10) * 1.1) + DISK_SPARE}M`;
  const disk = join(directory, "disk");
  await inTree(qemu, ["mkfs.ext4", "-q", "-O", "^has_journal", "-d", root, disk, size]);
}

/** What finds the disk: busybox, and the modules that the kernel has not built in. */
async function makeInitramfs(directory: string): Promise<void> {
  const root = join(directory, "initramfs");
  const tree = join(directory, "root");
  for (const name of ["bin", "dev", "root", "modules"])
    mkdirSync(join(root, name), { recursive: true });
  const busybox = join(tree, "usr/bin/busybox");
  copyFileSync(busybox, join(root, "bin/busybox"));
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
  const directories = [join(tree, "boot"), modules].filter((path) => existsSync(path));
  const kernel = directories
    .flatMap((path) =>
      readdirSync(path, { recursive: true, encoding: "utf8" }).map((name) => join(path, name)),
    )
    .find((path) => basename(path).startsWith("vmlinuz"));
  copyFileSync(kernel ?? "", join(directory, "kernel"));
  const archive = `cd "${root}" && "${busybox}" find . | "${busybox}" cpio -o -H newc >"${directory}/initramfs.cpio"`;
  await run("sh", ["-ec", archive]);
}

const KERNEL_OPTIONS = {
  "": "lsm=",
  apparmor: "lsm=apparmor apparmor=1",
  // Until the guest's first program has loaded the policy nothing can be enforced.
  selinux: "lsm=selinux selinux=1 enforcing=0 log_buf_len=16M",
};

async function boot(directory: string, { qemu, security }: Wanted): Promise<Results> {
  const console = join(directory, "console");
  const results = join(directory, "results");
  const words = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-smp", "1"];
  words.push("-m", "2500", "-display", "none", "-monitor", "none", "-no-reboot");
  words.push("-kernel", join(directory, "kernel"));
  words.push("-initrd", join(directory, "initramfs.cpio"));
  words.push("-drive", `file=${directory}/disk,if=virtio,format=raw,snapshot=on`);
  words.push("-nic", "user,model=virtio-net-pci");
  words.push("-serial", `file:${console}`, "-serial", `file:${results}`);
  // The guest has no source of randomness but the emulated processor's.
  const append = `console=ttyS0 quiet panic=-1 random.trust_cpu=1 mitigations=off ${KERNEL_OPTIONS[security?.name ?? ""]}`;
  words.push("-append", append);
  try {
    await inTree(qemu, ["nice", ...words], DEADLINE_MS);
    return JSON.parse(readFileSync(results, "utf8"));
  } catch (error) {
    const lines = readFileSync(console, "utf8").trimEnd().split("\n").slice(-12).join("\n");
    throw new Error(`the guest brought no result (${(error as Error).message}):\n${lines}`);
  }
}
