// Question: what does the client say where nothing but the way to Vault is wrong: a listener that
// demands a certificate, a proxy that it does not use?
// Covered: TLS 1.3 and 1.2, whose alerts differ, for a secret and for a wrapped token; each spelling of
// the variables that name a proxy, with and without a way to Vault.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { client, freePort, type OpenBao, startOpenBao } from "../scripts/openbao.ts";
import { answer, expectFailure, Playground, run, secretBytes } from "./client-playground.ts";
import { startDemandingOpenBao } from "./demanding.ts";

let bao: OpenBao;
let demanding: OpenBao;
let ports: number[];
beforeAll(async () => {
  bao = await startOpenBao();
  await client(bao).write("secret/data/app", { data: { password: "correct-horse" } });
  secretBytes.add(bao.rootToken);
  ({ demanding, ports } = await startDemandingOpenBao(bao));
});
afterAll(async () => {
  await bao.stop();
  await demanding.stop();
});

const reference = { DB_PASSWORD: "vault:secret/data/app#password" };

async function fetchFrom(address: string, environment: Record<string, string>, wrapped = false) {
  const vault = { address, ca: bao.ca };
  const grant = { service: "app", token: bao.rootToken, wrapped, ttl: 300, renewable: true, vault };
  await using server = await Playground.open(answer(grant));
  const options = ["--socket", server.socket, "--wait", "1", "--"];
  return await run({ options, environment: { ...reference, ...environment } });
}

describe("a listener that demands a client certificate", () => {
  test.each([
    { version: "1.3", port: 0, wrapped: false },
    { version: "1.2", port: 1, wrapped: false },
    { version: "1.2, for a wrapped token", port: 1, wrapped: true },
  ])("is named as that, with what to do: TLS $version", async ({ port, wrapped }) => {
    const ended = await fetchFrom(`https://127.0.0.1:${ports[port]}`, {}, wrapped);
    const line =
      /^authproxy: https:\S+ and this client cannot agree on TLS: (ERR_SSL_.*CERTIFICATE.*|EPROTO)$/;
    expectFailure(ended, 69, line, /demand no client certificate: a container has none$/);
  });
});

describe("a variable that names a proxy", () => {
  const names = [
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "HTTP_PROXY",
    "http_proxy",
  ];
  test.each(names)(
    "is not used, and that is said where Vault cannot be reached: %s",
    async (name) => {
      const closed = `https://127.0.0.1:${await freePort()}`;
      secretBytes.add("proxy-password");
      const environment = { [name]: `http://user:proxy-password@127.0.0.1:${await freePort()}` };
      const ended = await fetchFrom(closed, environment);
      expectFailure(ended, 69, /unavailable: ECONNREFUSED$/, /and HTTPS_PROXY is not used$/);
      const reached = await fetchFrom(bao.address, { ...environment, NODE_USE_ENV_PROXY: "1" });
      expect(reached).toMatchObject({ exitCode: 0, stderr: "" });
    },
  );
});
