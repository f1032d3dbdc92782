import { appendFileSync, writeFileSync, readFileSync } from "node:fs";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { fetchTree } from "../lab/fetch.ts";
import { Arena } from "./arena.ts";
let arena: Arena;
beforeAll(async () => { arena = await Arena.open(); });
afterAll(() => arena?.scene[Symbol.asyncDispose]());
test("gvisor", async () => {
  const { cluster } = arena;
  const { path } = await fetchTree("bookworm", ["runsc"]);
  const wrapper = join(cluster.directory, "runsc-uds");
  writeFileSync(wrapper, `#!/bin/sh\necho "$@" >>${cluster.directory}/runsc-calls\nexec ${path}/usr/bin/runsc --platform=ptrace --host-uds=open --network=none --debug --debug-log=${cluster.directory}/runsc-debug/ --ignore-cgroups "$@"\n`, { mode: 0o755 });
  const at = 'plugins."io.containerd.grpc.v1.cri".containerd.runtimes.gvisor';
  appendFileSync(cluster.containerdConfig, `\n[${at}]\n  runtime_type = "io.containerd.runc.v2"\n  [${at}.options]\n    BinaryName = "${wrapper}"\n`);
  await cluster.containerd.end("SIGTERM");
  await cluster.startContainerdAgain();
  await cluster.untilNodeReady();
  await cluster.apply({ apiVersion: "node.k8s.io/v1", kind: "RuntimeClass", metadata: { name: "gvisor" }, handler: "gvisor" });
  const naive = await arena.naive();
  const ours = await arena.ours({relax: ["init", "alone", "once"]});
  try {
    for (const arm of [naive, ours]) {
      const pod = await arena.run({ name: "gv", containers: [{ command: ["/app/trusted", arm.socket] }], spec: { runtimeClassName: "gvisor" } });
      await pod.says("trusted: end").catch((e) => console.log(String(e)));
      console.log(pod.output());
      console.log(execFileSync("ps", ["axo", "pid,ppid,uid,args"], {encoding: "utf8"}).split("\n").filter((l) => /runsc/.test(l)).map((l) => l.slice(0, 200)).join("\n"));
      const pid = await pod.pid();
      console.log(readFileSync(`/proc/${pid}/cgroup`, "utf8"), readFileSync(`/proc/${pid}/status`, "utf8").slice(0, 600));
    }
  } finally {
    console.log(ours.server.stdout.split("\n").slice(-4).join("\n"), naive.naive.log);
    console.log(execFileSync("sh", ["-c", `tail -20 ${cluster.directory}/runsc-calls; ls ${cluster.directory}/runsc-debug | tail; grep -i runsc ${cluster.directory}/containerd.log | tail -5`], {encoding: "utf8"}));
  }
}, 280_000);
