// Question: does a service of Docker Swarm get its secrets, which can name no runtime of its own?
// Input:    a swarm of one node, whose engine's default runtime is `authproxy`; the real server, which
//           knows the service by the label that the engine gives to its containers; a real Vault.
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { beforeAll, expect, test } from "vitest";
import { client } from "../../scripts/openbao.ts";
import { block } from "../documents.ts";
import { until } from "../stage.ts";
import { busybox } from "./archive.ts";
import { docker, openHost, serve, startSwarm, vaultNear } from "./host.ts";
import { make } from "./images.ts";

const IMAGE = "busybox:1";
const REFERENCE = "vault:secret/data/app#password";
const TELL = 'while :; do echo "[$(cat $PASSWORD_FILE)]"; sleep 1; done';

const { "default-runtime": usual } = JSON.parse(block("docs/compose.md", '"default-runtime"'));
const host = await openHost({ "default-runtime": usual });
const { bao, config } = await vaultNear({ password: "the first" });
await make(host, IMAGE, busybox);
const { match } = JSON.parse(`{${block("docs/compose.md", '"match"')}}`);
const app = { match, token: { create: "auth/token/create/app" } };
const server = await serve(host, { vault: config, services: { app } });

const at = ["--network", "host", "--user", "1001:1001", "--read-only"];
const service = (name: string, ...words: string[]) =>
  docker(
    host,
    "service",
    "create",
    "--detach",
    "--no-resolve-image",
    "--name",
    name,
    ...at,
    ...words,
  );

/** The containers of a service, those that have ended too; sorted. */
async function containersOf(name: string): Promise<string[]> {
  const filter = ["--filter", `label=com.docker.swarm.service.name=${name}`];
  return (await docker(host, "ps", "--all", "--quiet", "--no-trunc", ...filter)).split("\n").sort();
}

async function says(container: string, text: string): Promise<void> {
  await until(`${container} says ${text}`, async () =>
    (await docker(host, "logs", container)).includes(text),
  );
}

beforeAll(async () => {
  await startSwarm(host);
});

test("each task of a service has a token of its own; what changes reaches them while they run", async () => {
  const shown = block("docs/compose.md", "docker service create").replace("data/web", "data/app");
  const more = [
    "--detach",
    "--no-resolve-image",
    "--replicas",
    "2",
    "--env",
    "AUTHPROXY_REFRESH=1",
  ];
  const words = [...more, ...at, IMAGE, "sh", "-c", TELL];
  const argv = ["-euc", shown.replace("…", '"$@"'), "sh", ...words];
  await promisify(execFile)("sh", argv, { env: host.env });
  await until("two were granted", () => granted().length === 2);
  const containers = await containersOf("web");
  expect(
    granted()
      .map(({ container }) => container)
      .sort(),
  ).toEqual(containers);
  expect(new Set(granted().map(({ accessor }) => accessor)).size).toBe(2);
  const seen = await Promise.all(containers.map((id) => docker(host, "inspect", id)));
  expect(seen.join()).toContain(`PASSWORD_FILE=${REFERENCE}`);
  for (const container of containers) await says(container, "[the first]");

  await client(bao).write("secret/data/app", { data: { password: "the second" } });
  for (const container of containers) await says(container, "[the second]");
  expect(await containersOf("web"), "the same").toEqual(containers);
  expect(seen.join()).not.toContain("the first");
});

const granted = () => server.events.filter(({ event }) => event === "granted");

test("a service of another name is refused, whatever labels it gives to its containers", async () => {
  const label = ["--container-label", "com.docker.swarm.service.name=web"];
  const words = ["--restart-condition", "none", "--env", `PASSWORD=${REFERENCE}`, ...label];
  await service("other", ...words, IMAGE, "true");
  await server.until({ event: "refused", reason: "no-match" });
  const [container = ""] = await containersOf("other");
  expect(server.find({ event: "refused", container })?.reason).toBe("no-match");
});

test("but who may start containers here may give one that label", async () => {
  const before = granted().length;
  const label = ["--label", "com.docker.swarm.service.name=web"];
  const words = [
    ...at,
    ...label,
    "--env",
    `PASSWORD=${REFERENCE}`,
    IMAGE,
    "sh",
    "-c",
    "echo $PASSWORD",
  ];
  expect(await docker(host, "run", "--rm", ...words)).toBe("the second");
  expect(granted()).toHaveLength(before + 1);
});

test("the tokens of a service that was removed are revoked", async () => {
  const tasks = granted().slice(0, 2);
  await docker(host, "service", "rm", "web");
  for (const { accessor } of tasks)
    await server.until({ event: "revoked", accessor: String(accessor) });
});
