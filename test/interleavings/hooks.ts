// Question: which modules does the server really get?
//
// All of its own, but for http.ts; and edges.ts in place of the modules of Node by which it would touch
// the world. With a planted bug, one line of one module is another one.
import { registerHooks } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { Plant } from "./plants.ts";

const here = import.meta.dirname;
export const serverDirectory = join(here, "../../server");
const server = pathToFileURL(serverDirectory).href;
const edges = pathToFileURL(join(here, "edges.ts")).href;
const REPLACED = [
  "node:fs",
  "node:os",
  "node:crypto",
  "node:timers/promises",
  "node:child_process",
  "./http.ts",
];

/** Call this before the first module of the server is imported. */
export function replaceModules(plant: Plant | undefined): void {
  registerHooks({
    resolve(specifier, context, next) {
      const isServers = context.parentURL?.startsWith(`${server}/`);
      if (isServers && REPLACED.includes(specifier)) return { url: edges, shortCircuit: true };
      return next(specifier, context);
    },
    load(url, context, next) {
      const loaded = next(url, context);
      if (!plant || url !== `${server}/${plant.module}`) return loaded;
      return { ...loaded, source: planted(String(loaded.source), plant) };
    },
  });
}

/** Throws where the bug can no longer be planted. */
function planted(source: string, { name, module, was, is }: Plant): string {
  const parts = source.split(was);
  if (parts.length !== 2)
    throw new Error(`${name}: ${module} has this ${parts.length - 1} times, not once: ${was}`);
  return parts.join(is);
}
