// authproxy: gives each container its own short-lived Vault token, and reads nothing from it.
//
// `grant` is in the order of the threat model: who connected (the kernel), what that is (/proc, the
// engine), which service (the policy), what it has to prove (the checks), then its token, the same
// process once more, the audit line, and the answer, if that very process still waits for it.
import { mkdirSync, readFileSync, readlinkSync } from "node:fs";
import { hostname, uptime } from "node:os";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { isDeepStrictEqual, parseArgs } from "node:util";
import { note, record } from "./audit.ts";
import { isInit, judge } from "./checks.ts";
import { loadConfig } from "./config.ts";
import { connectEngine } from "./engine.ts";
import { openLeases } from "./leases.ts";
import { listen, peerFrom } from "./peers.ts";
import { choose, selectors } from "./policy.ts";
import { containerIn, readProcess } from "./process.ts";
import { Refusal, Unavailable } from "./refusal.ts";
import type { Config, Facts, JsonObject, Peer, Service } from "./types.ts";
import { connectVault } from "./vault.ts";

const DEADLINE_MS = 10_000;
const PAUSE_MS = 100;
const TEND_MS = 1000;
const MAX_IN_FLIGHT = 256;

function die(why: string): never {
  process.stderr.write(`authproxy: error: ${why}\n`);
  process.exit(1);
}

function serve(config: Config): void {
  const { for_clients, address, ca_file, namespace } = config.vault;
  const clientCa = for_clients?.ca_file ?? ca_file;
  const ca = clientCa && readFileSync(clientCa, "utf8");
  const vaultForClients = { address: for_clients?.address ?? address, ca, namespace };
  const services = new Map(Object.entries(config.services));
  const policy = new Map([...services].map(([name, { match }]) => [name, selectors(match)]));
  const user_namespace = readlinkSync("/proc/self/ns/user");
  const engine = connectEngine(config.engine);
  const vault = connectVault(config.vault);
  const leases = openLeases(vault);
  const inFlight = new Set<number | string>(); // pids of peers, and containers

  async function identify(peer: Peer, known: JsonObject): Promise<Facts> {
    const process = readProcess(peer.pid);
    known.exe = process.exe;
    const container = await engine.inspect(containerIn(process.cgroup).id);
    const { Id, Image, State } = container;
    Object.assign(known, { container: Id, image: Image });
    const init = State.Pid === peer.pid ? process : readProcess(State.Pid);
    const imageLabels = await engine.imageLabels(Image);
    const start = `${Id} ${State.Pid} ${init.start_ticks}`;
    const ours = {
      user_namespace,
      bootMs: Date.now() - uptime() * 1000,
      first: !leases.has(start),
    };
    return { peer, process, container, init, imageLabels, start, ...ours };
  }

  /** Throws why not, or has sent a token. `known` becomes what the audit says of this peer. */
  async function grant(peer: Peer, known: JsonObject): Promise<void> {
    const facts = await identify(peer, known);
    const { process, container, start } = facts;
    const document = { peer, process: { ...process, init: isInit(facts) }, container };
    const name = choose(document, policy);
    const service = services.get(name) as Service;
    known.service = name;
    known.relaxed = judge(facts, service);
    if (inFlight.has(container.Id)) throw new Refusal("busy");
    inFlight.add(container.Id);
    try {
      const about = { service: name, container: container.Id, image: container.Image };
      const meta = { ...about, host: hostname(), uid: String(peer.uid) };
      const auth = await vault.mint(service.token, meta);
      leases.begin(peer.id, start, peer.pid === container.State.Pid, about, auth);
      const again = readProcess(peer.pid); // invariant 3: it may have changed while Vault was slow
      judge({ ...facts, process: again }, service);
      const same = isDeepStrictEqual({ ...again, alone: process.alone }, process);
      if (!same) throw new Refusal("changed", { cause: again });
      await record("granted", { ...known, accessor: auth.accessor }); // invariant 9
      const { client_token: token, lease_duration: ttl, renewable } = auth;
      const answer = {
        service: name,
        token,
        wrapped: false,
        ttl,
        renewable,
        vault: vaultForClients,
      };
      const outcome = await peercred.answer("grant", peer.id, answer);
      if (outcome !== "sent") throw new Refusal(outcome);
    } catch (error) {
      leases.cancel(peer.id);
      throw error;
    } finally {
      inFlight.delete(container.Id);
    }
  }

  /** From a connection to its answer. What is only not true yet is asked again. */
  async function attend(peer: Peer): Promise<void> {
    const began = performance.now();
    const known: JsonObject = { pid: peer.pid, uid: peer.uid, gid: peer.gid, label: peer.label };
    let failure: Error | undefined = new Unavailable("busy");
    if (!inFlight.has(peer.pid) && inFlight.size < MAX_IN_FLIGHT) {
      inFlight.add(peer.pid);
      do {
        failure = await grant(peer, known).then(
          () => undefined,
          (error) => error,
        );
        if (failure instanceof Unavailable) await sleep(PAUSE_MS);
      } while (failure instanceof Unavailable && performance.now() - began < DEADLINE_MS);
      inFlight.delete(peer.pid);
    }
    if (!failure) return;
    const refused = failure instanceof Refusal && !(failure instanceof Unavailable);
    const error = refused ? "refused" : "unavailable";
    const ms = Math.round(performance.now() - began);
    note(error, { ...known, reason: failure.message, detail: failure.cause, ms });
    await peercred.answer("refuse", peer.id, { error });
  }

  mkdirSync(dirname(config.socket), { recursive: true, mode: 0o755 });
  const peercred = listen(config.socket, die);
  peercred.heard.on("ready", (kernelHas) => {
    if (kernelHas === "no-pidfd" && !config.allow_no_pidfd)
      die('this kernel has no SO_PEERPIDFD (Linux 6.5 has it): see "allow_no_pidfd"');
    note("ready", { socket: config.socket, kernelHas, services: services.size });
  });
  peercred.heard.on("peer", (id, words) => void attend(peerFrom(id, words)));
  peercred.heard.on("drop", (reason, [pid, uid, gid]) =>
    note("refused", { reason, pid, uid, gid }),
  );
  peercred.heard.on("exit", leases.end);
  setInterval(() => {
    void vault.tend();
    leases.tendAll();
  }, TEND_MS);
}

const { values } = parseArgs({
  options: { config: { type: "string" }, check: { type: "boolean" } },
});
try {
  const config = loadConfig(values.config ?? "/etc/authproxy/authproxy.json");
  if (!values.check) serve(config);
} catch (error) {
  die((error as Error).message);
}
