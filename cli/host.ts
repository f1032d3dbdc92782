// Question: what of this host decides how good a policy is? Output: the kernel's security module,
// the engine's image store and images, and one of its containers, for `advise`. What is not there
// is left out, and said.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { JsonObject } from "../server/json.ts";
import type { Host, Image } from "./advise.ts";
import { askEngine } from "./ask-engine.ts";
import { type Failure, remark } from "./terminal.ts";

const LABELLING = ["selinux", "apparmor", "smack"];

/** The security module that labels processes. /sys/kernel/security/lsm lists the active ones, where
 * securityfs is mounted. */
export function securityModule(sys = "/sys"): string | undefined {
  const read = (name: string) => {
    const file = join(sys, name);
    return existsSync(file) ? readFileSync(file, "utf8").trim() : "";
  };
  const active = read("kernel/security/lsm").split(",");
  const listed = LABELLING.find((name) => active.includes(name));
  if (listed) return listed;
  if (existsSync(join(sys, "fs/selinux/enforce"))) return "selinux";
  return read("module/apparmor/parameters/enabled") === "Y" ? "apparmor" : undefined;
}

export async function hostOf(engine: string | undefined): Promise<Host> {
  const mac = securityModule();
  const kernel = mac ? { mac } : {};
  try {
    const info = (await askEngine("info", engine)) as JsonObject;
    const images = (await askEngine("images/json?digests=1", engine)) as Image[];
    const containers = (await askEngine("containers/json?all=1&limit=1", engine)) as Image[];
    const one = containers[0] && (await askEngine(`containers/${containers[0].Id}/json`, engine));
    const store = storeOf(info);
    return { ...kernel, store, images, ...(one ? { container: one as JsonObject } : {}) };
  } catch (error) {
    remark(
      "note",
      `pins and spelling are not held against the engine: ${(error as Failure).message}`,
    );
    return kernel;
  }
}

/** The containerd store names its snapshotter where the classic one names its graph driver. */
export function storeOf({ DriverStatus }: JsonObject): string {
  const rows = JSON.stringify(DriverStatus ?? []);
  return rows.includes("io.containerd.snapshotter.v1") ? "containerd" : "classic";
}
