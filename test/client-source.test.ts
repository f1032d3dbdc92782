// Question: is the client's source put together as it says: dangerous variables in one list, keystores
//           behind one hook, imports in one direction?
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import { describe, expect, test } from "vitest";
import { actsOnClient, findRefusedVariable } from "../client/dangerous-variables.ts";
import { bundleClient, bundles } from "../scripts/build.ts";

const root = join(import.meta.dirname, "..");

/** The modules that each module of a bundle imports, by their paths. */
async function importsOf(entry: string): Promise<Map<string, string[]>> {
  const { metafile } = await build({
    absWorkingDir: root,
    entryPoints: [entry],
    bundle: true,
    write: false,
    metafile: true,
    platform: "node",
    format: "cjs",
  });
  const modules = new Map<string, string[]>();
  for (const [path, { imports }] of Object.entries(metafile.inputs)) {
    const paths = imports.map((imported) => imported.path);
    modules.set(
      path,
      paths.filter((each) => each.startsWith("client/")),
    );
  }
  return modules;
}

describe("a variable acts on the client", () => {
  test.each(["LD_PRELOAD", "LD_LIBRARY_PATH", "NODE_OPTIONS", "NODE_PATH", "GLIBC_TUNABLES"])(
    "where it is %s",
    (name) => expect(actsOnClient(name)).toBe(true),
  );
  test.each(["MALLOC_ARENA_MAX", "OPENSSL_CONF", "SSL_CERT_FILE", "UV_THREADPOOL_SIZE"])(
    "where it is %s",
    (name) => expect(actsOnClient(name)).toBe(true),
  );
  test.each(["GCONV_PATH", "LOCPATH", "HOSTALIASES", "LOCALDOMAIN", "RES_OPTIONS"])(
    "where it is %s",
    (name) => expect(actsOnClient(name)).toBe(true),
  );
  test.each(["", "PATH", "NODE", "LDFLAGS", "MY_LD_PRELOAD", "GCONV_PATHS", "RES_", "LANG"])(
    "but not where it is %j",
    (name) => expect(actsOnClient(name)).toBe(false),
  );
});

describe("the client refuses", () => {
  test.each([
    ["LD_PRELOAD", "/x.so"],
    ["LD_AUDIT", "/x.so"],
    ["OPENSSL_CONF", "/x.cnf"],
    ["NODE_DEBUG", "tls"],
    ["NODE_V8_COVERAGE", "/tmp"],
    ["NODE_OPTIONS", "--trace-warnings --import=/x.mjs"],
    ["NODE_OPTIONS", '"--experimental-loader" /x.mjs'],
    ["NODE_OPTIONS", "--report-on-signal"],
  ])("%s=%s, and each such name acts on it", (name, value) => {
    expect(findRefusedVariable({ [name]: value })?.name).toBe(name);
    expect(actsOnClient(name)).toBe(true);
  });
  test.each([
    ["LD_PRELOAD", ""],
    ["NODE_OPTIONS", "--max-old-space-size=64"],
    ["NODE_OPTIONS", "--no-report-x"],
    ["NODE_EXTRA_CA_CERTS", "/ca.pem"],
  ])("but not %s=%j", (name, value) => {
    expect(findRefusedVariable({ [name]: value })).toBeUndefined();
  });
});

test("the list of dangerous variables imports nothing", () => {
  const source = readFileSync(join(root, "client/dangerous-variables.ts"), "utf8");
  expect(source).not.toMatch(/^import|\bprocess\./m);
});

describe.each(Object.entries(bundles))("%s", (output, entry) => {
  test("has imports in one direction only", async () => {
    const imports = await importsOf(entry);
    const finished = new Set<string>();
    const visit = (path: string, above: string[]): void => {
      expect(above, `a circle: ${[...above, path].join(" > ")}`).not.toContain(path);
      if (finished.has(path)) return;
      for (const each of imports.get(path) ?? []) visit(each, [...above, path]);
      finished.add(path);
    };
    visit(entry, []);
    expect(finished.size).toBeGreaterThan(10);
  });
  test("has the modules of client/keystore/ only where it is for Java", async () => {
    const { bytes } = await bundleClient(output as keyof typeof bundles);
    const modules =
      Buffer.from(bytes)
        .toString()
        .match(/^\/\/ client\/keystore\/\S+$/gm) ?? [];
    expect(modules.length > 0).toBe(output === "dist/authproxy-java.js");
  });
  test("is the same bytes each time it is built", async () => {
    const hashes = [1, 2].map(async () => {
      return (await bundleClient(output as keyof typeof bundles)).sha256;
    });
    const [first, second] = await Promise.all(hashes);
    expect(first).toBe(second);
  });
});
