// What the engine or Vault may answer, and what of it reaches the server: nothing waits longer than
// the deadline, or takes more memory than it may.
import { once } from "node:events";
import { createServer, request, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { exchange, HttpError } from "../server/http.ts";

const deadlineMs = 1000;
const MEBIBYTE = "x".repeat(1 << 20);

/** Each by the path that it is asked by. */
const answers: Record<string, (response: ServerResponse) => void> = {
  object: (response) => response.end('{"a":1}'),
  nothing: (response) => response.writeHead(204).end(),
  denied: (response) => response.writeHead(403).end('{"errors":["permission denied"]}'),
  redirect: (response) => response.writeHead(307, { location: "/object" }).end("{}"),
  "no JSON": (response) => response.end("<html>"),
  "null in place of an object": (response) => response.end("null"),
  "a text in place of an object": (response) => response.end('"hvs.a-token"'),
  "half of it": (response) => response.write('{"a":', () => response.destroy()),
  "bytes of another kind": (response) => response.end(Buffer.from([0xff, 0xfe, 0x00])),
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

function ask(path: string) {
  const { port } = server.address() as AddressInfo;
  const where = { hostname: "127.0.0.1", port, path: `/${encodeURIComponent(path)}` };
  return exchange(request, { deadlineMs, ...where });
}

describe("an answer", () => {
  test.each([
    { path: "object", status: 200, value: { a: 1 } },
    { path: "nothing", status: 204, value: {} },
    { path: "denied", status: 403, value: { errors: ["permission denied"] } },
    { path: "redirect", status: 307, value: {} },
  ])("is given as it is: $path", async ({ path, status, value }) => {
    expect(await ask(path)).toEqual({ status, value });
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
