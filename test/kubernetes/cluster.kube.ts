// The cluster of these tests leaves nothing behind: neither when it stops, nor when its tests are killed.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, globSync, readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { expect, test } from "vitest";
import { startCluster } from "./cluster.ts";

const script = `
  import { startCluster } from "./cluster.ts";
  const cluster = await startCluster();
  const image = await cluster.import("authproxy-pause:1");
  const container = { name: "app", image, imagePullPolicy: "Never" };
  const metadata = { name: "app" };
  await cluster.apply({ apiVersion: "v1", kind: "Pod", metadata, spec: { containers: [container] } });
  await cluster.waitFor("app", ({ status }) => status.phase === "Running");
  console.log(cluster.directory);
  setInterval(() => {}, 60_000);`;

test("what a cluster leaves whose tests were killed goes when the next one starts", async () => {
  const words = ["--disable-warning=ExperimentalWarning", "--input-type=module", "--eval", script];
  const stdio: ["ignore", "pipe", "inherit"] = ["ignore", "pipe", "inherit"];
  const child: ChildProcess = spawn(process.execPath, words, { cwd: import.meta.dirname, stdio });
  const [line] = await once(child.stdout ?? child, "data");
  const directory = String(line).trim();
  expect(traces(directory)).toMatchObject({ processes: expect.arrayContaining(["/pause"]) });
  child.kill("SIGKILL");
  await once(child, "exit");
  expect(traces(directory)).toMatchObject({ processes: expect.arrayContaining(["/pause"]) });

  await using next = await startCluster();
  expect(traces(directory)).toEqual({ processes: [], cgroups: [], bridges: [], files: [] });
  expect(next.directory).not.toBe(directory);
});

/** What there is of a cluster on this machine. */
function traces(directory: string) {
  const name = basename(directory);
  const cgroups = globSync(`/sys/fs/cgroup/{,*/}${name}`);
  const pids = cgroups
    .flatMap((cgroup) =>
      globSync("**/cgroup.procs", { cwd: cgroup }).map((file) =>
        readFileSync(join(cgroup, file), "utf8"),
      ),
    )
    .flatMap((text) => text.split("\n").filter(Boolean));
  const inCgroups = [...new Set(pids)].map(commandOf);
  const told = readdirSync("/proc")
    .filter(Number)
    .map(commandOf)
    .filter((command) => command.includes(`${directory}/`));
  const links = execFileSync("ip", ["-o", "link"], { encoding: "utf8" }).split("\n");
  return {
    processes: [...inCgroups, ...told],
    cgroups,
    bridges: links.filter((link) => link.includes(`kube-${name.slice(-6)}`)),
    files: existsSync(directory) ? [directory] : [],
  };
}

function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim();
  } catch {
    return ""; // it has ended
  }
}
