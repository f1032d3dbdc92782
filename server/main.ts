// authproxy: gives each container its own short-lived Vault token, and reads nothing from it.
//
// `grant` is in the order of the threat model: who connected (the kernel), what that is (/proc, the
// engine), which service (the policy), what it has to prove (the checks), then its token, the same
// process once more, the audit line, and the answer, if that very process still waits for it.
import { existsSync, readlinkSync, writeFileSync } from "node:fs";
import { hostname, uptime } from "node:os";
import { setTimeout as sleep, setImmediate as turn } from "node:timers/promises";
import { isDeepStrictEqual, parseArgs } from "node:util";
import type { Config, JsonObject, Peer } from "../types.ts";
import { note, record } from "./audit.ts";
import { judge } from "./checks.ts";
import { loadConfig } from "./config.ts";
import { connectEngine } from "./engine.ts";
import { startKeeper } from "./keeper.ts";
import { listen, peerFrom } from "./peers.ts";
import { choose } from "./policy.ts";
import { cgroupOf, containerIn, readProcess } from "./process.ts";
import { Refusal, Unavailable } from "./refusal.ts";

const host = hostname();

function serve(config: Config): void {
  let services = Object.entries(config.services);
  let pidfd = false;
  let stopping = false;
  const user_namespace = readlinkSync("/proc/self/ns/user");
  const engine = connectEngine(config.engine);
  const keeper = startKeeper(config);
  const { heard, answer, watch } = listen(config.socket);
  let inFlight = 0;
  const waiting = new Set<unknown>(); // containers, of which one peer at a time is tried again

  /** Throws why not, or has sent a token. `known` becomes what the audit says of this peer. */
  async function grant(peer: Peer, known: JsonObject, began: number): Promise<void> {
    await keeper.ready;
    const cgroup = cgroupOf(peer.pid);
    const asked = engine.inspect(containerIn(cgroup).id);
    const looked = turn().then(() => readProcess(peer.pid, cgroup)); // while the engine answers
    const [container, process] = await Promise.all([asked, looked]);
    const { Id, Image, State } = container;
    Object.assign(known, { exe: process.exe, container: Id, image: Image });
    const init = State.Pid === peer.pid ? process : readProcess(State.Pid);
    const imageLabels = await engine.imageLabels(Image);
    const [named, service] = choose({ peer, process, container }, services);
    known.service = named;
    const start = { pid: State.Pid, ticks: init.start_ticks }; // kernel facts, no wall clock
    const mark = `${Id}-${start.pid}-${start.ticks}`;
    const first = !existsSync(`${config.state}/${mark}`); // also before a restart of ours
    const bootMs = Date.now() - uptime() * 1000;
    const facts = { peer, process, container, init, imageLabels, user_namespace, first, bootMs };
    known.relaxed = judge(facts, service);

    const name = first ? mark : `${mark}.${crypto.randomUUID()}`;
    const meta = { service: named, container: Id, image: Image, uid: `${peer.uid}`, host };
    const lease = { name, start, pid: peer.pid, ticks: process.start_ticks, sent: false, meta };
    try {
      // Invariant 6. The keeper writes the lease in its place.
      writeFileSync(`${config.state}/${name}`, "pending", { flag: "wx", mode: 0o600 });
      const { token, accessor, namespace, ...life } = await keeper.mint(lease, service.token);
      const last = readProcess(peer.pid); // invariant 3: what was judged is what gets it
      judge({ ...facts, process: last }, service);
      // Company was judged, and a parent that ends (runc exec's) changes nobody.
      const same = { ...last, alone: process.alone, ppid: process.ppid };
      if (!isDeepStrictEqual(same, process)) throw new Refusal("changed", { cause: last });
      known.ms = Math.round(performance.now() - began);
      await record("granted", { ...known, accessor, shared: !accessor }); // invariant 9
      const vault = { ...config.for_clients, ...(namespace && { namespace }) };
      const line = { service: named, token, ...life, vault };
      // Invariant 7. It may be heard in one breath with "answered": that is told first.
      heard.once(`exit ${peer.id}`, () => setImmediate(() => keeper.tell("end", name)));
      const outcome = await answer("grant", peer.id, line);
      if (outcome !== "sent") throw new Refusal(outcome);
      keeper.tell("sent", name);
    } catch (error) {
      heard.removeAllListeners(`exit ${peer.id}`);
      keeper.tell("end", name); // if it was minted, it is revoked
      // Else the next try would find the lease of this one, and be refused: once.
      await new Promise((resolve) => keeper.heard.once(`ended ${name}`, resolve));
      throw error;
    }
  }

  /** From a connection to its answer, which gives no reason: after any error it is no token
   * (invariant 5). Of each process one waits (peercred), and so many of all (invariant 10). */
  async function attend(peer: Peer): Promise<void> {
    const known: JsonObject = { ...peer, pidfd };
    const began = performance.now();
    const busy = stopping || inFlight >= 256;
    if (!busy) inFlight++;
    for (let pauseMs = 100; ; pauseMs *= 2) {
      try {
        if (busy) throw new Error("busy");
        await grant(peer, known, began);
        break;
      } catch (error) {
        const { message, cause: detail = message } = error as Error;
        const reason = /^ESRCH|^ENOENT.*'.proc/.test(message) ? "exited" : message;
        const verdict = error instanceof Refusal ? "refused" : "unavailable";
        const ms = Math.round(performance.now() - began);
        const place = known.container ?? peer.pid;
        // The last try begins within 3 s, and ends in 7 s more.
        const passing = error instanceof Unavailable && ms + pauseMs < 3000 && !stopping;
        const again = passing && !waiting.has(place);
        note(again ? "retry" : verdict, { ...known, reason, detail, ms });
        if (!again) await answer("refuse", peer.id, { error: verdict });
        if (!again) break;
        waiting.add(place);
        await sleep(pauseMs);
        waiting.delete(place);
      }
    }
    if (!busy) inFlight--;
  }

  heard.on("ready", (kernelHas) => {
    pidfd = kernelHas === "pidfd";
    if (!pidfd && !config.allow_no_pidfd)
      throw new Error('this kernel has no SO_PEERPIDFD (Linux 6.5 has it): see "allow_no_pidfd"');
    note("ready", { pidfd });
  });
  heard.on("drop", (reason, words) => note("refused", { ...peerFrom("", words), pidfd, reason }));
  heard.on("peer", (id, words) => setImmediate(attend, peerFrom(id, words))); // "answered" first
  heard.on("watching", (id, [pid = ""]) => {
    keeper.tell("watching", pid);
    if (id !== "0") heard.once(`exit ${id}`, () => keeper.tell("exited", pid)); // 0: it has ended
  });
  keeper.heard.on("watch", watch).on("note", note);

  process.on("SIGHUP", async () => {
    try {
      services = Object.entries((await loadConfig(file)).services);
      note("reload", { services: services.map(([name]) => name) });
    } catch (error) {
      note("reload-failed", { detail: (error as Error).message }); // the old policy is in force
    }
  });
  process.on("SIGTERM", async () => {
    stopping = true; // who comes now asks again; the leases are kept for the next start
    while (inFlight > 0) await sleep(20);
    process.exit(0);
  });
}

process.on("uncaughtException", ({ message }) => {
  process.stderr.write(`authproxy: error: ${message}\n`);
  process.exit(1); // and peercred with us
});
const options = { config: { type: "string" }, check: { type: "boolean" } } as const;
const { config: file = "/etc/authproxy/authproxy.json", check } = parseArgs({ options }).values;
const config = await loadConfig(file);
if (!check) serve(config);
