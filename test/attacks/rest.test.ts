// Attacks on secrets where they rest, and on what the client makes of an answer that is not Vault's or
// the server's. The real bundle, in images as Dockerfile.example has them.
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, request } from "node:https";
import { type AddressInfo, createServer as createSocket } from "node:net";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { client } from "../../scripts/openbao.ts";
import type { JsonObject } from "../../server/json.ts";
import { nodeImage } from "../client-nodes.ts";
import {
  bao,
  base,
  type Container,
  image as example,
  password,
  type Stage,
  until,
  vaultAt,
} from "../stage.ts";
import { decision, decisions, imageOver, imageWith, naive, newStage, ours, run } from "./arena.ts";
import { naiveClient } from "./naive-client.ts";
import { attack } from "./table.ts";

const root = join(import.meta.dirname, "../..");
const programs = ["trusted", "swap"];
const image = await imageOver(example, [], { programs });
/** A Node without our client, and the programs. */
const plain = await imageOver(base, [], { programs });
const thieves = imageWith(["shmthief"]);

const CONFIG = 78;
const REFERENCE = "vault:secret/data/app#password";
const WAIT = { AUTHPROXY_WAIT: "30" };
const network = "host" as const;
const COUNT = "let n = 0; process.stdin.on('data', (d) => { n += d.length; }).on('end', () => {";
const SAY = `${COUNT} console.log("application: " + n); setInterval(() => {}, 60000); });`;

/** A container whose shared memory others may join, in which the thief reads what appears. */
async function thiefIn(stage: Stage): Promise<Container> {
  const command = ["/app/shmthief", "/dev/shm"];
  const host = { IpcMode: "shareable" };
  const thief = await run(stage, { image: thieves, command, labels: {}, host });
  await thief.says("waiting");
  return thief;
}

describe("standard input, in shared memory that another container has too", () => {
  const note = attack("54", "not separable: the file has a name, or it never had one");

  test("is read where a naive client's file has a name for a moment", async () => {
    await using stage = newStage();
    await naive(stage);
    const then = `const path = "/dev/shm/authproxy." + process.pid;
      const { writeFile, rm } = fs.promises;
      fs.closeSync(0);
      writeFile(path, grant.token, { mode: 0o400, flag: "wx" })
        .then(() => { fs.openSync(path, "r"); return rm(path); })
        .then(() => console.log("delivered"));
      setInterval(() => {}, 60000);`;
    for (let attempt = 0; attempt < 10; attempt++) {
      const thief = await thiefIn(stage);
      const host = { IpcMode: `container:${thief.id}` };
      const victim = await run(stage, { image: plain, command: naiveClient(then), host });
      await victim.says("delivered");
      if (/thief got: naive/.test(await thief.says("authproxy.1: end"))) {
        note("naive", "falls");
        return;
      }
      await Promise.all([thief.kill(), victim.kill()]);
    }
    throw new Error("the thief saw the file each time, and was always too late to open it");
  });

  test("is not read where the file never has a name", async () => {
    await using stage = newStage();
    const { server } = await ours(stage);
    const thief = await thiefIn(stage);
    const environment = { ...WAIT, AUTHPROXY_STDIN: "1", DB_PASSWORD: REFERENCE };
    const host = { IpcMode: `container:${thief.id}` };
    const command = ["node", "-e", SAY];
    const victim = await run(stage, { image, environment, network, host, command });
    const length = JSON.stringify({ DB_PASSWORD: password }).length;
    await victim.says(`application: ${length}\n`);
    expect(await decision(server, victim)).toMatchObject({ event: "granted" });
    // The thief is still there, and sees what does get a name.
    await victim.exec("sh", "-c", "echo control >/dev/shm/named");
    expect(await thief.says("thief got: control")).not.toContain(password);
    expect(thief.output.match(/thief saw: .*/g)).toEqual(["thief saw: named"]);
    note("defended", "O_TMPFILE: there was no name to open");
    note("honest", "served");
  });
});

