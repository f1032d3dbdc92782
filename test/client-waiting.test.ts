// Question: how long does the client wait for Vault, and what does it ask for a second time?
// Input:    a real OpenBao, a front before it that is slow, stuck or in an election, and peers that do not
//           speak TLS.
// Covers:   a slow read that makes something, a slow write, slow KV; no answer, half an answer, a broken
//           connection, a gateway's 504, a connection that is never secure, for each of these three; each
//           status of a standby or an election, for reads and writes. What PostgreSQL's users make of a slow
//           role is in client-rotation.test.ts.
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { expectFailure } from "./client-playground.ts";
import { bao, grant, granted, hash, hashes, password, root } from "./client-vault.ts";
import { type ForeignAnswer, Front } from "./front.ts";

await root.mount({ mount_point: "pki", type: "pki" });
await root.write("pki/root/generate/internal", { common_name: "test", ttl: "100h" });
await root.write("pki/roles/web", { allow_any_name: true });
await root.addPolicy({
  name: "app-and-web",
  policy: `
path "secret/data/app" { capabilities = ["read"] }
path "kv/app" { capabilities = ["read"] }
path "pki/issue/web" { capabilities = ["update"] }
`,
});
await root.write("auth/token/roles/web", { allowed_policies: ["app-and-web"], orphan: true });
const { auth } = await root.write("auth/token/create/web", {});

type Request = [shows: string, path: string, X: string];
const kv: Request = ["a read of KV version 2", "secret/data/app", "vault:secret/data/app#password"];
/** By its path it could be any engine. */
const read: Request = ["a read of what may be made", "kv/app", "vault:kv/app#password"];
const write: Request = [
  "a write",
  "pki/issue/web",
  '>>vault:pki/issue/web#issuing_ca#{"common_name":"web","ttl":"1h"}',
];

async function run(front: Front, X: string, wait: number) {
  const line = grant({ token: auth.client_token }, { address: front.address, ca: front.bao.ca });
  const options = ["--wait", String(wait), "--allow-write", "pki/issue/web"];
  return await granted({ environment: { X }, options, command: [...hashes, "X"] }, line);
}

async function frontBefore(path: string) {
  const front = await Front.before(bao);
  const asked = () => front.requests.filter((each) => each.endsWith(` ${path}`)).length;
  return { front, asked, [Symbol.asyncDispose]: () => front.stop() };
}

/** Answers the first request so, and passes on the others. */
function firstly(answer: ForeignAnswer | "none" | "cut") {
  let count = 0;
  return () => (count++ === 0 ? answer : undefined);
}

describe.concurrent("an answer that takes 12 s is waited for, and asked for once:", () => {
  test.each([kv, read, write])("%s", async (_, path, X) => {
    await using scene = await frontBefore(path);
    scene.front.delay = () => sleep(12_000);
    expect(await run(scene.front, X, 35)).toMatchObject({ exitCode: 0 });
    expect(scene.asked()).toBe(1);
  });
});

describe.concurrent("no answer", () => {
  test.each([read, write])("to %s is waited for as long as --wait, once", async (_, path, X) => {
    await using scene = await frontBefore(path);
    scene.front.answer = () => "none";
    const ended = await run(scene.front, X, 12);
    const kind = X.startsWith(">>") ? "write" : "read";
    const problem = new RegExp(`no answer from Vault to a ${kind} at ${path}: no answer in time`);
    expectFailure(ended, 69, problem, /may have done it, so it is not sent again/);
    expect(scene.asked()).toBe(1);
    expect(ended.milliseconds).toBeGreaterThan(11_900);
  });
  test("to a read of KV version 2 is asked for again on another connection", async () => {
    await using scene = await frontBefore("secret/data/app");
    scene.front.answer = firstly("none");
    const ended = await run(scene.front, kv[2], 20);
    expect(ended).toMatchObject({ exitCode: 0, stdout: `${hash(password)}\n` });
    expect(scene.asked()).toBe(2);
  });
  test("to a read of KV version 2, ever, ends the client after --wait", async () => {
    await using scene = await frontBefore("secret/data/app");
    scene.front.answer = () => "none";
    expectFailure(
      await run(scene.front, kv[2], 1),
      69,
      /is unavailable: no answer in time/,
      /sealed/,
    );
  });
  test.each([read, write])("and half of one to %s is waited for too", async (_, path, X) => {
    await using scene = await frontBefore(path);
    scene.front.answer = () => ({ status: 200, body: '{"request_id":', length: 100 });
    expectFailure(await run(scene.front, X, 2), 69, /no answer from Vault to a (read|write)/);
    expect(scene.asked()).toBe(1);
  });
});

