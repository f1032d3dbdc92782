// Question: do signals reach whom they are for, exactly once, with and without a terminal?
// Input:    the real bundle, on a real pty too; a program that counts signals.
// Covers:   each signal that can be handed on, from the engine's side (one process) and from the terminal (its
//           group); the end while the client waits for the server and for Vault, as process 1 and not, with a
//           terminal and without; process 1 of an image that s6 or systemd starts. What an engine's `stop`
//           does is in client-suite.ts and, with a terminal, in client-images.test.ts.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { copyFileSync, readFileSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { ENDING_SIGNALS, SIGNALS_HANDED_ON, TERMINAL_SIGNALS } from "../client/signals.ts";
import { answer, bundle, newPlace, node, Playground, run } from "./client-playground.ts";
import { bao, grant, granted } from "./client-vault.ts";
import { watching } from "./client-watching.ts";
import { Front } from "./front.ts";
import { compile } from "./programs.ts";

const isRoot = process.getuid?.() === 0;
const environment = { X: "vault:secret/data/app#password" };
const counter = compile("signals");
const pid1 = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
/** With --disable-sigusr1 Node blocks it. */
const withSigusr1 = ["--inspect-port=255.255.255.255:1024"];

function childrenOf(pid: number | undefined): number[] {
  try {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "latin1");
    return children.split(" ").filter(Boolean).map(Number);
  } catch {
    return []; // It has ended.
  }
}

function nameOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, "latin1");
  } catch {
    return ""; // It has ended.
  }
}

describe("the client hands on, once,", () => {
  test("every signal that it can, and none of those that are about itself", async () => {
    const kept = ["SIGPIPE", "SIGXFSZ", "SIGCHLD"] as const;
    await watching(
      async ({ child, says, ended }) => {
        await says("ready");
        const handed = SIGNALS_HANDED_ON.filter((signal) => signal !== "SIGTERM");
        for (const signal of kept) child.kill(signal);
        for (const signal of handed) {
          child.kill(signal);
          await says(`got ${constants.signals[signal]}\n`);
        }
        child.kill("SIGTERM");
        const output = await says("got 15\n");
        const got = [...output.matchAll(/got (\d+)/g)].map(([, number]) => Number(number));
        expect(got).toEqual([...handed.map((signal) => constants.signals[signal]), 15]);
        expect((await ended).exitCode).toBe(3);
      },
      environment,
      `exec ${counter}`,
      [],
      { flags: withSigusr1 },
    );
  });
});

type OnTerminal = {
  /** As if typed. */
  type: (keys: string) => void;
  resize: () => void;
  /** Of the process on the terminal that is the client. */
  client: () => number;
  says: (text: string) => Promise<string>;
  ended: Promise<unknown>;
};

/** The client, with --watch or not, and a terminal of its own: script(1) makes it. */
async function onTerminal(
  server: Playground,
  options: string[],
  command: string,
  test_: (on: OnTerminal) => Promise<void>,
  before: string[] = [],
): Promise<void> {
  const own = [node, "--disable-sigusr1", bundle, "--socket", server.socket, ...options];
  const line = `echo "terminal $(tty) $$."; exec ${[...before, ...own, command].join(" ")}`;
  const script = spawn(
    "script",
    ["--quiet", "--flush", "--return", "--command", line, "/dev/null"],
    {
      env: { PATH: "/usr/bin:/bin", SHELL: "/bin/sh", ...environment },
      stdio: ["pipe", "pipe", "inherit"],
    },
  );
  let output = "";
  script.stdout.setEncoding("utf8").on("data", (text: string) => {
    output += text;
  });
  /** What a terminal echoes, such as ^C, is left out. */
  const says = async (text: string) => {
    while (!output.replace(/\^[A-Z\\]/g, "").includes(text)) {
      if (script.exitCode !== null) throw new Error(`not said: ${text}; but:\n${output}`);
      await sleep(20);
    }
    return output;
  };
  const ended = new Promise((resolve) => script.once("close", resolve));
  try {
    await says(".\r\n");
    const [, terminal = "", pid] = /terminal (\S+) (\d+)\./.exec(output) ?? [];
    await test_({
      type: (keys) => script.stdin.write(keys),
      resize: () => {
        const size = ["cols", String(100 + output.length)];
        expect(spawnSync("stty", ["-F", terminal, ...size]).status).toBe(0);
      },
      client: () => (before.length > 0 ? (childrenOf(Number(pid))[0] ?? 0) : Number(pid)),
      says,
      ended,
    });
  } finally {
    endTree(script);
    await ended;
  }
}

/** With a terminal the application is in a session of its own, so no group has them all. */
function endTree({ pid }: ChildProcess): void {
  const all = pid ? [pid] : [];
  for (const each of all) all.push(...childrenOf(each));
  for (const each of all) {
    try {
      process.kill(each, "SIGKILL");
    } catch {
      // It has ended.
    }
  }
}

/** As an engine does: process 1 leads the terminal's session. */
const pid1WithTerminal = [...pid1, "setsid", "--ctty"];
const ways: [string, string[]][] = [["not as process 1", []]];
if (isRoot) ways.push(["as process 1", pid1WithTerminal]);

