// Question: does the client run in images of each Node and C library, and in front of each kind of
//           application?
// Input:    the cases of client-suite.ts and a real OpenBao. What the real server is to serve is each time
//           the first process of a container of its own; where the case plays the server it is a process
//           in one container for all.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { nodeImage } from "./client-nodes.ts";
import { expectFailure, type Place, directory as places, run } from "./client-playground.ts";
import { clientSuite } from "./client-suite.ts";
import { bao, granted, login } from "./client-vault.ts";
import {
  base,
  buildImage,
  type ContainerOptions,
  password,
  Stage,
  until,
  vaultAt,
} from "./stage.ts";

const root = join(import.meta.dirname, "..");
const directory = mkdtempSync(join(tmpdir(), "authproxy-images-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const files = "/run/authproxy-secrets";
const inImage = { node: "/usr/local/bin/node", bundle: "/authproxy/authproxy.js" };
const stage = new Stage();
beforeAll(() => stage.server({ vault: vaultAt(bao.address, bao, login.roleId) }, login.secretId));
afterAll(() => stage[Symbol.asyncDispose]());

/** The words that start a container as Dockerfile.example says, gone when it ends. */
function containerOf(image: string, ...options: string[]): string[] {
  return [
    ...["docker", "run", "--rm", "--read-only", "--network=host", "--user=1001:1001"],
    `--tmpfs=${files}:mode=0700,uid=1001,gid=1001,noexec,nosuid,size=1m`,
    `--volume=${join(stage.directory, "run")}:/run/authproxy:ro`,
    `--volume=${places}:${places}:ro`,
    ...["--label=app=app", "--entrypoint=", ...options, image],
  ];
}

/** A container for each. */
function first(image: string, ...options: string[]): Place {
  const enter = (environment: Record<string, string>) => {
    const variables = Object.entries(environment).map(([name, value]) => `--env=${name}=${value}`);
    return containerOf(image, ...variables, ...options);
  };
  return { ...inImage, enter };
}

/** One container for all, entered without the engine: a third of the time. */
function beside(standing: () => number): Place {
  const enter = (environment: Record<string, string>) => {
    const variables = Object.entries(environment).map(([name, value]) => `${name}=${value}`);
    const into = ["nsenter", "--all", `--target=${standing()}`, "--setuid=1001", "--setgid=1001"];
    return [...into, "/usr/bin/env", "-i", ...variables];
  };
  return { ...inImage, enter };
}

describe.concurrent.each(["22.23.3", "24.21.0", "26.10.0", "24 on musl"])("Node %s:", (name) => {
  let image = "";
  let standing = "";
  let pid = 0;
  beforeAll(async () => {
    image = await nodeImage(name);
    const [docker = "", ...words] = containerOf(image, "--detach");
    standing = execFileSync(docker, [...words, "sleep", "600"], { encoding: "utf8" }).trim();
    const wanted = ["inspect", "--format", "{{.State.Pid}}", standing];
    pid = Number(execFileSync(docker, wanted, { encoding: "utf8" }));
  });
  afterAll(() => execFileSync("docker", ["rm", "--force", standing]));
  const there = beside(() => pid);

  clientSuite({
    run: (with_) => run(with_, there),
    begin: (with_) => run(with_, first(image)),
    served: (with_) => run(with_, first(image)),
    granted: (with_, line) => granted(with_, line, there),
    files,
    pidOf: () => 1,
  });
  test("is what its name says", async () => {
    const library = 'process.report.getReport().header.glibcVersionRuntime ? "" : " on musl"';
    const script = `process.versions.node + (${library})`;
    const { stdout } = await run(
      { bare: true, command: [inImage.node, "-p", script] },
      first(image),
    );
    const version = /^[\d.]+/;
    expect(stdout.replace(version, "")).toBe(`${name.replace(version, "")}\n`);
    expect(stdout.startsWith(version.exec(name)?.[0] ?? "no version")).toBe(true);
  });
  test("a container without the label is refused, and told where to look", async () => {
    const environment = { X: "vault:secret/data/app#password" };
    const ended = await run({ environment }, first(image, "--label=app=other"));
    expectFailure(ended, 77, /refused this container/, /says why$/);
  });
});

describe("with a terminal, an engine's stop reaches the application:", () => {
  test.each(["SIGINT", "SIGQUIT", "SIGWINCH", "SIGTERM"])("%s", async (signal) => {
    const image = await nodeImage("24.21.0");
    const variables = ["AUTHPROXY_WATCH=1", "X=vault:secret/data/app#password"];
    const client = ["node", "--disable-sigusr1", "/authproxy/authproxy.js"];
    const script = `trap "exit 3" ${signal.slice(3)}; echo started; while :; do sleep 0.1; done`;
    const [docker = "", ...words] = containerOf(
      image,
      ...["--detach", "--tty", `--stop-signal=${signal}`],
      ...variables.map((variable) => `--env=${variable}`),
    );
    const own = words.filter((word) => word !== "--rm");
    const command = [...client, "/bin/sh", "-c", script];
    const id = execFileSync(docker, [...own, ...command], { encoding: "utf8" }).trim();
    try {
      const log = () => execFileSync("docker", ["logs", id], { encoding: "utf8" });
      await until("the application runs", () => log().includes("started"));
      execFileSync("docker", ["stop", "--time", "30", id]);
      const wanted = ["inspect", "--format", "{{.State.ExitCode}}", id];
      expect(execFileSync("docker", wanted, { encoding: "utf8" })).toBe("3\n");
    } finally {
      execFileSync("docker", ["rm", "--force", id]);
    }
  });
});

test("Node 20 says what to do", async () => {
  const image = await nodeImage("20.8.1");
  // It does not know --disable-sigusr1, and would end with that.
  const ended = await run({ flags: [] }, first(image));
  expectFailure(
    ended,
    78,
    /Node 20\.8\.1 cannot become another program: 22\.15 or newer can$/,
    /use a newer Node, or the client directory/,
  );
});

/** How a container of the usual stage ends. */
async function runIn(options: ContainerOptions) {
  await using usual = new Stage();
  await usual.server();
  const container = await usual.container(options);
  const exitCode = await container.ended;
  return { exitCode, output: container.output };
}

const length = `${password.length}`;

describe("the application may be", () => {
  /** An image of the example's, with one program more. */
  async function withProgram(name: string, content: string | Buffer): Promise<string> {
    const from = await buildImage("authproxy-test-client", root, "Dockerfile.example", base);
    const context = mkdtempSync(join(directory, "context-"));
    writeFileSync(join(context, "app"), content, { mode: 0o755 });
    writeFileSync(join(context, "Dockerfile"), `FROM ${from}\nCOPY app /app\n`);
    return await buildImage(`authproxy-application-${name}`, context, "Dockerfile", from);
  }

  test("a script with #!", async () => {
    const image = await withProgram(
      "script",
      '#!/bin/sh\np=$(cat "$DB_PASSWORD_FILE")\necho "$' + '{#p} $1"\n',
    );
    const ended = await runIn({ image, command: ["/app", "a b"] });
    expect(ended).toEqual({ exitCode: 0, output: `${length} a b\n` });
  });
  test("a static program in C", async () => {
    const source = `#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(void) { const char *p = getenv("P"); printf("%zu\\n", p ? strlen(p) : 0); return 5; }`;
    writeFileSync(join(directory, "app.c"), source);
    const program = join(directory, "app");
    execFileSync(process.env.CC ?? "cc", ["-static", "-o", program, join(directory, "app.c")]);
    const image = await withProgram("static", readFileSync(program));
    const environment = { DB_PASSWORD_FILE: "", P: "vault:secret/data/app#password" };
    const ended = await runIn({ image, environment, command: ["/app"] });
    expect(ended).toEqual({ exitCode: 5, output: `${length}\n` });
  });
  test("an official image's entrypoint, which reads POSTGRES_PASSWORD_FILE", async () => {
    // As docker-library's file_env: the variable or its file, and not both.
    const entrypoint =
      `#!/bin/sh -e
if [ "$POSTGRES_PASSWORD" ] && [ "$POSTGRES_PASSWORD_FILE" ]; then echo both; exit 1; fi
POSTGRES_PASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
unset POSTGRES_PASSWORD_FILE
echo "$1 $` +
      `{#POSTGRES_PASSWORD}"
`;
    const image = await withProgram("postgres", entrypoint);
    const reference = "vault:secret/data/app#password";
    const environment = { DB_PASSWORD_FILE: "", POSTGRES_PASSWORD_FILE: reference };
    const ended = await runIn({ image, environment, command: ["/app", "postgres"] });
    expect(ended).toEqual({ exitCode: 0, output: `postgres ${length}\n` });
  });
});
