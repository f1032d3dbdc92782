// Question: does docs/policy.md say what the check `readonly` makes of well-known images?
// Input:    what each image declares (entrypoint, command, working directory, volumes, variables), as
//           `docker inspect` says it, and how the document starts it. The server's own check judges, with
//           the client in the image and with the client that the runtime puts before it.
// Siblings: each image with its own mount by the engine's word alone, by the kernel's alone, and by both.
import { describe, expect, test } from "vitest";
import type { Container } from "../server/engine.ts";
import type { Facts } from "../server/facts.ts";
import type { Process } from "../server/process.ts";
import { type WritablePart, writablePart } from "../server/writable.ts";
import { readDocument } from "./documents.ts";

const PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

type Started = {
  command: string[];
  workingDir?: string;
  env?: string[];
  volumes?: string[];
  tmpfs?: string[];
};

/** `refused`: which word of the command, counted from 0, or which variable. `data`: what the service is
 * given, so that it holds as the image is usually started. */
type Known = { usual: Started; refused?: WritablePart; advised?: Started; data?: string[] };

const redis = { command: ["docker-entrypoint.sh", "redis-server"], volumes: ["/data"] };
const minio = { volumes: ["/data"], env: ["MINIO_UPDATE_MINISIGN_PUBKEY=x"] };
const prometheus = ["/bin/prometheus", "--config.file=/etc/prometheus/prometheus.yml"];
const grafana = {
  command: ["/run.sh"],
  workingDir: "/usr/share/grafana",
  env: [
    "PATH=/usr/share/grafana/bin:/usr/bin:/bin",
    "GF_PATHS_CONFIG=/etc/grafana/grafana.ini",
    "GF_PATHS_DATA=/var/lib/grafana",
    "GF_PATHS_HOME=/usr/share/grafana",
    "GF_PATHS_PLUGINS=/var/lib/grafana/plugins",
  ],
};
const word = (number: number, mount: string) => ({ part: `Args.${number}`, mount });
const holds = (usual: Started): Known => ({ usual, advised: usual });

const images: Record<string, Known> = {
  node: holds({
    command: ["docker-entrypoint.sh", "node", "server.js"],
    workingDir: "/app",
    volumes: ["/data"],
    tmpfs: ["/tmp"],
  }),
  python: holds({
    command: ["python3", "-m", "app"],
    workingDir: "/app",
    env: ["PYTHON_VERSION=3.13"],
    volumes: ["/data"],
    tmpfs: ["/tmp"],
  }),
  "eclipse-temurin": holds({
    command: ["/__cacert_entrypoint.sh", "java", "-jar", "/app/app.jar"],
    env: ["JAVA_HOME=/opt/java/openjdk", "JAVA_VERSION=jdk-21"],
    volumes: ["/data"],
    tmpfs: ["/tmp"],
  }),
  nginx: holds({
    command: ["/docker-entrypoint.sh", "nginx", "-g", "daemon off;"],
    tmpfs: ["/var/cache/nginx", "/run"],
  }),
  postgres: holds({
    command: ["docker-entrypoint.sh", "postgres"],
    env: ["PGDATA=/var/lib/postgresql/data"],
    volumes: ["/var/lib/postgresql/data"],
    tmpfs: ["/run/postgresql"],
  }),
  mysql: holds({
    command: ["docker-entrypoint.sh", "mysqld"],
    volumes: ["/var/lib/mysql"],
    tmpfs: ["/run/mysqld", "/tmp"],
  }),
  redis: {
    usual: { ...redis, workingDir: "/data" },
    refused: word(0, "/data"),
    data: ["/data"],
  },
  "minio/minio": {
    usual: { ...minio, command: ["/usr/bin/docker-entrypoint.sh", "minio", "server", "/data"] },
    refused: word(2, "/data"),
    data: ["/data"],
  },
  "prom/prometheus": {
    usual: {
      command: [...prometheus, "--storage.tsdb.path=/prometheus"],
      workingDir: "/prometheus",
      volumes: ["/prometheus"],
    },
    refused: word(0, "/prometheus"), // relative or not, each word is, with that working directory
    data: ["/prometheus"],
  },
  "grafana/grafana": {
    usual: { ...grafana, volumes: ["/var/lib/grafana"] },
    refused: { part: "GF_PATHS_DATA", mount: "/var/lib/grafana" },
    advised: { ...grafana, tmpfs: ["/var/lib/grafana"] },
  },
  wordpress: {
    usual: {
      command: ["docker-entrypoint.sh", "apache2-foreground"],
      workingDir: "/var/www/html",
      volumes: ["/var/www/html"],
    },
    refused: word(0, "/var/www/html"),
  },
};

