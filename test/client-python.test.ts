// Question: does a service that runs for long, here in Python, stand behind the client as it would alone?
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { client } from "../scripts/openbao.ts";
import { imageOf, python, pythonFiles } from "./image.ts";
import { bao, base, buildImage, type Container, password, Stage } from "./stage.ts";

const root = join(import.meta.dirname, "..");
const clientImage = await buildImage("authproxy-test-client", root, "Dockerfile.example", base);
const files = { ...pythonFiles(), "/app/service.py": join(root, "test/programs/service.py") };
const image = await imageOf("authproxy-application-python", clientImage, files);

async function startService(stage: Stage, environment: Record<string, string> = {}) {
  const references = { DB_PASSWORD_FILE: "", PASSWORD_FILE: "vault:secret/data/app#password" };
  const service = await stage.container({
    image,
    command: [python, "/app/service.py"],
    environment: { ...references, VAULT_ADDR: "https://elsewhere", ...environment },
  });
  const [, port] = /^port (\d+)\.$/m.exec(await service.says(".\n")) ?? [];
  return { service, address: `http://127.0.0.1:${port}/` };
}

/** What it says of itself; of a stranger to the password it wants to know nothing. */
type Facts = { pid: number; processes: number; variables: string[] };

async function get(address: string, word: string): Promise<[number, Facts]> {
  const response = await fetch(address, { headers: { Authorization: `Bearer ${word}` } });
  return [response.status, (await response.json()) as Facts];
}

async function expectStopped(service: Container): Promise<void> {
  await service.stop();
  expect(await service.ended).toBe(0);
  expect(service.output).toContain("ended by SIGTERM\n");
}

describe("a service in Python", () => {
  test("is the container's only process, and gets the signals itself", async () => {
    await using stage = new Stage();
    const server = await stage.server();
    const { service, address } = await startService(stage);
    expect(await get(address, "wrong")).toEqual([401, {}]);
    const [status, { pid, processes, variables }] = await get(address, password);
    expect(status).toBe(200);
    expect({ pid, processes }).toEqual({ pid: 1, processes: 1 });
    expect(variables).toContain("PASSWORD_FILE");
    expect(variables.filter((name) => /^(AUTHPROXY|VAULT)_/.test(name))).toEqual([]);
    await expectStopped(service);
    await server.until({ event: "revoked", container: service.id });
  });
  test("takes a new password without a restart, with --watch", async () => {
    await using stage = new Stage();
    await stage.server();
    const { service, address } = await startService(stage, {
      AUTHPROXY_WATCH: "1",
      AUTHPROXY_REFRESH: "1",
      AUTHPROXY_ON_CHANGE: "SIGHUP",
    });
    expect((await get(address, password))[0]).toBe(200);
    const next = `next-${password}`;
    await client(bao).write("secret/data/app", { data: { password: next } });
    await service.says(`password of ${next.length} characters\n`);
    expect(await get(address, password)).toEqual([401, {}]);
    const [status, { pid, processes }] = await get(address, next);
    expect(status).toBe(200);
    expect({ isFirst: pid === 1, processes }).toEqual({ isFirst: false, processes: 2 });
    await expectStopped(service);
  });
});
