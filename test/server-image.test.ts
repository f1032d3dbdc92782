// Question: does the server serve as a container, with the options that Dockerfile.server says, and
// what does a start say that lacks one?
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { makeArchive } from "../scripts/package.ts";
import { block } from "./documents.ts";
import { base, Server, Stage } from "./stage.ts";

const root = join(import.meta.dirname, "..");
const directory = mkdtempSync(join(tmpdir(), "authproxy-server-image-"));
const image = `authproxy-server-test:${process.pid}`;
const archive = await makeArchive(directory);
const manual = readFileSync(join(root, "packaging/Dockerfile.server"), "utf8");
execFileSync(
  "sh",
  ["-ec", `docker build --quiet --tag "$1" --build-arg BASE="$2" --file "$3" - <"$4"`, "sh"].concat(
    image,
    base,
    "authproxy-0.1.0/packaging/Dockerfile.server",
    archive.file,
  ),
);
afterAll(() => {
  execFileSync("docker", ["image", "rm", "--force", image], { stdio: "ignore" });
  rmSync(directory, { recursive: true, force: true });
});

/** The options that its head shows, with this stage's directories. */
function options(stage: Stage, config: string): string[] {
  const [, shown = ""] = /^# {3}docker run ([\s\S]*?) authproxy-server$/m.exec(manual) ?? [];
  const words = shown.replace(/\\\n#/g, "").split(/\s+/).filter(Boolean);
  const own = words.join("\n").replace("--detach\n", "--rm\n").replace("--restart\nalways\n", "");
  return own
    .replace("--name\nauthproxy", `--name\n${name(stage)}`)
    .replace("-v\n/run/authproxy:", `-v\n${stage.directory}/run:`)
    .replace("-v\n/run/authproxy-state:", `-v\n${stage.directory}/state:`)
    .replace("-v\n/etc/authproxy:", `-v\n${dirname(config)}:`)
    .split("\n");
}

const name = (stage: Stage) => `authproxy-server-${stage.directory.split("-").at(-1)}`;

function start(stage: Stage, words: string[]): Server {
  const child = spawn("docker", ["run", ...words, image], { stdio: ["ignore", "pipe", "pipe"] });
  stage.defer(() => execFileSync("docker", ["rm", "--force", name(stage)], { stdio: "ignore" }));
  return new Server(child, join(stage.directory, "run/authproxy.sock"));
}

/** A configuration that reads the same in the container: its files lie beside it. */
function configure(stage: Stage): string {
  const socket = "/run/authproxy/authproxy.sock";
  const config = stage.configure({ socket, state: "/run/authproxy-state" });
  const inside = (text: string) => text.replaceAll(stage.directory, "/etc/authproxy");
  mkdirSync(join(stage.directory, "state"), { mode: 0o700 });
  const { vault, ...rest } = JSON.parse(readFileSync(config, "utf8"));
  const ca = join(stage.directory, "ca.pem");
  execFileSync("cp", [vault.ca_file, ca]);
  const text = inside(JSON.stringify({ ...rest, vault: { ...vault, ca_file: ca } }));
  execFileSync("sh", ["-ec", 'cat >"$1"', "sh", config], { input: text });
  return config;
}

test("serves a container, and knows after a restart that it did", {
  timeout: 120_000,
}, async () => {
  await using stage = new Stage();
  const config = configure(stage);
  const first = start(stage, options(stage, config));
  await first.until({ event: "ready" });
  const container = await stage.container();
  await container.says("started with a password of");
  const { accessor } = await first.until({ event: "granted", container: container.id });
  execFileSync("docker", ["stop", name(stage)], { stdio: "ignore" });
  await first.ended;
  const second = start(stage, options(stage, config));
  await second.until({ event: "ready" });
  await container.kill();
  await second.until({ event: "revoked", accessor: accessor ?? "" });
});

test("docs/operate.md says the same as Dockerfile.server", () => {
  const operate = block("docs/operate.md", "docker build -t authproxy-server");
  const words = (text: string) => text.replace(/\\\n#?/g, " ").replace(/ +/g, " ");
  for (const command of ["docker build", "docker run"]) {
    const [, shown] = new RegExp(`^# {3}(${command}(?:.*\\\\\\n)*.*)$`, "m").exec(manual) ?? [];
    expect(words(operate)).toContain(words(shown ?? "nothing"));
  }
});

const needed = [
  "--pid=host",
  "--cgroupns=host",
  "--cap-add SYS_PTRACE",
  // With version 2 the engine gives it to who has the host's cgroup namespace.
  ...(existsSync("/sys/fs/cgroup/cgroup.controllers")
    ? []
    : ["-v /sys/fs/cgroup:/sys/fs/cgroup:ro"]),
  "-v /var/run/docker.sock:/var/run/docker.sock",
  "-v /run/authproxy:/run/authproxy",
  "-v /run/authproxy-state:/run/authproxy-state",
  "-v /etc/authproxy:/etc/authproxy:ro",
];
test.each(needed)("a start without %s names it", { timeout: 120_000 }, async (option) => {
  await using stage = new Stage();
  const [key = "", value] = option.split(" ");
  const target = value?.split(":")[1] ?? value ?? "";
  const words = options(stage, configure(stage));
  const at = words.findIndex(
    (word, i) =>
      word === key && (!value || words[i + 1]?.includes(`:${target}`) || words[i + 1] === value),
  );
  expect(at).toBeGreaterThanOrEqual(0);
  words.splice(at, value ? 2 : 1);
  // Where the engine would give the host's by itself (cgroup version 1).
  if (option === "--cgroupns=host") words.push("--cgroupns=private");
  const server = start(stage, words);
  expect(await server.ended).toBe(78);
  expect(server.stderr).toContain(`start it with ${option}: `);
});
