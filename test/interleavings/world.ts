// Question: what happens outside the server, and does it keep its promises?
//
// A model of the kernel, the engine, Vault, the reader of the audit stream and the clock. It outlives
// the runs of the server. Whatever happens is a step, and fast-check's scheduler chooses which step is
// next. The properties that concern one event are checked where it happens; properties.ts has those
// that concern the end.
import type { Scheduler } from "fast-check";
import type { Requests } from "../../server/requests.ts";
import { PeercredModel } from "./peercred-model.ts";

export const TTL_SECONDS = 300;
const WALL_CLOCK_AT_START_MS = Date.parse("2030-01-01T00:00:00Z");
const UPTIME_AT_START_MS = 1_000_000;
const TICK_MS = 10;
export const STATE = "/state";
export const MAPPED_NAMESPACE = 2;
const NAME = /([0-9a-f]{64})-(\d+)-(\d+)/;
const DEADLINE = "no answer in time";

/** Of services. The role of "wrong-role" makes tokens that must never be sent. The containers of "mapped"
 * have a user namespace of their own. */
export const KINDS = ["plain", "wrapped", "shared", "relaxed", "wrong-role", "mapped"] as const;
export const ACTS = [
  "exec",
  "speak",
  "hang-up",
  "fork",
  "fork-exits",
  "connect-again",
  "restart",
  "restart-same-pid",
  "stop",
] as const;
export const TROUBLES = ["crash", "SIGTERM", "vault", "engine", "audit"] as const;

/** Becomes a step that can be chosen after so many others. */
type Delayed<What> = { what: What; after: number };

/** What shall happen, in an order that the scheduler chooses. */
export type Plan = {
  containers: {
    kind: (typeof KINDS)[number];
    /** Its first process does not ask by itself, until the end. */
    isQuiet: boolean;
    acts: Delayed<(typeof ACTS)[number]>[];
  }[];
  troubles: Delayed<(typeof TROUBLES)[number]>[];
  /** The server crashes at this file operation: before it if even, after it if odd. */
  crashAtFile: number | null;
  /** This write finds no space left. */
  fullAtWrite: number | null;
  /** Decide what the scheduler cannot: 0 is the usual case, also when there are no more. */
  dice: number[];
};

export class Violation extends Error {}

/** One start of a container. */
export type Start = {
  name: string;
  init: Process;
  sends: { to: Process; life: Life; step: number }[];
  /** Pids of processes of which the server knows, or a file says, that they have a token. */
  noted: Set<number>;
  /** Tokens that peercred could not send, and the server knows it. */
  inVain: number;
  /** What was done that may cost a token. */
  disturbances: number;
  hasForked: boolean;
};

export type Container = {
  id: string;
  name: string;
  kind: (typeof KINDS)[number];
  isQuiet: boolean;
  start: Start | undefined;
  startedAtMs: number;
};

export type Process = {
  pid: number;
  ticks: number;
  container: Container;
  start: Start;
  isAlive: boolean;
  /** Of its exec calls. */
  execs: number;
  /** When the server has read its `exe`, and after how many execs. */
  looks: { step: number; execs: number }[];
  /** When peercred was asked who owns its pid namespace. */
  ownerLooks: number[];
  /** Those that are open. */
  connections: Set<Connection>;
  connectedStep: number;
  hasToken: boolean;
  isRefused: boolean;
  asksLeft: number;
};

export type Connection = {
  of: Process;
  hasSpoken: boolean;
  isHungUp: boolean;
  isAnswered: boolean;
};

export type Token = {
  token: string;
  accessor: string;
  start: string;
  requestedStep: number;
  mintedStep: number;
  diesMs: number;
  isRevoked: boolean;
  /** Its accessor has reached a server that has lived on. */
  isKnown: boolean;
  sentTo: Process | undefined;
  sentStep: number;
};

type Timer = { atMs: number; everyMs: number; isUnref: boolean; call: () => void };

