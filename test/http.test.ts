// What the engine or Vault may answer, and what of it reaches the server: nothing waits longer than
// the deadline, or takes more memory than it may.
import { once } from "node:events";
import { Agent, createServer, request, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { exchange, HttpError, type HttpRequest } from "../server/http.ts";

const deadlineMs = 1000;
const MEBIBYTE = "x".repeat(1 << 20);

/** Each by the path that it is asked by. */
const answers: Record<string, (response: ServerResponse) => void> = {
  object: (response) => response.setHeader("Content-Type", "application/json").end('{"a":1}'),
  nothing: (response) => response.writeHead(204).end(),
  denied: (response) => response.writeHead(403).end('{"errors":["permission denied"]}'),
  redirect: (response) => response.writeHead(307, { location: "/object" }).end("{}"),
  "no JSON": (response) => response.end("<html>"),
  "null in place of an object": (response) => response.end("null"),
  "a text in place of an object": (response) => response.end('"hvs.a-token"'),
  "half of it": (response) => response.write('{"a":', () => response.destroy()),
  "bytes of another kind": (response) => response.end(Buffer.from([0xff, 0xfe, 0x00])),
  "after 0.7 s": (response) => setTimeout(() => response.end("{}"), 700),
  silence: () => {},
  "a head alone": (response) => response.flushHeaders(),
  "byte by byte": (response) => {
    response.write("{");
    const drip = setInterval(() => response.write(" "), 20);
    response.on("close", () => clearInterval(drip));
  },
  "a hundred mebibytes": (response) => {
    let left = 100;
    const more = () => {
      while (left-- > 0) if (!response.write(MEBIBYTE)) return void response.once("drain", more);
      response.end();
    };
    response.on("close", () => closed(left));
    response.write('{"a":"');
    more();
  },
};
let closed = (_left: number) => {};

const server = createServer((asked, response) => {
  answers[decodeURIComponent(asked.url ?? "").slice(1)]?.(response);
});
beforeAll(() => once(server.listen(0, "127.0.0.1"), "listening"));
afterAll(() => {
  server.closeAllConnections();
  server.close();
});

function ask(path: string, options: Partial<HttpRequest> = {}) {
  const { port } = server.address() as AddressInfo;
  const where = { hostname: "127.0.0.1", port, path: `/${encodeURIComponent(path)}` };
  return exchange(request, { deadlineMs, ...where, ...options });
}

describe("an answer", () => {
  test.each([
    { path: "object", status: 200, type: "application/json", value: { a: 1 } },
    { path: "nothing", status: 204, type: "", value: {} },
    { path: "denied", status: 403, type: "", value: { errors: ["permission denied"] } },
    { path: "redirect", status: 307, type: "", value: {} },
  ])("is given as it is: $path", async ({ path, ...answer }) => {
    expect(await ask(path)).toEqual(answer);
  });

  test.each([
    "no JSON",
    "null in place of an object",
    "a text in place of an object",
    "half of it",
    "bytes of another kind",
    "silence",
    "a head alone",
    "byte by byte",
  ])("is unavailable: %s", async (path) => {
    const failure = await ask(path).catch((error) => error);
    expect(failure).toBeInstanceOf(HttpError);
    expect(failure.message).toContain(encodeURIComponent(path));
  });

  test("is quoted in no error: it may hold a token", async () => {
    await expect(ask("a text in place of an object")).rejects.toThrow(
      /^(?!.*hvs).*status 200, the answer is not a JSON object$/,
    );
  });

  test("of a hundred mebibytes is not read to its end", async () => {
    const unsent = new Promise<number>((resolve) => {
      closed = resolve;
    });
    await expect(ask("a hundred mebibytes")).rejects.toBeInstanceOf(HttpError);
    expect(await unsent).toBeGreaterThan(50); // of 100: the rest never left
  });
});

describe("a request whose agent has no free connection", () => {
  test("has all of its deadline once it has one", async () => {
    const agent = new Agent({ maxSockets: 1 });
    const slow = () => ask("after 0.7 s", { agent });
    expect(await Promise.all([slow(), slow()])).toHaveLength(2); // 1.4 s: longer than one deadline
  });

  test("gives up after that deadline, and the others do not notice", async () => {
    const agent = new Agent({ maxSockets: 1 });
    const first = ask("after 0.7 s", { agent });
    const beganMs = performance.now();
    await expect(ask("object", { agent, deadlineMs: 200 })).rejects.toThrow("no answer in time");
    expect(performance.now() - beganMs).toBeLessThan(600);
    await first;
    expect(await ask("object", { agent })).toMatchObject({ status: 200 });
  });
});
