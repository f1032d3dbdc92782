// Question: where do programs come from that Debian does not have, or not in the version that is wanted?
// Input:    a directory whose go.mod and go.sum pin a source; Go, this machine's or Debian's.
// Output:   a folder of the cache, with the programs in it.
// Promise:  what was built once is found again, and is put in place whole. Nothing is installed.
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { fetchTree, type Suite } from "../../scripts/debian.ts";
import { putInPlace } from "../../scripts/npm.ts";

const run = promisify(execFile);

export type GoBuild = {
  /** Where go.mod and go.sum are. */
  module: string;
  /** Paths of packages: each makes the program of its last name. */
  commands: string[];
  ldflags: string;
  tags?: string;
  /** The least minor version of Go 1, and a suite that has it. */
  go: { minor: number; suite: Suite };
  /** Told before it begins: a build takes minutes. */
  notice: string;
};

/** Builds into this folder, unless it is there. Throws where Go or the source cannot be had. */
export async function buildGo(place: string, wanted: GoBuild): Promise<void> {
  if (existsSync(place)) return;
  const { module, commands, ldflags, tags = "" } = wanted;
  const go = await findGo(wanted.go);
  process.stderr.write(`authproxy: ${wanted.notice}\n`);
  mkdirSync(dirname(place), { recursive: true });
  const unfinished = mkdtempSync(join(dirname(place), "unfinished-"));
  try {
    const flags = ["-trimpath", "-buildvcs=false", "-tags", tags, "-ldflags", ldflags];
    const env = {
      ...process.env,
      CGO_ENABLED: "0",
      GOFLAGS: "-mod=readonly",
      GOTOOLCHAIN: "local",
    };
    const words = ["build", ...flags, "-o", `${unfinished}/`, ...commands];
    const child = spawn("nice", [go, ...words], { cwd: module, env, stdio: ["ignore", 2, 2] });
    const [status] = await once(child, "exit");
    if (status !== 0) throw new Error(`go build in ${module} failed, see above`);
    putInPlace(unfinished, place);
  } finally {
    rmSync(unfinished, { recursive: true, force: true });
  }
}

/** This machine's Go, if it is new enough, or Debian's. */
async function findGo({ minor, suite }: GoBuild["go"]): Promise<string> {
  for (const go of ["go", "/usr/local/go/bin/go"]) {
    const answer = await run(go, ["env", "GOVERSION"]).catch(() => undefined);
    const [, found] = /^go1\.(\d+)/.exec(answer?.stdout ?? "") ?? [];
    if (Number(found) >= minor) return go;
  }
  const name = `go-1.${minor}`;
  process.stderr.write(
    `authproxy: no Go 1.${minor} or newer on this machine: fetching Debian's of ${suite}\n`,
  );
  const { path } = await fetchTree(suite, [`golang-1.${minor}-go`]);
  return join(path, `usr/lib/${name}/bin/go`);
}