describe.each(ways)("on a terminal, %s,", (_, before) => {
  test("the application gets each signal once, whoever sent it", async () => {
    await using server = await Playground.open(answer(grant()));
    await onTerminal(
      server,
      ["--watch"],
      counter,
      async ({ type, resize, client, says, ended }) => {
        await says("ready");
        const sent: number[] = [];
        /** Sends it, and then another: what was to come twice has come before that. */
        const send = async (signal: NodeJS.Signals, by: () => void) => {
          const { signals } = constants;
          by();
          sent.push(signals[signal]);
          await says(`got ${sent.join("\r\ngot ")}\r\n`);
          process.kill(client(), "SIGUSR2");
          sent.push(signals.SIGUSR2);
          await says(`got ${sent.join("\r\ngot ")}\r\n`);
        };
        await send("SIGINT", () => type("\x03"));
        await send("SIGQUIT", () => type("\x1c"));
        await send("SIGTSTP", () => type("\x1a"));
        await send("SIGWINCH", resize);
        for (const signal of TERMINAL_SIGNALS) {
          await send(signal, () => process.kill(client(), signal));
        }
        process.kill(client(), "SIGTERM");
        await says("got 15");
        expect(await ended).toBe(3);
      },
      before,
    );
  });
  test("the application reads what is typed", async () => {
    await using server = await Playground.open(answer(grant()));
    const script = `"test -t 0 && echo ready && read line && echo read $line"`.replace("$", "\\$");
    await onTerminal(
      server,
      ["--watch"],
      `/bin/sh -c ${script}`,
      async ({ type, says, ended }) => {
        await says("ready");
        type("a line\n");
        await says("read a line");
        expect(await ended).toBe(0);
      },
      before,
    );
  });
  test("a typed Ctrl-C reaches what the application has started too", async () => {
    await using server = await Playground.open(answer(grant()));
    const script = `"trap 'echo caught' INT; sleep 600; echo over; exit 4"`;
    await onTerminal(
      server,
      ["--watch"],
      `/bin/sh -c ${script}`,
      async ({ type, client, says, ended }) => {
        const started = () => childrenOf(client()).flatMap(childrenOf);
        while (!started().some((pid) => nameOf(pid) === "sleep\n")) await sleep(20);
        type("\x03");
        await says("caught");
        await says("over");
        expect(await ended).toBe(4);
      },
      before,
    );
  });
});

describe("a signal ends the client at once, with 128+n, while it waits", () => {
  const signals = [...ENDING_SIGNALS, "SIGWINCH"] as const;
  type Case = [string, NodeJS.Signals, string[]];
  const cases = signals.flatMap((signal): Case[] => {
    const ways: Case[] = [["not as process 1", signal, []]];
    return isRoot ? [...ways, ["as process 1", signal, pid1]] : ways;
  });
  const sendTo = (child: ChildProcess | undefined, before: string[], signal: NodeJS.Signals) => {
    if (!child) return;
    const [first = 0] = before.length > 0 ? childrenOf(child.pid) : [];
    process.kill(first || (child.pid ?? 0), signal);
  };

  test.each(cases)("for the server, %s: %s", async (_, signal, before) => {
    let started: ChildProcess | undefined;
    await using server = await Playground.open(() => sendTo(started, before, signal));
    const ended = await run({
      environment,
      before,
      options: ["--socket", server.socket],
      during: (child) => {
        started = child;
      },
    });
    const exitCode = 128 + constants.signals[signal];
    expect(ended).toMatchObject({ exitCode, signal: null, stdout: "", stderr: "" });
  });
  test.each(cases)("for Vault, %s: %s", async (_, signal, before) => {
    const front = await Front.before(bao);
    let started: ChildProcess | undefined;
    front.answer = () => {
      sendTo(started, before, signal);
      return "none";
    };
    try {
      const during = (child: ChildProcess) => {
        started = child;
      };
      const line = grant({}, { address: front.address, ca: front.bao.ca });
      const exitCode = 128 + constants.signals[signal];
      expect(await granted({ environment, before, during }, line)).toMatchObject({
        exitCode,
        signal: null,
        stderr: "",
      });
    } finally {
      await front.stop();
    }
  });
  test("but not a terminal's new size", async () => {
    let resize = () => {};
    const asked = Promise.withResolvers<void>();
    await using server = await Playground.open((connection) => {
      resize();
      asked.promise.then(() => answer(grant())(connection, 0));
    });
    await onTerminal(server, [], "/bin/echo became", async (terminal) => {
      resize = terminal.resize;
      while (server.connections === 0) await sleep(20);
      terminal.resize();
      await sleep(100);
      asked.resolve();
      await terminal.says("became");
    });
  });
});

test.each(["/init", "/systemd", "/s6-svscan"])(
  "with --watch, a program that must be process 1 is warned of: %s",
  async (name) => {
    const program = join(newPlace(), name);
    copyFileSync("/bin/true", program);
    const ended = await granted({ environment, options: ["--watch"], command: [program] });
    expect(ended).toMatchObject({
      exitCode: 0,
      stderr: `authproxy: warning: ${program} may have to be process 1, which it is only without --watch\n`,
    });
    const other = await granted({ environment, command: [program] });
    expect(other).toMatchObject({ exitCode: 0, stderr: "" });
  },
);
