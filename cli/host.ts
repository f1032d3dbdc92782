// Question: what of this host decides how good a policy is? Output: the kernel's security module,
// the engine's image store and images, and one of its containers, for `advise`. What cannot be
// learned is left out, and a note says so.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Container } from "../server/engine.ts";
import { type JsonObject, wordsOf } from "../server/json.ts";
import { askEngine } from "./ask-engine.ts";
import { type EngineAddress, runningContainers } from "./containers.ts";
import { KubernetesNode } from "./kubernetes-node.ts";
import { type Failure, remark } from "./terminal.ts";

/** What the engine says of an image: its digest in this store, and the names it has elsewhere. */
export type Image = { Id: string; RepoDigests?: string[] | null };

/** What could not be learned is left out. */
export type Host = {
  /** The security module that labels processes. */
  mac?: string;
  engine?: "docker" | "podman" | "cri";
  /** "classic" or "containerd". */
  store?: string;
  /** The engine gives each container a user namespace of its own, unless it is told otherwise. */
  mapsUsers?: boolean;
  images?: Image[];
  /** The engine's answer about any of its containers. */
  container?: JsonObject;
};

export const USERS_ARE_MAPPED =
  "the engine maps users, and its containers get no token until the configuration has " +
  '"user_namespaces": true';

/** The security modules that label processes, as the kernel names them. */
const LABELLING_MODULES = ["selinux", "apparmor", "smack"];

/** The active security module that labels processes, if any. `sys` is where sysfs is mounted.
 * Source: /sys/kernel/security/lsm lists the active ones where securityfs is mounted; where it is
 * not, selinuxfs and AppArmor's own parameter say it. */
export function securityModule(sys = "/sys"): string | undefined {
  const read = (name: string) => {
    const file = join(sys, name);
    return existsSync(file) ? readFileSync(file, "utf8").trim() : "";
  };
  const activeModules = read("kernel/security/lsm").split(",");
  const labelling = LABELLING_MODULES.find((name) => activeModules.includes(name));
  if (labelling) return labelling;
  if (existsSync(join(sys, "fs/selinux/enforce"))) return "selinux";
  return read("module/apparmor/parameters/enabled") === "Y" ? "apparmor" : undefined;
}

/** Where the engine cannot be asked the rest is returned. */
export async function describeHost(engine: EngineAddress): Promise<Host> {
  const host: Host = {};
  const mac = securityModule();
  if (mac) host.mac = mac;
  try {
    if (typeof engine === "string") await describeEngine(host, engine);
    else await describeNode(host, engine);
  } catch (error) {
    const { message } = error as Failure;
    remark("note", `image pins and spelling are not checked against the engine: ${message}`);
  }
  return host;
}

async function describeEngine(host: Host, socketPath: string): Promise<void> {
  // In this order: an engine with many images may take long to list them.
  host.engine = engineKind((await askEngine("version", socketPath)) as JsonObject);
  const info = (await askEngine("info", socketPath)) as JsonObject;
  host.store = imageStore(info);
  host.mapsUsers = mapsUsers(info);
  const container = await anyContainer(socketPath);
  if (container) host.container = container;
  host.images = (await askEngine("images/json?digests=1", socketPath)) as Image[];
}

async function describeNode(host: Host, engine: { cri: string }): Promise<void> {
  host.images = await new KubernetesNode(engine.cri).images();
  host.engine = "cri";
  const [container] = await runningContainers(engine);
  if (container) host.container = container;
}

/** What an image declares itself, and the kind of the store that it is in, where there is one to tell.
 * An engine removes an image whose containers still run: then no variable is known as the image's. */
export async function describeImage(
  { Image: digest }: Container,
  engine: EngineAddress,
): Promise<{ env: string[]; store?: string }> {
  if (typeof engine === "object")
    return { env: await new KubernetesNode(engine.cri).imageEnv(digest) };
  const image = (await askEngine(`images/${digest}/json`, engine)) as
    | Partial<Container>
    | undefined;
  const store = imageStore((await askEngine("info", engine)) as JsonObject);
  return { env: image?.Config?.Env ?? [], store };
}

/** Its answer shows which members the engine has, and of which type. */
async function anyContainer(socketPath: string): Promise<JsonObject | undefined> {
  const containers = (await askEngine("containers/json?all=1&limit=1", socketPath)) as Image[];
  const [container] = containers;
  if (!container) return undefined;
  const answer = await askEngine(`containers/${container.Id}/json`, socketPath);
  return answer as JsonObject | undefined;
}

/** By the engine's `version`: Podman's answers as Docker's does, but for the name of its part. */
export function engineKind({ Components }: JsonObject): "docker" | "podman" {
  const names = JSON.stringify(Components ?? []);
  return names.includes("Podman Engine") ? "podman" : "docker";
}

/** By the engine's `info`: Docker was started with `userns-remap`. */
export function mapsUsers({ SecurityOptions }: JsonObject): boolean {
  return wordsOf(SecurityOptions).includes("name=userns");
}

/** "classic" or "containerd", by the engine's `info`: the containerd store names its snapshotter
 * where the classic one names its graph driver. */
export function imageStore({ DriverStatus }: JsonObject): string {
  const rows = JSON.stringify(DriverStatus ?? []);
  return rows.includes("io.containerd.snapshotter.v1") ? "containerd" : "classic";
}
