// Attacks on a cluster: each as a real program in real pods, against a naive server, against ours
// without one defence, and against ours. The rows stand in docs/attacks.md.
import { existsSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { decision, TOKEN, unaccepted, without } from "../attacks/arena.ts";
import { attack } from "../attacks/table.ts";
import { until } from "../stage.ts";
import { type Arm, Arena, childrenOf, descriptorsOf, OTHER, type Part, type RunningPod } from "./arena.ts";
import { idInMounts } from "./naive.ts";

let arena: Arena;
beforeAll(async () => {
  arena = await Arena.open();
});
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
      if (accepted) await until("it was accepted", () => descriptorsOf(acceptor) > before);
      const [connector = 0] = childrenOf(await stranger.pid());
      process.kill(connector, "SIGKILL");
      await until("it was reaped", () => !existsSync(`/proc/${connector}`));
      await until("a worker has its number", () => {
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
    find: { id: idInMounts },
    minusOne: "not separable: mounts are never read for identity",
  },
  {
    number: "K3" as const,
    what: "makes a cgroup with the victim's name below its own, and goes there",
    how: "inside",
    find: {},
    minusOne: "not separable: one parser; its tests are in test/pod-cgroups.test.ts",
  },
])("a pod's root without capabilities that $what", ({ number, how, find, minusOne }) => {
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
    expect(line).toMatchObject({ event: "refused", reason: "no-match" });
    console.log(JSON.stringify(line));
    note("defended", "no-match: pod.namespace");
    note("honest", "served");
  });
});
