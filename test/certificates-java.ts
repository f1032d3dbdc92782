// Question: in which image do the tests run Java?
// Input:    a JDK on the PATH; the base image of the tests, which has Node.
// Output:   an image of that, the part of the JDK that TLS needs (jlink: 45 MB in place of 300), the
//           server of test/programs, and the client that makes keystores.
// Promise:  the part that takes long has a tag of what is in it: made once and found again.
import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { jdk } from "./certificates-jdk.ts";
import { buildImage } from "./stage.ts";

const root = join(import.meta.dirname, "..");
const modules = "java.base,jdk.crypto.ec";

export async function javaImage(base: string): Promise<string> {
  const lines = [
    `FROM ${await runtimeImage(base)}`,
    "COPY root /",
    "USER 1001:1001",
    'ENTRYPOINT ["node", "--disable-sigusr1", "/authproxy/authproxy.js", "--"]',
  ];
  return await build("authproxy-test-java", lines, (place) => {
    const source = join(import.meta.dirname, "programs/TlsServer.java");
    jdk("javac", "-encoding", "UTF-8", "-Xlint:all", "-Werror", "-d", place("app/classes"), source);
    copyFileSync(join(root, "dist/authproxy-java.js"), place("authproxy/authproxy.js"));
  });
}

async function runtimeImage(base: string): Promise<string> {
  const contents = [base, modules, jdk("jlink", "--version")].join("\n");
  const name = `authproxy-java:${createHash("sha256").update(contents).digest("hex").slice(0, 16)}`;
  const { status } = spawnSync("docker", ["image", "inspect", name], { stdio: "ignore" });
  if (status === 0) return name;
  const lines = [
    `FROM ${base}`,
    "COPY root /",
    "ENV PATH=/opt/java/bin:/usr/local/bin:/usr/bin:/bin",
  ];
  return await build(name, lines, (place) => {
    const runtime = place("opt/java");
    const lean = ["--strip-debug", "--no-header-files", "--no-man-pages"];
    jdk("jlink", "--add-modules", modules, ...lean, "--output", runtime);
    for (const library of librariesOf(runtime)) copyFileSync(library, place(library));
  });
}

/** An image of the lines, where `root` is what `fill` puts in place. */
async function build(
  name: string,
  lines: readonly string[],
  fill: (place: (path: string) => string) => void,
): Promise<string> {
  const context = mkdtempSync(join(tmpdir(), "authproxy-java-"));
  try {
    fill((path) => {
      const target = join(context, "root", path);
      mkdirSync(dirname(target), { recursive: true });
      return target;
    });
    writeFileSync(join(context, "Dockerfile"), `${lines.join("\n")}\n`);
    return await buildImage(name, context, "Dockerfile", "unused");
  } finally {
    rmSync(context, { recursive: true });
  }
}

/** What the runtime's libraries want of the system (ldd(1)). */
function librariesOf(runtime: string): Set<string> {
  const files = readdirSync(join(runtime, "lib"), { recursive: true, encoding: "utf8" });
  const own = files
    .filter((file) => file.endsWith(".so"))
    .map((file) => join(runtime, "lib", file));
  const listed = execFileSync("ldd", own, { encoding: "utf8" });
  const found = [...listed.matchAll(/(?:^\s*|=> )(\/\S+) \(0x/gm)].map(([, path = ""]) => path);
  const names = own.map((file) => basename(file));
  return new Set(found.filter((path) => !names.includes(basename(path))));
}