/** Who says that there is a mount: a container that cannot hide one is seen by both. */
const WORDS = { both: [true, true], engine: [true, false], kernel: [false, true] } as const;
type Saying = keyof typeof WORDS;

function judged(
  started: Started,
  isByRuntime: boolean,
  saying: Saying,
  data?: string[],
): WritablePart | undefined {
  const { command, workingDir = "", env = [], volumes = [], tmpfs = [] } = started;
  const [byEngine, byKernel] = WORDS[saying];
  const inImage = ["node", "--disable-sigusr1", "/authproxy/authproxy.js", "--"];
  const [Path, ...Args] = isByRuntime ? command : [...inImage, ...command];
  const listed = volumes.map((Destination) => ({ Type: "volume", Destination, RW: true }));
  const container = {
    Path,
    Args,
    Config: { WorkingDir: workingDir, Env: [PATH, ...env] },
    HostConfig: {
      ReadonlyRootfs: true,
      Tmpfs: Object.fromEntries(tmpfs.map((point) => [point, ""])),
    },
    Mounts: byEngine ? listed : [],
  } as object as Container;
  const exe = isByRuntime ? "/.authproxy/ld.so" : "/usr/local/bin/node";
  const writable = byKernel ? [...volumes, ...tmpfs, "/run/authproxy-secrets", "/dev/shm"] : [];
  const mounts = { numbers: [], writable };
  return writablePart({ process: { exe } as Process, container, mounts } as object as Facts, data);
}

const rows = new Map(
  readDocument("docs/policy.md")
    .split("### Well-known images")[1]
    ?.split("\n## ")[0]
    ?.split("\n")
    .filter((line) => line.startsWith("| `"))
    .flatMap((line) => {
      const [, names = "", said = "", needs = ""] = line.split("|").map((cell) => cell.trim());
      return [...names.matchAll(/`([^`]+)`/g)].map(
        ([, name = ""]) => [name, { said, needs }] as const,
      );
    }),
);

test("the document has each of these images, and no other", () => {
  expect([...rows.keys()].sort()).toEqual(Object.keys(images).sort());
});

describe.each([
  { name: "in the image", isByRuntime: false },
  { name: "by the runtime", isByRuntime: true },
])("with the client $name", ({ isByRuntime }) => {
  /** The client's own words come first, where it is in the image; and the entrypoint. */
  const before = isByRuntime ? 0 : 4;

  describe.each(Object.keys(WORDS) as Saying[])("and mounts by the word of: %s", (saying) => {
    test.each(Object.entries(images))("%s, as it is usually started", (name, known) => {
      const { usual, refused } = known;
      const seen = judged(usual, isByRuntime, saying);
      expect(rows.get(name)?.said.startsWith(refused ? "refuses" : "holds")).toBe(true);
      const shift = usual.workingDir ? 0 : before; // there the client's own first word is relative
      const part = refused?.part.replace(/\d+/, (number) => `${Number(number) + shift}`);
      expect(seen).toEqual(refused && { part, mount: refused.mount });
    });

    test.each(Object.entries(images))("%s, as the document starts it", (name, known) => {
      const { usual, data, advised = data && usual } = known;
      if (advised) expect(judged(advised, isByRuntime, saying, data)).toBeUndefined();
      else expect(rows.get(name)?.needs).toContain('"relax": ["readonly"]');
    });
  });
});

test("what the document gives each is what was tried", () => {
  for (const [name, { advised, usual, data }] of Object.entries(images)) {
    const needs = rows.get(name)?.needs ?? "";
    if (data) expect(needs).toBe(`\`"data": ${JSON.stringify(data)}\``);
    for (const point of advised?.tmpfs ?? []) expect(needs).toContain(`--tmpfs ${point}`);
    const given = advised?.env?.filter((text) => !usual.env?.includes(text)) ?? [];
    for (const text of given) expect(needs).toContain(`-e ${text}`);
    if (advised && advised.workingDir !== usual.workingDir)
      expect(needs).toContain(`-w ${advised.workingDir}`);
  }
});
