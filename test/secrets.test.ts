import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { getContainerRuntimeClient } from "testcontainers";
import { beforeAll, describe, expect, test } from "vitest";
import { app, type Container, image, isGone, password, Stage, until } from "./stage.ts";

describe("what the server and its helper do with a client's socket", () => {
  beforeAll(() => {
    if (spawnSync("strace", ["-V"]).status !== 0)
      throw new Error("strace is missing (try: apt-get install strace)");
  });

  test("no read, and nothing else but to look, to answer and to close", async () => {
    await using stage = new Stage();
    const log = join(stage.directory, "strace");
    // Every call on a descriptor, of all processes; -yy names the socket behind each. -D: the server
    // is our child, the tracer is not, and ends after it.
    const under = ["strace", "-D", "-f", "-yy", "-s0", "-e", "trace=%desc,%network", "-o", log];
    const server = stage.start(stage.configure(), { under });
    await server.until({ event: "ready" });
    const container = await stage.container();
    await container.says("started with a password");
    const stranger = await stage.container({ labels: {} });
    await stranger.ended;
    const { State } = await container.inspect();
    expect(await server.until({ event: "granted" })).toMatchObject({ pid: State.Pid });
    await server.until({ event: "refused", container: stranger.id });
    await container.stop();
    await server.until({ event: "revoked" });
    await server.end("SIGTERM");

    // A connected socket has a peer, which the listening one has not: [inode->inode,"path"].
    const connected = `UNIX-STREAM:\\[\\d+->\\d+,"${server.socket}"\\]`;
    const call = new RegExp(`^(\\d+) +(\\w+)\\(.*<${connected}>`);
    const lines = readFileSync(log, "utf8").split("\n");
    const calls = lines.flatMap((line) => {
      const [, pid, name] = call.exec(line) ?? [];
      return pid && name ? [{ pid, name, line }] : [];
    });
    const names = new Set(calls.map(({ name }) => name));
    expect([...names].sort()).toEqual(
      ["accept4", "close", "getsockopt", "ioctl", "sendto", "shutdown"].sort(),
    );
    expect(new Set(calls.map(({ pid }) => pid)).size).toBe(1); // the helper's
    for (const { line } of calls.filter(({ name }) => name === "ioctl"))
      expect(line).toContain("FIONREAD"); // SIOCINQ by its other name: how many bytes wait
  });
});

/** How often each of these texts is in a stream. */
async function count(stream: AsyncIterable<Uint8Array | string>, texts: string[]) {
  const overlap = Math.max(...texts.map((text) => text.length)) - 1;
  const found = new Set<string>();
  let rest = Buffer.alloc(0);
  for await (const chunk of stream) {
    const bytes = Buffer.concat([rest, Buffer.from(chunk)]);
    for (const text of texts) if (bytes.includes(text)) found.add(text);
    rest = bytes.subarray(-overlap);
  }
  return found;
}

describe("the token and the secret", () => {
  const stage = new Stage();
  const reference = "vault:secret/data/app#password";
  let container: Container;
  let pid: number;
  let before: string;
  let token: string;
  let server: Awaited<ReturnType<Stage["server"]>>;

  beforeAll(async () => {
    const keep = `require("node:fs").writeFileSync("/run/authproxy-secrets/token",
      process.env.VAULT_TOKEN); console.log("kept"); setInterval(() => {}, 60000)`;
    container = await stage.container({
      writable: true,
      environment: { VAULT_TOKEN: "vault:login" },
      command: ["node", "-e", keep],
    });
    pid = (await container.inspect()).State.Pid;
    const environment = () => readFileSync(`/proc/${pid}/environ`, "utf8");
    await until("the runtime has become the client", () => environment() !== "");
    before = environment(); // the client waits: no server yet
    server = await stage.server({ services: { app: { ...app, relax: ["readonly"] } } });
    await container.says("kept");
    token = readFileSync(`/proc/${pid}/root/run/authproxy-secrets/token`, "utf8");
    return () => stage[Symbol.asyncDispose]();
  });

  test("are with the application, in memory", () => {
    expect(token).toMatch(/^s\.\S{20,}/);
    const file = `/proc/${pid}/root/run/authproxy-secrets/DB_PASSWORD_FILE`;
    const other = file.replace("_FILE", "");
    expect(readFileSync(existsSync(file) ? file : other, "utf8")).toBe(password);
  });

  test("are not in the environment that the container was started with", () => {
    expect(before).toContain(reference);
    expect(before).not.toContain(token);
    expect(before).not.toContain(password);
  });

  test("are not in what `docker inspect` shows", async () => {
    const shown = JSON.stringify(await container.inspect());
    expect(shown).toContain(reference);
    expect(shown).not.toContain(token);
    expect(shown).not.toContain(password);
  });

  test("are not in the container's files, its writable layer among them", async () => {
    const { container: engine } = await getContainerRuntimeClient();
    const files = (await engine.getById(container.id).export()) as NodeJS.ReadableStream;
    const found = await count(files as AsyncIterable<Buffer>, [token, password, "process.execve"]);
    expect([...found]).toEqual(["process.execve"]);
  });

  test("are not in the image's layers", async () => {
    const { container: engine } = await getContainerRuntimeClient();
    const layers = await engine.dockerode.getImage(image).get();
    const found = await count(layers as AsyncIterable<Buffer>, [token, password, "process.execve"]);
    expect([...found]).toEqual(["process.execve"]);
  });

  test("are not in the audit, nor in what the server and its helper were started with", () => {
    expect(server.find({ event: "granted" })).toBeDefined();
    const started = [server.pid, server.helper].flatMap((id) =>
      ["cmdline", "environ"].map((name) => readFileSync(`/proc/${id}/${name}`, "utf8")),
    );
    expect(started.join()).toContain("peercred");
    for (const text of [server.stdout, server.stderr, container.output, ...started]) {
      expect(text).not.toContain(token);
      expect(text).not.toContain(password);
    }
  });

  test("are gone with the container", async () => {
    await container.stop();
    await until("its process is gone", () => isGone(pid));
    await server.until({ event: "revoked", container: container.id });
  });
});
