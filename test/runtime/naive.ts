// Question: what falls to the attacks? Wrappers as one would write them first, each less one defence:
//   first    its mounts come before the container's
//   keep     the environment stays as it is, and the image's links are followed
//   through  the client is copied to where it should be in the root file system, by its path here
//   written  the container's mounts are compared with its own as they are written, links and all
//   scratch  the command waits on the host under one name, until the configuration is written
// Usage: node naive.ts KIND CLIENT SOCKETS BUNDLE
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Spec, wrap } from "../../runtime/wrapper.ts";

const [kind, client = "", sockets = "", bundle = ""] = process.argv.slice(2);
const file = join(bundle, "config.json");
const spec: Spec & { root: { path: string } } = JSON.parse(readFileSync(file, "utf8"));
// Ours finds no mount of the container's in its way.
const ours = wrap({ ...spec, mounts: [] }, client, sockets);
const { mounts = [] } = spec;
const { env = [] } = spec.process;
if (kind === "first") {
  writeFileSync(file, JSON.stringify({ ...ours, mounts: [...(ours.mounts ?? []), ...mounts] }));
} else if (kind === "keep") {
  const process = { ...ours.process, env };
  const all = [...mounts, ...(ours.mounts ?? [])];
  writeFileSync(file, JSON.stringify({ ...ours, process, mounts: all }));
} else if (kind === "written") {
  for (const { destination } of mounts) {
    if (`${destination}/`.startsWith("/run/") || "/.authproxy/".startsWith(`${destination}/`))
      throw new Error(`${destination} is in the way`);
  }
  writeFileSync(file, JSON.stringify({ ...ours, mounts: [...mounts, ...(ours.mounts ?? [])] }));
} else if (kind === "scratch") {
  const waiting = join(sockets, "process.json");
  writeFileSync(`${waiting}.${process.pid}`, JSON.stringify(ours.process));
  renameSync(`${waiting}.${process.pid}`, waiting);
  execFileSync("meet"); // attacks.test.ts: until as many as start at once are here
  const all = [...mounts, ...(ours.mounts ?? [])];
  const its = JSON.parse(readFileSync(waiting, "utf8"));
  writeFileSync(file, JSON.stringify({ ...ours, process: its, mounts: all }));
} else {
  mkdirSync(join(spec.root.path, ".authproxy"), { recursive: true });
  copyFileSync(join(client, "package.json"), join(spec.root.path, ".authproxy/package.json"));
}
