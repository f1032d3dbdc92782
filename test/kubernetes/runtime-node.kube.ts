// Question: does a node that has never heard of us give a pod its secret after one command, and is it
// again what it was after another? And if it does not come back from its restart?
// Input:    real nodes, of each containerd; the command as people call it.
// Siblings covered: the sandbox of a pod, which the handler runs too; init containers; `kubectl exec`;
// variables that services make; volumes at /run and below it, in memory too; a pod that runs while
// containerd restarts; a restart that fails, one that loses the file, one after which nothing answers.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { KubernetesNode } from "../../cli/kubernetes-node.ts";
import type { JsonObject } from "../../server/json.ts";
import { block } from "../documents.ts";
import type { Cluster, ContainerdVersion } from "./cluster.ts";
import { programs } from "./prepare.ts";
import { Node } from "./processes.ts";
import { password, REFERENCE, Scene } from "./scene.ts";
import { containerdSettings, type Place } from "./settings.ts";

const cli = join(import.meta.dirname, "../../cli/authproxy.ts");

type Ran = { status: number; stdout: string; stderr: string };

/** The command, where `version` is the node's containerd. */
async function runtime(version: ContainerdVersion, ...words: string[]): Promise<Ran> {
  const env = { ...process.env, PATH: `${programs().containerd[version]}:${process.env.PATH}` };
  const argv = [cli, "runtime", ...words];
  const child = spawn(process.execPath, argv, { stdio: ["ignore", "pipe", "pipe"], env });
  const ended = once(child, "close");
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return { status: Number((await ended)[0]), stdout, stderr };
}

/** Does what systemd would do: restarts containerd when the command asks, and fails if `restart` does. */
function restarts(directory: string, restart: () => Promise<void>) {
  const [asked, failed] = [join(directory, "asked"), join(directory, "failed")];
  const stopped = new AbortController();
  const serve = async () => {
    while (!stopped.signal.aborted) {
      if (existsSync(asked)) {
        await restart().catch(() => writeFileSync(failed, ""));
        rmSync(asked);
      }
      await sleep(50); // a file gives no event that crosses a mount namespace
    }
  };
  const served = serve();
  const wait = `touch ${asked}; while [ -e ${asked} ]; do sleep 0.1; done`;
  return {
    command: `rm -f ${failed}; ${wait}; ! [ -e ${failed} ]`,
    async [Symbol.asyncDispose]() {
      stopped.abort();
      await served;
    },
  };
}

/** What runc was told, by the container's id. */
function toldRunc(cluster: Cluster): Record<string, JsonObject> {
  const place = join(cluster.directory, "state/io.containerd.runtime.v2.task/k8s.io");
  const read = (id: string) => JSON.parse(readFileSync(join(place, id, "config.json"), "utf8"));
  return Object.fromEntries(readdirSync(place).map((id) => [id, read(id)]));
}

// Two at once: the last one mostly waits for a containerd that does not answer.
test("an empty node of containerd 1.6, and back", () => thereAndBack("1.6"));
test.concurrent("an empty node of containerd 2, and back", () => thereAndBack("2"));

test.concurrent("a node that does not come back as wanted is put back, and it is said how it fares", async () => {
  const node = await Node.open(); // containerd alone
  const { directory } = node;
  try {
    await putsBack(node);
    expect(readdirSync(directory).filter((name) => /authproxy/.test(name))).toEqual([]);
  } finally {
    await node.stop();
  }
});

