// Question: does each row of docs/images.md hold?
// Input:    what the row says to write, and with which options. The images cannot be had here: scripts
//           take the steps of their entrypoints in the same order, as the same users. What they end as
//           tells its user, its number and a hash of what it has for its password.
// Promise:  engine, server, Vault and client are real; each row runs both by the runtime, where the image
//           is as it is, and with the client in front of the entrypoint, as an image brings it.
//
// Covered beside the images that users reported: who reads the file (root before it becomes another user,
// that other user, a worker at each request, the container's own user), what an image checks about it
// (its mode, that the variable is not set too), and who must be process 1.
import { createHash } from "node:crypto";
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { client, compile, password, type Ran, root, Scene } from "./scene.ts";

const scene = await Scene.open();
afterAll(() => scene[Symbol.asyncDispose]());
beforeAll(async () => {
  await scene.serve();
});

type Row = { variables: string[]; options: string[] };

/** What stands in backticks in the columns "write" and "with" of an image's row. */
function rowOf(image: string): Row {
  const document = readFileSync(join(root, "docs/images.md"), "utf8");
  const line = document.split("\n").find((each) => each.startsWith(`| ${image} |`));
  if (!line) throw new Error(`docs/images.md has no row for ${image}`);
  const [, , write, with_] = line.split("|");
  const code = [...`${write} ${with_}`.matchAll(/`([^`]+)`/g)].map(([, text = ""]) => text);
  return {
    variables: code.filter((text) => !text.startsWith("--")),
    options: code.filter((text) => text.startsWith("--")).flatMap((text) => text.split(" ")),
  };
}

/** What the scripts have in common. */
const SHELL = `#!/bin/sh -e
# The variable that is named, or what its file holds, but not both.
file_env() {
  eval "value=\\\${$1-} file=\\\${$1_FILE-}"
  if [ "$value" ] && [ "$file" ]; then echo "both $1 and $1_FILE are set" >&2; exit 1; fi
  if [ "$file" ]; then value=$(cat "$file"); fi
  export "$1=$value"
  unset "$1_FILE"
}
tell() { echo "uid $(id -u) pid $$ $(printf %s "$1" | sha256sum | cut -c 1-64)"; }
require_first() { if [ $$ != 1 ]; then echo "must be process 1" >&2; exit 100; fi; }
`;

/** Reads as root, and again behind gosu, where the variable is left. */
const readsFirst = (variable: string) => `
file_env ${variable}
if [ "$(id -u)" = 0 ]; then exec gosu 999:999 "$0" "$@"; fi
tell "$${variable}"`;

type Image = { row: string; user: string; script: string; tells: RegExp };
const told = (uid: number, pid: number | string = 1) =>
  new RegExp(`^uid ${uid} pid ${pid} ${hash}$`, "m");
const hash = createHash("sha256").update(password).digest("hex");

const images: Image[] = [
  {
    row: "postgres",
    user: "0:0",
    script: readsFirst("POSTGRES_PASSWORD"),
    tells: told(999),
  },
  {
    row: "mysql",
    user: "0:0",
    script: readsFirst("MYSQL_ROOT_PASSWORD"),
    tells: told(999),
  },
  {
    row: "mariadb",
    user: "0:0",
    script: readsFirst("MARIADB_ROOT_PASSWORD"),
    tells: told(999),
  },
  {
    row: "mongo",
    user: "0:0",
    script: `
      if [ "$(id -u)" = 0 ]; then exec gosu 999:999 "$0" "$@"; fi
      file_env MONGO_INITDB_ROOT_PASSWORD
      tell "$MONGO_INITDB_ROOT_PASSWORD"`,
    tells: told(999),
  },
  {
    row: "wordpress",
    user: "0:0",
    // The server stays, and its workers read at each of their requests.
    script: `
      if [ "$1" = worker ]; then tell "$(cat "$WORDPRESS_DB_PASSWORD_FILE")"; exit; fi
      gosu 33:33 "$0" worker
      gosu 33:33 "$0" worker`,
    tells: new RegExp(`^(uid 33 pid \\d+ ${hash}\\n){2}$`),
  },
  {
    row: "grafana/grafana",
    user: "472:0",
    script: `
      for name in $(env | sed -n 's/^\\(GF_[^=]*\\)__FILE=..*/\\1/p'); do
        eval "file=\\$\${name}__FILE"
        export "$name=$(cat "$file")"
      done
      tell "$GF_DATABASE_PASSWORD"`,
    tells: told(472),
  },
  {
    row: "elasticsearch",
    user: "1000:0",
    script: `
      case $(stat -L -c %a "$ELASTIC_PASSWORD_FILE") in
      400 | 600) ;;
      *) echo "must have file permissions 400 or 600" >&2; exit 1 ;;
      esac
      file_env ELASTIC_PASSWORD
      tell "$ELASTIC_PASSWORD"`,
    tells: told(1000),
  },
  {
    row: "quay.io/keycloak/keycloak",
    user: "1000:0",
    script: 'tell "$KC_DB_PASSWORD"',
    tells: told(1000),
  },
  {
    row: "lscr.io/linuxserver/…",
    user: "0:0",
    // s6 keeps the environment as files, and a step before the services looks at each FILE__X.
    script: `
      if [ "$1" = service ]; then tell "$PASSWORD"; exit; fi
      require_first
      kept=/run/s6/container_environment
      mkdir -p $kept
      printf %s "$FILE__PASSWORD" >$kept/FILE__PASSWORD
      file=$(cat $kept/FILE__PASSWORD)
      if ! [ -f "$file" ]; then echo "cannot find secret in FILE__PASSWORD"; exit 1; fi
      tr -d '\\n' <"$file" >$kept/PASSWORD
      export PASSWORD="$(cat $kept/PASSWORD)"
      exec gosu 911:911 "$0" service`,
    tells: told(911),
  },
  {
    row: "s6-overlay",
    user: "0:0",
    script: `
      require_first
      kept=/run/s6/container_environment
      mkdir -p $kept
      printf %s "$PASSWORD" >$kept/PASSWORD
      unset PASSWORD
      PASSWORD=$(cat $kept/PASSWORD)
      tell "$PASSWORD"`,
    tells: told(0),
  },
  {
    row: "Spring Boot",
    user: "1000:1000",
    // Each file of the tree is a property of its name.
    script: `
      cd "\${SPRING_CONFIG_IMPORT#configtree:}"
      for property in *; do echo "property $property"; done
      tell "$(cat password)"`,
    tells: new RegExp(`^property password\\nuid 1000 pid 1 ${hash}$`, "m"),
  },
];

/** One image with the entrypoints of all. */
const entrypointOf = (row: string) => `/entrypoints/${row.replace(/\W/g, "-")}`;
const image = scene.busybox((directory) => {
  for (const command of ["cut", "mkdir", "sed", "sha256sum", "tr"]) {
    symlinkSync("busybox", join(directory, "bin", command));
  }
  copyFileSync(compile("gosu"), join(directory, "bin/gosu"));
  mkdirSync(join(directory, "entrypoints"));
  for (const { row, script } of images) {
    writeFileSync(join(directory, entrypointOf(row)), SHELL + script, { mode: 0o755 });
  }
});

function imageOf(row: string): Image {
  const found = images.find((each) => each.row === row);
  if (!found) throw new Error(`there is no script for ${row}`);
  return found;
}

/** The command that an image's entrypoint gets. */
const COMMAND = "server";

async function byRuntime({ row, user }: Image, { variables, options }: Row): Promise<Ran> {
  const env = variables.flatMap((variable) => ["--env", variable]);
  const words = ["--user", user, ...env, ...options, "--entrypoint", entrypointOf(row)];
  return await scene.run(...words, image, COMMAND);
}

/** As docs/images.md says for an image that brings the client. */
async function inImage({ row, user }: Image, { variables, options }: Row): Promise<Ran> {
  const env = variables.flatMap((variable) => ["--env", variable]);
  const [uid] = user.split(":");
  const words = [
    ...["run", "--rm", "--network", "host", "--read-only", "--label", "app=app", "--user", user],
    ...["--tmpfs", `/run/authproxy-secrets:mode=0711,uid=${uid},noexec,nosuid,size=4m`],
    ...["--volume", `${scene.sockets}:/run/authproxy:ro`, "--volume", `${client}:/authproxy:ro`],
    ...[...env, ...options, "--entrypoint", "/authproxy/ld.so", image],
    ...["--inhibit-cache", "--library-path", "/authproxy", "/authproxy/node"],
    ...["--disable-sigusr1", "/authproxy/authproxy.js", "--", entrypointOf(row), COMMAND],
  ];
  return await scene.docker(...words);
}

describe.each([
  ["by the runtime", byRuntime],
  ["with the client in it", inImage],
])("%s", (_, start) => {
  test.each(images)("$row has its password", async (each) => {
    const ran = await start(each, rowOf(each.row));
    expect(ran).toMatchObject({ status: 0, stderr: "" });
    expect(ran.stdout).toMatch(each.tells);
  });
  test.each(["mongo", "wordpress"])("%s cannot read its file without the option", async (row) => {
    const { options, variables } = rowOf(row);
    const without = variables.filter((variable) => !variable.startsWith("AUTHPROXY_"));
    expect(without).toHaveLength(variables.length - 1);
    const ran = await start(imageOf(row), { options, variables: without });
    expect(ran.stdout).not.toContain(hash);
    expect(ran.stderr).toMatch(/Permission denied/);
  });
});

test("each row of the table is run", () => {
  const document = readFileSync(join(root, "docs/images.md"), "utf8");
  const rows = document.split("\n").filter((line) => /^\| .*`/.test(line));
  expect(rows.map((line) => line.split("|")[1]?.trim())).toEqual(images.map(({ row }) => row));
});

