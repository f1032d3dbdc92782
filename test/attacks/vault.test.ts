// Attacks by what stands between the server and Vault, or by who can write where the server reads.
import { spawnSync } from "node:child_process";
import { chmodSync, fstatSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, test } from "vitest";
import { client } from "../../scripts/openbao.ts";
import type { JsonObject } from "../../server/json.ts";
import { type ForeignAnswer, Front } from "../front.ts";
import { app, bao, lookUp, type Server, type Stage, vaultAt } from "../stage.ts";
import { decision, honest, imageWith, newStage, run, SOCKET, TOKEN, USER } from "./arena.ts";
import { attack } from "./table.ts";

const image = imageWith(["trusted"]);
const front = await Front.before(bao);
afterAll(() => front.stop());
afterEach(() => {
  front.answer = () => undefined;
  front.change = () => {};
});

const NO_ROUTE: ForeignAnswer = { status: 404 };
const wrapped = { ...app, token: { ...app.token, wrap_ttl: "60s" } };

/** Our server, which reaches Vault by the front. */
async function behindFront(stage: Stage, service: JsonObject = app): Promise<Server> {
  const vault = vaultAt(front.address, front.bao);
  return await stage.server({ vault, services: { app: service } });
}

/** The front answers these calls, until the returned function is called. */
function answerFor(calls: string[], answer = NO_ROUTE): () => void {
  front.answer = (path) => (calls.some((call) => path.endsWith(call)) ? answer : undefined);
  return () => {
    front.answer = () => undefined;
  };
}

/** As one would write it first: what is no failure of the server's is an answer. */
async function naiveCall(path: string, body: object, headers: Record<string, string> = {}) {
  const naive = client(front.bao);
  const json = { method: "POST" as const, path: `/${path}`, json: body, headers };
  return await naive.request(json).catch(({ response }) => response?.body ?? {});
}

describe("a front of Vault that answers 404 without a body to a revocation", () => {
  const note = attack("59", "not separable: one look; its tests are in test/vault.test.ts");

  test("is believed by a naive server: the token lives", async () => {
    const { auth } = await naiveCall("auth/token/create/app", {});
    answerFor(["/revoke-accessor"]);
    await naiveCall("auth/token/revoke-accessor", { accessor: auth.accessor });
    expect(await lookUp(auth.accessor)).toBeDefined();
    note("naive", "falls: says revoked, the token lives");
  });

  test("is asked again until Vault itself has done it", async () => {
    await using stage = newStage();
    const server = await behindFront(stage);
    const container = await honest(stage, image, note);
    const { accessor } = await decision(server, container);
    const heal = answerFor(["/revoke-accessor"]);
    await container.kill();
    const failure = await server.until({ event: "revoke-failed", accessor: accessor ?? "" });
    expect(failure.detail).toContain("the answer is not Vault's");
    expect(await lookUp(accessor)).toBeDefined();
    expect(server.find({ event: "revoked" })).toBeUndefined();
    heal();
    await server.until({ event: "revoked", accessor: accessor ?? "" });
    expect(await lookUp(accessor)).toBeUndefined();
    note("defended", "revoke-failed; then revoked by Vault itself");
  });
});

describe("an answer in Vault's place that is no JSON, and holds a token", () => {
  const note = attack("68", "not separable: the text of no error is passed on");
  const secret = "hvs.the-token-of-somebody";

  test("is quoted by the error of a naive server", () => {
    const parse = () => JSON.parse(`{"auth":${secret}`);
    expect(parse).toThrow("hvs.the-to");
    note("naive", "falls: the error quotes it");
  });

  test.each([`{"auth":${secret}`, secret, `"${secret}"`])(
    "is in no audit line: %s",
    async (body) => {
      await using stage = newStage();
      const server = await behindFront(stage);
      const answer = { status: 200, type: "application/json", body };
      const heal = answerFor(["/create/app"], answer);
      const container = await run(stage, { image, command: ["/app/trusted", SOCKET] });
      const line = await server.until({ event: "retry", container: container.id });
      expect(line).toMatchObject({ reason: "vault" });
      expect(server.stdout + server.stderr).not.toContain("hvs.");
      heal();
      await container.says(TOKEN);
      note("defended", "vault: status 200, the answer is not a JSON object");
      note("honest", "served");
    },
  );
});

describe("a wrapped token that cannot be looked at, nor revoked, after it was minted", () => {
  const note = attack("69", "not separable: as 59");

  test("is forgotten by a naive server: it lives", async () => {
    const headers = { "X-Vault-Wrap-TTL": "60s" };
    const { wrap_info } = await naiveCall("auth/token/create/app", {}, headers);
    answerFor(["/lookup-accessor", "/revoke-accessor"]);
    const accessor = wrap_info.wrapped_accessor;
    expect(await naiveCall("auth/token/lookup-accessor", { accessor })).not.toHaveProperty("data");
    await naiveCall("auth/token/revoke-accessor", { accessor });
    expect(await lookUp(accessor)).toBeDefined();
    note("naive", "falls: one try to revoke, the token lives");
  });

  test("is revoked as soon as Vault can be reached", async () => {
    await using stage = newStage();
    const server = await behindFront(stage, wrapped);
    const heal = answerFor(["/lookup-accessor", "/revoke-accessor"]);
    const container = await run(stage, { image, command: ["/app/trusted", SOCKET] });
    const { accessor = "" } = await server.until({ event: "revoke-failed" });
    expect(await lookUp(accessor)).toMatchObject({ meta: { container: container.id } });
    expect(server.find({ event: "granted" })).toBeUndefined();
    heal();
    await server.until({ event: "revoked", accessor });
    expect(await lookUp(accessor)).toBeUndefined();
    note("defended", "vault; revoked by Vault itself");
    await honest(stage, image, note);
  });
});

