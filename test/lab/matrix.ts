// Question: on which engines and kernels did what run? Output: one table, when all has run.
import type { Findings, Outcome } from "./scene.ts";

const COLUMNS = ["place", "engine", "kernel", "cgroup", "image store", "seconds", "result"];
const rows: string[][] = [];

export function ran(place: string, findings: Findings, extra: string[], startedMs: number): void {
  const { about, kernel, outcomes } = findings;
  const cgroup = `v${about.CgroupVersion ?? 1}, ${about.CgroupDriver}`;
  const containerd = about.DriverStatus.flat().includes("io.containerd.snapshotter.v1");
  const store = `${containerd ? "containerd's" : "the engine's"}, ${about.Driver}`;
  const result = [...outcomes.map(outcomeText), ...extra].join("; ");
  rows.push([place, about.ServerVersion, kernel, cgroup, store, seconds(startedMs), result]);
}

/** For what could not be had; why it could not, in one line. */
export function notRun(place: string, error: Error, startedMs: number): void {
  const why = error.message.trim().split("\n").at(-1);
  rows.push([place, "", "", "", "", seconds(startedMs), `NOT RUN: ${why}`]);
}

export function matrix(): string {
  const lines = [
    COLUMNS,
    COLUMNS.map(() => "---"),
    ...rows.toSorted(([a = ""], [b = ""]) => a.localeCompare(b)),
  ];
  return lines.map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

function seconds(startedMs: number): string {
  return ((performance.now() - startedMs) / 1000).toFixed(0);
}

function outcomeText({ actor, expected, seen }: Outcome): string {
  return `${actor}: ${seen}${seen === expected ? "" : ` (NOT ${expected})`}`;
}
