// Question: what is left of the token in a container, once the client has become the application?
// Input:    real containers of the image that Dockerfile.example describes, served by the real server
//           with a token that the test knows: one that is kept in Vault.
// Promise:  each place that is searched is one where the controls have put the token and were found.
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { client } from "../scripts/openbao.ts";
import { searchContainer, searchExport } from "./search.ts";
import {
  app,
  bao,
  base,
  buildImage,
  type ContainerOptions,
  password,
  Stage,
  vaultAt,
} from "./stage.ts";

const image = await buildImage(
  "authproxy-test-client",
  join(import.meta.dirname, ".."),
  "Dockerfile.example",
  base,
);
const vault = client(bao);
const { auth } = await vault.write("auth/token/create/app", {});
const texts = { token: auth.client_token, secret: password };
// Some containers here write their own layer.
const relax = ["readonly"];
const services = { app: { ...app, relax, token: { read: "secret/data/ready#token" } } };
const stage = new Stage();
beforeAll(async () => {
  await vault.write("secret/data/ready", { data: { token: texts.token } });
  const policy = 'path "secret/data/ready" { capabilities = ["read"] }';
  await vault.addPolicy({ name: "ready", policy });
  const { data } = await vault.read("auth/approle/role/authproxy");
  const token_policies = [...data.token_policies, "ready"];
  await vault.write("auth/approle/role/authproxy", { token_policies });
  await stage.server({ services });
});
afterAll(() => stage[Symbol.asyncDispose]());

const none = { DB_PASSWORD_FILE: "" };
const X = "vault:secret/data/app#password";
const idle = ["/bin/sh", "-c", "echo up; exec sleep 600"];

/** What is found when the container has said that it is up. */
async function found(options: ContainerOptions, on = stage) {
  const container = await on.container({ image, ...options });
  await container.says("up");
  return await searchContainer(container.id, texts);
}

describe.concurrent("after exec the token is nowhere, and the secret where it was handed over:", () => {
  const environ = "process 1/environ";
  const memory = "process 1/memory";
  const file = "/run/authproxy-secrets/DB_PASSWORD";
  test.each<[string, ContainerOptions, string[]]>([
    ["X", { environment: { ...none, X }, command: idle }, [environ, memory]],
    ["X_FILE", { command: idle }, [file]],
    [
      "--stdin",
      { environment: { ...none, X, AUTHPROXY_STDIN: "1" }, command: idle },
      ["process 1/fd/0"],
    ],
    [
      "X_FILE, which a Node application has read",
      {
        command: [
          "node",
          "-e",
          `globalThis.kept = require("node:fs").readFileSync(process.env.DB_PASSWORD_FILE, "utf8");
           console.log("up"); setInterval(() => {}, 60000);`,
        ],
      },
      [file, memory],
    ],
  ])("%s", async (_, options, secret) => {
    expect(await found(options)).toEqual({ token: [], secret });
  });
  test("neither is in what docker export gives", async () => {
    const container = await stage.container({ image, command: idle });
    await container.says("up");
    expect(await searchExport(container.id, texts)).toEqual({ token: [], secret: [] });
  });
});

// Of a container's process, too, the name of a core is the host's to say: core(5).
const pattern = readFileSync("/proc/sys/kernel/core_pattern", "utf8").trim();
const inItsDirectory = !/^\||\//.test(pattern);

describe.runIf(inItsDirectory)("the core that a crash leaves", () => {
  const crash = (command: string) => [
    "/bin/sh",
    "-c",
    `cd /tmp; ulimit -c unlimited; ${command}; echo up; exec sleep 600`,
  ];
  /** A copy of process 1, which could only be ended by its own fault. */
  const copyOfItself = "(kill -ABRT \"$(exec sh -c 'echo $PPID')\")";

  test("has the secret that is in a variable, and no token", async () => {
    const environment = { ...none, X };
    const options = { environment, command: crash(copyOfItself), writable: true };
    const { token, secret = [] } = await found(options);
    expect(token).toEqual([]);
    expect(secret.filter((place) => /^layer\/tmp\/core[^/]*$/.test(place))).toHaveLength(1);
  });
  test("has neither, where the secret is in a file", async () => {
    const { token, secret } = await found({ command: crash(copyOfItself), writable: true });
    expect({ token, secret }).toEqual({
      token: [],
      secret: ["/run/authproxy-secrets/DB_PASSWORD"],
    });
  });
  test("is not written of a program that its user may not read", async () => {
    const environment = { ...none, X };
    const command = crash('node -e "process.abort()"');
    const { token, secret = [] } = await found({ environment, command, writable: true });
    expect(token).toEqual([]);
    expect(secret.filter((place) => place.startsWith("layer"))).toEqual([]);
  });
});

