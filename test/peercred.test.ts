import { type ChildProcess, spawn } from "node:child_process";
import { EventEmitter, once } from "node:events";
import {
  chmodSync,
  copyFileSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { compile } from "./programs.ts";

/** hardening/peercred.test.ts names one of its own. */
const binary = process.env.AUTHPROXY_PEERCRED ?? join(import.meta.dirname, "../dist/peercred");
const hold = compile("hold");
const handover = compile("handover");
const activate = compile("activate");
const throng = compile("throng");
const DEADLINE_MS = 10_000;

let directory: string;
let path: string;
const started: ChildProcess[] = [];
const sockets: Socket[] = [];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "authproxy-peercred-"));
  chmodSync(directory, 0o755);
  path = join(directory, "s");
});

afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
  for (const child of started.splice(0)) child.kill("SIGKILL");
  rmSync(directory, { recursive: true, force: true });
});

/** A program, what it has printed, and its end. */
class Program {
  readonly child: ChildProcess;
  readonly ended: Promise<number | string>;
  /** Of the process itself: another may still hold its output. */
  readonly exited: Promise<unknown>;
  stdout = "";
  stderr = "";
  readonly #heard = new EventEmitter();

  constructor(command: string, ...words: string[]) {
    this.child = spawn(command, words);
    started.push(this.child);
    this.exited = once(this.child, "exit");
    this.ended = once(this.child, "close").then(([code, signal]) => signal ?? code);
    this.child.stdin?.on("error", () => {});
    this.child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.stderr += text;
    });
    this.child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      this.stdout += text;
      this.#heard.emit("data");
    });
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  /** Waits for a line and gives its words, from the first group of `form` on. */
  async says(form: RegExp): Promise<string[]> {
    const signal = AbortSignal.timeout(DEADLINE_MS);
    for (;;) {
      const found = new RegExp(form.source, "m").exec(this.stdout);
      if (found) return found.slice(1);
      await once(this.#heard, "data", { signal }).catch(() => {
        throw new Error(`no line ${form}, but:\n${this.stdout}${this.stderr}`);
      });
    }
  }

  tell(line: string): void {
    this.child.stdin?.write(`${line}\n`);
  }

  /** The state that stat(5) of proc gives: T is stopped. */
  async inState(state: string): Promise<void> {
    while (!readFileSync(`/proc/${this.pid}/stat`, "utf8").includes(`) ${state} `)) await sleep(1);
  }

  async stopped(): Promise<void> {
    this.child.kill("SIGSTOP");
    await this.inState("T");
  }
}

async function helper(...words: string[]): Promise<Program> {
  const [command = binary, ...rest] = [...words, ...(words.length > 0 ? [binary] : [])];
  const program = new Program(command, ...rest, path);
  await program.says(/^ready pidfd$/);
  return program;
}

/** A connection of this process. */
async function connection(): Promise<Socket> {
  const socket = connect(path).setEncoding("utf8");
  sockets.push(socket);
  socket.on("error", () => {});
  await once(socket, "connect");
  return socket;
}

/** All that it is given. To whom has sent what nobody read, the kernel says ECONNRESET for an end. */
async function all(socket: Socket): Promise<string> {
  let text = "";
  socket.on("data", (part) => {
    text += part;
  });
  if (!socket.closed) await new Promise((closed) => socket.on("close", closed));
  return text;
}

/** Resolves when the helper has done all that it was told. */
async function settled(peercred: Program): Promise<void> {
  const seen = peercred.stdout.split("watching 0 2147483647").length;
  peercred.tell("watch 2147483647"); // more than any pid_max
  const deadlineMs = performance.now() + DEADLINE_MS;
  while (peercred.stdout.split("watching 0 2147483647").length === seen) {
    if (performance.now() > deadlineMs) throw new Error("the helper does not answer");
    await sleep(1);
  }
}