async function thereAndBack(version: ContainerdVersion): Promise<void> {
  await using scene = await Scene.open({ containerd: version, runtimeClass: false });
  const { cluster } = scene;
  await using restart = restarts(cluster.directory, async () => {
    await cluster.containerd.end("SIGTERM");
    await cluster.startContainerdAgain();
  });
  const config = cluster.containerdConfig;
  const before = readFileSync(config, "utf8");
  const match = { pod: { namespace: "default", container: ["app", "first"] } };
  const token = { create: "auth/token/create/app" };
  await scene.serve({ services: { app: { match, token } } });
  await cluster.apply(
    scene.pod(
      "bystander",
      { script: "sleep 600", env: { PASSWORD: "x" } },
      { runtimeClassName: undefined },
    ),
  );
  await cluster.waitFor("bystander", ({ status }) => status.phase === "Running");

  // As docs/runtime.md has it: $ authproxy runtime ACTION …
  const lines = block("docs/runtime.md", "authproxy runtime uninstall --containerd").split("\n");
  const [install = [], show = [], uninstall = []] = lines.map((line) =>
    line
      .replace(/ +[#|].*/, "")
      .split(" ")
      .slice(2),
  );
  // By our program itself, and by a script that gives it an option.
  const sockets = version === "2" ? ["--sockets", cluster.sockets] : [];
  const words = ["--config", config, "--restart", restart.command, ...sockets];
  const asked = await runtime(version, ...install, ...words);
  expect([asked.status, asked.stderr]).toEqual([64, expect.stringContaining("--yes")]);
  expect(readFileSync(config, "utf8")).toBe(before);
  const installed = await runtime(version, ...install, ...words, "--yes");
  expect(installed).toMatchObject({ status: 0, stderr: "" });
  expect(installed.stdout).toContain("containerd was restarted, and has the handler");
  expect((await cluster.pod("bystander")).status.containerStatuses?.[0]?.restartCount).toBe(0);

  const { stdout } = await runtime(version, ...show);
  expect(parse(stdout)).toEqual(parse(block("docs/runtime.md", "kind: RuntimeClass")));
  expect(await cluster.kubectl(["apply", "-f", "-"], stdout)).toMatchObject({ status: 0 });
  const first = scene.container("first", { script: "echo first: $PASSWORD" });
  const keeps = 'echo "got $PASSWORD $NODE_PORT"; sleep 600';
  // As a service named "node" makes.
  const env = { NODE_PORT: "tcp://10.0.0.1:80", AUTHPROXY_PORT: "tcp://10.0.0.2:80" };
  await scene.run("unchanged", { script: keeps, env }, { initContainers: [first] });
  expect(await cluster.says("unchanged", "got")).toContain(`got ${password} tcp://10.0.0.1:80`);

  expect(cluster.logs("unchanged")).toContain(`first: ${password}\n`);

  // The handler ran the sandbox too.
  const specs = Object.values(toldRunc(cluster));
  const kinds = specs.map(({ annotations, process }) => {
    const kind = (annotations as JsonObject)["io.kubernetes.cri.container-type"];
    const [program] = (process as { args: string[] }).args;
    return `${kind} ${program}`;
  });
  expect(kinds.sort()).toContain("container /.authproxy/ld.so");
  expect(kinds.filter((kind) => kind.startsWith("sandbox"))).toEqual([
    "sandbox /pause",
    "sandbox /pause",
  ]);
  const executed = await cluster.exec("unchanged", ["/bin/sh", "-c", 'echo "$PASSWORD"']);
  expect(executed.stdout, "a later process has the reference").toBe(`${REFERENCE}\n`);

  // Other containers of a pod may write to its volumes, in memory or not: none may lie above our mounts.
  for (const [name, mountPath, medium] of [
    ["above", "/run", ""],
    ["memory-above", "/run", "Memory"],
    ["below", "/run/nginx", ""],
  ] as const) {
    const volumes = [{ name: "v", emptyDir: { medium } }];
    await scene.run(name, { volumeMounts: [{ name: "v", mountPath }] }, { volumes });
  }
  for (const name of ["above", "memory-above"]) {
    const refused = await cluster.waitFor(name, ({ status }) =>
      JSON.stringify(status).includes("own mount at /run is in the way of"),
    );
    expect(refused.status.phase).toBe("Pending");
  }
  expect(await cluster.ended("below")).toEqual({ app: 0 });

  const removed = await runtime(version, ...uninstall, ...words, "--yes");
  expect(removed).toMatchObject({ status: 0, stderr: "" });
  expect(readFileSync(config, "utf8")).toBe(before);
  expect(readdirSync(cluster.directory).filter((name) => /authproxy/.test(name))).toEqual([]);
  expect((await cluster.pod("unchanged")).status.phase).toBe("Running");
}

async function putsBack(node: Node): Promise<void> {
  const { directory } = node;
  const { cni, containerd } = programs();
  const [config, socket] = [join(directory, "containerd.toml"), join(directory, "containerd.sock")];
  const kept = `${config}.before-authproxy`;
  const before = containerdSettings({ directory } as Place, cni);
  writeFileSync(config, before);
  const program = node.start("containerd", [containerd["1.6"]], ["containerd", "--config", config]);
  const status = () => new KubernetesNode(socket).status();
  const runs = async () => (await status().catch(() => undefined))?.isReady ?? false;
  await program.untilReady(runs);
  const again = async () => {
    await program.end("SIGTERM");
    program.startAgain();
  };
  let restartIt = again;
  await using restart = restarts(directory, () => restartIt());
  const words = ["--containerd", "--config", config, "--restart", restart.command, "--yes"];
  const install = () => runtime("1.6", "install", ...words);

  // The first restart fails, as `systemctl restart` does when containerd ends at once.
  let tries = 0;
  restartIt = async () => {
    await again();
    if (++tries === 1) throw new Error("it ended at once");
  };
  const failed = await install();
  expect([failed.status, failed.stdout, tries]).toEqual([69, "", 2]);
  expect(failed.stderr).toContain(`${config} is again what it was, and containerd runs with it`);
  expect(readFileSync(config, "utf8")).toBe(before);
  expect([await runs(), existsSync(kept)]).toEqual([true, false]);

  // The node's own software writes the file anew at each start.
  restartIt = async () => {
    writeFileSync(config, before);
    await again();
  };
  const lost = await install();
  expect([lost.status, lost.stdout]).toEqual([69, ""]);
  expect(lost.stderr).toContain("containerd answers, without the handler");
  expect(lost.stderr).toContain(`${config} was changed meanwhile, and is left as it is`);
  expect(readFileSync(config, "utf8")).toBe(before);

  // Somebody's change, which nobody had tried yet: `config dump` does not see it, and we are not to blame.
  const broken = `${before}\n[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "/x"
[plugins."io.containerd.grpc.v1.cri".registry.mirrors."y"]\nendpoint = []\n`;
  writeFileSync(config, broken);
  restartIt = again;
  const worse = await install();
  expect([worse.status, worse.stdout]).toEqual([69, ""]);
  expect(worse.stderr).toContain("containerd does not come back with it either");
  expect(readFileSync(config, "utf8")).toBe(broken);

  writeFileSync(config, before);
  await again();
  expect(await install()).toMatchObject({ status: 0, stderr: "" });
  expect(readFileSync(kept, "utf8")).toBe(before);
  expect(await runtime("1.6", "uninstall", ...words)).toMatchObject({ status: 0, stderr: "" });
  expect([readFileSync(config, "utf8"), existsSync(kept)]).toEqual([before, false]);
}
