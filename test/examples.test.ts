// Question: do the examples do what they say, in containers that are served by the real server?
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import { afterAll, describe, expect, test } from "vitest";
import { client } from "../scripts/openbao.ts";
import { busybox } from "./busybox.ts";
import { block } from "./documents.ts";
import { imageOf, python, pythonFiles } from "./image.ts";
import { bao, base, buildImage, password, Stage, tokensOf } from "./stage.ts";

const root = join(import.meta.dirname, "..");
const clientImage = await buildImage("authproxy-test-client", root, "Dockerfile.example", base);
const directory = mkdtempSync(join(tmpdir(), "authproxy-examples-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** Starts it as the service; its whole output. */
async function outputOf(image: string): Promise<string> {
  await using stage = new Stage();
  await stage.server();
  const container = await stage.container({ image, environment: { DB_PASSWORD_FILE: "" } });
  await container.ended;
  return container.output;
}
const expected = `started with a password of ${password.length} characters\n`;

test("an application on node-vault", async () => {
  const app = join(directory, "node-vault.mjs");
  await build({
    absWorkingDir: root,
    entryPoints: ["examples/node-vault.js"],
    outfile: app,
    bundle: true,
    platform: "node",
    format: "esm",
    external: ["/authproxy/authproxy.js"],
    // Packages in CommonJS that ask for Node's own modules.
    banner: {
      js: 'import { createRequire } from "node:module"; const require = createRequire("/");',
    },
  });
  const entrypoint = ["node", "--disable-sigusr1", "/app/node-vault.mjs"];
  const files = { "/app/node-vault.mjs": app };
  const image = await imageOf("authproxy-example-node-vault", clientImage, files, entrypoint);
  expect(await outputOf(image)).toBe(expected);
});

describe("Python", async () => {
  const files = { ...pythonFiles(), "/app/python.py": join(root, "examples/python.py") };
  const image = await imageOf("authproxy-example-python", base, files, [python, "/app/python.py"]);

  test("a service in it", async () => {
    expect(await outputOf(image)).toBe(expected);
  });

  test("the lines of docs/protocol.md get an answer as it is shown there", async () => {
    await using stage = new Stage();
    await stage.server();
    const lines = block("docs/protocol.md", "import socket");
    const tells =
      "shape = lambda v: {k: shape(v[k]) for k in v} if isinstance(v, dict) else type(v).__name__";
    const command = ["-c", `${lines}${tells}\nprint(json.dumps(shape(grant)))`];
    const container = await stage.container({ image, entrypoint: [python], command });
    await container.ended;
    const shape = (value: unknown): unknown =>
      typeof value === "object" && value !== null
        ? Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, shape(inner)]))
        : { boolean: "bool", number: "int", string: "str" }[String(typeof value)];
    const { namespace, ...vault } = JSON.parse(block("docs/protocol.md", '"service"')).vault;
    expect(namespace).toBeTypeOf("string"); // none is configured here
    const shown = { ...JSON.parse(block("docs/protocol.md", '"service"')), vault };
    expect(JSON.parse(container.output)).toEqual(shape(shown));
  });
});

/** Where it is unpacked by hand, too: that is not always on the PATH. */
function findGo(): string {
  const places = [...(process.env.PATH ?? "").split(":"), "/usr/local/go/bin"];
  const found = places.map((path) => join(path, "go")).find(existsSync);
  if (!found) throw new Error("no go on the PATH: `sh scripts/prepare.sh tests` installs it");
  return found;
}

test("a service in Go, alone in an empty image", { timeout: 240_000 }, async () => {
  const program = join(directory, "main");
  copyFileSync(join(root, "examples/main.go"), join(directory, "main.go"));
  execFileSync(findGo(), ["build", "-o", program, "main.go"], {
    cwd: directory,
    env: { ...process.env, CGO_ENABLED: "0", GOFLAGS: "-mod=mod", GO111MODULE: "off" },
  });
  const image = await imageOf("authproxy-example-go", "scratch", { "/app/main": program }, [
    "/app/main",
  ]);
  expect(await outputOf(image)).toBe(expected);
});

test("a shell, in an image that holds only busybox", { timeout: 240_000 }, async () => {
  const files = { "/bin/sh": busybox(), "/app/busybox.sh": join(root, "examples/busybox.sh") };
  const image = await imageOf("authproxy-example-busybox", "scratch", files, ["/app/busybox.sh"]);
  await using stage = new Stage();
  const server = await stage.server();
  const command = ["sh", "-c", 'echo "started with $#: $1"; exec sleep 600', "sh", "a b"];
  const container = await stage.container({ image, command });
  await container.says("started with 1: a b\n");
  const { relaxed } = await server.until({ event: "granted", container: container.id });
  expect(relaxed).toEqual([]);
  const { State } = await container.inspect();
  const variables = readFileSync(`/proc/${State.Pid}/environ`, "utf8").split("\0");
  const known = await tokensOf(container.id);
  expect(known).toHaveLength(1);
  const token = variables.find((text) => text.startsWith("VAULT_TOKEN="))?.slice(12) ?? "";
  const self = await client({ ...bao, rootToken: token }).tokenLookupSelf();
  expect(self.data.accessor).toBe(known[0]?.accessor);
  expect(variables).toContain(`VAULT_ADDR=${bao.address}`);
  expect(variables).toContain(`VAULT_CACERT_BYTES=${bao.ca.trimEnd()}`);
  await container.kill();
  await server.until({ event: "revoked", container: container.id });
});