describe("what the kernel says", () => {
  test("of this process: pid, uid, gid", async () => {
    const peercred = await helper();
    await connection();
    const [pid, uid, gid] = await peercred.says(/^peer \d+ (\d+) (\d+) (\d+) [\d,]* .*$/);
    expect([pid, uid, gid].map(Number)).toEqual([
      process.pid,
      process.getuid?.(),
      process.getgid?.(),
    ]);
  });

  test("of another user: its groups too, in the kernel's order", async () => {
    const peercred = await helper();
    const ids = ["--reuid=1234", "--regid=2345", "--groups=7,8,4242"];
    const peer = new Program("setpriv", ...ids, hold, path);
    const found = await peercred.says(/^peer \d+ (\d+) (\d+) (\d+) (\S*) /);
    expect(found).toEqual([String(peer.pid), "1234", "2345", "7,8,4242,"]);
  });

  test("of a process without groups: none", async () => {
    const peercred = await helper();
    const ids = ["--reuid=1234", "--regid=2345", "--clear-groups"];
    new Program("setpriv", ...ids, hold, path);
    expect(await peercred.says(/^peer \d+ \d+ (\d+) \d+ (\S*) /)).toEqual(["1234", ""]);
  });
});

describe("a peer that has spoken gets nothing:", () => {
  test("before accept, it is dropped", async () => {
    const peercred = await helper();
    await peercred.stopped();
    const socket = await connection();
    socket.write("GET / HTTP/1.1\r\n");
    peercred.child.kill("SIGCONT");
    expect(await all(socket)).toBe("");
    expect(await peercred.says(/^drop spoke (\d+)/)).toEqual([String(process.pid)]);
    expect(peercred.stdout).not.toContain("peer");
  });

  test("after accept, it is not answered", async () => {
    const peercred = await helper();
    const socket = await connection();
    const [id] = await peercred.says(/^peer (\d+)/);
    await new Promise((done) => socket.write("x", done));
    peercred.tell(`grant ${id} the-token`);
    expect(await peercred.says(/^answered \d+ (\w+)$/)).toEqual(["spoke"]);
    expect(await all(socket)).toBe("");
  });

  test("and a silent one beside it gets the line, whole, and end of file", async () => {
    const peercred = await helper();
    const socket = await connection();
    const [id] = await peercred.says(/^peer (\d+)/);
    peercred.tell(`grant ${id} {"token":"a b  c"}`);
    expect(await peercred.says(/^answered (\d+) sent$/)).toEqual([id]);
    expect(await all(socket)).toBe('{"token":"a b  c"}\n');
  });
});

describe("a peer that has exited gets nothing, though a child holds its socket:", () => {
  test("before accept, it is dropped", async () => {
    const peercred = await helper();
    await peercred.stopped();
    const peer = new Program(handover, path);
    peer.child.stdin?.end();
    await peer.exited;
    peercred.child.kill("SIGCONT");
    expect(await peercred.says(/^drop exited (\d+)/)).toEqual([String(peer.pid)]);
    await peer.ended;
    expect(peer.stdout).toBe("");
  });

  test("between accept and answer", async () => {
    const peercred = await helper();
    const peer = new Program(handover, path);
    const [id] = await peercred.says(/^peer (\d+)/);
    await peercred.stopped(); // the exit and the grant are then there at the same time
    peer.child.stdin?.end();
    await peer.exited;
    peercred.tell(`grant ${id} the-token`);
    peercred.child.kill("SIGCONT");
    expect(await peercred.says(/^answered (\d+) exited$/)).toEqual([id]);
    await peer.ended;
    expect(peer.stdout).toBe("");
  });

  test("and one that lives, child or not, gets the line", async () => {
    const peercred = await helper();
    const peer = new Program(handover, path);
    const [id] = await peercred.says(/^peer (\d+)/);
    peercred.tell(`grant ${id} the-token`);
    await peercred.says(/^answered \d+ sent$/);
    await peer.says(/^the-token$/);
  });
});

