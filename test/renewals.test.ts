// Question: which renewal goes first where more are due than may be under way?
import { randomUUID } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type Lease, LeaseFiles, nameOf } from "../server/lease-files.ts";
import { Leases } from "../server/leases.ts";
import type { Peercred } from "../server/peercred.ts";
import type { Vault } from "../server/vault.ts";

const AT_ONCE = 16;
const COUNT = 40;

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "authproxy-renewals-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** Leases of this very process, which lives; the longer its name's number, the longer its life. */
function writeLeases(files: LeaseFiles): void {
  const stat = readFileSync("/proc/self/stat", "utf8");
  const ticks = Number(stat.slice(stat.lastIndexOf(")")).split(" ")[20]);
  for (let i = 0; i < COUNT; i++) {
    const start = { container: randomUUID().replaceAll("-", "").repeat(2), pid: i + 1, ticks };
    const meta = { container: start.container };
    const lease: Lease = {
      name: nameOf(start),
      start,
      pid: process.pid,
      ticks,
      stage: "sent",
      meta,
    };
    files.write({ ...lease, accessor: `${i}`, namespace: "", ttl: 60 + i * 600, renewable: true });
  }
}

test("the token that dies first is renewed first, and no more than 16 at once", async () => {
  const files = new LeaseFiles(join(directory, "state"));
  writeLeases(files);
  const asked: number[] = [];
  let answer = Promise.withResolvers<void>();
  const renew = async ({ accessor, ttl }: Lease) => {
    asked.push(Number(accessor));
    await answer.promise;
    return ttl;
  };
  const vault = { renew, whenLoggedIn: Promise.resolve() };
  const peercred = { watch: async () => ({ exited: new Promise(() => {}) }) };
  new Leases(files, vault as unknown as Vault, peercred as unknown as Peercred).takeUpFiles();

  await vi.waitFor(() => expect(asked).toHaveLength(AT_ONCE), 3000);
  await new Promise((resolve) => setTimeout(resolve, 1000)); // now all are due
  expect(asked).toHaveLength(AT_ONCE);
  const first = answer;
  answer = Promise.withResolvers();
  first.resolve();
  await vi.waitFor(() => expect(asked).toHaveLength(2 * AT_ONCE), 3000);
  const others = Array.from({ length: COUNT }, (_, i) => i).filter(
    (i) => !asked.slice(0, AT_ONCE).includes(i),
  );
  expect(asked.slice(AT_ONCE)).toEqual(others.slice(0, AT_ONCE));
  answer.resolve();
});