describe("files of secrets, in shared memory that another container has too", () => {
  const note = attack("54b", "not separable: one look at the directory");

  test("are read where a naive client writes them there", async () => {
    await using stage = newStage();
    await naive(stage);
    const thief = await thiefIn(stage);
    const then = `fs.writeFileSync("/dev/shm/DB", grant.token, { mode: 0o400 });
      setInterval(() => {}, 60000);`;
    const host = { IpcMode: `container:${thief.id}` };
    await run(stage, { image: plain, command: naiveClient(then), host });
    await thief.says("thief got: naive");
    note("naive", "falls");
  });

  test("are not written there: exit 78, and no token is asked for", async () => {
    await using stage = newStage();
    const { server } = await ours(stage);
    const thief = await thiefIn(stage);
    const environment = { ...WAIT, DB_FILE: REFERENCE, AUTHPROXY_FILES: "/dev/shm" };
    const host = { IpcMode: `container:${thief.id}` };
    const victim = await run(stage, {
      image,
      environment,
      network,
      host,
      command: ["/app/trusted"],
    });
    expect(await victim.ended).toBe(CONFIG);
    expect(victim.output).toContain("/dev/shm is in /dev/shm, which other containers may have too");
    expect(decisions(server, victim)).toEqual([]);
    expect(thief.output).not.toContain("thief saw");
    note("defended", "the client's look: exit 78");
    const right = await stage.container({ image, command: ["/app/trusted"] });
    expect(await decision(server, right)).toMatchObject({ event: "granted" });
    note("honest", "served");
  });
});

