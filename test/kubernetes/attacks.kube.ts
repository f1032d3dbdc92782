// Attacks on a cluster: each as a real program in real pods, against a naive server, against ours
// without one defence, and against ours. The rows stand in docs/attacks.md. Siblings that are covered:
// cgroups that are made below one's own, joined, and made again after their container has ended; what
// gets at a waiting client (sidecar, debugger, hostPID); what changes in a pod that runs (label, image,
// program on a volume, sandbox); everything that a pod's creator writes.
import { randomUUID } from "node:crypto";
import { appendFileSync, existsSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { fetchTree } from "../../scripts/debian.ts";
import { DECISIONS, decision, TOKEN, unaccepted, without } from "../attacks/arena.ts";
import { cgroupsOfProcess } from "../attacks/cgroups.ts";
import { attack } from "../attacks/table.ts";
import type { Server } from "../stage.ts";
import {
  Arena,
  type Arm,
  childrenOf,
  descriptorsOf,
  LABELS,
  OTHER,
  type Part,
  type RunningPod,
  SHOP,
  statusOf,
} from "./arena.ts";
import { waitUntil } from "./cluster.ts";
import { byMounts, byPodUid, podsOfApiServer, podsOfKubelet } from "./naive.ts";

let arena: Arena;
beforeAll(async () => {
  arena = await Arena.open();
});
beforeEach(() => arena.beginTest());
afterEach(() => arena.endTest());
afterAll(() => arena?.scene[Symbol.asyncDispose]());

describe("a stranger whose number a trusted process gets", () => {
  const note = attack("K1");
  type Stop = <T>(what: () => Promise<T>) => Promise<T>;

  /** Nobody looks at the stranger until a worker of the service has its number. */
  async function reuse({ socket, acceptor }: Arm, stop: Stop, accepted = true) {
    const victim = await arena.run({ name: "victim", containers: [{ command: ["/app/worker"] }] });
    await victim.says("ready");
    const service = await victim.pid();
    return await stop(async () => {
      const before = descriptorsOf(acceptor);
      const containers: [Part] = [{ command: ["/app/orphan", socket] }];
      const stranger = await arena.run({ name: "stranger", namespace: OTHER, containers });
      await stranger.says("connected");
      if (accepted) await waitUntil("it was accepted", () => descriptorsOf(acceptor) > before);
      const [connector = 0] = childrenOf(await stranger.pid());
      process.kill(connector, "SIGKILL");
      await waitUntil("it was reaped", () => !existsSync(`/proc/${connector}`));
      await waitUntil("a worker has its number", () => {
        if (childrenOf(service)[0] === connector) return true;
        writeFileSync("/proc/sys/kernel/ns_last_pid", String(connector - 1));
        process.kill(service, "SIGUSR1");
        return false; // others fork too: look again, try again
      });
      return { stranger, connector };
    });
  }

  test("gets the token from a naive server, though it was accepted before", async () => {
    const looks = Promise.withResolvers<void>();
    const arm = await arena.naive(undefined, { look: () => looks.promise });
    const { stranger } = await reuse(arm, (what) => what().finally(looks.resolve));
    expect(await stranger.says("thief: end")).toContain(TOKEN);
    note("naive", "falls");
  });

  const relax = ["init", "alone", "once"];

  test("gets nothing: exited", async () => {
    const arm = await arena.ours({ relax });
    const { server } = arm;
    const { stranger, connector } = await reuse(arm, (what) =>
      unaccepted({ acceptor: server.pid }, what),
    );
    expect(await stranger.says("thief: end")).not.toContain(TOKEN);
    await server.until({ event: "refused", reason: "exited", pid: connector });
    note("defended", "exited");
    await arena.honest(arm, note);
  });

  test("gets the token on a kernel without SO_PEERPIDFD, if it was not accepted before, and init, alone, once are relaxed", async () => {
    const arm = await arena.ours({ relax, under: without("peerpidfd"), allow_no_pidfd: true });
    const { stranger } = await reuse(arm, (what) => unaccepted(arm, what), false);
    expect(await stranger.says("thief: end")).toContain(TOKEN);
    note("minus one", "before accept, without SO_PEERPIDFD, init, alone, once: falls");
  });
});

/** The directory of the pod's cgroup, and the container's, by their names. */
async function cgroupOf(pod: RunningPod): Promise<string> {
  const { metadata } = await pod.get();
  return `kubepods/pod${metadata.uid}/${await pod.id()}`;
}

describe.each([
  {
    number: "K2" as const,
    what: "shows a cgroup with the victim's name among the mounts of its own mount namespace",
    how: "mounted",
    find: { find: byMounts },
    minusOne: "not separable: mounts are never read for identity",
  },
  {
    number: "K3" as const,
    what: "makes a cgroup with the victim's name below its own, and goes there",
    how: "inside",
    find: {},
    minusOne: "not separable: one parser; its tests are in test/pod-cgroups.test.ts",
  },
])("a pod's root without added capabilities that $what", ({ number, how, find, minusOne }) => {
  const note = attack(number, minusOne);

  async function forge({ socket }: Arm) {
    const victim = await arena.honest({ socket } as Arm);
    const thief = await arena.run({
      name: "forger",
      namespace: OTHER,
      user: 0,
      containers: [
        {
          command: ["/app/below", how, await cgroupOf(victim), socket],
        },
      ],
    });
    return { thief, output: await thief.says("thief: end") };
  }

  test("gets the token from a naive server", async () => {
    const { output } = await forge(await arena.naive(undefined, find));
    expect(output).toContain(TOKEN);
    note("naive", "falls");
  });

  test("gets nothing: it is the pod that it is, no-match", async () => {
    const arm = await arena.ours();
    const { thief, output } = await forge(arm);
    expect(output).not.toContain(TOKEN);
    const line = await decision(arm.server, { id: await thief.id() });
    expect(line).toMatchObject({ reason: "no-match", detail: { path: "pod.namespace" } });
    note("defended", "no-match: pod.namespace");
    note("honest", "served");
  });
});

/** What has the directories of all hierarchies of the host. */
const CGROUPS = { name: "cgroups", hostPath: { path: "/sys/fs/cgroup", type: "Directory" } };
const IN_POD = "/host/cgroup";

async function cgroupsOfPod(pod: RunningPod): Promise<string[]> {
  const [id, pid] = [await pod.id(), await pod.pid()];
  return cgroupsOfProcess(pid).filter((directory) => directory.endsWith(id));
}

/** A pod's root, with the host's cgroups in a volume, goes to these, and asks from there. */
async function enter({ socket }: Arm, directories: string[]) {
  const volumeMounts = [{ name: "cgroups", mountPath: IN_POD }];
  const places = directories.map((directory) => directory.replace("/sys/fs/cgroup", IN_POD));
  const command = ["/app/enter", socket, ...places];
  const containers: [Part] = [{ command, volumeMounts }];
  const volumes = [CGROUPS];
  const thief = await arena.run({
    name: "usurper",
    namespace: OTHER,
    user: 0,
    containers,
    volumes,
  });
  return await thief.says("thief: end");
}

describe("a pod with a hostPath to the cgroups that joins the victim's", () => {
  const note = attack("K3b");

  test("gets the token from a naive server", async () => {
    const arm = await arena.naive();
    const victim = await arena.honest(arm);
    expect(await enter(arm, await cgroupsOfPod(victim))).toContain(TOKEN);
    note("naive", "falls");
  });

  test.each([
    { relax: [], which: "namespace" },
    {
      relax: ["init", "alone", "once"],
      which: "without init, alone, once: stopped by namespace",
    },
  ])("gets nothing, with $relax relaxed: namespace", async ({ relax, which }) => {
    const arm = await arena.ours({ relax });
    const victim = await arena.honest(arm, note);
    const id = await victim.id();
    expect(await enter(arm, await cgroupsOfPod(victim))).not.toContain(TOKEN);
    const line = await decision(arm.server, { id }, 2);
    expect(line).toMatchObject({ event: "refused", reason: "namespace" });
    note(relax.length ? "minus one" : "defended", which);
  });
});

describe("a pod with a hostPath to the cgroups that makes one with the name of a container that has ended", () => {
  const note = attack("K7b", "not separable: there is no process to compare with");

  /** Its pod is still there, as those of jobs are. */
  async function impersonate(arm: Arm) {
    const victim = await arena.honest(arm);
    const id = await victim.id();
    const directories = (await cgroupsOfPod(victim)).map((path) =>
      path.replace(/kubepods\/.*/, `kubepods/${victim.name}/${id}`),
    );
    await victim.kill(id);
    await victim.waitFor(({ status }) => status.phase === "Failed");
    return { id, output: await enter(arm, directories) };
  }

  test("gets the token from a naive server", async () => {
    expect((await impersonate(await arena.naive())).output).toContain(TOKEN);
    note("naive", "falls");
  });

  test("gets nothing: the engine says that it has no process", async () => {
    const arm = await arena.ours();
    const { id, output } = await impersonate(arm);
    expect(output).not.toContain(TOKEN);
    const line = await decision(arm.server, { id }, 2);
    expect(line).toMatchObject({ event: "unavailable", reason: "starting" });
    note("defended", "starting");
    note("honest", "served");
  });
});

describe("kubectl exec, or code that runs inside later", () => {
  const note = attack("K4");

  async function connectInside(arm: Arm) {
    const victim = await arena.honest(arm);
    const { stdout } = await victim.exec(["/app/steal", arm.socket]);
    return { id: await victim.id(), stdout };
  }

  test("gets the token from a naive server", async () => {
    expect((await connectInside(await arena.naive())).stdout).toContain(TOKEN);
    note("naive", "falls");
  });

  test.each([
    { relax: [], event: "refused", reason: "init" },
    { relax: ["alone", "once"], event: "refused", reason: "init" },
    { relax: ["init", "once"], event: "unavailable", reason: "alone" },
    { relax: ["init", "alone"], event: "refused", reason: "once" },
  ])("gets nothing, with $relax relaxed: $reason", async ({ relax, event, reason }) => {
    const arm = await arena.ours({ relax });
    const { id, stdout } = await connectInside(arm);
    expect(stdout).toContain(event);
    expect(await decision(arm.server, { id }, 2)).toMatchObject({ event, reason });
    note(
      relax.length ? "minus one" : "defended",
      relax.length ? `only ${reason}: stopped` : reason,
    );
    note("honest", "served");
  });

  test("gets the token where all three checks are relaxed, and the audit says so", async () => {
    const relax = ["init", "alone", "once"];
    const arm = await arena.ours({ relax });
    const { id, stdout } = await connectInside(arm);
    expect(stdout).toContain(TOKEN);
    expect(await decision(arm.server, { id }, 2)).toMatchObject({
      event: "granted",
      relaxed: relax,
    });
    note("minus one", "none of init, alone, once: falls");
  });
});

/** `kubectl debug`: an ephemeral container in the pod, with the socket in it. */
async function debug(
  pod: RunningPod,
  name: string,
  image: string,
  command: string[],
  more: string[] = [],
) {
  const file = join(arena.cluster.directory, `${name}.json`);
  const volumeMounts = [{ name: "sockets", mountPath: "/run/authproxy", readOnly: true }];
  writeFileSync(file, JSON.stringify({ volumeMounts }));
  const words = ["debug", "--namespace", pod.namespace, pod.name, "--container", name];
  words.push("--image", image, "--image-pull-policy", "Never", "--custom", file, ...more);
  const { status, stderr } = await arena.cluster.kubectl([...words, "--", ...command]);
  expect(status, stderr).toBe(0);
}

describe("kubectl debug: an ephemeral container with the pod's labels", () => {
  let victim: RunningPod;
  beforeAll(async () => {
    victim = await arena.run({ name: "victim", containers: [{ command: ["/app/trusted"] }] });
    await victim.waitFor(({ status }) => status.phase === "Running");
  });

  async function ask({ socket }: Arm, name: string, image: string) {
    await debug(victim, name, image, ["/app/steal", socket]);
    return { output: await victim.says("thief: end", name), id: await victim.id(name) };
  }

  describe("and another image", () => {
    const note = attack("K5");

    test("gets the token from a naive server", async () => {
      const { output } = await ask(await arena.naive(), arena.unique("debug"), arena.otherImage);
      expect(output).toContain(TOKEN);
      note("naive", "falls");
    });

    test.each([
      {
        without: "",
        path: /^(pod.container|container.Image)$/,
        end: "no-match: pod.container, container.Image",
      },
      {
        without: "pod.container",
        path: /^container.Image$/,
        end: "without pod.container: stopped by container.Image",
      },
      {
        without: "container.Image",
        path: /^pod.container$/,
        end: "without container.Image: stopped by pod.container",
      },
    ])("gets nothing, where the policy is without '$without'", async ({ without, path, end }) => {
      const { pod, container } = arena.match;
      const { container: _, ...others } = pod;
      const match = without === "pod.container" ? { pod: others, container } : { pod };
      const arm = await arena.ours({ match: without ? match : arena.match });
      const { output, id } = await ask(arm, arena.unique("debug"), arena.otherImage);
      expect(output).not.toContain(TOKEN);
      const line = await decision(arm.server, { id });
      expect(line).toMatchObject({ event: "refused", reason: "no-match" });
      expect((line.detail as { path: string }).path).toMatch(path);
      note(without ? "minus one" : "defended", end);
      if (!without) await arena.honest(arm, note);
    });

    test("gets the token where the policy lists its name, and no image", async () => {
      const name = arena.unique("debug");
      const pod = { ...arena.match.pod, container: ["app", name] };
      const arm = await arena.ours({ match: { pod } });
      expect((await ask(arm, name, arena.otherImage)).output).toContain(TOKEN);
      note("minus one", "without both: falls");
    });

    test("is no service: a policy with neither is refused at load", async () => {
      const { namespace, labels } = arena.match.pod;
      expect(await arena.refusedAtLoad({ pod: { namespace, labels } })).toContain(
        "services.app.match",
      );
    });
  });

  describe("and the pod's own image, with another command", () => {
    const note = attack("K5b");

    test("gets the token from a naive server", async () => {
      const { output } = await ask(await arena.naive(), arena.unique("debug"), arena.image);
      expect(output).toContain(TOKEN);
      note("naive", "falls");
    });

    test("gets nothing: no-match, pod.container", async () => {
      const arm = await arena.ours();
      const { output, id } = await ask(arm, arena.unique("debug"), arena.image);
      expect(output).not.toContain(TOKEN);
      const line = await decision(arm.server, { id });
      expect(line).toMatchObject({ reason: "no-match", detail: { path: "pod.container" } });
      note("defended", "no-match: pod.container");
      await arena.honest(arm, note);
    });

    test("gets the token where the policy is without pod.container", async () => {
      const { namespace, labels } = arena.match.pod;
      const { container } = arena.match;
      const arm = await arena.ours({ match: { pod: { namespace, labels }, container } });
      expect((await ask(arm, arena.unique("debug"), arena.image)).output).toContain(TOKEN);
      note("minus one", "Image, without pod.container: falls");
    });
  });
});

/** A pod whose application waits for its answer. With CAP_DAC_OVERRIDE, which containerd gives to every
 * user until execve(2), a program that may only be executed would count as one that can be read. */
async function waiting({ socket }: Arm, name: string, spec: object = {}, sidecar: Part[] = []) {
  const command = [`/app/${name}`, socket, "/app/trusted"];
  const app = { command, securityContext: { capabilities: { drop: ["ALL"] } } };
  const victim = await arena.run({ name: "victim", containers: [app, ...sidecar], spec });
  await victim.id();
  const pid = await victim.pid();
  await waitUntil("it has connected", () => isSocket(`/proc/${pid}/fd/3`));
  return { victim, pid };
}

function isSocket(file: string): boolean {
  try {
    return readlinkSync(file).startsWith("socket:");
  } catch {
    return false;
  }
}

const DENIED = /thief: (Operation not permitted|Permission denied)/;

/** Takes the socket on which a pod's application waits; gives what the thief gets for it. */
type Rob = (victim: RunningPod, pid: number) => Promise<() => Promise<string>>;

const bySidecar: Rob = async (victim, pid) => {
  const inside = /^NSpid:.*\t(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? "";
  const words = ["exec", "--namespace", victim.namespace, victim.name, "--container", "sidecar"];
  const thief = arena.kubectl(...words, "--", "/app/take", inside);
  await Promise.race([thief.says("taken"), thief.ended]);
  return () => thief.ended;
};

const byDebugger: Rob = async (victim) => {
  const name = arena.unique("debug");
  await debug(victim, name, arena.image, ["/app/take", "1"], ["--target", "app"]);
  const said = () => victim.output(name);
  await waitUntil("it has taken the socket, or not", () => /taken|thief: /.test(said()));
  return async () => (DENIED.test(said()) ? said() : await victim.says("thief: end", name));
};

const byHostPid: Rob = async (_, pid) => {
  const containers: [Part] = [{ command: ["/app/take", `${pid}`] }];
  const spec = { hostPID: true };
  const thief = await arena.run({ name: "robber", namespace: OTHER, containers, spec });
  await waitUntil("it has taken the socket, or not", () => /taken|thief: /.test(thief.output()));
  return async () =>
    DENIED.test(thief.output()) ? thief.output() : await thief.says("thief: end");
};

describe.each([
  {
    number: "K6" as const,
    who: "another container of the pod (shareProcessNamespace)",
    rob: bySidecar,
    shared: true,
  },
  { number: "K6b" as const, who: "a pod with hostPID", rob: byHostPid, shared: false },
  { number: "K5c" as const, who: "kubectl debug --target", rob: byDebugger, shared: false },
])("$who that takes the socket on which the application waits", ({ number, rob, shared }) => {
  const note = attack(number);
  const spec = shared ? { shareProcessNamespace: true } : {};
  const sidecar = shared ? [{ name: "sidecar", command: ["/app/trusted"] }] : [];
  const undumpable = () => ({ ...arena.match, process: { dumpable: false } });

  async function robbed(arm: Arm, name = "become") {
    const { victim, loot } = await unaccepted(arm, async () => {
      const { victim, pid } = await waiting(arm, name, spec, sidecar);
      return { victim, loot: await rob(victim, pid) };
    });
    return { id: await victim.id(), loot: await loot() };
  }

  test("gets the token from a naive server", async () => {
    expect((await robbed(await arena.naive())).loot).toContain(TOKEN);
    note("naive", "falls");
  });

  test(`gets ${shared ? "nothing: init" : "the token where the policy is without process.dumpable"}`, async () => {
    const arm = await arena.ours();
    const { id, loot } = await robbed(arm);
    const line = await decision(arm.server, { id });
    if (shared) {
      expect(loot).not.toContain(TOKEN);
      expect(line).toMatchObject({ event: "refused", reason: "init" });
      note("defended", "init");
      await arena.honest(arm, note);
    } else {
      expect(loot).toContain(TOKEN);
      note("minus one", "all checks, without process.dumpable in the policy: falls");
    }
  });

  test("gets nothing where the policy has it: no-match, process.dumpable", async () => {
    const relax = shared ? ["init"] : [];
    const arm = await arena.ours({ match: undumpable(), relax });
    const { id, loot } = await robbed(arm);
    expect(loot).not.toContain(TOKEN);
    const line = await decision(arm.server, { id });
    expect(line).toMatchObject({ reason: "no-match", detail: { path: "process.dumpable" } });
    if (shared) note("minus one", "without init, process.dumpable in the policy: stopped by it");
    else note("defended", "no-match: process.dumpable");
  });

  test.runIf(shared)(
    "gets the token where init is relaxed, and the policy is without it",
    async () => {
      const arm = await arena.ours({ relax: ["init"] });
      expect((await robbed(arm)).loot).toContain(TOKEN);
      note("minus one", "without init: falls");
    },
  );

  test.runIf(!shared)(
    "gets nothing of a program that it cannot read, which is served",
    async () => {
      const arm = await arena.ours({ match: undumpable() });
      const { id, loot } = await robbed(arm, "unreadable-become");
      expect(loot).toMatch(DENIED);
      expect(await decision(arm.server, { id })).toMatchObject({ event: "granted" });
      note("honest", "execute-only: served, not robbed");
    },
  );
});

describe("a container that has just started", () => {
  const note = attack("K7", "not separable: no list is asked");
  const STARTS = 3;

  /** It asks once and ends, again and again. */
  async function askAtEachStart({ socket }: Arm) {
    const containers: [Part] = [{ command: ["/app/steal", socket] }];
    const pod = await arena.run({ name: "short", containers, spec: { restartPolicy: "Always" } });
    await pod.waitFor((now) => (statusOf(now, "app")?.restartCount ?? 0) >= STARTS);
    await arena.cluster.delete(pod.name, pod.namespace);
  }

  test("is refused by a naive server: the kubelet's list does not have it yet", async () => {
    const arm = await arena.naive(undefined, { isPatient: false });
    await askAtEachStart(arm);
    expect(arm.naive.log).toContain("refused");
    note("naive", "refused: the kubelet's list does not have it yet");
  });

  test("is served at once, at each start", async () => {
    const arm = await arena.ours();
    await askAtEachStart(arm);
    const lines = arm.server.events.filter(({ event }) => DECISIONS.includes(event));
    expect(lines.length).toBeGreaterThanOrEqual(STARTS);
    expect(new Set(lines.map(({ event }) => event))).toEqual(new Set(["granted"]));
    expect(new Set(lines.map(({ container }) => container)).size).toBe(lines.length);
    note("defended", "not an attack on it: the engine has each start");
    note("honest", "served, at each start");
  });
});

describe("a label put on a running pod by whoever may patch it", () => {
  const note = attack("K8", "not separable: the engine has no other labels");

  /** The application starts again once the pod has the label of the service, for all that the list says;
   * where told so, in a sandbox that is made again. */
  async function relabel({ socket }: Arm, restarted: "app" | "sandbox") {
    const metadata = { labels: { app: "stranger" } };
    const containers: [Part] = [{ command: ["/app/trusted", socket] }];
    const spec = { restartPolicy: "Always" };
    const pod = await arena.run({ name: "relabelled", metadata, containers, spec });
    expect(await pod.says("trusted: end")).not.toContain(TOKEN);
    const words = ["label", "--overwrite", "--namespace", pod.namespace, "pod", pod.name];
    const { status, stderr } = await arena.cluster.kubectl([...words, "app=payments"]);
    expect(status, stderr).toBe(0);
    await waitUntil("the kubelet knows it", async () => {
      const pods = await podsOfKubelet(arena.cluster);
      const listed = pods.find(({ metadata }) => metadata.name === pod.name);
      return isDeepStrictEqual(listed?.metadata.labels, LABELS);
    });
    const first = await pod.id();
    await pod.kill(restarted === "app" ? first : await pod.sandbox());
    await pod.waitFor((now) => (statusOf(now, "app")?.restartCount ?? 0) > 0);
    const second = await pod.id();
    expect(second).not.toBe(first);
    await waitUntil("it has asked again", () => pod.output().split("trusted: end").length > 1);
    return { pod, id: second };
  }

  test("gets the token from a naive server", async () => {
    const { pod } = await relabel(await arena.naive(), "app");
    await pod.says(TOKEN);
    note("naive", "falls");
  });

  test("gets nothing: no-match, pod.labels.app", async () => {
    const arm = await arena.ours();
    const { pod, id } = await relabel(arm, "app");
    const line = await decision(arm.server, { id });
    expect(line).toMatchObject({ reason: "no-match", detail: { path: "pod.labels.app" } });
    expect(pod.output()).not.toContain(TOKEN);
    note("defended", "no-match: pod.labels.app");
    await arena.honest(arm, note);
  });

  test("gets the token once the pod's sandbox was made again: its labels are those of that start", async () => {
    const arm = await arena.ours();
    const { id } = await relabel(arm, "sandbox");
    expect(await decision(arm.server, { id })).toMatchObject({ event: "granted" });
    note("defended", "FALLS when its sandbox was made again, a known weakness");
  });
});

describe("another image put on a running pod by whoever may patch it", () => {
  const note = attack("K8b");

  async function exchange({ socket }: Arm) {
    const containers: [Part] = [{ command: ["/app/trusted", socket] }];
    const spec = { restartPolicy: "Always" };
    const pod = await arena.run({ name: "patched", containers, spec });
    expect(await pod.says("trusted: end")).toContain(TOKEN);
    const words = ["set", "image", "--namespace", pod.namespace, `pod/${pod.name}`];
    const { status, stderr } = await arena.cluster.kubectl([...words, `app=${arena.otherImage}`]);
    expect(status, stderr).toBe(0);
    return { pod, output: await pod.says("thief: end") };
  }
  const STOLEN = /thief got: .*"token"/;

  test("gets the token from a naive server", async () => {
    expect((await exchange(await arena.naive())).output).toMatch(STOLEN);
    note("naive", "falls");
  });

  test("gets nothing: no-match, container.Image", async () => {
    const arm = await arena.ours();
    const { output } = await exchange(arm);
    expect(output).not.toMatch(STOLEN);
    const line = await arm.server.until({ event: "refused", reason: "no-match" });
    expect(line).toMatchObject({ detail: { path: "container.Image" } });
    note("defended", "no-match: container.Image");
    note("honest", "served");
  });

  test("gets the token where the policy is without Image", async () => {
    const arm = await arena.ours({ match: { pod: arena.match.pod } });
    expect((await exchange(arm)).output).toMatch(STOLEN);
    note("minus one", "without container.Image: falls");
  });
});

describe("a pod of another namespace that is like the victim in all that its creator writes", () => {
  const note = attack("K9");
  const owner = { apiVersion: "apps/v1", kind: "ReplicaSet", name: "payments", uid: randomUUID() };
  const annotations = { service: "payments" };
  const imitation = () => ({
    name: arena.unique("payments"),
    labels: LABELS,
    annotations,
    ownerReferences: [owner],
  });

  async function imitate({ socket }: Arm, metadata: ReturnType<typeof imitation>) {
    const containers: [Part] = [{ command: ["/app/trusted", socket] }];
    const { name: fullName } = metadata;
    const pod = await arena.run({ fullName, namespace: OTHER, metadata, containers });
    return { output: await pod.says("trusted: end"), id: await pod.id() };
  }

  test.each(["name", "labels", "annotations", "ownerReferences"] as const)(
    "gets the token from a naive server that trusts its %s",
    async (member) => {
      const metadata = imitation();
      const arm = await arena.naive({ pod: { [member]: metadata[member] } });
      const { output } = await imitate(arm, metadata);
      expect(output, arm.naive.log).toContain(TOKEN);
      note("naive", `falls (${member})`);
    },
  );

  test("gets nothing: no-match, pod.namespace", async () => {
    const arm = await arena.ours();
    const { output, id } = await imitate(arm, imitation());
    expect(output).not.toContain(TOKEN);
    const line = await decision(arm.server, { id });
    expect(line).toMatchObject({ reason: "no-match", detail: { path: "pod.namespace" } });
    note("defended", "no-match: pod.namespace");
    await arena.honest(arm, note);
  });

  test("gets the token where the policy is without pod.namespace", async () => {
    const metadata = imitation();
    const { name, labels } = metadata;
    const pod = { name, labels, annotations, container: "app" };
    const arm = await arena.ours({ match: { pod, container: arena.match.container } });
    expect((await imitate(arm, metadata)).output).toContain(TOKEN);
    note("minus one", "without pod.namespace: falls");
  });

  test.each([
    { name: "payments-0", container: "app" },
    { labels: LABELS, container: "app" },
    { annotations, container: "app" },
    { ownerReferences: [owner], namespace: SHOP, container: "app" },
  ])("is no service: a policy that rests on %o is refused at load", async (pod) => {
    expect(await arena.refusedAtLoad({ pod })).toContain("services.app.match");
  });
});

describe("any pod of the namespace that names the service account of another", () => {
  const note = attack("K10");
  const serviceAccountName = "payments";
  beforeAll(async () => {
    const metadata = { name: serviceAccountName, namespace: SHOP };
    await arena.cluster.apply({ apiVersion: "v1", kind: "ServiceAccount", metadata });
  });

  async function borrow({ socket }: Arm) {
    const containers: [Part] = [{ image: arena.otherImage, command: ["/app/trusted", socket] }];
    const pod = await arena.run({ name: "borrower", containers, spec: { serviceAccountName } });
    return { output: await pod.says("thief: end"), id: await pod.id() };
  }

  test("gets the token from a naive server", async () => {
    const arm = await arena.naive({ pod: { namespace: SHOP, serviceAccountName } });
    expect((await borrow(arm)).output).toContain(TOKEN);
    note("naive", "falls");
  });

  test("gets nothing: no-match, container.Image", async () => {
    const arm = await arena.ours();
    const { output, id } = await borrow(arm);
    expect(output).not.toContain(TOKEN);
    const line = await decision(arm.server, { id });
    expect(line).toMatchObject({ reason: "no-match", detail: { path: "container.Image" } });
    note("defended", "no-match: container.Image");
    await arena.honest(arm, note);
  });

  test("gets the token where the policy is without Image: whoever may create pods there is the service", async () => {
    const arm = await arena.ours({ match: { pod: arena.match.pod } });
    expect((await borrow(arm)).output).toContain(TOKEN);
    note("minus one", "without container.Image: falls");
  });

  test("is no service: a policy that rests on it is refused at load", async () => {
    const pod = { namespace: SHOP, container: "app", serviceAccountName };
    expect(await arena.refusedAtLoad({ pod })).toContain(
      "services.app.match.pod.serviceAccountName",
    );
  });
});

describe("a tag that was moved to another image; two tags of one image", () => {
  const note = attack("K11", "without the pin: refused at load");
  /** The first in the alphabet of all names that an image has is the one that the kubelet tells. */
  const TAGS = ["docker.io/library/app:1", "docker.io/library/app:stable"] as const;
  const tag = (image: string, name: string) =>
    arena.cluster.ctr("images", "tag", "--force", image, name);

  async function runTag({ socket }: Arm, image: string) {
    const pod = await arena.run({
      name: "tagged",
      containers: [{ image, command: ["/app/trusted", socket] }],
    });
    return { output: await pod.says(": end"), id: await pod.id(), pod };
  }

  test("gets the token from a naive server", async () => {
    const arm = await arena.naive({ pod: { namespace: SHOP, image: TAGS[0] } });
    await tag(arena.otherImage, TAGS[0]);
    expect((await runTag(arm, TAGS[0])).output).toMatch(/thief got: .*"token"/);
    note("naive", "falls (moved)");
  });

  test("is taken for another tag by a naive server", async () => {
    const arm = await arena.naive({ pod: { namespace: SHOP, image: TAGS[0] } });
    for (const name of TAGS) await tag(arena.image, name);
    expect((await runTag(arm, TAGS[1])).output).toMatch(/trusted got: .*"token"/);
    note("naive", "takes one for the other (two tags)");
  });

  test("gets nothing, and the right image is served under each of its names: no-match, container.Image", async () => {
    const arm = await arena.ours();
    for (const name of TAGS) {
      await tag(arena.image, name);
      expect((await runTag(arm, name)).output).toMatch(/trusted got: .*"token"/);
    }
    note("honest", "served, under each of its tags");
    await tag(arena.otherImage, TAGS[0]);
    const { output, id } = await runTag(arm, TAGS[0]);
    expect(output).not.toContain(TOKEN);
    const line = await decision(arm.server, { id });
    expect(line).toMatchObject({ reason: "no-match", detail: { path: "container.Image" } });
    note("defended", "no-match: container.Image");
  });

  test("is no service: a policy that rests on a tag is refused at load", async () => {
    const match = { pod: { container: "app" }, container: { Config: { Image: TAGS[0] } } };
    expect(await arena.refusedAtLoad(match)).toContain("services.app.match");
  });
});

describe("a program on an emptyDir that another container of the pod overwrites, before it starts again", () => {
  const note = attack("K14");
  const STOLEN = /thief got: .*"token"/;

  async function overwrite({ socket }: Arm) {
    const volumes = [{ name: "data", emptyDir: {} }];
    const volumeMounts = [{ name: "data", mountPath: "/data" }];
    const copy = (program: string) => ["/app/replace", program, "/data/server"];
    const pod = await arena.run({
      name: "overwritten",
      initContainers: [{ name: "copy", command: copy("/app/trusted"), volumeMounts }],
      containers: [
        { command: ["/data/server", socket], volumeMounts },
        { name: "sidecar", command: ["/app/trusted"], volumeMounts },
      ],
      volumes,
      spec: { restartPolicy: "Always" },
    });
    await pod.says("trusted: end");
    const first = await pod.id();
    const { status, stderr } = await pod.exec(copy("/app/steal"), "sidecar");
    expect(status, stderr).toBe(0);
    await pod.kill(first);
    return { first, output: await pod.says("thief: end") };
  }

  test("gets the token from a naive server", async () => {
    expect((await overwrite(await arena.naive())).output).toMatch(STOLEN);
    note("naive", "falls");
  });

  test("gets nothing: readonly", async () => {
    const arm = await arena.ours();
    const { output, first } = await overwrite(arm);
    expect(output).not.toMatch(STOLEN);
    expect(await decision(arm.server, { id: first })).toMatchObject({
      event: "refused",
      reason: "readonly",
    });
    note("defended", "readonly");
    await arena.honest(arm, note);
  });

  test("gets the token where readonly is relaxed, and the audit says so", async () => {
    const arm = await arena.ours({ relax: ["readonly"] });
    const { output, first } = await overwrite(arm);
    expect(output).toMatch(STOLEN);
    expect(await decision(arm.server, { id: first })).toMatchObject({ relaxed: ["readonly"] });
    note("minus one", "without readonly: falls");
  });
});

describe("another container of a pod of gVisor's, whose system calls are made by runsc-gofer", () => {
  const note = attack("K13", "not separable: no container of the engine's has the gofers' cgroup");

  beforeAll(async () => {
    const { cluster } = arena;
    const { path } = await fetchTree("bookworm", ["runsc"]);
    const handler = join(cluster.directory, "runsc");
    const words = "--platform=ptrace --network=none --host-uds=open"; // open: they may connect
    const script = `#!/bin/sh\nexec ${path}/usr/bin/runsc ${words} "$@"\n`;
    writeFileSync(handler, script, { mode: 0o755 });
    const section = 'plugins."io.containerd.grpc.v1.cri".containerd.runtimes.gvisor';
    const lines = `[${section}]\nruntime_type = "io.containerd.runc.v2"\n`;
    const options = `[${section}.options]\nBinaryName = "${handler}"\n`;
    appendFileSync(cluster.containerdConfig, lines + options);
    await cluster.containerd.end("SIGTERM");
    await cluster.startContainerdAgain();
    await cluster.untilNodeReady();
    const metadata = { name: "gvisor" };
    const kind = "RuntimeClass";
    await cluster.apply({ apiVersion: "node.k8s.io/v1", kind, metadata, handler: "gvisor" });
  });

  async function ask({ socket }: Arm): Promise<void> {
    const containers: [Part] = [{ name: "sidecar", command: ["/app/steal", socket] }];
    await arena.run({ name: "gvisor", containers, spec: { runtimeClassName: "gvisor" } });
  }

  test("gets the token from a naive server that goes by the pod's uid", async () => {
    const arm = await arena.naive(undefined, { find: byPodUid });
    await ask(arm);
    await waitUntil("it was granted", () => arm.naive.granted.length > 0);
    expect(arm.naive.log).toContain("/runsc");
    note("naive", "falls (by the pod's uid): all containers are one");
  });

  test("gets nothing: unknown-container", async () => {
    const arm = await arena.ours({ relax: ["init", "alone", "once"] });
    await ask(arm);
    const { exe } = await arm.server.until({ event: "refused", reason: "unknown-container" });
    expect(exe).toMatch(/\/runsc$/);
    note("defended", "unknown-container: the application too");
    await arena.honest(arm, note);
  });
});

describe("the API server is away, and a container starts again", () => {
  const note = attack("K12", "not separable: it is not asked");
  let server: Server;
  let outputs: string[];

  beforeAll(async () => {
    const arm = await arena.ours();
    server = arm.server;
    const asking = await arena.naive(undefined, { pods: podsOfApiServer });
    const pods = await Promise.all(
      [asking, arm].map(({ socket }) =>
        arena.run({
          name: "alone",
          containers: [{ command: ["/app/trusted", socket] }],
          spec: { restartPolicy: "Always" },
        }),
      ),
    );
    for (const pod of pods) expect(await pod.says("trusted: end")).toContain(TOKEN);
    const ids = await Promise.all(pods.map((pod) => pod.id()));
    await arena.cluster.apiServer.end("SIGTERM");
    for (const [i, pod] of pods.entries()) await pod.kill(ids[i] ?? "");
    const answers = (pod: RunningPod) => pod.output().split("trusted got: ").slice(1);
    const isAnswered = (pod: RunningPod) => answers(pod).length > 1;
    await waitUntil("both have been answered again", () => pods.every(isAnswered));
    outputs = pods.map((pod) => answers(pod)[1] ?? "");
  });
  afterAll(() => arena.cluster.startApiServerAgain());

  test("is refused by a naive server that asks it", () => {
    expect(outputs[0]).toContain("error");
    note("naive", "refused");
  });

  test("is served", async () => {
    expect(outputs[1]).toContain(TOKEN);
    const granted = () => server.events.filter(({ event }) => event === "granted");
    await waitUntil("both starts are in the audit", () => granted().length === 2);
    note("defended", "served");
    note("honest", "served");
  });
});
