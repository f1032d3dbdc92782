import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import {
  closeSync,
  constants,
  cpSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { createServer } from "node:net";
import { hostname } from "node:os";
import { join } from "node:path";
import { getContainerRuntimeClient } from "testcontainers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { client, provision, startOpenBao } from "../scripts/openbao.ts";
import { EngineProxy } from "./engine-proxy.ts";
import { Gate } from "./gate.ts";
import {
  app,
  ask,
  bao,
  buildImage,
  image,
  isGone,
  lookUp,
  password,
  type Server,
  Stage,
  tokensOf,
  until,
  vaultAt,
} from "./stage.ts";

const REFUSED = 77;
const TRY_AGAIN = 75;
const STARTED = `started with a password of ${password.length} characters`;

/** An image like the usual one, that says something of its own. */
async function imageWith(stage: Stage, name: string, instructions: string): Promise<string> {
  const context = mkdtempSync(join(stage.directory, "image-"));
  writeFileSync(join(context, "Dockerfile"), `ARG BASE\nFROM \${BASE}\n${instructions}\n`);
  const built = await buildImage(`authproxy-test-${name}`, context, "Dockerfile", image);
  const id = await imageId(built);
  const { container } = await getContainerRuntimeClient();
  const made = container.dockerode.getImage(id);
  stage.defer(() => made.remove({ force: true }).catch(() => {})); // the test may have removed it
  return built;
}

async function imageId(name: string): Promise<string> {
  const { container } = await getContainerRuntimeClient();
  return (await container.dockerode.getImage(name).inspect()).Id;
}

describe("a container that the policy names", () => {
  const stage = new Stage();
  let server: Server;
  const other = {
    match: { container: { Config: { Labels: { app: "other" } } } },
    token: app.token,
  };
  const twin = { match: { container: { Config: { Labels: { twin: "yes" } } } }, token: app.token };
  const relaxed = {
    match: { container: { Config: { Labels: { app: "relaxed" } } } },
    token: app.token,
    relax: ["readonly"],
  };
  const database = {
    match: { container: { Config: { Labels: { app: "database" } } } },
    token: app.token,
    data: ["/data"],
  };

  beforeAll(async () => {
    server = await stage.server({
      services: { app, other, twin, "twin-too": twin, relaxed, database },
    });
  });
  afterAll(() => stage[Symbol.asyncDispose]());

  test("gets its secret, as a file", async () => {
    const container = await stage.container();
    await container.says(STARTED);
    const { State, Image } = await container.inspect();
    expect(await server.until({ event: "granted", container: container.id })).toMatchObject({
      service: "app",
      pid: State.Pid,
      uid: 1001,
      gid: 1001,
      image: Image,
      exe: "/usr/local/bin/node",
      relaxed: [],
    });
  });

  test("gets its secret, as a variable", async () => {
    const container = await stage.container({
      environment: { DB_PASSWORD: "vault:secret/data/app#password" },
      command: ["node", "-e", "console.log('it is ' + process.env.DB_PASSWORD)"],
    });
    await container.says(`it is ${password}`);
    expect(await container.ended).toBe(0);
  });

  test("is named in what Vault knows about its token", async () => {
    const container = await stage.container();
    const { accessor } = await server.until({ event: "granted", container: container.id });
    const token = await lookUp(accessor);
    expect(token).toMatchObject({ display_name: "token-authproxy-app", orphan: true });
    expect(token?.meta).toEqual({
      service: "app",
      container: container.id,
      image: (await container.inspect()).Image,
      host: hostname(),
      uid: "1001",
    });
  });

  test("has a living token while it runs, and a dead one when it is stopped", async () => {
    const container = await stage.container();
    await container.says(STARTED);
    const { accessor } = await server.until({ event: "granted", container: container.id });
    expect(await lookUp(accessor)).toBeDefined();
    await container.stop();
    expect(await server.until({ event: "revoked", accessor })).toMatchObject({
      container: container.id,
      service: "app",
    });
    expect(await lookUp(accessor)).toBeUndefined();
  });

  test("gets another token when it is started again", async () => {
    const container = await stage.container();
    const first = await server.until({ event: "granted", container: container.id });
    await container.says(STARTED);
    await container.restart();
    const { State } = await container.inspect();
    const second = await server.until({ event: "granted", pid: State.Pid });
    expect(second.accessor).not.toBe(first.accessor);
    await server.until({ event: "revoked", accessor: first.accessor ?? "" });
    expect(await lookUp(second.accessor)).toBeDefined();
  });

  test("gives nothing to a process that is started in it later", async () => {
    const container = await stage.container();
    await container.says(STARTED);
    const later = await container.exec(
      ...["node", "--disable-sigusr1", "/authproxy/authproxy.js", "--", "true"],
    );
    expect(later.exitCode).toBe(REFUSED);
    expect(later.output).not.toContain(password);
    const line = await server.until({ event: "refused", claimed: container.id });
    expect(line).toMatchObject({ reason: "init" });
    expect(line.container, "the engine was not asked").toBeUndefined();
  });

  test("gets one token a start: its first process is refused a second", async () => {
    const again = ["node", "--disable-sigusr1", "/authproxy/authproxy.js", "--", "true"];
    const askAgain = `process.execve("/usr/local/bin/node", ${JSON.stringify(again)},
      { ...process.env, DB_PASSWORD_FILE: "vault:secret/data/app#password" })`;
    const container = await stage.container({ command: ["node", "-e", askAgain] });
    expect(await container.ended).toBe(REFUSED);
    const { pid } = await server.until({ event: "granted", container: container.id });
    expect(await server.until({ event: "refused", container: container.id })).toMatchObject({
      reason: "once",
      pid,
    });
  });

  test("is refused without its label, and the audit says what was wanted and seen", async () => {
    const container = await stage.container({ labels: { app: "stranger" } });
    expect(await container.ended).toBe(REFUSED);
    expect(container.output).not.toContain("stranger");
    expect(await server.until({ event: "refused", container: container.id })).toMatchObject({
      reason: "no-match",
      detail: {
        service: "app",
        path: "container.Config.Labels.app",
        wanted: "app",
        seen: "stranger",
      },
    });
  });

  test("is refused as another user", async () => {
    const container = await stage.container({
      user: "1002:1001",
      environment: { DB_PASSWORD_FILE: "", VAULT_TOKEN: "vault:login" },
    });
    expect(await container.ended).toBe(REFUSED);
    expect(await server.until({ event: "refused", container: container.id })).toMatchObject({
      reason: "no-match",
      uid: 1002,
      detail: { service: "app", path: "peer.uid", wanted: 1001, seen: 1002 },
    });
  });

  test("is refused where two services match, and the audit names both", async () => {
    const container = await stage.container({ labels: { twin: "yes" } });
    expect(await container.ended).toBe(REFUSED);
    expect(await server.until({ event: "refused", container: container.id })).toMatchObject({
      reason: "ambiguous",
      detail: { services: ["twin", "twin-too"] },
    });
  });

  test("is refused with a root file system that it can write", async () => {
    const container = await stage.container({ writable: true });
    expect(await container.ended).toBe(REFUSED);
    expect(await server.until({ event: "refused", container: container.id })).toMatchObject({
      service: "app",
      reason: "readonly",
    });
  });

  test("is served with one where that is relaxed, and the audit says so", async () => {
    const container = await stage.container({ writable: true, labels: { app: "relaxed" } });
    await container.says(STARTED);
    expect(await server.until({ event: "granted", container: container.id })).toMatchObject({
      service: "relaxed",
      relaxed: ["readonly"],
    });
  });

  test("is refused where its command names a writable mount, and the audit says which word", async () => {
    const command = ["node", "-e", "", "--path=/data/db"];
    const container = await stage.container({ data: "/data", command });
    expect(await container.ended).toBe(REFUSED);
    expect(await server.until({ event: "refused", container: container.id })).toMatchObject({
      reason: "readonly",
      detail: { part: "Args.6", mount: "/data" },
    });
  });

  test("is served there if the service declares the mount as data", async () => {
    const command = ["node", "-e", "console.log(process.argv[1])", "--", "--path=/data/db"];
    const labels = { app: "database" };
    const container = await stage.container({ data: "/data", command, labels });
    await container.says("--path=/data/db");
    expect(await server.until({ event: "granted", container: container.id })).toMatchObject({
      service: "database",
      relaxed: [],
    });
  });

  test("is refused when its image declares the label itself", async () => {
    const declaring = await imageWith(stage, "declaring", "LABEL app=app");
    const container = await stage.container({ image: declaring, labels: {} });
    expect(await container.ended).toBe(REFUSED);
    expect(await server.until({ event: "refused", container: container.id })).toMatchObject({
      reason: "labels",
      detail: "app",
    });
  });

  test("is served when its image declares the label with another value", async () => {
    const declaring = await imageWith(stage, "declaring-other", "LABEL app=something");
    const container = await stage.container({ image: declaring });
    await container.says(STARTED);
  });

  test("waits while it is in company, and is served when that has gone", async () => {
    const script = "sleep 1 & exec node --disable-sigusr1 /authproxy/authproxy.js -- id";
    const container = await stage.container({ entrypoint: ["sh", "-c", script], command: [] });
    await container.says("uid=1001");
    expect(await container.ended).toBe(0);
    expect(await server.until({ event: "granted", container: container.id })).toMatchObject({
      relaxed: [],
    });
  });

  test("is none when the peer is a process of the host", async () => {
    expect(await ask(server.socket)).toBe('{"error":"refused"}\n');
    expect(await server.until({ event: "refused", pid: process.pid })).toMatchObject({
      reason: "no-container",
      uid: process.getuid?.() ?? 0,
    });
  });

  test("leaves an audit in which each line has a time, an event and a reason of one word", () => {
    expect(server.events.length).toBeGreaterThan(10);
    for (const { time, event, reason, ms } of server.events) {
      expect(new Date(time).toISOString()).toBe(time);
      expect(event).toMatch(/^[a-z]+(-[a-z]+)*$/);
      if (event === "refused" || event === "unavailable")
        expect(reason).toMatch(/^[a-z]+(-[a-z]+)*$/);
      if (event === "granted") expect(ms).toBeGreaterThan(0);
    }
  });
});

describe("an image", () => {
  test("is named by its digest, and another with the same labels is refused", async () => {
    await using stage = new Stage();
    const other = await imageWith(stage, "other", "ENV OTHER=yes");
    const match = { container: { Image: await imageId(image) } };
    const server = await stage.server({ services: { app: { match, token: app.token } } });
    const right = await stage.container({ labels: {} });
    await right.says(STARTED);
    const wrong = await stage.container({ image: other, labels: {} });
    expect(await wrong.ended).toBe(REFUSED);
    expect(await server.until({ event: "refused", container: wrong.id })).toMatchObject({
      reason: "no-match",
      detail: { path: "container.Image", seen: await imageId(other) },
    });
  });

  test("that took over a name is not the image that had it", async () => {
    await using stage = new Stage();
    const name = `authproxy-test-moving:${randomUUID()}`;
    const move = (to: string) => execFileSync("docker", ["tag", to, name]);
    move(await imageWith(stage, "moving", "ENV VERSION=1"));
    const match = { container: { Image: await imageId(name) } };
    const server = await stage.server({ services: { app: { match, token: app.token } } });
    const right = await stage.container({ image: name, labels: {} });
    await right.says(STARTED);
    move(await imageWith(stage, "moving", "ENV VERSION=2"));
    const wrong = await stage.container({ image: name, labels: {} });
    expect(await wrong.ended).toBe(REFUSED);
    await server.until({ event: "refused", container: wrong.id, reason: "no-match" });
  });
});

describe("an image that was removed while its container was stopped", () => {
  test("costs it its token where labels need the image, and only there: image-gone", async () => {
    await using stage = new Stage();
    stage.configure(); // makes the directory that containers mount
    const gone = await imageWith(stage, "gone", "ENV GONE=yes");
    const Image = await imageId(gone);
    const ofKind = (KIND: string) => ({ container: { Image, Config: { Env: { KIND } } } });
    const labelled = { container: { Config: { Labels: { app: "labelled" } } } };
    const relaxed = { container: { Config: { Labels: { app: "relaxed" } } } };
    const { token } = app;
    const start = (name: string) =>
      stage.container({ image: gone, labels: { app: name }, environment: { KIND: name } });
    const containers = [await start("pinned"), await start("labelled"), await start("relaxed")];
    const [byImage, byLabel, byRelaxed] = containers.map(({ id }) => id);
    for (const container of containers) await container.stop(); // no server has answered them
    execFileSync("docker", ["image", "rm", "--force", Image], { stdio: "pipe" });
    const server = await stage.server({
      services: {
        pinned: { match: ofKind("pinned"), token },
        labelled: { match: labelled, token },
        relaxed: { match: relaxed, token, relax: ["labels"] },
      },
    });
    for (const container of containers) await container.restart();

    await server.until({ event: "granted", container: byImage ?? "", service: "pinned" });
    expect(await server.until({ container: byLabel ?? "", event: "refused" })).toMatchObject({
      reason: "image-gone",
      detail: "app",
    });
    const { relaxed: notHeld } = await server.until({ event: "granted", service: "relaxed" });
    expect(notHeld).toEqual(["labels"]);
    expect(server.find({ container: byRelaxed ?? "", event: "refused" })).toBeUndefined();
  });
});

test.each([1.6, 4])(
  "an engine that takes %d s for each answer is slow, and its containers are served",
  async (seconds) => {
    await using stage = new Stage();
    const proxy = new EngineProxy(stage);
    proxy.delayMs = seconds * 1000;
    await proxy.start();
    const server = await stage.server({ engine: proxy.socket });
    const container = await stage.container();
    await container.says(STARTED);
    expect(server.events.map(({ event }) => event)).toEqual(["ready", "granted"]);
  },
);

describe("Vault", () => {
  test("sealed when the server starts: clients wait, and are served once it is open", async () => {
    await using stage = new Stage();
    const vault = await startOpenBao();
    stage.defer(() => vault.stop());
    const { roleId, secretId } = await provision(vault, { services: { app: { password } } });
    const root = client(vault);
    await root.seal();
    const server = await stage.server({ vault: vaultAt(vault.address, vault, roleId) }, secretId);
    const { detail } = await server.until({ event: "login" });
    expect(detail).toMatchObject({ path: "auth/approle/login", status: 503 });
    const container = await stage.container();
    await until("its client waits", async () => (await container.inspect()).State.Running);
    const log = readFileSync(join(vault.caFile, "../log"), "utf8");
    await root.unseal({ key: /Unseal Key: (\S+)/.exec(log)?.[1] ?? "" });
    await container.says(STARTED);
    await server.until({ event: "granted", container: container.id });
  });

  test("stopped for longer than one call: the client waits, and is served once", async () => {
    await using stage = new Stage();
    const gate = await Gate.before(bao.address);
    stage.defer(() => gate.shut());
    const server = await stage.server({ vault: vaultAt(gate.address) });
    await (await stage.container()).says(STARTED);
    const held = gate.hold();
    const container = await stage.container();
    await held;
    await gate.nextConnection(); // the server has given up the first try, and begins another
    gate.release();
    await container.says(STARTED);
    const { accessor } = await server.until({ event: "granted", container: container.id });
    expect(await lookUp(accessor)).toBeDefined();
  });

  test("with a process that dies while it is slow: the token is never sent, and revoked", async () => {
    await using stage = new Stage();
    const gate = await Gate.before(bao.address);
    stage.defer(() => gate.shut());
    const server = await stage.server({ vault: vaultAt(gate.address) });
    await (await stage.container()).says(STARTED);
    const held = gate.hold();
    const container = await stage.container();
    await held;
    await container.kill();
    gate.release();
    await server.until({ event: "revoked", container: container.id });
    // Also where an error of the file system was the first sign, a person has to find it.
    const gone = await server.until({ container: container.id, reason: "exited" });
    expect(["refused", "unavailable"]).toContain(gone.event);
    expect(server.find({ event: "granted", container: container.id })).toBeUndefined();
    expect(await tokensOf(container.id)).toEqual([]);
  });

  test.each([
    { what: "children, not orphans", orphan: false, policy: "app", ours: [] },
    { what: "the server's own policy", orphan: true, policy: "authproxy", ours: ["authproxy"] },
  ])("with a role that issues $what: refused, and revoked", async ({ orphan, policy, ours }) => {
    await using stage = new Stage();
    const root = client(bao);
    const create = "auth/token/create/wrong";
    await root.write("auth/token/roles/wrong", { orphan, allowed_policies: [policy] });
    const may = `path "${create}" { capabilities = ["update"] }`;
    await root.addPolicy({ name: "wrong", policy: may });
    await root.write("auth/approle/role/authproxy", { token_policies: ["authproxy", "wrong"] });
    stage.defer(() => root.write("auth/approle/role/authproxy", { token_policies: ["authproxy"] }));
    const server = await stage.server({ services: { app: { ...app, token: { create } } } });
    const container = await stage.container();
    expect(await container.ended).toBe(REFUSED);
    expect(await server.until({ event: "refused", container: container.id })).toMatchObject({
      reason: "wrong-role",
      detail: { create, orphan, ours },
    });
    expect(await tokensOf(container.id)).toEqual([]);
  });
});

// Side by side: some take as long as the server or the client tries.
describe.concurrent("a fault that lasts is `unavailable`, and no token:", () => {
  test("Vault is gone", async () => {
    await using stage = new Stage();
    const gate = await Gate.before(bao.address);
    const server = await stage.server({ vault: vaultAt(gate.address) });
    await (await stage.container()).says(STARTED);
    await gate.shut();
    const container = await stage.container();
    const line = await server.until({ event: "unavailable", container: container.id });
    expect(line).toMatchObject({ service: "app", reason: "vault" });
    expect(String(line.detail)).toContain("ECONNREFUSED");
    await gate.raise(); // the client is still there, and asks again
    stage.defer(() => gate.shut());
    await container.says(STARTED);
  });

  test("Vault's certificate is of another authority", async () => {
    await using stage = new Stage();
    const stranger = await startOpenBao();
    stage.defer(() => stranger.stop());
    const server = await stage.server({ vault: vaultAt(bao.address, stranger) });
    const { detail } = await server.until({ event: "login" });
    expect(String(detail)).toContain("certificate");
    const container = await stage.container();
    await server.until({ event: "unavailable", container: container.id, reason: "vault" });
    expect(await tokensOf(container.id)).toEqual([]);
  });

  test("the secret id is wrong", async () => {
    await using stage = new Stage();
    const vault = await startOpenBao(); // of its own: it locks the role out after some tries
    stage.defer(() => vault.stop());
    const { roleId } = await provision(vault, { services: { app: { password } } });
    const place = vaultAt(vault.address, vault, roleId);
    const server = await stage.server({ vault: place }, "no-such-secret-id");
    const { detail } = await server.until({ event: "login" });
    expect(detail).toMatchObject({ path: "auth/approle/login", status: 400 });
    expect(server.stdout + server.stderr).not.toContain("no-such-secret-id");
    const container = await stage.container();
    await server.until({ event: "unavailable", container: container.id, reason: "vault" });
  });

  test("the server may not use the token role", async () => {
    await using stage = new Stage();
    const services = { app: { ...app, token: { create: "auth/token/create/none" } } };
    const server = await stage.server({ services });
    const container = await stage.container();
    const wanted = { event: "unavailable", container: container.id, reason: "vault" };
    const { detail } = await server.until(wanted);
    expect(detail).toMatchObject({ path: "auth/token/create/none", status: 403 });
  });

  test("the engine's socket is not there", async () => {
    await using stage = new Stage();
    const engine = join(stage.directory, "no-engine.sock");
    const server = await stage.server({ engine });
    const container = await stage.container({ wait: 2 });
    const { State } = await container.inspect();
    const wanted = { event: "unavailable", pid: State.Pid, reason: "engine" };
    const { detail } = await server.until(wanted);
    expect(String(detail)).toContain("ENOENT");
    expect(await container.ended).toBe(TRY_AGAIN); // it has asked for as long as it was told
  });

  test("the engine accepts and never answers", async () => {
    await using stage = new Stage();
    const engine = join(stage.directory, "silent-engine.sock");
    const silent = createServer((connection) => connection.on("error", () => {})).listen(engine);
    await once(silent, "listening");
    stage.defer(() => silent.close());
    const server = await stage.server({ engine });
    const container = await stage.container();
    const { State } = await container.inspect();
    await server.until({ event: "unavailable", pid: State.Pid, reason: "engine" });
  });

  test("nobody reads the audit stream", async () => {
    await using stage = new Stage();
    const pipe = join(stage.directory, "audit");
    execFileSync("mkfifo", [pipe]);
    const reader = openSync(pipe, constants.O_RDWR | constants.O_NONBLOCK);
    stage.defer(() => closeSync(reader));
    const stdout = openSync(pipe, "w");
    const padding = fill(reader);
    const server = stage.start(stage.configure(), { stdout });
    closeSync(stdout);
    const container = await stage.container({ wait: 3 });
    expect(await container.ended).toBe(TRY_AGAIN);
    expect(container.output).not.toContain(STARTED);
    await until("what was minted is revoked", async () => {
      return (await tokensOf(container.id)).length === 0;
    });
    let lines = drain(reader);
    expect(lines.slice(0, padding)).toBe("\n".repeat(padding));
    const next = await stage.container();
    await next.says(STARTED);
    lines += drain(reader);
    expect(lines).toMatch(new RegExp(`"event":"granted".*"container":"${next.id}"`));
    expect(isGone(server.pid)).toBe(false);
  });
});

/** Writes until the pipe takes no more; gives the number of bytes. */
function fill(pipe: number): number {
  for (let bytes = 0; ; bytes++) {
    try {
      writeSync(pipe, "\n");
    } catch {
      return bytes;
    }
  }
}

/** All that is in the pipe now. */
function drain(pipe: number): string {
  const chunk = Buffer.alloc(1 << 17);
  let text = "";
  for (;;) {
    try {
      text += chunk.toString("utf8", 0, readSync(pipe, chunk));
    } catch {
      return text;
    }
  }
}

describe("the server and its helper", () => {
  test.each(["SIGKILL", "SIGTERM", "SIGINT"] as const)(
    "end together: %s of the server, and nobody keeps the socket",
    async (signal) => {
      await using stage = new Stage();
      const server = await stage.server();
      const { helper, socket } = server;
      expect(await ask(socket)).toContain("refused");
      await server.end(signal);
      await until("the helper is gone", () => isGone(helper));
      await expect(ask(socket)).rejects.toThrow("ECONNREFUSED");
    },
  );

  test("end together: SIGKILL of the helper, and the server says so", async () => {
    await using stage = new Stage();
    const server = await stage.server();
    process.kill(server.helper, "SIGKILL");
    expect(await server.ended).toBe(1);
    expect(server.stderr).toMatch(/^authproxy: error: \S*peercred .*SIGKILL\n$/);
    await expect(ask(server.socket)).rejects.toThrow("ECONNREFUSED");
  });

  test("start again on the socket that a killed server has left", async () => {
    await using stage = new Stage();
    const file = stage.configure();
    const first = stage.start(file);
    await first.until({ event: "ready" });
    await first.end("SIGKILL");
    const second = stage.start(file);
    await second.until({ event: "ready" });
    expect(await ask(second.socket)).toContain("refused");
  });

  test("do not start beside a living server", async () => {
    await using stage = new Stage();
    const file = stage.configure();
    const first = stage.start(file);
    await first.until({ event: "ready" });
    const second = stage.start(file);
    expect(await second.ended).toBe(1);
    expect(second.stderr).toContain(
      `${first.socket} (is a server running? does the directory exist?)`,
    );
    expect(await ask(first.socket)).toContain("refused");
  });

  test("that were started beside a living server by mistake leave its leases as they are", async () => {
    await using stage = new Stage();
    const gate = await Gate.before(bao.address);
    stage.defer(() => gate.shut());
    const file = stage.configure({ vault: vaultAt(gate.address) });
    const first = stage.start(file);
    await first.until({ event: "ready" });
    await (await stage.container()).says(STARTED); // it has logged in
    const held = gate.hold();
    const container = await stage.container();
    await held; // a lease is open, and its token is not there yet
    const before = stage.leases();
    expect(await stage.start(file).ended).toBe(1);
    expect(stage.leases()).toEqual(before);
    gate.release();
    await container.says(STARTED);
  });

  test("do not start without the helper's binary, and say where it should be", async () => {
    await using stage = new Stage();
    for (const part of ["server"])
      cpSync(join(import.meta.dirname, "..", part), join(stage.directory, part), {
        recursive: true,
      });
    const main = join(stage.directory, "server/main.ts");
    const server = stage.start(stage.configure(), { main });
    expect(await server.ended).toBe(1);
    expect(server.stderr).toMatch(/^authproxy: error: .*dist\/peercred.*ENOENT\n$/);
  });
});