describe.concurrent("the control: a token is found", () => {
  test("in the client's memory, before it becomes the application", async () => {
    const silent = createServer().listen(0, "127.0.0.1"); // a Vault that never answers
    await once(silent, "listening");
    const place = silent.address();
    const address = `https://127.0.0.1:${typeof place === "object" ? place?.port : ""}`;
    await using other = new Stage();
    const connected = once(silent, "connection");
    await other.server({ services, vault: { ...vaultAt(bao.address), for_clients: { address } } });
    const container = await other.container({ image, command: idle });
    await connected;
    const { token, secret } = await searchContainer(container.id, texts);
    expect({ token, secret }).toEqual({ token: ["process 1/memory"], secret: [] });
    silent.close();
  });
  test("in a client that stays, as the application's parent", async () => {
    const { token } = await found({ environment: { AUTHPROXY_WATCH: "1" }, command: idle });
    expect(token).toEqual(["process 1/memory"]);
  });
  test("in the environment of an application that asked for it", async () => {
    const environment = { ...none, VAULT_TOKEN: "vault:login" };
    const { token } = await found({ environment, command: idle });
    expect(token).toEqual(["process 1/environ", "process 1/memory"]);
  });
  test("in every place, in every form", async () => {
    const leave = `
      const { spawn } = require("node:child_process");
      const { openSync, rmSync, writeFileSync } = require("node:fs");
      const token = require("node:fs").readFileSync(process.env.T_FILE, "utf8");
      const memory = "/run/authproxy-secrets/";
      writeFileSync(memory + "utf16", token, "utf16le");
      writeFileSync(memory + "hex", Buffer.from(token).toString("hex"));
      for (const before of ["", "x", "xx"])
        writeFileSync(memory + "base64-" + before.length, Buffer.from(before + token + "y").toString("base64"));
      writeFileSync(memory + "first", token.slice(0, token.length >> 1));
      writeFileSync(memory + "second", token.slice(token.length >> 1));
      writeFileSync("/dev/shm/shared", token);
      writeFileSync("/tmp/left", token);
      writeFileSync("/tmp/unlinked", token);
      const file = openSync("/tmp/unlinked");
      rmSync("/tmp/unlinked");
      spawn("sleep", ["600"], { stdio: [file, "ignore", "ignore"], argv0: token });
      console.log(token);
      console.log("up");
      setInterval(() => {}, 60000);`;
    const environment = { ...none, T_FILE: "vault:login" };
    const options = { environment, command: ["node", "-e", leave], writable: true };
    const container = await stage.container({ image, ...options });
    await container.says("up");
    const { token = [] } = await searchContainer(container.id, texts);
    const files = ["T", "base64-0", "base64-1", "base64-2", "first", "hex", "second", "utf16"];
    const places = [
      ...["/dev/shm/shared", ...files.map((name) => `/run/authproxy-secrets/${name}`)],
      ...["engine/ID-json.log", "layer/tmp/left"],
      ...["process 1/fd/N", "process 1/memory"],
      ...["process N/cmdline", "process N/fd/0", "process N/memory"],
    ];
    const named = token.map((place) =>
      place
        .replace(container.id, "ID")
        .replace(/process (?!1\/)\d+/, "process N")
        .replace(/fd\/[1-9]\d*$/, "fd/N"),
    );
    expect(named).toEqual(places);
    expect(await searchExport(container.id, texts)).toMatchObject({ token: ["docker export"] });
  });
});
