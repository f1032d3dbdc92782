// Question: does this peer get a token, and which one?
//
// `grant` reads in the order of the threat model: what is known about the peer, which service that
// is, what it has to prove, its lease and its token, the same process once more, the audit line, and
// the answer, if that very process still waits for it.
import { hostname } from "node:os";
import { isDeepStrictEqual } from "node:util";
import { record } from "./audit.ts";
import { judge, matchedLabels, needsCloseLook } from "./checks.ts";
import type { VaultAddress } from "./config.ts";
import type { Container, Engine } from "./engine.ts";
import { type Facts, findUserNamespace, gatherFacts } from "./facts.ts";
import type { Lease } from "./lease-files.ts";
import type { Leases } from "./leases.ts";
import type { Delivery, Peer, Peercred } from "./peercred.ts";
import { choose, type NamedService } from "./policy.ts";
import { type Glance, isInit, type Process, readProcess } from "./process.ts";
import { type Reason, Refusal, toRefusal } from "./refusal.ts";

const host = hostname();
/** Reasons of a refusal that no peer can bring about. */
const NOT_THE_PEERS: Reason[] = ["vault", "audit", "internal"];

/** What a grant is made with. */
export type Server = {
  engine: Engine;
  leases: Leases;
  peercred: Peercred;
  /** Replaced when the configuration is read again. */
  services: NamedService[];
  /** What containers are told about Vault. */
  vaultForClients: VaultAddress;
  /** The kernel has SO_PEERPIDFD. */
  hasPidfd: boolean;
};

/** One peer's request, and what is known about it so far, for the audit. */
export class Request {
  readonly peer: Peer;
  readonly facts: Partial<Facts> = {};
  /** The container's id in the name of its cgroup. The engine has not confirmed it. */
  claimed: string | undefined;
  service: string | undefined;
  /** The checks that did not hold, and that the service relaxes. */
  relaxed: string[] | undefined;
  readonly #startedMs = performance.now();

  constructor(peer: Peer) {
    this.peer = peer;
  }

  get ageMs(): number {
    return Math.round(performance.now() - this.#startedMs);
  }

  /** What the audit says of it; members that are not known yet are left out. */
  auditEntry(server: Server) {
    const { process: peerProcess, container } = this.facts;
    return {
      ...this.peer,
      pidfd: server.hasPidfd,
      exe: peerProcess?.exe,
      container: container?.Id,
      claimed: container ? undefined : this.claimed,
      image: container?.Image,
      ...podOf(container),
      service: this.service,
      relaxed: this.relaxed,
      ms: this.ageMs,
    };
  }
}

/** Sends the peer its token. Throws a Refusal that says why there is none (invariant 5); a token that
 * was minted by then is revoked (invariant 7). */
export async function grant(request: Request, glance: Glance, server: Server): Promise<void> {
  const { peer } = request;
  const { leases, peercred } = server;

  if (request.claimed) requireInit(glance, server.services);
  const facts = await gatherFacts(peer, glance, server, request.facts);
  const [serviceName, service] = choose(documentOf(facts), server.services);
  request.service = serviceName;
  if (matchedLabels(service.match).length > 0)
    facts.imageLabels = await server.engine.imageLabels(facts.container);
  const isClose = needsCloseLook(facts, service);
  if (isClose) facts.process = readProcess(peer.pid, isClose);

  // Invariant 6: nothing is awaited between this look and `open`, so that of two processes of one
  // start only one is the first.
  const start = startOf(facts);
  const holder = { pid: peer.pid, ticks: facts.process.start_ticks };
  const spentBy = leases.spentBy(start, holder);
  request.relaxed = judge(facts, spentBy, service);
  const lease = leases.open(start, holder, metaOf(facts, serviceName));

  let delivery: Delivery;
  try {
    const token = await leases.mint(lease, service.token);

    // Invariant 3: what was judged is what gets the token.
    const userNamespace = await findUserNamespace(facts.process, facts.container, server);
    const processNow = readProcess(peer.pid, isClose);
    const relaxedNow = judge({ ...facts, process: processNow, userNamespace }, spentBy, service);
    request.relaxed = [...new Set([...request.relaxed, ...relaxedNow])];
    requireUnchanged(facts.process, processNow);

    const { accessor } = lease;
    // Invariant 9: the line is written before the token leaves.
    await record("granted", { ...request.auditEntry(server), accessor, shared: !accessor });

    const answer = answerOf(serviceName, token, lease, server);
    delivery = await peercred.answer("grant", peer.id, answer);
    if (delivery.outcome !== "sent") throw new Refusal(delivery.outcome, null);
  } catch (error) {
    leases.abandon(lease, isOurs(error, lease) ? "revoking" : "in-vain");
    throw error;
  }
  leases.keepUntil(delivery.exited, lease);
}

/** The peer is not charged for it: no token was minted, or Vault or this server could not go on. */
function isOurs(error: unknown, lease: Lease): boolean {
  const isMinted = lease.accessor !== undefined || lease.stage === "sending";
  return !isMinted || NOT_THE_PEERS.includes(toRefusal(error).reason);
}

/** Where only the first process of a container can be served, the engine is not asked about others. */
function requireInit({ pids }: Glance, services: NamedService[]): void {
  const isRelaxed = services.some(([, { relax = [] }]) => relax.includes("init"));
  if (!isInit(pids) && !isRelaxed) throw new Refusal("init", { pids });
}

/** The identity document that a policy is matched against. */
export function documentOf(facts: Facts) {
  const { peer, process: peerProcess, container } = facts;
  return { peer, process: peerProcess, container, pod: container.pod ?? null };
}

/** A start is identified by kernel facts, because the engine's StartedAt comes from a wall clock. */
function startOf({ container, init }: Facts) {
  return { container: container.Id, pid: container.State.Pid, ticks: init.start_ticks };
}

function metaOf({ peer, container }: Facts, service: string): Lease["meta"] {
  const { Id, Image } = container;
  return { service, container: Id, image: Image, uid: `${peer.uid}`, host, ...podOf(container) };
}

/** As the audit calls it. */
function podOf({ pod }: Partial<Container> = {}) {
  return pod && { pod: `${pod.namespace}/${pod.name}`, pod_container: pod.container };
}

/** `alone` was judged again, and `ppid` may change when runc exits: both are left out. */
function requireUnchanged(before: Process, now: Process): void {
  const { alone, others_in, ppid, ...kept } = before;
  const changed = Object.entries(kept).filter(
    ([member, value]) => !isDeepStrictEqual(now[member as keyof Process], value),
  );
  if (changed.length > 0)
    throw new Refusal(
      "changed",
      changed.map(([member]) => member),
    );
}

/** The line that the peer gets (docs/protocol.md). */
function answerOf(service: string, token: string, lease: Lease, { vaultForClients }: Server) {
  const { wrapped = false, ttl = 0, renewable = false, namespace } = lease;
  const vault = namespace ? { ...vaultForClients, namespace } : vaultForClients;
  return { service, token, wrapped, ttl, renewable, vault };
}