describe("a user to whom root's client gives a directory of secrets, and who puts links there", () => {
  const note = attack("61");
  const APPLICATION = 999;
  const match: JsonObject = { container: { Config: { Labels: { app: "app" } } } };
  const directory = "/run/authproxy-secrets/TLS";
  const ROOTS = ["hosts", "passwd", "shadow"];
  const Tmpfs = {
    "/run/authproxy-secrets": `mode=0711,uid=${APPLICATION}`,
    "/target": "mode=0700",
  };
  const asRoot = { user: 0, network, host: { Tmpfs } } as const;
  const swap = (how: string) => ["/app/swap", how, `${APPLICATION}`, directory, "/target"];
  const startSwap = (how: string) => {
    const [program, ...words] = swap(how);
    const streams = '{ stdio: ["ignore", "pipe", "inherit"] }';
    return `child_process.spawn("${program}", ${JSON.stringify(words)}, ${streams}).stdout`;
  };

  async function namesIn(container: Container, path: string): Promise<string[]> {
    const { output } = await container.exec("ls", path);
    return output.split(/\s+/).filter(Boolean);
  }

  test("makes a naive client remove root's files", async () => {
    await using stage = newStage();
    await naive(stage, match);
    const then = `const deliver = (fields) => {
        fs.mkdirSync("${directory}", { recursive: true });
        fs.chownSync("${directory}", ${APPLICATION}, ${APPLICATION});
        for (const name in fields) fs.writeFileSync("${directory}/" + name, fields[name]);
        for (const name of fs.readdirSync("${directory}"))
          if (!(name in fields)) fs.rmSync("${directory}/" + name, { recursive: true });
      };
      deliver({ token: grant.token });
      ${startSwap("itself")}.once("data", () => {
        deliver({ token: "another" });
        console.log("replaced");
        setInterval(() => {}, 60000);
      });`;
    const victim = await run(stage, { ...asRoot, image: plain, command: naiveClient(then) });
    await victim.says("replaced");
    expect(await namesIn(victim, "/target")).toEqual(["token"]);
    note("naive", "falls");
  });

  test("makes one remove them that looks at the directory first, with Node 22", async () => {
    await using stage = newStage();
    await naive(stage, match);
    const then = `fs.mkdirSync("${directory}");
      fs.chownSync("${directory}", ${APPLICATION}, ${APPLICATION});
      ${startSwap("inside")}.once("data", () => {
        for (let n = 0; n < 100000 && fs.readdirSync("/target").length === 3; n++) {
          if (!fs.lstatSync("${directory}").isDirectory()) continue;
          fs.writeFileSync("${directory}/n", String(n));
          for (const name of fs.readdirSync("${directory}")) {
            if (name === "n") continue;
            try { fs.rmSync("${directory}/" + name, { recursive: true }); } catch {}
          }
        }
        console.log("replaced");
        setInterval(() => {}, 60000);
      });`;
    const [, ...words] = naiveClient(then);
    // The example's entrypoint is Node, and its first word a flag.
    const image = await imageOver(await nodeImage("22.23.3"), ["ENTRYPOINT []"], { programs });
    const victim = await run(stage, { ...asRoot, image, command: ["node", ...words] });
    await victim.says("replaced");
    expect((await namesIn(victim, "/target")).length).toBeLessThan(ROOTS.length);
    note("minus one", "by its path, with a look at it before, Node 22: falls");
  });

  /** A client with --watch, whose application has put its links there. */
  async function watched(stage: Stage, node: string, how: string, path: string) {
    return await run(stage, {
      ...asRoot,
      image: await imageOver(await nodeImage(node), [], { programs }),
      command: swap(how),
      environment: {
        ...WAIT,
        TLS_DIR: `vault:${path}#*`,
        AUTHPROXY_FILE_OWNER: `${APPLICATION}:${APPLICATION}`,
        AUTHPROXY_WATCH: "1",
        AUTHPROXY_REFRESH: "1",
      },
    });
  }

  describe.each(["22.23.3", "24.21.0", "26.10.0"])("gets nothing from ours, Node %s:", (node) => {
    const path = `secret/data/app/tls-${node}`;
    const write = (fields: object) => client(bao).write(path, { data: fields });

    test("by links in it, while files come and go", async () => {
      await using stage = newStage();
      const { server } = await ours(stage, { match });
      await write({ n: "0", only0: "" });
      const victim = await watched(stage, node, "inside", path);
      await victim.says("swapped");
      for (let n = 1; n <= 4; n++) {
        await write({ n: `${n}`, [`only${n}`]: "" });
        const changed = "authproxy: changed: TLS_DIR\n";
        await until(`change ${n}`, () => victim.output.split(changed).length > n);
      }
      expect(await namesIn(victim, "/target")).toEqual(ROOTS);
      const written = await namesIn(victim, directory);
      expect(written.filter((name) => /^(n|only)/.test(name))).toEqual(["n", "only4"]);
      expect((await victim.exec("cat", `${directory}/n`)).output).toBe("4");
      note("defended", "by descriptor, links not followed, its own files alone: root's are there");
      expect(await decision(server, victim)).toMatchObject({ event: "granted" });
      note("honest", "served");
    });

    test("by a link in its place", async () => {
      await using stage = newStage();
      await ours(stage, { match });
      await write({ n: "0" });
      const victim = await watched(stage, node, "itself", path);
      await victim.says("swapped");
      await write({ n: "1" });
      await victim.says("warning: the application keeps what it has: cannot write");
      expect(victim.output).toMatch(/cannot write \S+\/TLS: (ELOOP|ENOTDIR)\n/);
      expect(await namesIn(victim, "/target")).toEqual(ROOTS);
      expect((await victim.exec("ls", "-nd", "/target")).output).toMatch(/^drwx------ \d+ 0 /);
    });
  });
});