describe("after the answer", () => {
  test("to a grant, the exit is reported", async () => {
    const peercred = await helper();
    const peer = new Program(hold, path);
    const [id] = await peercred.says(/^peer (\d+)/);
    peercred.tell(`grant ${id} the-token`);
    await peer.says(/^the-token$/);
    await settled(peercred);
    expect(peercred.stdout).not.toContain("exit");
    peer.child.kill("SIGKILL");
    expect(await peercred.says(/^exit (\d+)$/)).toEqual([id]);
  });

  test("to a refusal, the peer has its line and is forgotten", async () => {
    const peercred = await helper();
    const peer = new Program(hold, path);
    const [id] = await peercred.says(/^peer (\d+)/);
    peercred.tell(`refuse ${id} {"error":"refused"}`);
    await peer.says(/^\{"error":"refused"\}$/);
    peer.child.kill("SIGKILL");
    await peer.ended;
    await settled(peercred);
    expect(peercred.stdout).not.toContain("exit");
  });

  test("the same peer is not answered again", async () => {
    const peercred = await helper();
    const socket = await connection();
    const [id] = await peercred.says(/^peer (\d+)/);
    peercred.tell(`refuse ${id} no`);
    peercred.tell(`grant ${id} the-token`);
    await peercred.says(/^answered \d+ exited$/);
    expect(await all(socket)).toBe("no\n");
  });

  test("a peer that had closed its side is known as such, and forgotten", async () => {
    const peercred = await helper();
    const socket = await connection();
    const [id] = await peercred.says(/^peer (\d+)/);
    socket.destroy();
    await once(socket, "close");
    peercred.tell(`grant ${id} the-token`);
    expect(await peercred.says(/^answered \d+ (\w+)$/)).toEqual(["closed"]);
  });
});

describe("a process that is watched", () => {
  test("is reported when it exits", async () => {
    const peercred = await helper();
    const sleeper = new Program("sleep", "60");
    peercred.tell(`watch ${sleeper.pid}`);
    const [id] = await peercred.says(new RegExp(`^watching (\\d+) ${sleeper.pid}$`));
    expect(id).not.toBe("0");
    sleeper.child.kill("SIGKILL");
    expect(await peercred.says(/^exit (\d+)$/)).toEqual([id]);
  });

  test("and does not exist has the id 0", async () => {
    const peercred = await helper();
    const dead = new Program("true");
    await dead.ended;
    peercred.tell(`watch ${dead.pid}`);
    expect(await peercred.says(/^watching (\d+) /)).toEqual(["0"]);
  });

  test("and for which no descriptor is left is to be asked for later, and costs nobody else", async () => {
    const peercred = await helper("prlimit", "--nofile=16:16", "--");
    const sleepers = Array.from({ length: 20 }, () => new Program("sleep", "60"));
    const answers = () => peercred.stdout.match(/^watching \w+ \d+$/gm) ?? [];
    for (const { pid } of sleepers) peercred.tell(`watch ${pid}`);
    await peercred.says(new RegExp(`^watching later (${sleepers.at(-1)?.pid})$`));
    expect(answers()).toHaveLength(20);
    expect(answers().filter((line) => !line.includes("later")).length).toBeGreaterThan(5);
    sleepers[0]?.child.kill("SIGKILL");
    await peercred.says(/^exit (\d+)$/);
    peercred.tell(`watch ${sleepers.at(-1)?.pid}`);
    const [id] = await peercred.says(new RegExp(`^watching (\\d+) ${sleepers.at(-1)?.pid}$`));
    expect(Number(id)).toBeGreaterThan(0);
  });
});

