// Question: how fast can any program be that asks the engine who a container is, and Vault for a
// token? Bare calls over kept-alive connections from this Node: answers are read to their end and
// not looked at. Nothing is checked, watched, written down or revoked.
import { Agent, request as requestEngine } from "node:http";
import { request as requestVault, Agent as TlsAgent } from "node:https";
import type { JsonObject } from "../server/json.ts";
import type { Round } from "./figures.ts";
import type { Stage } from "./stage.ts";

const SOCKETS = 64;
const engineSocket = "/var/run/docker.sock";
/** As in server/engine.ts: the newest minor version of the engine's API that the server uses. */
const NEWEST_MINOR = 51;

export type Vault = {
  /** A token of a role, as the server has it made. */
  create: (headers?: Record<string, string>) => Promise<string>;
  /** A call to Vault with the rights of our server; gives its answer. */
  call: (path: string, body?: JsonObject, headers?: Record<string, string>) => Promise<string>;
};
export type Floor = Vault & { inspect: () => Promise<unknown> };

function read(send: typeof requestVault, options: object, body?: JsonObject): Promise<string> {
  return new Promise((resolve, reject) => {
    const sent = send(options, (answer) => {
      const chunks: Buffer[] = [];
      answer.on("data", (chunk) => chunks.push(chunk));
      answer.on("end", () => {
        const text = Buffer.concat(chunks).toString();
        if ((answer.statusCode ?? 0) < 300) resolve(text);
        else reject(new Error(`status ${answer.statusCode}: ${text}`));
      });
    });
    sent.on("error", reject);
    sent.end(body && JSON.stringify(body));
  });
}

/** `container` is the one that is asked about. */
export async function connectFloor(stage: Stage, container: string): Promise<Floor> {
  const engine = new Agent({ keepAlive: true, maxSockets: SOCKETS });
  stage.defer(() => engine.destroy());
  const get = (path: string) =>
    read(requestEngine, { socketPath: engineSocket, agent: engine, path });
  const { ApiVersion } = JSON.parse(await get("/version"));
  const minor = Math.min(Number(ApiVersion.split(".")[1]), NEWEST_MINOR);
  const inspect = () => get(`/v1.${minor}/containers/${container}/json`);
  return { inspect, ...(await connectVault(stage)) };
}

export async function connectVault(stage: Stage): Promise<Vault> {
  const vault = new TlsAgent({ keepAlive: true, maxSockets: SOCKETS, ca: stage.bao.ca });
  stage.defer(() => vault.destroy());
  const { hostname, port } = new URL(stage.bao.address);
  let token = "";
  const call: Vault["call"] = (path, body, headers = {}) => {
    const method = body ? "POST" : "GET";
    const whole = { hostname, port, agent: vault, method, path: `/v1/${path}` };
    const head = { "X-Vault-Token": token, ...headers };
    return read(requestVault, { ...whole, headers: head }, body);
  };
  token = JSON.parse(await call("auth/approle/login", stage.login())).auth.client_token;
  const body = { meta: { service: "app" }, display_name: "floor" };
  const create: Vault["create"] = (headers) => call("auth/token/create/app", body, headers);
  return { create, call };
}

/** How many make a round. Of a tenth of a second, a round at many at once would say what a collection
 * of OpenBao's costs. */
export const roundOf = (atOnce: number, quick: boolean) => (quick ? 12 : 320 * Math.min(atOnce, 3));

/** `count` of these, `atOnce` under way at any moment. */
export async function repeat(
  once: () => Promise<unknown>,
  count: number,
  atOnce: number,
): Promise<Round> {
  const ms: number[] = [];
  let left = count;
  const began = performance.now();
  const lane = async () => {
    while (left-- > 0) {
      const startedMs = performance.now();
      await once();
      ms.push(performance.now() - startedMs);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, lane));
  return { ms, seconds: (performance.now() - began) / 1000 };
}