describe("a front of Vault that drops the wish for a wrapped token", () => {
  const note = attack("71", "not separable: one comparison; its tests are in test/vault.test.ts");

  test("makes a naive server send the token itself", async () => {
    front.change = (headers) => delete headers["x-vault-wrap-ttl"];
    const headers = { "X-Vault-Wrap-TTL": "60s" };
    const { auth, wrap_info } = await naiveCall("auth/token/create/app", {}, headers);
    const sent = wrap_info?.token ?? auth.client_token;
    const own = await client({ ...bao, rootToken: sent }).tokenLookupSelf();
    expect(own.data.path).toBe("auth/token/create/app");
    note("naive", "falls: the token is sent as it is");
  });

  test("is refused: wrapping; and the token is revoked", async () => {
    await using stage = newStage();
    const server = await behindFront(stage, wrapped);
    front.change = (headers) => delete headers["x-vault-wrap-ttl"];
    const container = await run(stage, { image, command: ["/app/trusted", SOCKET] });
    expect(await decision(server, container)).toMatchObject({
      event: "refused",
      reason: "wrapping",
    });
    const { accessor } = await server.until({ event: "revoked", container: container.id });
    expect(await lookUp(accessor)).toBeUndefined();
    expect(container.output).not.toContain(TOKEN);
    note("defended", "wrapping; revoked");
    front.change = () => {};
    await honest(stage, image, note);
  });
});

describe("a user of the host who can write the directory of the configuration", () => {
  const note = attack("73");
  const main = join(import.meta.dirname, "../../server/main.ts");

  /** DIRECTORY/etc, of this mode, with a configuration, and a former one that only root can write. */
  function scene(stage: Stage, mode: number) {
    const directory = join(stage.directory, "etc");
    mkdirSync(directory);
    chmodSync(stage.directory, 0o755);
    const file = join(directory, "authproxy.json");
    const former = join(stage.directory, "former.json");
    const text = (state: string) => readFileSync(stage.configure({ state }), "utf8");
    writeFileSync(file, text("/run/now"), { mode: 0o644 });
    writeFileSync(former, text("/run/former"), { mode: 0o644 });
    chmodSync(directory, mode);
    return { directory, file, former };
  }

  /** The thief puts a link to the former one in the place of the configuration. */
  function replace(file: string, former: string): boolean {
    const user = ["--reuid", `${USER}`, "--regid", `${USER}`, "--clear-groups"];
    const script = 'mv "$1" "$1.old" && ln -s "$2" "$1"';
    const words = [...user, "sh", "-c", script, "sh", file, former];
    return spawnSync("setpriv", words, { stdio: "pipe" }).status === 0;
  }

  const check = (file: string) =>
    spawnSync(process.execPath, [main, "--check", "--config", file], { encoding: "utf8" });

  test("has a naive server run with another file of root's", async () => {
    await using stage = newStage();
    const { file, former } = scene(stage, 0o777);
    expect(replace(file, former)).toBe(true);
    const descriptor = openSync(file, "r");
    const { uid, mode } = fstatSync(descriptor);
    expect([uid, mode & 0o022]).toEqual([0, 0]); // all that it looks at
    expect(readFileSync(descriptor, "utf8")).toContain("/run/former");
    note("naive", "falls, looking at the file alone");
  });

  test("cannot do it where the directory is sticky, which is accepted", async () => {
    await using stage = newStage();
    const { file, former } = scene(stage, 0o1777);
    expect(replace(file, former)).toBe(false);
    expect(check(file)).toMatchObject({ status: 0, stderr: "" });
    note("minus one", "sticky, so not refused: stopped by the kernel");
  });

  test("is seen, and the server does not start", async () => {
    await using stage = newStage();
    const { file, former, directory } = scene(stage, 0o777);
    expect(replace(file, former)).toBe(true);
    const { status, stderr } = check(file);
    expect(status).toBe(1);
    expect(stderr).toContain(`${directory}: others can write it (try: chmod go-w ${directory})`);
    note("defended", "does not start: others can write the directory");
  });

  test("does not keep a server from starting where nobody else can write", async () => {
    await using stage = newStage();
    const { file, former } = scene(stage, 0o755);
    expect(replace(file, former)).toBe(false);
    expect(check(file)).toMatchObject({ status: 0, stderr: "" });
    note("honest", "starts");
  });
});
