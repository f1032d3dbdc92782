// authproxy: gives each container its own short-lived Vault token, and reads nothing from it.
//
// `grant` is in the order of the threat model: who connected (the kernel), what that is (/proc, the
// engine), which service (the policy), what it has to prove (the checks), then its token, the same
// process once more, the audit line, and the answer, if that very process still waits for it.
import { readFileSync, readlinkSync } from "node:fs";
import { hostname, uptime } from "node:os";
import { isDeepStrictEqual, parseArgs } from "node:util";
import { note, record } from "./audit.ts";
import { judge } from "./checks.ts";
import { loadConfig } from "./config.ts";
import { connectEngine } from "./engine.ts";
import { listen, peerFrom } from "./peers.ts";
import { choose } from "./policy.ts";
import { containerIn, readProcess } from "./process.ts";
import { Refusal } from "./refusal.ts";
import type { Config, Facts, JsonObject, Lease, Peer } from "./types.ts";
import { connectVault } from "./vault.ts";

function serve({ services, vault: place, ...config }: Config): void {
  const { address, ca_file, namespace } = { ...place, ...place.for_clients };
  const forClients = { address, ca: ca_file && readFileSync(ca_file, "utf8"), namespace };
  // peercred takes a line of 128 KiB.
  if ((forClients.ca?.length ?? 0) > 65_536) throw new Error(`${ca_file}: over 64 KiB`);
  const user_namespace = readlinkSync("/proc/self/ns/user");
  const engine = connectEngine(config.engine);
  const vault = connectVault(place);
  const inFlight = new Set<number>(); // pids of peers
  const starts = new Map<string, Lease>(); // a container's start: its token
  const holders = new Map<string, Lease>(); // a peer's id: the same

  /** Throws why not, or has sent a token. `known` becomes what the audit says of this peer. */
  async function grant(peer: Peer, known: JsonObject): Promise<void> {
    const process = readProcess(peer.pid);
    known.exe = process.exe;
    const container = await engine.inspect(containerIn(process.cgroup).id);
    const { Id, Image, State } = container;
    Object.assign(known, { container: Id, image: Image });
    const init = State.Pid === peer.pid ? process : readProcess(State.Pid);
    const imageLabels = await engine.imageLabels(Image);
    const [name, service] = choose({ peer, process, container }, services);
    known.service = name;
    const start = `${Id} ${State.Pid} ${init.start_ticks}`; // kernel facts, no wall clock
    const now = { first: !starts.get(start)?.sent, bootMs: Date.now() - uptime() * 1000 };
    const facts: Facts = { peer, process, container, init, imageLabels, user_namespace, ...now };
    known.relaxed = judge(facts, service);
    if (starts.get(start)?.sent === false) throw new Error("busy");

    const lease: Lease = { exit: new AbortController(), sent: false };
    starts.set(start, lease); // invariant 6
    try {
      const about = { service: name, container: Id, image: Image };
      const meta = { ...about, uid: String(peer.uid), host: hostname() };
      const auth = await vault.mint(service.token, meta);
      holders.set(peer.id, lease);
      void vault.tend(auth, lease.exit.signal, meta).finally(() => {
        holders.delete(peer.id);
        if (process.init && starts.get(start) === lease) starts.delete(start);
      });
      const last = readProcess(peer.pid); // invariant 3: what was judged is what gets it
      judge({ ...facts, process: last }, service);
      // Company was judged, and a parent that ends (runc exec's) changes nobody.
      const self = { ...last, alone: process.alone, ppid: process.ppid };
      if (!isDeepStrictEqual(self, process)) throw new Refusal("changed", { cause: last });
      await record("granted", { ...known, accessor: auth.accessor }); // invariant 9
      const { client_token: token, lease_duration: ttl, renewable } = auth;
      const answer = { service: name, token, wrapped: false, ttl, renewable, vault: forClients };
      const outcome = await peercred.answer("grant", peer.id, answer);
      if (outcome !== "sent") throw new Refusal(outcome);
      lease.sent = true;
    } catch (error) {
      starts.delete(start);
      lease.exit.abort();
      throw error;
    }
  }

  /** From a connection to its answer, which gives no reason. */
  async function attend(peer: Peer): Promise<void> {
    const known: JsonObject = { ...peer };
    const began = performance.now();
    const busy = inFlight.has(peer.pid) || inFlight.size >= 256;
    if (!busy) inFlight.add(peer.pid);
    try {
      if (busy) throw new Error("busy");
      await grant(peer, known);
    } catch (error) {
      const { message, cause: detail = message } = error as Error;
      const reason = /^(ENOENT|ESRCH)/.test(message) ? "exited" : message; // its /proc is gone
      const answer = error instanceof Refusal ? "refused" : "unavailable";
      note(answer, { ...known, reason, detail, ms: Math.round(performance.now() - began) });
      await peercred.answer("refuse", peer.id, { error: answer });
    }
    if (!busy) inFlight.delete(peer.pid);
  }

  const peercred = listen(config.socket);
  peercred.heard.on("ready", (kernelHas) => {
    note("ready", { kernelHas });
    if (kernelHas === "no-pidfd" && !config.allow_no_pidfd)
      throw new Error('this kernel has no SO_PEERPIDFD (Linux 6.5 has it): see "allow_no_pidfd"');
  });
  peercred.heard.on("drop", (reason, words) => note("refused", { ...peerFrom("", words), reason }));
  peercred.heard.on("exit", (id) => holders.get(id)?.exit.abort());
  peercred.heard.on("peer", (id, words) => attend(peerFrom(id, words)));
  void vault.stayLoggedIn();
}

process.on("uncaughtException", ({ message }) => {
  process.stderr.write(`authproxy: error: ${message}\n`);
  process.exit(1); // and peercred with us
});
const options = { config: { type: "string" }, check: { type: "boolean" } } as const;
const { values } = parseArgs({ options });
const config = loadConfig(values.config ?? "/etc/authproxy/authproxy.json");
if (!values.check) serve(config);