/** One run of the server. */
export type Life = {
  number: number;
  isAlive: boolean;
  isStopping: boolean;
  peercred: PeercredModel;
  requests: Requests | undefined;
};

type Answer = { status: number; type: string; value: object };

export class World {
  readonly trace: string[] = [];
  violation: Violation | undefined;
  nowMs = 0;
  stepNumber = 0;
  /** Steps that wait to be chosen, but for the time's. */
  pending = 0;
  /** From now on nothing fails any more. */
  isCalm = false;
  readonly containers: Container[] = [];
  readonly processes = new Map<number, Process>();
  readonly tokens: Token[] = [];
  readonly files = new Map<string, string>();
  readonly audit: { life: Life; event: string; id?: string; accessor?: string }[] = [];
  life: Life;
  /** Resolves when the time that a step lets pass has passed. */
  passing: Promise<void> = Promise.resolve();
  readonly #plan: Plan;
  readonly #scheduler: Scheduler;
  readonly #boot: () => Requests;
  readonly #away = new Set<string>();
  readonly #timers = new Set<Timer>();
  readonly #unwritten: (() => void)[] = [];
  #delayed: { atStep: number; label: string; act: () => void }[] = [];
  #thrown = 0;
  #fileOperations = 0;
  #writes = 0;
  #lastTicks = 0;
  #passed = { at: 0, ms: 0 };
  #nextPid = 100;
  #uuids = 0;
  #random = 1;
  #openedStart = "";
  readonly #justMinted: Token[] = [];
  readonly #outcomes: { process: Process; isSent: boolean }[] = [];
  /** Something may run because of what has happened since the last look. */
  #isActive = false;

  /** `boot` starts the server, as main.ts does. */
  constructor(plan: Plan, scheduler: Scheduler, boot: () => Requests) {
    this.#plan = plan;
    this.#scheduler = scheduler;
    this.#boot = boot;
    this.life = this.#newLife(0);
    this.life.isAlive = false;
  }

  begin(): void {
    this.#startServer();
    for (const [index, { kind, isQuiet, acts }] of this.#plan.containers.entries()) {
      const id = `${index + 1}`.repeat(64).slice(0, 64);
      const container = {
        id,
        name: `c${index + 1}`,
        kind,
        isQuiet,
        start: undefined,
        startedAtMs: 0,
      };
      this.containers.push(container);
      this.step(`${container.name} (${kind}) starts`, () => {
        this.#startContainer(container);
        this.#act(container, [...acts]);
      });
    }
    this.#trouble([...this.#plan.troubles]);
    this.#letTimePass();
  }