describe("the user namespace that owns a process's pid namespace", () => {
  /** The first process of a pid namespace, made by these options of unshare(1); what it runs becomes
   * `sleep`. Gives its pid, as this machine numbers it. */
  async function firstProcess(options: string[], ...words: string[]): Promise<number> {
    const made = [...options, "--pid", "--fork", "--kill-child"];
    const { pid } = new Program("unshare", ...made, ...words, "sleep", "60");
    for (;;) {
      const child = Number(readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8"));
      if (child > 0 && readlinkSync(`/proc/${child}/exe`).endsWith("/sleep")) return child;
      await sleep(1);
    }
  }

  type Asked = { under?: string[]; options?: string[] };

  /** Of this process, or of the helper itself. */
  async function ownerOf(pid: number | "helper", asked: Asked = {}): Promise<string> {
    const { under = [], options = ["--user-namespaces"] } = asked;
    const [command = "", ...words] = [...under, binary, path, ...options];
    const peercred = new Program(command, ...words);
    await peercred.says(/^ready pidfd$/);
    const number = pid === "helper" ? peercred.pid : pid;
    peercred.tell(`owner ${number}`);
    const [inode = ""] = await peercred.says(new RegExp(`^owner (\\d+) ${number}$`));
    while (openNamespaces(peercred.pid).length > 0) await sleep(1); // it answers first, then closes
    peercred.child.kill("SIGKILL");
    await peercred.ended;
    return inode === "0" ? "0" : `user:[${inode}]`;
  }

  /** Those that this process has a descriptor of. */
  function openNamespaces(pid: number): string[] {
    const directory = `/proc/${pid}/fd`;
    const targets = readdirSync(directory).map((name) => readlinkSync(`${directory}/${name}`));
    return targets.filter((target) => /^(user|pid):/.test(target));
  }

  const ROOT_OF_ITS_OWN = ["--user", "--map-root-user"];
  const userNamespace = (pid: number | "self") => readlinkSync(`/proc/${pid}/ns/user`);

  test("is this one, of a process of the host", async () => {
    expect(await ownerOf(process.pid)).toBe(userNamespace("self"));
  });

  test("is its own, where that was made first", async () => {
    const pid = await firstProcess(ROOT_OF_ITS_OWN);
    expect(userNamespace(pid)).not.toBe(userNamespace("self"));
    expect(await ownerOf(pid)).toBe(userNamespace(pid));
  });

  test("is not its own, where it has left that later", async () => {
    const pid = await firstProcess([], "unshare", "--user");
    expect(userNamespace(pid)).not.toBe(userNamespace("self"));
    expect(await ownerOf(pid)).toBe(userNamespace("self"));
  });

  test("is the outer one, of a process that has made another below it", async () => {
    const pid = await firstProcess(ROOT_OF_ITS_OWN, "unshare", ...ROOT_OF_ITS_OWN);
    const owner = await ownerOf(pid);
    expect([userNamespace(pid), userNamespace("self")]).not.toContain(owner);
    expect(owner).toMatch(/^user:\[\d+\]$/);
  });

  test("is told of another user's process, whose program nobody may read", async () => {
    const hidden = join(directory, "hidden");
    copyFileSync("/bin/sleep", hidden);
    chmodSync(hidden, 0o711);
    const { pid } = new Program("setpriv", "--reuid=1234", "--clear-groups", hidden, "60");
    while (readlinkSync(`/proc/${pid}/exe`) !== hidden) await sleep(1);
    expect(await ownerOf(pid)).toBe(userNamespace("self"));
    expect(await ownerOf(pid, { options: [] })).toBe("0"); // the control: CAP_SYS_PTRACE does it
  });

  test("is 0, of a process that is gone, and of a number that none can have", async () => {
    const dead = new Program("true");
    await dead.ended;
    expect(await ownerOf(dead.pid)).toBe("0");
    expect(await ownerOf(2147483647)).toBe("0");
  });

  test("is to be asked for later, where no descriptor is left: others have used them up", async () => {
    const few = ["--nofile=16:16", "--"];
    const peercred = new Program("prlimit", ...few, binary, path, "--user-namespaces");
    await peercred.says(/^ready pidfd$/);
    const sleepers = Array.from({ length: 20 }, () => new Program("sleep", "60"));
    for (const { pid } of sleepers) peercred.tell(`watch ${pid}`);
    peercred.tell(`owner ${process.pid}`);
    expect(await peercred.says(new RegExp(`^owner (\\w+) ${process.pid}$`))).toEqual(["later"]);
    for (const { child } of sleepers.slice(0, 2)) child.kill("SIGKILL");
    await peercred.says(/^exit \d+\nexit \d+$/);
    peercred.tell(`owner ${process.pid}`);
    const [inode] = await peercred.says(new RegExp(`^owner (\\d+) ${process.pid}$`));
    expect(`user:[${inode}]`).toBe(userNamespace("self"));
  });

  test("is 0, where it is above the helper's own: EPERM, which is a refusal", async () => {
    const under = ["unshare", ...ROOT_OF_ITS_OWN];
    expect(await ownerOf("helper", { under })).toBe("0"); // its own may be opened
  });
});

describe("the helper cannot get a capability, also when root has started it, and has", () => {
  const SYS_PTRACE = "0000000000080000"; // 1 << 19
  test.each([
    { options: [], holds: "none", permitted: "0000000000000000" },
    { options: ["--user-namespaces"], holds: "CAP_SYS_PTRACE alone", permitted: SYS_PTRACE },
  ])("$holds with $options", async ({ options, permitted }) => {
    const peercred = new Program(binary, path, ...options);
    await peercred.says(/^ready pidfd$/);
    const status = readFileSync(`/proc/${peercred.pid}/status`, "utf8");
    for (const set of ["CapPrm", "CapEff"]) expect(status).toContain(`${set}:\t${permitted}\n`);
    for (const set of ["CapInh", "CapAmb"])
      expect(status).toMatch(new RegExp(`^${set}:\\t0+$`, "m"));
    expect(status).toMatch(/^NoNewPrivs:\t1$/m);
  });

  test("CAP_SYS_PTRACE alone, as the unit starts it: as a user, by an ambient capability", async () => {
    chmodSync(directory, 0o777);
    const sets = ["--inh-caps=-all,+sys_ptrace", "--ambient-caps=-all,+sys_ptrace"];
    const user = ["--reuid=1234", "--regid=1234", "--clear-groups", ...sets];
    const peercred = new Program("setpriv", ...user, "--", binary, path, "--user-namespaces");
    await peercred.says(/^ready pidfd$/);
    const status = readFileSync(`/proc/${peercred.pid}/status`, "utf8");
    expect(status).toContain(`CapPrm:\t${SYS_PTRACE}\n`);
    expect(status).toMatch(/^CapAmb:\t0+$/m);
    peercred.tell(`owner ${process.pid}`); // which is root's
    const [inode] = await peercred.says(new RegExp(`^owner (\\d+) ${process.pid}$`));
    expect(`user:[${inode}]`).toBe(readlinkSync("/proc/self/ns/user"));
  });

  test("an end that says what it lacks, where it is to ask for owners and may not", async () => {
    const without = ["--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace", "--"];
    const peercred = new Program("setpriv", ...without, binary, path, "--user-namespaces");
    expect(await peercred.ended).toBe(1);
    expect(peercred.stderr).toBe(
      'peercred: "user_namespaces" needs CAP_SYS_PTRACE: Operation not permitted\n',
    );
  });
});

describe("the end of the helper", () => {
  test("is the end of its input, and peers see end of file", async () => {
    const peercred = await helper();
    const socket = await connection();
    await peercred.says(/^peer/);
    peercred.child.stdin?.end();
    expect(await peercred.ended).toBe(0);
    expect(await all(socket)).toBe("");
    await expect(once(connect(path), "connect")).rejects.toThrow("ECONNREFUSED");
  });

  test("is also that nobody reads what it says", async () => {
    const peercred = await helper();
    peercred.child.stdout?.destroy();
    await connection();
    expect(await peercred.ended).toBe("SIGPIPE");
  });

  test.each(["nonsense", "grant", "grant x y", "", "grant -", "owner", "shutdown\0 1"])(
    "is a line that is not a command: %j",
    async (line) => {
      const peercred = await helper();
      peercred.tell(line);
      expect(await peercred.ended).toBe(1);
      expect(peercred.stderr).toBe("peercred: a line from the server is not a command\n");
    },
  );

  test("is a line that is longer than any answer", async () => {
    const peercred = await helper();
    peercred.tell("x".repeat(1 << 18));
    expect(await peercred.ended).toBe(0);
  });

  test.each(["0", "1", "131077", "18446744073709551615"])(
    "is not an answer to a peer that it does not know: %s",
    async (id) => {
      const peercred = await helper();
      peercred.tell(`grant ${id} the-token`);
      await peercred.says(new RegExp(`^answered ${id} exited$`));
      await settled(peercred);
    },
  );
});

describe("the socket", () => {
  test("can be connected to by everybody, and is not executable", async () => {
    await helper();
    expect(lstatSync(path).mode & 0o777).toBe(0o666);
  });

  test("that a killed helper left is replaced", async () => {
    const first = await helper();
    first.child.kill("SIGKILL");
    await first.ended;
    const second = await helper();
    await connection();
    await second.says(/^peer/);
  });

  test("of a living helper is not", async () => {
    const first = await helper();
    const second = new Program(binary, path);
    expect(await second.ended).toBe(1);
    expect(second.stderr).toContain(`${path} (is a server running? does the directory exist?)`);
    await connection();
    await first.says(/^peer/);
  });

  test("is not put in the place of a file", async () => {
    writeFileSync(path, "precious");
    const peercred = new Program(binary, path);
    expect(await peercred.ended).toBe(1);
    expect(peercred.stderr).toContain(`${path} (is a server running? does the directory exist?)`);
    expect(readFileSync(path, "utf8")).toBe("precious");
  });

  test("is not put in the place of a link, even to a socket that was left", async () => {
    const first = await helper();
    first.child.kill("SIGKILL");
    await first.ended;
    const link = join(directory, "link");
    symlinkSync(path, link);
    const second = new Program(binary, link);
    expect(await second.ended).toBe(1);
    expect(lstatSync(link).isSymbolicLink()).toBe(true);
    expect(lstatSync(path).isSocket()).toBe(true);
  });

  test("has a path that fits: a longer one is an error, and nothing is made", async () => {
    const long = join(directory, "x".repeat(108));
    const peercred = new Program(binary, long);
    expect(await peercred.ended).toBe(1);
    expect(peercred.stderr).toContain("too long for a socket");
    expect(readdirSync(directory)).toEqual([]);
  });

  test("can be inherited, and who connected before the helper ran is served", async () => {
    const peercred = new Program(activate, path, binary, "--inherited");
    await peercred.says(/^listening$/);
    await peercred.inState("T");
    const early = await connection();
    peercred.child.kill("SIGCONT");
    await peercred.says(/^ready pidfd$/);
    const [id, pid] = await peercred.says(/^peer (\d+) (\d+)/);
    expect(pid).toBe(String(process.pid));
    peercred.tell(`grant ${id} the-token`);
    expect(await all(early)).toBe("the-token\n");
  });

  test("that is not inherited is missed", async () => {
    const peercred = new Program(binary, "--inherited");
    expect(await peercred.ended).toBe(1);
    expect(peercred.stderr).toContain("--inherited: cannot listen");
  });
});

describe("many", () => {
  /** Refuses each peer as soon as it is announced. */
  function refuseAll(peercred: Program): void {
    let done = 0;
    const answer = () => {
      const ids = [...peercred.stdout.matchAll(/^peer (\d+) .*\n/gm)];
      for (const [, id] of ids.slice(done)) peercred.tell(`refuse ${id} no`);
      done = ids.length;
    };
    peercred.child.stdout?.on("data", answer);
    answer();
  }

  /** The answers to so many processes that wait at one moment. */
  async function answersTo(count: number, whenAllWait: () => unknown = () => {}) {
    const crowd = new Program(throng, path, String(count));
    await crowd.says(/^all wait$/);
    await whenAllWait();
    expect(await crowd.ended).toBe(0);
    return crowd.stdout.replace("all wait\n", "").split("\n").slice(0, -1);
  }

  test("processes at once, more than it has descriptors for: it lives, and serves again", async () => {
    const peercred = await helper("prlimit", "--nofile=64:64", "--");
    const full = () => readdirSync(`/proc/${peercred.pid}/fd`).length >= 62;
    const answers = await answersTo(100, async () => {
      for (const deadlineMs = performance.now() + DEADLINE_MS; !full(); await sleep(1))
        if (performance.now() > deadlineMs) throw new Error("its descriptors are not used up");
      refuseAll(peercred);
    });
    expect(answers).toHaveLength(100);
    expect(answers.filter((text) => text === "no").length).toBeGreaterThanOrEqual(20);
    expect(answers.filter((text) => text !== "no" && text !== "")).toEqual([]);
    expect(await all(await connection())).toBe("no\n");
  });

  test("processes, one batch of 2,000: each is answered, and no descriptor is left", async () => {
    const peercred = await helper();
    refuseAll(peercred);
    const before = readdirSync(`/proc/${peercred.pid}/fd`).length;
    expect(await answersTo(2000)).toEqual(Array.from({ length: 2000 }, () => "no"));
    await settled(peercred);
    expect(readdirSync(`/proc/${peercred.pid}/fd`)).toHaveLength(before);
  });

  test("connections of one process: one waits, the others end without a line, and none is left", async () => {
    const peercred = await helper();
    const first = await connection();
    const [id] = await peercred.says(/^peer (\d+) /);
    const before = readdirSync(`/proc/${peercred.pid}/fd`).length;
    const others = await Promise.all(Array.from({ length: 1000 }, connection));
    expect(new Set(await Promise.all(others.map(all)))).toEqual(new Set([""]));
    peercred.tell(`refuse ${id} no`);
    expect(await all(first)).toBe("no\n");
    await settled(peercred);
    expect(peercred.stdout.match(/^(peer|drop) /gm)).toEqual(["peer "]);
    expect(readdirSync(`/proc/${peercred.pid}/fd`)).toHaveLength(before - 2);
    refuseAll(peercred);
    expect(await all(await connection())).toBe("no\n"); // it may come again
  });
});
