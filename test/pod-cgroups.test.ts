// Question: which container of a pod is a process in, by its cgroups, where the engine is a CRI?
// Covered:  containerd and CRI-O; both cgroup drivers, and a kubelet and an engine that differ in it;
//           cgroup v1, v2 and both; guaranteed, burstable, best-effort and static pods; kind, from
//           inside and outside; a server in a cgroup namespace of its own; names that a workload can
//           give to cgroups below its own (attack K3), and what is no pod's. With Docker's API:
//           process.test.ts.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { expectPods, findContainer } from "../server/process.ts";

const ID = "0123456789abcdef".repeat(4);
const OTHER = "fedcba9876543210".repeat(4);

describe("where the engine is a CRI, the container of a pod is", () => {
  const POD = "pod81b985f3-0c58-46cc-9bfc-43843fa73198";
  const SLICE = `kubepods-besteffort-${POD.replaceAll("-", "_")}.slice`;
  const CONTAINERD = `cri-containerd-${ID}.scope`;
  const SLICES = `/kubepods.slice/kubepods-besteffort.slice/${SLICE}`;
  const KIND = `/kubelet.slice/kubelet-kubepods.slice/kubelet-${SLICE}/${CONTAINERD}`;
  beforeAll(expectPods);

  test.each<[string, string[]]>([
    ["by cgroupfs", [`0::/kubepods/besteffort/${POD}/${ID}`]],
    [
      "… in cgroup v1",
      [
        `12:pids:/kubepods/burstable/${POD}/${ID}`,
        `1:name=systemd:/kubepods/burstable/${POD}/${ID}`,
      ],
    ],
    [
      "… in both",
      [`12:pids:/kubepods/burstable/${POD}/${ID}`, `0::/kubepods/burstable/${POD}/${ID}`],
    ],
    ["… guaranteed its resources", [`0::/kubepods/${POD}/${ID}`]],
    ["… of a static pod", [`0::/kubepods/burstable/pod${"0f".repeat(16)}/${ID}`]],
    ["… of CRI-O", [`0::/kubepods/besteffort/${POD}/crio-${ID}`]],
    ["by systemd", [`0::${SLICES}/${CONTAINERD}`]],
    [
      "… in cgroup v1",
      [`12:pids:${SLICES}/${CONTAINERD}`, `1:name=systemd:${SLICES}/${CONTAINERD}`],
    ],
    ["… guaranteed its resources", [`0::/kubepods.slice/kubepods-${POD}.slice/${CONTAINERD}`]],
    ["… of CRI-O", [`0::${SLICES}/crio-${ID}.scope`]],
    ["… of CRI-O with crun, which has one below", [`0::${SLICES}/crio-${ID}.scope/container`]],
    [
      "by systemd for the kubelet, by cgroupfs for containerd",
      [`0::/system.slice/containerd.service/${SLICE}:cri-containerd:${ID}`],
    ],
    ["… for CRI-O", [`0::/system.slice/crio.service/${SLICE}:crio:${ID}`]],
    ["in kind", [`0::/kubelet/kubepods/besteffort/${POD}/${ID}`]],
    ["in kind, by systemd", [`0::${KIND}`]],
    [
      "in kind, seen from outside of the node's container",
      [`0::/docker/${OTHER}/kubelet/kubepods/besteffort/${POD}/${ID}`],
    ],
    ["… by systemd", [`0::/system.slice/docker-${OTHER}.scope${KIND}`]],
    ["not one that it has made below its own", [`0::/kubepods/besteffort/${POD}/${ID}/${OTHER}`]],
    [
      "… as of another pod",
      [`0::/kubepods/besteffort/${POD}/${ID}/kubepods/besteffort/${POD}/${OTHER}`],
    ],
    ["… as by systemd", [`0::${SLICES}/${CONTAINERD}${SLICES}/cri-containerd-${OTHER}.scope`]],
    ["… as of Docker", [`0::/kubepods/${POD}/${ID}/docker/${OTHER}`]],
    ["… with a colon", [`0::/kubepods/${POD}/${ID}/${SLICE}:cri-containerd:${OTHER}`]],
  ])("%s", (_, cgroup) => {
    const { id, directories = [] } = findContainer(cgroup) ?? {};
    expect(id).toBe(ID);
    expect(directories).toHaveLength(cgroup.length);
    for (const directory of directories)
      expect(directory).toMatch(new RegExp(`^/sys/fs/cgroup/.*[-/:]${ID}(\\.scope)?$`));
  });

  test.each<[string, string[]]>([
    ["of Docker", [`0::/docker/${ID}`]],
    ["of Docker, by systemd", [`0::/system.slice/docker-${ID}.scope`]],
    ["of containerd, without a kubelet", [`0::/default/${ID}`]],
    ["of containerd, in a unit of the host's", [`0::/system.slice/cri-containerd-${ID}.scope`]],
    ["the pod itself", [`0::/kubepods/besteffort/${POD}`]],
    ["the kubelet itself", ["0::/system.slice/kubelet.service"]],
    ["CRI-O's conmon", [`0::${SLICES}/crio-conmon-${ID}.scope`]],
    ["in a user's session", [`0::/user.slice/user-7.slice/user@7.service${SLICES}/${CONTAINERD}`]],
    ["two in two lines", [`2:pids:/kubepods/${POD}/${ID}`, `0::/kubepods/${POD}/${OTHER}`]],
    ["of another name", [`0::${SLICES}/docker-${ID}.scope`]],
    ["an id in capitals", [`0::/kubepods/${POD}/${ID.toUpperCase()}`]],
    ["an id that is too long", [`0::/kubepods/${POD}/${ID}0`]],
    ["above the root of the cgroup file system", [`0::/../${SLICE}/${CONTAINERD}`]],
    ["… further", [`0::/../../../kubepods/${POD}/${ID}`]],
  ])("not known: %s", (_, cgroup) => {
    expect(findContainer(cgroup)).toBeUndefined();
  });

  test("not changed by what the workload names its own cgroups", () => {
    const name = fc.string({ minLength: 1 }).filter((text) => !/[/\n]|^\.\.?$/.test(text));
    const forged = [
      "kubepods",
      SLICE,
      POD,
      OTHER,
      `crio-${OTHER}.scope`,
      `${SLICE}:crio:${OTHER}`,
      "user@7.service",
    ];
    fc.assert(
      fc.property(
        fc.constantFrom(
          `kubepods/${POD}/${ID}`,
          SLICES.slice(1).concat(`/${CONTAINERD}`),
          KIND.slice(1),
        ),
        fc.array(fc.oneof(name, fc.constantFrom(...forged))),
        (container, below) => {
          expect(findContainer([`0::/${[container, ...below].join("/")}`])?.id).toBe(ID);
        },
      ),
    );
  });

  test("found in a time that does not explode with the length", () => {
    expect(findContainer([`0::${"/kubepods".repeat(455)}`])).toBeUndefined(); // PATH_MAX
    expect(findContainer([`0::/kubepods${`:crio:${ID}x`.repeat(60)}`])).toBeUndefined();
  });

  /** Where this machine's cgroup hierarchies are, as far as they take a process at once. */
  const hierarchies = readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .flatMap((line) => / \/ (\S+) .* - cgroup.*(?:2 rw|pids|name=)/.exec(line)?.slice(1) ?? []);

  test.each(hierarchies)(
    "the host's, where the server is in a cgroup namespace of its own: %s",
    async (hierarchy) => {
      const ours = join(hierarchy, `authproxy:${process.pid}`);
      const [pods, servers] = [`${ours}/kubepods/${POD}/${ID}`, `${ours}/kubepods/pod2/${OTHER}`];
      for (const path of [pods, servers]) mkdirSync(path, { recursive: true });
      const move = (path: string) => `echo $$ >"${path}/cgroup.procs"; exec "$@"`;
      const pod = spawn("sh", ["-ec", move(pods), "sh", "sleep", "60"]);
      try {
        const sees = () => readFileSync(`/proc/${pod.pid}/cgroup`, "utf8").includes(ID);
        while (!sees()) await sleep(20);
        const source = join(import.meta.dirname, "../server/process.ts");
        const script = `import { expectPods, glanceAt, readProcess } from ${JSON.stringify(source)};
          expectPods();
          const { cgroup, container } = glanceAt(${pod.pid});
          const { alone } = readProcess(${pod.pid});
          console.log(JSON.stringify({ cgroup, container, alone }));`;
        const server = [
          "unshare",
          "--cgroup",
          process.execPath,
          "--input-type=module",
          "-e",
          script,
        ];
        const output = execFileSync("sh", ["-ec", move(servers), "sh", ...server], {
          encoding: "utf8",
        });
        const { cgroup, ...seen } = JSON.parse(output);
        expect(cgroup).toContainEqual(expect.stringMatching(`:/\\.\\./\\.\\./${POD}/${ID}$`));
        expect(seen).toEqual({ container: { id: ID, directories: [pods] }, alone: true });
      } finally {
        const ended = once(pod, "exit");
        pod.kill("SIGKILL");
        await ended;
        execFileSync("find", [ours, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]);
      }
    },
  );
});
