// Question: do the examples do what they say, in containers that are served by the real server?
import { execFileSync } from "node:child_process";
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { build } from "esbuild";
import { afterAll, expect, test } from "vitest";
import { base, buildImage, password, Stage } from "./stage.ts";

const root = join(import.meta.dirname, "..");
const clientImage = await buildImage("authproxy-test-client", root, "Dockerfile.example", base);
const directory = mkdtempSync(join(tmpdir(), "authproxy-examples-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** An image of the files, by their paths in it. */
async function imageOf(
  name: string,
  base: string,
  files: Record<string, string>,
  entrypoint: string[],
): Promise<string> {
  const context = join(directory, name);
  for (const [path, source] of Object.entries(files)) {
    const target = join(context, "root", path);
    mkdirSync(dirname(target), { recursive: true });
    cpSync(source, target, { recursive: true, dereference: true });
  }
  const lines = [`FROM ${base}`, "COPY root /", "USER 1001:1001"];
  const entry = `ENTRYPOINT ${JSON.stringify(entrypoint)}`;
  writeFileSync(join(context, "Dockerfile"), [...lines, entry, "CMD []", ""].join("\n"));
  return await buildImage(`authproxy-example-${name}`, context, "Dockerfile", "unused");
}

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
  const files = { "app/node-vault.mjs": app };
  const image = await imageOf("node-vault", clientImage, files, entrypoint);
  expect(await outputOf(image)).toBe(expected);
});

const python = "/usr/bin/python3";
test("a service in Python", async () => {
  const library = execFileSync(python, ["-c", "import os; print(os.path.dirname(os.__file__))"]);
  const libraryPath = library.toString().trim();
  const modules = execFileSync(python, ["-c", "import _ssl, _socket; print(_ssl.__file__)"]);
  const files: Record<string, string> = {
    "app/python.py": join(root, "examples/python.py"),
    [python]: python,
  };
  for (const program of [python, modules.toString().trim()]) {
    const lines = execFileSync("ldd", [program], { encoding: "utf8" }).split("\n");
    for (const line of lines) {
      const path = /(?:^\s*|=> )(\/\S+) \(0x/.exec(line)?.[1];
      if (path) files[path] = path;
    }
  }
  const lean = join(directory, "library");
  const skipped = /\/(test|idlelib|ensurepip|lib2to3|dist-packages|__pycache__|config-[^/]*)$/;
  cpSync(libraryPath, lean, {
    recursive: true,
    dereference: true,
    filter: (path) => !skipped.test(path),
  });
  files[libraryPath] = lean;
  const image = await imageOf("python", base, files, [python, "/app/python.py"]);
  expect(await outputOf(image)).toBe(expected);
});

/** Where it is unpacked by hand, too: that is not always on the PATH. */
function findGo(): string {
  const places = [...(process.env.PATH ?? "").split(":"), "/usr/local/go/bin"];
  const found = places.map((path) => join(path, "go")).find(existsSync);
  if (!found) throw new Error("no go on the PATH: `sh tools/prepare.sh tests` installs it");
  return found;
}

test("a service in Go, alone in an empty image", { timeout: 240_000 }, async () => {
  const program = join(directory, "main");
  copyFileSync(join(root, "examples/main.go"), join(directory, "main.go"));
  execFileSync(findGo(), ["build", "-o", program, "main.go"], {
    cwd: directory,
    env: { ...process.env, CGO_ENABLED: "0", GOFLAGS: "-mod=mod", GO111MODULE: "off" },
  });
  const image = await imageOf("go", "scratch", { "app/main": program }, ["/app/main"]);
  expect(await outputOf(image)).toBe(expected);
});