test("elasticsearch refuses another mode, as the table says", async () => {
  const { options, variables } = rowOf("elasticsearch");
  const otherwise = { options, variables: [...variables, "AUTHPROXY_FILE_MODE=0440"] };
  const ran = await byRuntime(imageOf("elasticsearch"), otherwise);
  expect(ran).toMatchObject({ status: 1, stderr: "must have file permissions 400 or 600\n" });
});

test("s6 does not start under --watch, as the table says", async () => {
  const { options, variables } = rowOf("s6-overlay");
  const watched = { options, variables: [...variables, "AUTHPROXY_WATCH=1"] };
  const ran = await byRuntime(imageOf("s6-overlay"), watched);
  expect(ran).toMatchObject({ status: 100, stderr: "must be process 1\n" });
});

describe("a container whose variables only look like references", () => {
  const others = ["SPRING_CONFIG_IMPORT=vault://", "WAIT_HOSTS=vault:8200", "IMAGE=vault:1.13"];
  const script =
    'echo "$SPRING_CONFIG_IMPORT $WAIT_HOSTS $IMAGE"; cat /proc/1/cmdline | tr "\\0" " "; echo';
  const TELL = ["sh", "-c", script];
  const env = others.flatMap((variable) => ["--env", variable]);

  test("starts without the client, and without a server", async () => {
    await using serverless = await Scene.open();
    rmSync(serverless.sockets, { recursive: true });
    const busybox = serverless.busybox((directory) => {
      symlinkSync("busybox", join(directory, "bin/tr"));
    });
    const { status, stdout, stderr } = await serverless.run(...env, busybox, ...TELL);
    expect([status, stderr]).toEqual([0, ""]);
    expect(stdout).toBe(`vault:// vault:8200 vault:1.13\n${TELL.join(" ")} \n`);
    const plain = ["--env", "X=vault:a/b#c", "--env", "AUTHPROXY_PLAIN=X"];
    const named = await serverless.run(...plain, busybox, "sh", "-c", 'echo "$X"');
    expect(named).toEqual({ status: 0, stdout: "vault:a/b#c\n", stderr: "" });
    // The control arm.
    const asking = await serverless.run("--env", "X=vault:a/b#c", busybox, "true");
    expect(asking.stderr).toContain("there is no directory");
  });
  test("has them as they are beside a reference", async () => {
    const reference = ["--env", "X=vault:secret/data/app#password"];
    const { status, stdout } = await scene.run(...env, ...reference, image, ...TELL);
    expect([status, stdout]).toEqual([0, `vault:// vault:8200 vault:1.13\n${TELL.join(" ")} \n`]);
  });
  test("is warned of quotes that --env-file keeps", async () => {
    const file = join(mkdtempSync(join(tmpdir(), "authproxy-env-")), "env");
    writeFileSync(file, 'X="vault:secret/data/app#password"\nY=vault:secret/data/app#password\n');
    const ran = await scene.run("--env-file", file, image, "sh", "-c", 'echo "$X"');
    rmSync(dirname(file), { recursive: true });
    expect(ran).toMatchObject({ status: 0, stdout: '"vault:secret/data/app#password"\n' });
    expect(ran.stderr).toMatch(
      /^authproxy: warning: X: [^\n]*quotes or white space stand around it\n$/,
    );
  });
});
