// Question: has this machine what the server needs: the kernel, Node, cgroups, and a security module
// that does not stand in the way? Nothing is changed.
import { existsSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { release } from "node:os";
import type { Config } from "../../server/config.ts";
import { askPeercred, PEERCRED } from "../ask-peercred.ts";
import { attempt, type Finding, failed, isRoot, needsRoot, ok, warning } from "./finding.ts";
import { checkSecurityModule } from "./security-module.ts";
import type { ServerProcess } from "./user.ts";

const NODE_MAJOR_MIN = 24;
const CAP_SYS_PTRACE = 19n;
const MANUAL = 'see "What a host needs" in docs/operate.md';

export async function checkMachine(
  config: Config | undefined,
  socket: string,
  server: ServerProcess | undefined,
): Promise<Finding[]> {
  return [
    ...(await attempt("kernel", MANUAL, () => checkKernel(config?.allow_no_pidfd))),
    checkNode(),
    ...(await attempt("cgroups", MANUAL, () => [checkCgroups()])),
    ...(await attempt("namespaces", MANUAL, () => checkNamespaces(server))),
    ...(await attempt("security module", MANUAL, () => checkSecurityModule(socket, server))),
  ];
}

async function checkKernel(allowsNoPidfd = false): Promise<Finding[]> {
  const kernel = `Linux ${release()}`;
  const answer = await askPeercred("");
  if (answer === "ready pidfd") return [ok("kernel", `${kernel}, with SO_PEERPIDFD`)];
  if (answer !== "ready no-pidfd") {
    const advice = "`npm run prepare-machine` makes it, and an archive has it";
    return [failed("kernel", `${kernel}: ${PEERCRED} does not start: ${answer}`, advice)];
  }
  const without = `${kernel}, without SO_PEERPIDFD`;
  const price = "a pid may be another process's by the time that the server looks";
  return allowsNoPidfd
    ? [warning("kernel", without, `"allow_no_pidfd" is set: ${price}; Linux 6.5 has it`)]
    : [failed("kernel", without, `take Linux 6.5 or newer; "allow_no_pidfd" starts, but ${price}`)];
}

function checkNode(): Finding {
  const { node } = process.versions;
  if (Number.parseInt(node, 10) >= NODE_MAJOR_MIN) return ok("node", `Node ${node}`);
  return failed("node", `Node ${node}`, `the server needs Node ${NODE_MAJOR_MIN}`);
}

function checkCgroups(): Finding {
  const root = "/sys/fs/cgroup";
  if (existsSync(`${root}/cgroup.controllers`)) return ok("cgroups", "v2");
  if (existsSync(`${root}/unified/cgroup.procs`))
    return ok("cgroups", "hybrid: v1, and v2 beside it");
  if (existsSync(`${root}/memory`) || existsSync(`${root}/systemd`)) return ok("cgroups", "v1");
  const advice = "mount it; in a container: -v /sys/fs/cgroup:/sys/fs/cgroup:ro";
  return failed("cgroups", `${root} holds none`, advice);
}

/** The server sees containers by the kernel's numbers, so it must be in the namespaces of the host; this
 * command is taken to be in them. */
function checkNamespaces(server: ServerProcess | undefined): Finding[] {
  if (!server) return [];
  if (!isRoot()) return [needsRoot("namespaces")];
  const options = {
    pid: "--pid=host, or hostPID: true",
    cgroup: "--cgroupns=host, or the host's /sys/fs/cgroup mounted there",
    user: "no user namespace",
  };
  const apart = Object.entries(options).filter(([kind]) => {
    const namespaceOf = (pid: string) => readlinkSync(`/proc/${pid}/ns/${kind}`);
    const isApart = namespaceOf(`${server.pid}`) !== namespaceOf("self");
    return isApart && !(kind === "cgroup" && seesCgroups(server.pid));
  });
  const findings = apart.map(([kind, option]) =>
    failed(
      "namespaces",
      `the server is in a ${kind} namespace of its own`,
      `start it with ${option}`,
    ),
  );

  const status = readFileSync(`/proc/${server.pid}/status`, "utf8");
  const [, effective = "0"] = /^CapEff:\t(\w+)$/m.exec(status) ?? [];
  const canLook = (BigInt(`0x${effective}`) >> CAP_SYS_PTRACE) & 1n;
  const mounts = readFileSync(`/proc/${server.pid}/mounts`, "utf8");
  const [, hidepid] = /^\S+ \/proc proc \S*\bhidepid=(\w+)/m.exec(mounts) ?? [];
  if (!canLook) {
    const seen = hidepid ? `, and /proc has hidepid=${hidepid}` : "";
    findings.push(
      failed(
        "namespaces",
        `the server (process ${server.pid}) lacks CAP_SYS_PTRACE${seen}`,
        "it must look into /proc of others: AmbientCapabilities=CAP_SYS_PTRACE, or --cap-add SYS_PTRACE",
      ),
    );
  }
  if (findings.length > 0) return findings;
  const hidden = hidepid ? `; hidepid=${hidepid} does not hold it back` : "";
  return [
    ok("namespaces", `the server is in the host's, and may look into /proc of others${hidden}`),
  ];
}

/** In a cgroup namespace of its own the server finds its way by the host's directories (process.ts). */
function seesCgroups(pid: number): boolean {
  const [its, ours] = [`/proc/${pid}/root`, ""].map((root) => statSync(`${root}/sys/fs/cgroup`));
  return its?.dev === ours?.dev && its?.ino === ours?.ino;
}
