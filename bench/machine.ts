// Question: on what machine was this measured? Nothing that names it: no host, no path.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { availableParallelism, cpus, release, totalmem } from "node:os";
import { join } from "node:path";

export type Machine = Record<"cpu" | "memory" | "kernel" | "node" | "engine" | "vault", string>;

const bao = join(import.meta.dirname, "../dist/bao");
const run = (program: string, ...words: string[]) =>
  execFileSync(program, words, { encoding: "utf8" }).trim();

export function describeMachine(): Machine {
  return {
    cpu: `${availableParallelism()} x ${cpus()[0]?.model.trim()}`,
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
    kernel: /^[\d.]+/.exec(release())?.[0] ?? "unknown",
    node: process.version,
    engine: `Docker ${run("docker", "version", "--format", "{{.Server.Version}}")}`,
    vault: /^\S+ v\S+/.exec(run(bao, "version"))?.[0] ?? "unknown",
  };
}

/** What others do meanwhile, as the load of the last minute: high means that the figures are noisy. */
export function load(): number {
  return Number(readFileSync("/proc/loadavg", "utf8").split(" ")[0]);
}
