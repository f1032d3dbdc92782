// Question: on which engines and kernels did what run? Input: what each of the lab's test files found, in
// processes of their own. Output: one table, when all has run: Vitest calls `setup` and `teardown`.
import { appendFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Findings, Outcome } from "./scene.ts";

const COLUMNS = [
  ...["place", "engine", "architecture", "kernel", "LSM", "cgroup", "image store"],
  ...["users", "seconds", "granted", "refused, and why", "seen"],
];

/** The path of a file, one row of cells a line, for the processes that Vitest starts. */
const VARIABLE = "AUTHPROXY_MATRIX";

export function setup(): void {
  process.env[VARIABLE] = join(mkdtempSync(join(tmpdir(), "authproxy-matrix-")), "rows");
  appendFileSync(process.env[VARIABLE], "");
}

export function teardown(): void {
  const file = process.env[VARIABLE] ?? "";
  const lines = readFileSync(file, "utf8").split("\n").filter(Boolean);
  rmSync(join(file, ".."), { recursive: true });
  if (lines.length > 0) console.log(table(lines.map((line) => JSON.parse(line))));
}

function add(cells: string[]): void {
  appendFileSync(process.env[VARIABLE] ?? "", `${JSON.stringify(cells)}\n`);
}

export function ran(place: string, findings: Findings, extra: string[], startedMs: number): void {
  const { about, kernel, lsm, outcomes } = findings;
  const cgroup = `v${about.CgroupVersion ?? 1}, ${about.CgroupDriver}`;
  const containerd = about.DriverStatus.flat().includes("io.containerd.snapshotter.v1");
  const store = `${containerd ? "containerd's" : "the engine's"}, ${about.Driver}`;
  const granted = outcomes.filter(({ seen }) => seen === "granted");
  const refused = outcomes.filter(({ seen }) => seen !== "granted");
  add([
    ...[place, about.ServerVersion, about.Architecture, kernel, lsm, cgroup, store],
    ...[usersOf(about), seconds(startedMs), granted.map(outcomeText).join("; ")],
    ...[refused.map(outcomeText).join("; "), extra.join("; ")],
  ]);
}

/** For what could not be had; why it could not, in one line. */
export function notRun(place: string, error: Error, startedMs: number): void {
  const why = error.message.trim().split("\n").at(-1);
  const unknown = COLUMNS.slice(1, -4).map(() => "");
  add([place, ...unknown, seconds(startedMs), "", "", `NOT RUN: ${why}`]);
}

function table(rows: string[][]): string {
  const lines = [
    COLUMNS,
    COLUMNS.map(() => "---"),
    ...rows.toSorted(([a = ""], [b = ""]) => a.localeCompare(b)),
  ];
  return lines.map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

/** Whether an engine maps its containers' users to others of the host, unless it is told to. */
function usersOf({ SecurityOptions }: Findings["about"]): string {
  if (SecurityOptions.some((option) => option.includes("rootless"))) return "one user's";
  return SecurityOptions.some((option) => option.includes("userns")) ? "mapped" : "the host's";
}

function seconds(startedMs: number): string {
  return ((performance.now() - startedMs) / 1000).toFixed(0);
}

function outcomeText({ actor, expected, seen }: Outcome): string {
  const isRight = seen === expected ? "" : ` (NOT ${expected})`;
  return seen === "granted" ? `${actor}${isRight}` : `${actor}: ${seen}${isRight}`;
}