describe("a front of Vault that answers 404 without a body", () => {
  const note = attack("59b", "not separable: one look at the form of the answer");
  const DEFAULT = "an-insecure-default";

  /** Our server, whose clients reach Vault through a front; while it is broken, no secret. */
  async function fronted(stage: Stage) {
    const directory = dirname(bao.caFile);
    const front = { broken: true, refused: 0 };
    const certificate = {
      cert: readFileSync(join(directory, "vault-cert.pem")),
      key: readFileSync(join(directory, "vault-key.pem")),
    };
    const server = createServer(certificate, (asked, answer) => {
      if (front.broken && asked.url?.startsWith("/v1/secret/")) {
        front.refused++;
        answer.writeHead(404, { "Content-Length": 0 }).end();
        return;
      }
      const { method, headers, url } = asked;
      const sent = request(`${bao.address}${url}`, { method, headers, ca: bao.ca }, (got) => {
        answer.writeHead(got.statusCode ?? 500, got.headers);
        got.pipe(answer);
      });
      asked.pipe(sent);
    });
    await once(server.listen(0, "127.0.0.1"), "listening");
    stage.defer(() => {
      server.closeAllConnections();
      server.close();
    });
    const for_clients = { address: `https://127.0.0.1:${(server.address() as AddressInfo).port}` };
    const target = await ours(stage, { vault: { ...vaultAt(bao.address), for_clients } });
    return { front, ...target };
  }

  test("makes a naive client use the default of a secret that exists", async () => {
    await using stage = newStage();
    await fronted(stage);
    const then = `https.get(grant.vault.address + "/v1/secret/data/app",
        { ca: grant.vault.ca, headers: { "X-Vault-Token": grant.token } }, async (answer) => {
      const text = (await answer.toArray()).join("");
      const value = answer.statusCode === 404 ? "${DEFAULT}" : JSON.parse(text).data.data.password;
      console.log("application: " + value);
      setInterval(() => {}, 60000);
    });`;
    const command = naiveClient(then);
    const victim = await run(stage, { image: plain, command, network });
    expect(await victim.says("application: ")).toContain(DEFAULT);
    note("naive", "falls");
  });

  test("makes ours ask again, until Vault itself answers", async () => {
    await using stage = newStage();
    const { front } = await fronted(stage);
    const say =
      "console.log('application: ' + process.env.PASSWORD.length); setInterval(() => {}, 60000)";
    const environment = { PASSWORD: `${REFERENCE}#?${DEFAULT}`, DB_PASSWORD_FILE: "" };
    const victim = await stage.container({ image, environment, command: ["node", "-e", say] });
    await until("it has asked twice", () => front.refused > 1);
    expect(victim.output).toBe("");
    front.broken = false;
    expect(await victim.says("application: ")).toContain(`application: ${password.length}\n`);
    note("defended", "only an answer in Vault's form counts: it is asked again");
    const absent = { PASSWORD: `vault:secret/data/app/none#a#?${DEFAULT}`, DB_PASSWORD_FILE: "" };
    const other = await stage.container({
      image,
      environment: absent,
      command: ["node", "-e", say],
    });
    await other.says(`application: ${DEFAULT.length}\n`);
    note("honest", "served; the default, where Vault says that there is no secret");
  });
});

describe("a text that is not JSON and holds a secret", () => {
  const note = attack("68b", "not separable: the message is printed, or it is not");
  const secret = "s.wXyZ";

  /** What a container says whose server writes this line. */
  async function saidTo(line: string, options: { image: string; command: string[] }) {
    await using stage = newStage();
    const socket = join(stage.directory, "run/authproxy.sock");
    const server = createSocket((connection) => connection.end(line));
    await once(server.listen({ path: socket, writableAll: true }), "listening");
    const container = await run(stage, { ...options, environment: { ...WAIT, X: REFERENCE } });
    await container.ended;
    server.close();
    return container.output;
  }

  test("stands in the log of a naive client, and not in that of ours", async () => {
    const command = naiveClient("");
    expect(await saidTo(`${secret}\n`, { image: plain, command })).toContain(secret);
    note("naive", "falls (client)");
    const said = await saidTo(`${secret}\n`, { image, command: ["/app/trusted"] });
    expect(said).toContain("does not speak the authproxy protocol");
    expect(said).not.toContain(secret);
    note("defended", "said without the text (client)");
  });

  test("stands in the log of a naive wrapper, and not in that of ours", async () => {
    await using stage = newStage();
    const bundle = join(stage.directory, "bundle");
    mkdirSync(bundle);
    const cut = `{"process":{"env":["X=${REFERENCE}","P=${secret}`;
    writeFileSync(join(bundle, "config.json"), cut);
    const sockets = join(stage.directory, "run");
    const say = (program: string, ...words: string[]) =>
      spawnSync(process.execPath, [program, ...words], { encoding: "utf8" }).stderr;
    const directory = join(root, "dist/authproxy");
    const wrapper = join(root, "test/runtime/naive.ts");
    expect(say(wrapper, "first", directory, sockets, bundle)).toContain(secret);
    note("naive", "falls (runtime)");
    const ours = say(join(root, "dist/runtime/wrapper.mjs"), bundle, directory, sockets);
    expect(ours).toBe("config.json is not JSON");
    note("defended", "said without the text (runtime)");
    note("honest", "JSON is read: test/client.test.ts, test/runtime");
  });
});
