// Question: what does a host have on its disk whose SELinux is enforcing?
// Input:    Debian's reference policy, all its modules; packaging/selinux/authproxy.cil.
// Output:   two policies in the cache folder, by a key of what they are made of: as Debian has it, and
//           with our module, as `semodule -i` leaves it. A root file system, labelled by the first.
// Promise:  this machine's kernel needs no SELinux: `semodule -n` and `setfiles -r` ask it nothing.
import { createHash } from "node:crypto";
import {
  appendFileSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import type { Tree } from "../../scripts/debian.ts";
import { cache } from "../../scripts/npm.ts";
import { inTree } from "./engine.ts";

const MODULE = join(import.meta.dirname, "../../packaging/selinux/authproxy.cil");
const MODULES = "/usr/share/selinux/default"; // in the tree
const POLICY_VERSION = 33; // what Linux 5.18 and later read
const COMPILE_DEADLINE_MS = 300_000;

/** What has it: semodule, setfiles; for `doctor` a stat that shows labels; what our runtime needs. */
export const SELINUX_PACKAGES = ["selinux-policy-default", "coreutils", "dash", "grep"];

/** Directories that hold /etc/selinux, and semodule's store. */
type Policies = { debian: string; withModule: string };

/** Builds them, which takes a minute, or finds them. */
async function makePolicies(tree: Tree): Promise<Policies> {
  const names = readdirSync(join(tree.path, MODULES)).filter((name) => name.endsWith(".pp.bz2"));
  const debian = await makePolicy("debian", basename(tree.path), tree, async (root) => {
    for (const name of ["etc/selinux", "var/lib/selinux"])
      cpSync(join(tree.path, name), join(root, name), { recursive: true });
    writeFileSync(join(root, "etc/selinux/config"), "SELINUX=enforcing\nSELINUXTYPE=default\n");
    const settings = `policy-version = ${POLICY_VERSION}\n`;
    appendFileSync(join(root, "etc/selinux/semanage.conf"), settings);
    return names.map((name) => `${MODULES}/${name}`);
  });
  const key = createHash("sha256").update(readFileSync(MODULE)).digest("hex").slice(0, 16);
  const withModule = await makePolicy(
    "module",
    `${basename(debian)}-${key}`,
    tree,
    async (root) => {
      cpSync(debian, root, { recursive: true });
      return [MODULE];
    },
  );
  return { debian, withModule };
}

/** `prepare` fills its root, and returns which modules to install there. The last version's goes. */
async function makePolicy(
  kind: string,
  key: string,
  tree: Tree,
  prepare: (root: string) => Promise<string[]>,
): Promise<string> {
  const directory = join(cache, "lab/selinux", kind);
  const place = join(directory, key);
  if (existsSync(place)) return place;
  rmSync(directory, { recursive: true, force: true });
  const unfinished = `${place}.unfinished`;
  mkdirSync(unfinished, { recursive: true });
  const modules = await prepare(unfinished);
  const install = modules.flatMap((module) => ["--install", module]);
  const words = ["--noreload", "--path", unfinished, "--store", "default", ...install];
  await inTree(tree, ["semodule", ...words], COMPILE_DEADLINE_MS);
  renameSync(unfinished, place);
  return place;
}

/** The compiled policy. */
function policyIn(policies: string): string {
  return join(policies, `etc/selinux/default/policy/policy.${POLICY_VERSION}`);
}

/** Makes of a root one of a host that follows docs/operate.md, before our module is there: /lab/module has
 * what that brings. `archive` is the directory that our archive unpacks to. */
export async function installSelinux(tree: Tree, archive: string, root: string): Promise<void> {
  const { debian, withModule } = await makePolicies(tree);
  rmSync(join(root, "etc/selinux"), { recursive: true });
  cpSync(join(debian, "etc/selinux"), join(root, "etc/selinux"), { recursive: true });
  copyFileSync(policyIn(debian), join(root, "lab/policy.bin"));
  const contexts = "etc/selinux/default/contexts/files";
  cpSync(join(withModule, contexts), join(root, "lab/module/files"), { recursive: true });
  copyFileSync(policyIn(withModule), join(root, "lab/module/policy.bin"));
  if (!existsSync(join(root, "var/run"))) symlinkSync("../run", join(root, "var/run"));
  mkdirSync(join(root, "opt/authproxy"), { recursive: true });
  cpSync(archive, join(root, "opt/authproxy/lab"), { recursive: true });
  symlinkSync("lab", join(root, "opt/authproxy/current"));
  mkdirSync(join(root, "etc/authproxy"), { mode: 0o750 });
  copyFileSync(join(root, "lab/vault-ca.pem"), join(root, "etc/authproxy/vault-ca.pem"));
  mkdirSync(join(root, "etc/docker"), { recursive: true });
  const path = "/opt/authproxy/current/dist/runtime/authproxy-runc";
  const settings = { "selinux-enabled": true, runtimes: { authproxy: { path } } };
  writeFileSync(join(root, "etc/docker/daemon.json"), JSON.stringify(settings));
  await labelTree(tree, root);
}

/** As `fixfiles relabel` does on a host, by the contexts that are installed in this root. */
async function labelTree(tree: Tree, root: string): Promise<void> {
  const contexts = join(root, "etc/selinux/default/contexts/files/file_contexts");
  await inTree(tree, ["setfiles", "-q", "-r", root, contexts, root], COMPILE_DEADLINE_MS);
}
