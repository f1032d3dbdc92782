// Question: does the client run in images of each Node, in front of each kind of application?
// Input:    npm's bare Node binaries, fetched once into the cache folder; the real server.
import { execFileSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { baseImage } from "../tools/images.ts";
import { base, buildImage, type ContainerOptions, password, Stage } from "./stage.ts";

const root = join(import.meta.dirname, "..");
const { XDG_CACHE_HOME = join(homedir(), ".cache") } = process.env;
const cache = join(process.env.AUTHPROXY_CACHE ?? join(XDG_CACHE_HOME, "authproxy"), "node");
const directory = mkdtempSync(join(tmpdir(), "authproxy-images-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** The binary of a version; checked against the registry's hash by npm, and put in place whole. */
function nodeOf(version: string): string {
  const place = join(cache, `${version}-${process.arch}`);
  if (!existsSync(place)) {
    mkdirSync(cache, { recursive: true });
    const unfinished = mkdtempSync(join(cache, "unfinished-"));
    const name = `node-linux-${process.arch}@${version}`;
    execFileSync("npm", ["pack", "--silent", name], { cwd: unfinished });
    const [archive = ""] = readdirSync(unfinished);
    execFileSync("tar", ["-xzf", archive, "package/bin/node"], { cwd: unfinished });
    renameSync(join(unfinished, "package/bin/node"), place);
    rmSync(unfinished, { recursive: true });
  }
  return place;
}

async function runIn(options: ContainerOptions) {
  await using stage = new Stage();
  await stage.server();
  const container = await stage.container(options);
  const exitCode = await container.ended;
  return { exitCode, output: container.output };
}

const length = `${password.length}`;
const count = ["/bin/sh", "-c", 'p=$(cat "$DB_PASSWORD_FILE"); echo "$' + '{#p}"'];

describe("Node", () => {
  test.each(["22.23.3", "24.21.0", "26.10.0"])("%s hands over the secret", async (version) => {
    const from = baseImage({ node: nodeOf(version) });
    const image = await buildImage(`authproxy-node-${version}`, root, "Dockerfile.example", from);
    expect(await runIn({ image, command: count })).toEqual({ exitCode: 0, output: `${length}\n` });
    const watched = await runIn({ image, command: count, environment: { AUTHPROXY_WATCH: "1" } });
    expect(watched).toEqual({ exitCode: 0, output: `${length}\n` });
  });
  test("20 says what to do", async () => {
    const from = baseImage({ node: nodeOf("20.8.1") });
    const image = await buildImage("authproxy-node-20", root, "Dockerfile.example", from);
    // It does not know --disable-sigusr1, and would end with that.
    const entrypoint = ["node", "/authproxy/authproxy.js", "--"];
    const { exitCode, output } = await runIn({ image, entrypoint, command: count });
    expect(exitCode).toBe(78);
    expect(output).toMatch(
      /^authproxy: Node 20\.8\.1 cannot become another program: 22\.15 or newer can\nauthproxy: hint: use a newer Node, or the client directory, .*\n$/,
    );
  });
});

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
    const { readFileSync } = process.getBuiltinModule("node:fs");
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
