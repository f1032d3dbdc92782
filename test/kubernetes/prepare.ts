// Question: where do the programs of a Kubernetes node come from?
// Usage:    node test/kubernetes/prepare.ts        (npm run test:kubernetes calls it)
// Input:    module/go.mod and go.sum, which pin the source of Kubernetes; Go, this machine's or Debian
//           trixie's; Debian's packages of etcd, containerd and CNI plugins (scripts/debian.ts).
// Output:   folders in the cache; `programs` says where each program is.
// Promise:  what was built once is found again, by a hash of what it was built from, and is put in
//           place whole. Nothing is installed. What this machine lacks is said in one line.
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { fetchTree, type Tree } from "../../scripts/debian.ts";
import { cache } from "../../scripts/npm.ts";
import { buildGo } from "../lab/go.ts";

const run = promisify(execFile);
const module = join(import.meta.dirname, "module");
const source = readFileSync(join(module, "go.mod"), "utf8");
/** What Kubernetes 1.34 asks for in its own go.mod. */
const GO = { minor: 24, suite: "trixie" } as const;
const COMMANDS = ["kubelet", "kube-apiserver", "kubectl"];
const DEBIAN = { "1.6": "bookworm", "1.7": "trixie", "2": "sid" } as const;

export type ContainerdVersion = keyof typeof DEBIAN;
export const containerdVersions: ContainerdVersion[] = ["1.6", "1.7", "2"];

/** Directories: of kubelet, kube-apiserver, kubectl and pause; etcd; CNI plugins; containerd, shim and ctr. */
export type Programs = {
  kubernetes: string;
  etcd: string;
  cni: string;
  containerd: Record<ContainerdVersion, string>;
};

/** Throws where they were not prepared. */
export function programs(): Programs {
  const list = join(built(), "programs.json");
  if (!existsSync(list)) throw new Error("no kubelet here: run `node test/kubernetes/prepare.ts`");
  return JSON.parse(readFileSync(list, "utf8"));
}

function built(): string {
  const hash = createHash("sha256")
    .update(readFileSync(join(module, "go.sum")))
    .update(source);
  return join(cache, "kubernetes", hash.digest("hex").slice(0, 16));
}

async function prepare(): Promise<void> {
  if (process.getuid?.() !== 0) throw new Error("a kubelet has to be started by root: run as root");
  const building = build(); // works while the packages wait for the network
  const [etcd, cni, oldest, older, newest] = await Promise.all([
    fetchTree("trixie", ["etcd-server"]),
    fetchTree("bookworm", ["containernetworking-plugins"]),
    fetchTree(DEBIAN["1.6"], ["containerd"]),
    fetchTree(DEBIAN["1.7"], ["containerd"]),
    fetchTree(DEBIAN["2"], ["containerd"]),
  ]);
  await building;
  await compilePause();
  const found: Programs = {
    kubernetes: built(),
    etcd: join(etcd.path, "usr/bin"),
    cni: join(cni.path, "usr/lib/cni"),
    containerd: {
      "1.6": linkContainerd("1.6", oldest),
      "1.7": linkContainerd("1.7", older),
      "2": linkContainerd("2", newest),
    },
  };
  writeFileSync(join(built(), "programs.json"), JSON.stringify(found));
}

/** What holds a pod's namespaces; static, so that it is all of its image. */
async function compilePause(): Promise<void> {
  const flags = ["-std=c17", "-Wall", "-Wextra", "-Werror", "-Os", "-s", "-static"];
  const words = ["-o", join(built(), "pause"), join(import.meta.dirname, "programs/pause.c")];
  await run(process.env.CC ?? "cc", [...flags, ...words]);
}

/** A directory of containerd's own programs. The newest has its own runc, which makes user namespaces (from
 * 1.2 on); the others have this machine's. */
function linkContainerd(version: ContainerdVersion, { path }: Tree): string {
  const place = join(built(), `containerd-${version}`);
  rmSync(place, { recursive: true, force: true });
  mkdirSync(place);
  for (const name of ["containerd", "containerd-shim-runc-v2", "ctr"])
    symlinkSync(join(path, "usr/bin", name), join(place, name));
  if (version === "2") writeFileSync(join(place, "runc"), runcOf(path), { mode: 0o755 });
  return place;
}

/** It needs a newer C library than this machine may have: it has the tree's /usr, which no one else sees. */
function runcOf(tree: string): string {
  const enter = `mount --bind "${tree}/usr" /usr; exec /usr/sbin/runc "$@"`;
  return `#!/bin/sh\nexec unshare --mount --propagation slave sh -ec '${enter}' sh "$@"\n`;
}

/** kubelet, API server and kubectl in one go: they are made of the same packages, for the most part. */
async function build(): Promise<void> {
  const [, version = ""] = /k8s\.io\/kubernetes v(\S+)/.exec(source) ?? [];
  const [major, minor] = version.split(".");
  const names = { gitVersion: `v${version}`, gitMajor: major, gitMinor: minor };
  const stamps = ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"].flatMap(
    (place) => Object.entries(names).map(([name, value]) => `-X ${place}.${name}=${value}`),
  );
  await buildGo(built(), {
    module,
    commands: COMMANDS.map((name) => `k8s.io/kubernetes/cmd/${name}`),
    ldflags: ["-s -w", ...stamps].join(" "),
    go: GO,
    notice: `Kubernetes ${version}: building ${COMMANDS.join(", ")} (700 MB to fetch, 5 to 10 minutes)`,
  });
}

function say(text: string): void {
  process.stderr.write(`authproxy: ${text}\n`);
}

if (import.meta.main) {
  try {
    await prepare();
    say(`ready: Kubernetes' programs in ${built()}`);
  } catch (error) {
    say(`error: kubernetes: ${(error as Error).message}`);
    process.exitCode = 1;
  }
}
