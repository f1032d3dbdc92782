// Question: what stands in for the images that the example takes from a registry?
// Output:   images on an engine that has none: of Debian's packages and programs of this machine,
//           with the paths, users and conventions that the example rests on.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { fetchTree } from "../../scripts/debian.ts";
import { cache } from "../../scripts/npm.ts";
import { jdk } from "../certificates-jdk.ts";
import { librariesOf } from "../image.ts";
import { archiveOf, busybox, type Image } from "./archive.ts";
import { docker, type Host } from "./host.ts";

const root = join(import.meta.dirname, "../..");
const MODULES = "java.base,jdk.compiler,jdk.crypto.ec";

/** The images' names, by the variables that compose.yaml asks for them. */
export async function exampleImages(host: Host): Promise<Record<string, string>> {
  const { path: python } = await fetchTree("bookworm", ["python3-psycopg2"]);
  const { path: debian } = await fetchTree("bookworm", ["postgresql-15"]);
  const wanted = { openbao, timeline, ledger: ledger(python), postgres: postgres(debian) };
  for (const [name, image] of Object.entries(wanted)) await make(host, `example-${name}:1`, image);
  return {
    OPENBAO_IMAGE: "example-openbao:1",
    JAVA_IMAGE: "example-timeline:1",
    LEDGER_IMAGE: "example-ledger:1",
    POSTGRES_IMAGE: "example-postgres:1",
  };
}

const openbao: Image = {
  says: busybox.says,
  fill: (place) => {
    busybox.fill(place);
    copyFileSync(join(root, "dist/bao"), place("usr/bin/bao"));
  },
};

const timeline: Image = {
  says: ["ENV PATH=/opt/java/bin"],
  fill: (place) => {
    const runtime = java();
    execFileSync("cp", ["--archive", runtime, place("opt/java")]);
    const names = readdirSync(join(runtime, "lib"), { recursive: true, encoding: "utf8" });
    const libraries = names.filter((name) => name.endsWith(".so"));
    for (const name of ["bin/java", ...libraries.map((name) => `lib/${name}`)]) {
      const needed = Object.keys(librariesOf(join(runtime, name)));
      for (const path of needed.filter((path) => !path.startsWith(runtime)))
        copyFileSync(path, place(path));
    }
  },
};

/** As examples/compose/ledger/Dockerfile has it. */
const ledger = (tree: string): Image => ({
  says: ["ENV PATH=/usr/bin", 'CMD ["python3", "-u", "/app/ledger.py"]'],
  tree,
  fill: (place) =>
    copyFileSync(join(root, "examples/compose/ledger/ledger.py"), place("app/ledger.py")),
});

const postgres = (tree: string): Image => ({
  says: [
    "ENV PATH=/usr/lib/postgresql/15/bin:/usr/bin",
    'ENTRYPOINT ["docker-entrypoint.sh"]',
    'CMD ["postgres"]',
    "VOLUME /var/lib/postgresql/data",
  ],
  tree,
  fill: (place) => {
    busybox.fill(place);
    const start = place("usr/bin/docker-entrypoint.sh");
    copyFileSync(join(import.meta.dirname, "programs/postgres.sh"), start);
    chmodSync(start, 0o755);
    writeFileSync(place("etc/passwd"), "postgres:x:999:999::/var/lib/postgresql:/bin/sh\n");
    symlinkSync("../run", place("var/run"));
    mkdirSync(place("var/lib/postgresql/data"), { recursive: true });
    execFileSync("chown", ["--recursive", "999:999", place("var/lib/postgresql")]);
  },
});

/** Puts the image on the engine, under this name. */
export async function make(host: Host, name: string, image: Image): Promise<void> {
  const changes = image.says.flatMap((line) => ["--change", line]);
  await archiveOf(image, (archive) => docker(host, "import", ...changes, archive, name));
}

/** The part of this machine's JDK that the example needs. That takes long: it is made once. */
function java(): string {
  const contents = [MODULES, jdk("jlink", "--version")].join();
  const hash = createHash("sha256").update(contents).digest("hex").slice(0, 16);
  const path = join(cache, `java-${hash}`);
  if (existsSync(path)) return path;
  const unfinished = `${path}.${process.pid}`;
  const lean = ["--strip-debug", "--no-header-files", "--no-man-pages"];
  jdk("jlink", "--add-modules", MODULES, ...lean, "--output", unfinished);
  jdk(join(unfinished, "bin/java"), "-Xshare:dump"); // what makes it start in half of the time
  renameSync(unfinished, path);
  return path;
}