  step(label: string, act: () => void): void {
    this.pending++;
    this.#isActive = true;
    void this.#scheduler.schedule(Promise.resolve(), label).then(() => {
      this.pending--;
      this.stepNumber++;
      this.tell(label);
      this.#guard(act);
    });
  }

  /** A step that can be chosen when so many others have been, or when there are no others. */
  #later(after: number, label: string, act: () => void): void {
    this.#delayed.push({ atStep: this.stepNumber + after, label, act });
  }

  /** Returns false where no step is left. */
  hasSteps(): boolean {
    const isDue = ({ atStep }: { atStep: number }) => atStep <= this.stepNumber;
    const next = Math.min(...this.#delayed.map(({ atStep }) => atStep));
    const due = this.#delayed.filter(
      (each) => isDue(each) || (!this.pending && each.atStep === next),
    );
    this.#delayed = this.#delayed.filter((each) => !due.includes(each));
    for (const { label, act } of due) this.step(label, act);
    return this.pending > 0;
  }

  tell(text: string): void {
    this.trace.push(`${String(Math.round(this.nowMs)).padStart(7)} ms  ${text}`);
  }

  violate(text: string): void {
    this.violation ??= new Violation(text);
  }

  /** A number from 0 to 99. */
  throwDice(): number {
    return this.isCalm ? 0 : (this.#plan.dice[this.#thrown++] ?? 0);
  }

  /** What the server has heard counts if it has lived on. After each step, when nothing of the server runs. */
  settle(): void {
    const minted = this.#justMinted.splice(0);
    const outcomes = this.#outcomes.splice(0);
    if (!this.life.isAlive) return;
    for (const token of minted) token.isKnown = true;

    // It counts as well as its files let it.
    if (this.#plan.fullAtWrite !== null) return;
    for (const { process, isSent } of outcomes) {
      if (isSent) process.start.noted.add(process.pid);
      else process.start.inVain++;
    }
    for (const { start } of this.containers) {
      const isWrong = start?.init.container.kind === "wrong-role";
      if (isWrong) start.inVain += minted.filter((token) => token.start === start.name).length;
    }
  }

  // ---- the server's runs

  #newLife(number: number): Life {
    const peercred = new PeercredModel(this);
    return { number, isAlive: true, isStopping: false, peercred, requests: undefined };
  }

  #startServer(): void {
    this.step("the server starts", () => {
      this.life = this.#newLife(this.life.number + 1);
      this.inServer(() => {
        this.life.requests = this.#boot();
      });
    });
  }

  /** Nothing of this run has an effect from now on. */
  crash(why: string): void {
    if (!this.life.isAlive) return;
    this.tell(`  the server ends: ${why}`);
    this.life.isAlive = false;
    this.#unwritten.length = 0;
    const timers = [...this.#timers];
    this.#timers.clear();
    // The one that empties the module's counts, which would outlive this run.
    for (const { isUnref, call } of timers) if (isUnref) call();
    this.life.peercred.orphan(() => this.#startServer());
  }

  /** The server's own code runs. It must not end by itself. */
  inServer(act: () => void): void {
    const { life } = this;
    try {
      act();
    } catch (error) {
      this.onUncaught(error, life);
    }
  }

  onUncaught(error: unknown, life = this.life): void {
    if (life.isAlive) this.violate(`the server ended by itself: ${(error as Error).stack}`);
  }

  #guard(act: () => void): void {
    try {
      act();
    } catch (error) {
      if (error instanceof Violation) this.violation ??= error;
      else this.violate(`the model itself fails: ${(error as Error).stack}`);
    }
  }

  #trouble(troubles: Plan["troubles"]): void {
    const next = troubles.shift();
    if (!next) return;
    const { what, after } = next;
    switch (what) {
      case "crash":
        this.#later(after, "the server crashes", () => {
          this.crash("crash");
          this.#trouble(troubles);
        });
        break;
      case "SIGTERM":
        this.#later(after, "SIGTERM", () => {
          this.#stopServer();
          this.#trouble(troubles);
        });
        break;
      default:
        this.#later(after, `${what} goes away`, () => {
          this.#away.add(what);
          this.#later(after, `${what} comes back`, () => {
            this.#comeBack(what);
            this.#trouble(troubles);
          });
        });
    }
  }

  #stopServer(): void {
    const { life } = this;
    if (!life.isAlive || !life.requests) return;
    life.isStopping = true;
    void life.requests.stop().then(() => {
      if (life.isAlive) this.crash("SIGTERM");
    });
  }

  #comeBack(who: string): void {
    this.#away.delete(who);
    if (who === "audit") for (const write of this.#unwritten.splice(0)) write();
  }

  /** Nothing fails any more, and clients ask again. */
  calmDown(): void {
    this.tell("from now on nothing fails");
    this.isCalm = true;
    for (const who of [...this.#away]) this.#comeBack(who);
  }

  // ---- the clock

  setTimer(call: () => void, ms: number, isInterval: boolean): Timer {
    const timer = {
      atMs: this.nowMs + ms,
      everyMs: isInterval ? ms : 0,
      isUnref: false,
      call,
      unref: () => (timer.isUnref = true),
    };
    this.#isActive = true;
    if (this.life.isAlive) this.#timers.add(timer);
    return timer;
  }

  clearTimer(timer: unknown): void {
    this.#timers.delete(timer as Timer);
  }

  #letTimePass(): void {
    const label = "time passes";
    const scheduled = this.#scheduler.schedule(Promise.resolve(), label);
    void scheduled.then(() => {
      this.passing = this.#letSomeTimePass();
    });
  }

  async #letSomeTimePass(): Promise<void> {
    if (this.isCalm) return;
    {
      const dice = this.throwDice();
      const next = Math.min(...[...this.#timers].map(({ atMs }) => atMs));
      const ms =
        dice < 40
          ? next - this.nowMs
          : dice < 70
            ? 100
            : dice < 85
              ? 1000
              : dice < 95
                ? 30_000
                : 100_000;
      this.stepNumber++;
      await this.pass(Number.isFinite(ms) ? Math.max(ms, 0) : 100, async () => {});
      this.#letTimePass();
    }
  }

  /** Fires timers in their order. What an interval does may be late by a second. `drain` is called
   * when something happened. */
  async pass(ms: number, drain: () => Promise<void>): Promise<void> {
    const untilMs = this.nowMs + ms;
    this.#tellTime(ms);
    for (;;) {
      let next: Timer | undefined;
      for (const timer of this.#timers)
        if (timer.atMs <= untilMs && (!next || timer.atMs < next.atMs)) next = timer;
      if (!next) break;
      this.nowMs = Math.max(this.nowMs, next.atMs);
      if (next.everyMs) next.atMs = this.nowMs + Math.max(next.everyMs, Math.min(ms / 4, 1000));
      else this.#timers.delete(next);
      this.#isActive = !next.everyMs;
      this.inServer(next.call);
      if (!this.#isActive) continue;
      await macrotask();
      this.settle();
      await drain();
      if (this.violation) return;
    }
    this.nowMs = Math.max(this.nowMs, untilMs);
  }

  /** Together with the time that has passed just before. */
  #tellTime(ms: number): void {
    const before = this.#passed.at === this.trace.length ? this.#passed.ms : 0;
    if (before > 0) this.trace.pop();
    this.tell(`${Math.round(before + ms)} ms pass`);
    this.#passed = { at: this.trace.length, ms: before + ms };
  }

  get wallClockMs(): number {
    return WALL_CLOCK_AT_START_MS + this.nowMs;
  }

  get uptimeMs(): number {
    return UPTIME_AT_START_MS + this.nowMs;
  }

  /** In place of Math.random: the same numbers in each run. */
  random(): number {
    this.#random = (this.#random * 48_271) % 2_147_483_647;
    return this.#random / 2_147_483_647;
  }

  uuid(): string {
    return `00000000-0000-4000-8000-${String(++this.#uuids).padStart(12, "0")}`;
  }

  // ---- containers and their processes

  #startContainer(container: Container, pid = ++this.#nextPid): void {
    const start = {
      name: "",
      sends: [],
      noted: new Set<number>(),
      inVain: 0,
      disturbances: 0,
      hasForked: false,
    } as Omit<Start, "init"> as Start;
    container.startedAtMs = this.wallClockMs;
    container.start = start;
    start.init = this.#newProcess(container, start, pid);
    start.name = `${container.id}-${pid}-${start.init.ticks}`;
  }

  #newProcess(container: Container, start: Start, pid: number): Process {
    this.#lastTicks = Math.max(this.#lastTicks + 1, Math.floor(this.uptimeMs / TICK_MS));
    const process: Process = {
      pid,
      ticks: this.#lastTicks,
      container,
      start,
      isAlive: true,
      execs: 0,
      looks: [],
      ownerLooks: [],
      connections: new Set(),
      connectedStep: 0,
      hasToken: false,
      isRefused: false,
      asksLeft: 4,
    };
    this.processes.set(pid, process);
    const isFirst = !start.init;
    if (!isFirst || !container.isQuiet) this.ask(process);
    return process;
  }

  inContainer(container: Container): Process[] {
    return [...this.processes.values()].filter(
      (process) => process.container === container && process.isAlive,
    );
  }

  #act(container: Container, acts: Plan["containers"][number]["acts"]): void {
    const act = acts.shift();
    if (!act) return;
    this.#later(act.after, `${container.name}: ${act.what}`, () => {
      this.#perform(container, act.what);
      this.#act(container, acts);
    });
  }

  #perform(container: Container, act: (typeof ACTS)[number]): void {
    const { start } = container;
    if (!start) return;
    const { init } = start;
    const [connection] = init.connections;
    const fork = this.inContainer(container).find((process) => process !== init);
    start.disturbances++;
    switch (act) {
      case "exec":
        init.execs++;
        break;
      case "speak":
        if (connection) connection.hasSpoken = true;
        break;
      case "hang-up":
        if (connection) {
          connection.isHungUp = true;
          connection.isAnswered = true;
          init.connections.delete(connection);
          this.ask(init);
        }
        break;
      case "fork":
        start.hasForked = true;
        if (!fork) this.#newProcess(container, start, ++this.#nextPid);
        break;
      case "fork-exits":
        if (fork) this.#exit(fork);
        break;
      case "connect-again":
        this.ask(init);
        break;
      case "restart":
        this.#stopContainer(container);
        this.#startContainer(container);
        break;
      case "restart-same-pid":
        this.#stopContainer(container);
        // The request of the dead process may still be judged, by the facts of this one.
        this.#startContainer(container, init.pid);
        break;
      case "stop":
        this.#stopContainer(container);
        break;
    }
  }

  /** All processes of a pid namespace end with its first. */
  #stopContainer(container: Container): void {
    for (const process of this.inContainer(container)) this.#exit(process);
    container.start = undefined;
  }

  #exit(process: Process): void {
    process.isAlive = false;
    this.processes.delete(process.pid);
    for (const connection of process.connections) connection.isAnswered = true;
    this.life.peercred.onExit(process);
  }

  // ---- clients

  nameOf({ container, pid }: Process): string {
    return `${container.name}/${pid}`;
  }

  ask(process: Process): void {
    this.step(`${this.nameOf(process)} connects`, () => {
      if (!process.isAlive) return;
      const connection = { of: process, hasSpoken: false, isHungUp: false, isAnswered: false };
      process.connectedStep = this.stepNumber;
      process.isRefused = false;
      if (this.life.peercred.connect(connection)) process.connections.add(connection);
      else this.#askAgain(process);
    });
  }

  /** Without a line it is the end of file. */
  onAnswer(connection: Connection, line?: { token?: string; error?: string }): void {
    const process = connection.of;
    if (connection.isAnswered || !process.isAlive) return;
    connection.isAnswered = true;
    process.connections.delete(connection);
    if (line?.token) process.hasToken = true;
    else if (line?.error === "refused") process.isRefused = true;
    else this.#askAgain(process);
  }

  #askAgain(process: Process): void {
    if (!this.isCalm && process.asksLeft-- > 0) this.ask(process);
  }

  /** Peers that were not served ask again, and so do those that were refused because of what was done to
   * them. */
  askForAll(): void {
    for (const process of this.processes.values()) {
      const { hasToken, isRefused, connections, start } = process;
      const isFinal = hasToken || (isRefused && start.disturbances === 0);
      if (!isFinal && connections.size === 0) this.ask(process);
    }
  }

  // ---- sending, by peercred

  onSend(process: Process, id: string, line: { token: string; service: string }): void {
    const { life } = this;
    const { start, container } = process;
    const token = this.tokens.find((each) => each.token === line.token);
    const who = `${this.nameOf(process)} was sent a token`;

    const isRecorded = this.audit.some(
      (entry) =>
        entry.life === life &&
        entry.event === "granted" &&
        entry.id === id &&
        entry.accessor === token?.accessor,
    );
    if (!isRecorded) this.violate(`${who} without an audit line`);
    if (line.service !== container.kind) this.violate(`${who} of another service`);
    if (container.kind === "wrong-role") this.violate(`${who} of a role that is wrong`);
    if (!process.isAlive) this.violate(`${who}, but is dead`);
    if (token && token.start !== start.name) this.violate(`${who} of another start`);
    if (token?.isRevoked) this.violate(`${who} that was revoked before`);
    if (token) this.#requireUnchanged(who, process, token);

    // Where a crash came before the note, a process that asks again is believed: it got nothing.
    for (const { to, life: earlier, step } of start.sends) {
      const given = `${who}, but its start had given one to ${this.nameOf(to)}`;
      if (earlier === life) this.violate(`${given} in the same run of the server`);
      else if (start.noted.has(to.pid)) this.violate(`${given}, as the server knew`);
      else if (to !== process && to.connectedStep <= step)
        this.violate(`${given}, which has not asked again`);
    }
    start.sends.push({ to: process, life, step: this.stepNumber });
    if (!token) return;
    token.sentTo = process;
    token.sentStep = this.stepNumber;
  }

  /** It was looked at before the token was asked for, and again when it was there. */
  #requireUnchanged(who: string, { looks, start, container }: Process, token: Token): void {
    const judged = looks.findLast(({ step }) => step <= token.requestedStep);
    const last = looks.at(-1);
    if (!judged || !last || last.step <= token.mintedStep)
      this.violate(`${who}, but was not looked at again`);
    else if (judged.execs !== last.execs) this.violate(`${who}, but runs another program`);
    const lastOwnerLook = start.init.ownerLooks.at(-1) ?? 0;
    if (container.kind === "mapped" && lastOwnerLook <= token.mintedStep)
      this.violate(`${who}, but whose its user namespace is was not asked again`);
  }

  /** The server reads what has become of a token. */
  onOutcome(process: Process, isSent: boolean): void {
    this.#outcomes.push({ process, isSent });
  }

  // ---- HTTP: the engine and Vault

  exchange(path: string, isEngine: boolean, body: object | undefined, deadlineMs: number) {
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    const { life } = this;
    if (!life.isAlive) return promise;

    const who = isEngine ? "engine" : "vault";
    const what = path.replace(/([0-9a-f])\1{63}/, "c$1").replace("/v1/", "");
    let isOver = false;
    const requestedStep = this.stepNumber;
    const startName = this.#openedStart;
    if (path.includes("auth/token/create")) this.#requireTriesLeft(startName);
    const expire = () => {
      isOver = true;
      reject(new Error(DEADLINE));
    };
    const timer = this.setTimer(expire, deadlineMs, false);
    const fault = faultOf(this.throwDice());
    this.step(`${who} gets ${what}${fault ? ` (${fault})` : ""}`, () => {
      const isAway = this.#away.has(who) || fault === "refused";
      const answer =
        isAway || fault === "500" || fault === "403"
          ? undefined
          : this.#work(path, body, startName, requestedStep, isEngine);
      this.step(`${who} answers ${what}${isAway ? ": refused" : ""}`, () => {
        this.clearTimer(timer);
        if (isOver || !life.isAlive) return;
        if (isAway || fault === "lost") reject(new Error("connection reset"));
        else if (fault === "gateway") resolve({ status: 502, type: "text/html", value: {} });
        else if (fault === "500" || fault === "403")
          resolve({
            status: Number(fault),
            type: "application/json",
            value: { errors: ["fault"] },
          });
        else if (answer) {
          resolve(answer.reply);
          if (answer.minted) this.#justMinted.push(answer.minted);
        }
      });
    });
    return promise;
  }

  #requireTriesLeft(startName: string): void {
    for (const { start } of this.containers)
      if (start?.name === startName && start.inVain >= 3)
        this.violate(`a fourth token for a start of which three were made in vain`);
  }

  #work(
    path: string,
    body: object | undefined,
    startName: string,
    requestedStep: number,
    isEngine: boolean,
  ): { reply: Answer; minted?: Token } {
    const json = (value: object, status = 200): { reply: Answer } => ({
      reply: { status, type: "application/json", value },
    });
    if (isEngine) return json(...this.#engine(path));

    const ok = (value: object) => json({ request_id: "request", ...value });
    const { accessor } = (body ?? {}) as { accessor?: string };
    const token = this.tokens.find((each) => each.accessor === accessor);
    const isLiving = token && this.isLiving(token);
    const own = { policies: ["authproxy"], orphan: true, renewable: true };
    switch (path.replace(/(create)\/.*$/, "$1")) {
      case "/v1/auth/approle/login":
      case "/v1/auth/token/renew-self":
        return ok({ auth: { ...own, client_token: "own", lease_duration: 3600 } });
      case "/v1/auth/token/lookup-self":
        return ok({ data: { ...own, ttl: 3600, creation_ttl: 3600 } });
      case "/v1/secret/data/shared":
        return ok({ data: { data: { token: "shared-token" } } });
      case "/v1/auth/token/create":
        return this.#mint(path.split("/").at(-1), startName, requestedStep);
      case "/v1/auth/token/lookup-accessor":
        if (!isLiving) return json({ errors: ["invalid accessor"] }, 403);
        return ok({
          data: { ...tokenFacts, type: "service", ttl: (token.diesMs - this.nowMs) / 1000 },
        });
      case "/v1/auth/token/renew-accessor":
        if (!isLiving) return json({ errors: ["invalid accessor"] }, 400);
        token.diesMs = this.nowMs + TTL_SECONDS * 1000;
        return ok({ auth: { ...tokenFacts, lease_duration: TTL_SECONDS } });
      case "/v1/auth/token/revoke-accessor":
        if (!isLiving) return ok({ warnings: ["No token found with this accessor"] });
        this.#revoke(token);
        return { reply: { status: 204, type: "application/json", value: {} } };
      default:
        throw new Error(`Vault does not know ${path}`);
    }
  }

  isLiving({ isRevoked, diesMs }: Token): boolean {
    return !isRevoked && diesMs > this.nowMs;
  }

  #mint(kind: string | undefined, start: string, requestedStep: number) {
    const number = this.tokens.length + 1;
    const token: Token = {
      token: `token-${number}`,
      accessor: `accessor-${number}`,
      start,
      requestedStep,
      mintedStep: this.stepNumber,
      diesMs: this.nowMs + TTL_SECONDS * 1000,
      isRevoked: false,
      isKnown: false,
      sentTo: undefined,
      sentStep: 0,
    };
    this.tokens.push(token);
    this.tell(`  Vault makes ${token.accessor}`);
    const auth = {
      ...tokenFacts,
      orphan: kind !== "wrong-role",
      client_token: token.token,
      accessor: token.accessor,
      token_type: "service",
      lease_duration: TTL_SECONDS,
    };
    const wrap_info = { token: token.token, wrapped_accessor: token.accessor };
    const value =
      kind === "wrapped" ? { request_id: "", wrap_info } : { request_id: "request", auth };
    return { reply: { status: 200, type: "application/json", value }, minted: token };
  }

  #revoke(token: Token): void {
    this.tell(`  Vault revokes ${token.accessor}`);
    token.isRevoked = true;
    const { sentTo } = token;
    if (sentTo?.isAlive && sentTo.connectedStep <= token.sentStep)
      this.violate(`${token.accessor} was revoked, but ${this.nameOf(sentTo)} lives and has it`);
  }

  #engine(path: string): [value: object, status?: number] {
    const [, id] = /\/containers\/([0-9a-f]{64})\/json/.exec(path) ?? [];
    if (path === "/version") return [{ ApiVersion: "1.47" }];
    if (path.includes("/images/")) return [{ Config: { Labels: {} } }];
    const container = this.containers.find((each) => each.id === id);
    if (!container) throw new Error(`the engine does not know ${path}`);
    const { kind, start, startedAtMs } = container;
    const Pid = start?.init.pid ?? 0;
    return [
      {
        Id: id,
        Image: "sha256:image",
        Path: "/app",
        Args: [],
        State: { Pid, StartedAt: new Date(startedAtMs).toISOString() },
        Config: { WorkingDir: "/", Env: [], Labels: { kind } },
        HostConfig: { ReadonlyRootfs: true },
        Driver: "overlay2",
        Mounts: [],
      },
    ];
  }

  // ---- the audit stream

  get isAuditFull(): boolean {
    return this.#away.has("audit");
  }

  writeAudit(line: string, onWritten: () => void): void {
    const { life } = this;
    if (!life.isAlive) return;
    const entry = JSON.parse(line);
    if (/"token-\d|shared-token/.test(line)) this.violate(`a token is in the audit: ${line}`);
    const write = () => {
      if (!life.isAlive) return;
      this.audit.push({ life, ...entry });
      onWritten();
    };
    const writeOrWait = () => {
      if (this.isAuditFull) this.#unwritten.push(write);
      else write();
    };
    const { event, pid = "", reason = "", accessor = "", detail } = entry;
    this.tell(`  audit: ${event} ${pid} ${accessor} ${reason} ${JSON.stringify(detail ?? "")}`);
    if (event === "granted") this.step("the audit line is written", writeOrWait);
    else writeOrWait();
  }

  // ---- files of the server

  /** Crashes before or after it, where the plan says so. */
  #fileOperation(act: () => void): void {
    if (!this.life.isAlive) throw new Error("this server has ended");
    const { crashAtFile } = this.#plan;
    const isCrash =
      !this.isCalm && crashAtFile !== null && this.#fileOperations++ === crashAtFile >> 1;
    if (isCrash && crashAtFile % 2 === 0) this.#crashAtFile("before");
    act();
    if (isCrash) this.#crashAtFile("after");
  }

  #crashAtFile(when: string): void {
    this.crash(`crash ${when} a file operation`);
    throw new Error("this server has ended");
  }

  writeFile(path: string, text: string): void {
    if (this.life.isAlive && !this.isCalm && this.#writes++ === this.#plan.fullAtWrite) {
      this.tell("  no space left on the device");
      throw Object.assign(new Error("ENOSPC"), { code: "ENOSPC", syscall: "write", path });
    }
    this.#fileOperation(() => this.files.set(path, text));
    if (/"token-\d|shared-token/.test(text)) this.violate(`a token is in a file: ${text}`);
  }

  renameFile(from: string, to: string): void {
    const text = this.files.get(from);
    if (text === undefined && this.life.isAlive) throw noEntry("rename", from);
    this.#fileOperation(() => {
      this.files.delete(from);
      this.files.set(to, text ?? "");
      this.#noteStage(to, text ?? "");
    });
  }

  removeFile(path: string): void {
    this.#fileOperation(() => this.files.delete(path));
  }

  #noteStage(path: string, text: string): void {
    const [name = "", id = "", init] = NAME.exec(path) ?? [];
    const { stage, pid } = JSON.parse(text);
    const further = path.endsWith(name) ? "" : " (further)";
    this.tell(`  file of c${id[0]}, start ${init}${further}: ${pid} ${stage}`);
    if (stage === "minting") this.#openedStart = name;
    if (stage === "sent")
      for (const { start } of this.containers) if (start?.name === name) start.noted.add(pid);
  }
}

const tokenFacts = { policies: ["app"], orphan: true, renewable: true };

function faultOf(dice: number): string {
  if (dice < 50) return "";
  return ["refused", "lost", "500", "403", "gateway"][dice % 5] ?? "";
}

export function noEntry(syscall: string, path: string): Error {
  return Object.assign(new Error(`ENOENT: ${path}`), { code: "ENOENT", syscall, path });
}

const realImmediate = setImmediate;

/** Resolves when everything that could run has run. */
export function macrotask(): Promise<void> {
  return new Promise((resolve) => realImmediate(resolve));
}
