// Question: what does peercred do?
//
// A model of server/peercred.c, whose head defines the lines. Each command and each line is a step of
// its own; the server may read many lines at once.
import { type Connection, MAPPED_NAMESPACE, type Process, type World } from "./world.ts";

type Peer = { process: Process; connection: Connection | undefined };
type AnswerLine = { token: string; service: string };
type Line = { text: string; onRead?: () => void };

export class PeercredModel {
  readonly #world: World;
  readonly #peers = new Map<string, Peer>();
  readonly #backlog: Connection[] = [];
  readonly #commands: string[] = [];
  #lines: Line[] = [];
  #onData: (text: string) => void = () => {};
  #isListening = false;
  #isOrphan = false;
  #onEnd = () => {};
  #serial = 0;

  constructor(world: World) {
    this.#world = world;
  }

  start(onData: (text: string) => void): void {
    this.#isListening = true;
    this.#onData = onData;
    this.#say("ready pidfd");
  }

  /** The server has ended. `onEnd` is called when peercred has, too. */
  orphan(onEnd: () => void): void {
    this.#isOrphan = true;
    this.#onEnd = onEnd;
    this.#lines = [];
    if (this.#commands.length === 0) this.#world.step("peercred ends", () => this.#end());
  }

  #end(): void {
    if (!this.#isListening) return;
    this.#isListening = false;
    for (const connection of this.#backlog) this.#world.onAnswer(connection);
    for (const { connection } of this.#peers.values())
      if (connection) this.#world.onAnswer(connection);
    this.#peers.clear();
    this.#onEnd();
  }

  /** Returns false where nobody listens. */
  connect(connection: Connection): boolean {
    if (!this.#isListening) return false;
    this.#backlog.push(connection);
    const name = this.#world.nameOf(connection.of);
    this.#world.step(`peercred accepts ${name}`, () => {
      const next = this.#backlog.shift();
      if (this.#isListening && next) this.#accept(next);
      if (this.#isOrphan && next) this.#world.onAnswer(next);
    });
    return true;
  }

  #accept(connection: Connection): void {
    const { of: process, hasSpoken } = connection;
    const isWaiting = [...this.#peers.values()].some(
      (peer) => peer.process === process && peer.connection,
    );
    if (isWaiting) this.#world.onAnswer(connection);
    else if (!process.isAlive) this.#say(`drop exited ${process.pid} 1 1`);
    else if (hasSpoken) {
      this.#say(`drop spoke ${process.pid} 1 1`);
      this.#world.onAnswer(connection);
    } else this.#say(`peer ${this.#add({ process, connection })} ${process.pid} 1 1  `);
  }

  #add(peer: Peer): string {
    const id = `${++this.#serial}`;
    this.#peers.set(id, peer);
    return id;
  }

  onExit(process: Process): void {
    for (const [id, peer] of this.#peers) {
      if (peer.process !== process) continue;
      this.#world.step(`peercred sees the exit of ${this.#world.nameOf(process)}`, () => {
        if (this.#peers.get(id) !== peer || !this.#isListening) return;
        this.#peers.delete(id);
        this.#say(`exit ${id}`);
      });
    }
  }

  /** A line for the server. Where there is none any more, writing it ends peercred. */
  #say(text: string, onRead?: () => void): void {
    if (this.#isOrphan) {
      this.#end();
      return;
    }
    this.#lines.push(onRead ? { text, onRead } : { text });
    if (this.#lines.length === 1) this.#scheduleReading();
  }

  #scheduleReading(): void {
    this.#world.step(`the server reads "${this.#lines[0]?.text}"`, () => {
      if (this.#isOrphan) return;
      const count = this.#world.throwDice() < 60 ? this.#lines.length : 1;
      const lines = this.#lines.splice(0, count);
      if (lines.length > 1) this.#world.tell(`  and ${lines.slice(1).map(({ text }) => text)}`);
      for (const { onRead } of lines) onRead?.();
      if (this.#lines.length > 0) this.#scheduleReading();
      this.#world.inServer(() => this.#onData(`${lines.map(({ text }) => text).join("\n")}\n`));
    });
  }

  command(text: string): void {
    if (this.#isOrphan) return;
    this.#commands.push(text.trimEnd());
    if (this.#commands.length === 1) this.#scheduleCommand();
  }

  #scheduleCommand(): void {
    const [verb, id] = this.#commands[0]?.split(" ") ?? [];
    this.#world.step(`peercred reads "${verb} ${id}"`, () => {
      const command = this.#commands.shift();
      if (!command || !this.#isListening) return;
      this.#handle(command);
      if (this.#isOrphan) this.#end();
      else if (this.#commands.length > 0) this.#scheduleCommand();
    });
  }

  #handle(command: string): void {
    const [, verb = "", id = "", text = ""] = /^(\S+) (\S+) ?(.*)$/.exec(command) ?? [];
    const peer = this.#peers.get(id);
    if (verb === "watch") this.#watch(Number(id));
    else if (verb === "owner") this.#tellOwner(Number(id));
    else if (peer?.connection) this.#answer(verb, id, peer, peer.connection, JSON.parse(text));
    else this.#say(`answered ${id} exited`);
  }

  #watch(pid: number): void {
    const process = this.#world.processes.get(pid);
    if (!process) this.#say(`watching 0 ${pid}`);
    else if (this.#world.throwDice() > 90) this.#say(`watching later ${pid}`);
    else this.#say(`watching ${this.#add({ process, connection: undefined })} ${pid}`);
  }

  #tellOwner(pid: number): void {
    const process = this.#world.processes.get(pid);
    process?.ownerLooks.push(this.#world.stepNumber);
    this.#say(`owner ${process ? MAPPED_NAMESPACE : 0} ${pid}`);
  }

  #answer(verb: string, id: string, peer: Peer, connection: Connection, line: AnswerLine): void {
    const { process } = peer;
    const isGrant = verb === "grant";
    let outcome = "sent";
    if (connection.hasSpoken) outcome = "spoke";
    else if (!process.isAlive) outcome = "exited";
    else if (connection.isHungUp) outcome = "closed";

    peer.connection = undefined;
    const isSent = outcome === "sent";
    if (isGrant && isSent) this.#world.onSend(process, id, line);
    if (!isGrant || !isSent) this.#peers.delete(id);
    this.#world.tell(
      `  ${isGrant ? "a token" : "an error"} for ${this.#world.nameOf(process)}: ${outcome}`,
    );
    this.#world.onAnswer(connection, isSent ? line : undefined);
    this.#say(`answered ${id} ${outcome}`, () => {
      if (isGrant) this.#world.onOutcome(process, isSent);
    });
  }
}