describe.each<[string, "cut" | ForeignAnswer]>([
  ["a connection breaks", "cut"],
  ["a gateway answers that it gave up", { status: 504, body: "<html>" }],
])("where %s,", (_, answer) => {
  test.each([read, write])("%s is not sent again", async (_shows, path, X) => {
    await using scene = await frontBefore(path);
    scene.front.answer = firstly(answer);
    expectFailure(await run(scene.front, X, 5), 69, /no answer from Vault to a/, /not sent again/);
    expect(scene.asked()).toBe(1);
  });
  test("a read of KV version 2 is sent again", async () => {
    await using scene = await frontBefore("secret/data/app");
    scene.front.answer = firstly(answer);
    expect(await run(scene.front, kv[2], 5)).toMatchObject({ exitCode: 0 });
    expect(scene.asked()).toBe(2);
  });
});

describe("in an election,", () => {
  const vaultBody = '{"errors":["local node not active but active cluster node not found"]}';
  const statuses = [302, 303, 307, 412, 429, 472, 473, 500, 502, 503];
  const answers = statuses.flatMap((status): [number, string][] => [
    [status, vaultBody],
    [status, ""],
  ]);
  test.each(answers)("one %d %s is not the end", async (status, body) => {
    for (const [, path, X] of [kv, read, write]) {
      await using scene = await frontBefore(path);
      scene.front.answer = firstly({ status, body });
      expect(await run(scene.front, X, 20)).toMatchObject({ exitCode: 0 });
      expect(scene.asked()).toBe(2);
    }
  });
  test("redirects that do not end are said, and not followed", async () => {
    await using scene = await frontBefore("secret/data/app");
    scene.front.answer = () => ({ status: 307 });
    expectFailure(
      await run(scene.front, kv[2], 1),
      69,
      /it redirects \(307\), which is not followed/,
    );
  });
  test.each([301, 308])("a permanent redirect, %d, is said at once", async (status) => {
    await using scene = await frontBefore("secret/data/app");
    scene.front.answer = () => ({ status });
    const problem = new RegExp(`redirects \\(${status}\\), which is not followed`);
    expectFailure(await run(scene.front, kv[2], 60), 69, problem, /configure the address/);
    expect(scene.asked()).toBe(1);
  });
});

describe.concurrent("a connection that is never secure", () => {
  /** Answers with nothing, at first; and then leads to Vault. */
  async function silence(connections: number) {
    const sockets = new Set<Socket>();
    const { hostname, port } = new URL(bao.address);
    let count = 0;
    const server = createServer((near) => {
      sockets.add(near.on("error", () => {}));
      if (count++ < connections) return;
      const far = connect(Number(port), hostname);
      sockets.add(far.on("error", () => {}));
      near.pipe(far).pipe(near);
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return {
      address: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
      [Symbol.dispose]: () => {
        for (const socket of sockets) socket.destroy();
        server.close();
      },
    };
  }

  test.each([kv, read, write])("is given up, and %s is sent on another", async (_, _path, X) => {
    using silent = await silence(1);
    const line = grant({ token: auth.client_token }, { address: silent.address });
    const options = ["--wait", "30", "--allow-write", "pki/issue/web"];
    expect(await granted({ environment: { X }, options }, line)).toMatchObject({ exitCode: 0 });
  });
  test("ends the client after --wait", async () => {
    using silent = await silence(9);
    const line = grant({ token: auth.client_token }, { address: silent.address });
    const options = ["--wait", "1"];
    const ended = await granted({ environment: { X: read[2] }, options }, line);
    expectFailure(ended, 69, /is unavailable: no answer in time/);
  });
});
