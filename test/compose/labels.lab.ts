// Question: who set a label: whoever started the container, or who made its image?
// Input:    one policy that rests on labels; containers by `docker run`, Compose and Swarm, whose label
//           is given at their start, declared by their image, or both.
// Output:   which were granted, what the audit says of the others, and what `authproxy explain` does.
import { execFile, spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { beforeAll, describe, expect, test } from "vitest";
import { explainReason } from "../../cli/reasons.ts";
import type { JsonObject } from "../../server/json.ts";
import { until } from "../stage.ts";
import { busybox } from "./archive.ts";
import { docker, openHost, serve, stage, startSwarm, vaultNear } from "./host.ts";
import { make } from "./images.ts";
import { compose as plugin } from "./plugin.ts";

const run = promisify(execFile);
const tool = join(import.meta.dirname, "../../cli/authproxy.ts");

const REFERENCE = "vault:secret/data/app#password";
const OF_COMPOSE = "com.docker.compose.service";
const OF_SWARM = "com.docker.swarm.service.name";
const resting = (Labels: JsonObject) => ({
  match: { container: { Config: { Labels } } },
  token: { create: "auth/token/create/app" },
});
const services = {
  own: resting({ app: "app" }),
  compose: resting({ [OF_COMPOSE]: ["built", "pulled"] }),
  swarm: resting({ [OF_SWARM]: ["declared", "given"] }),
};

const host = await openHost({ "default-runtime": "authproxy" });
const { config } = await vaultNear({ password: "for the right one" });
const says = (label: string) => ({ ...busybox, says: [...busybox.says, `LABEL ${label}`] });
await make(host, "plain:1", busybox);
await make(host, "app:1", says("app=app"));
await make(host, "swarm:1", says(`${OF_SWARM}=declared`));
const server = await serve(host, { vault: config, services });

/** What the server decided of this container: granted as which service, or why not. */
async function decided(container: string): Promise<string> {
  const ofIt = () =>
    server.events.find(
      ({ event, container: id }) => ["granted", "refused"].includes(event) && id === container,
    );
  await until(`${container} is judged`, () => ofIt() !== undefined);
  const line = ofIt();
  return line?.event === "granted" ? `granted: ${line.service}` : `refused: ${line?.reason}`;
}

describe("docker run", () => {
  const start = async (...words: string[]) => {
    const options = ["--network", "host", "--read-only", "--env", `PASSWORD=${REFERENCE}`];
    return await docker(host, "run", "--detach", ...options, ...words);
  };

  test("a label that is given at the start is a service's", async () => {
    expect(await decided(await start("--label", "app=app", "plain:1", "true"))).toBe(
      "granted: own",
    );
  });

  test("one that the image declares is not, given again or not", async () => {
    expect(await decided(await start("app:1", "true"))).toBe("refused: labels");
    const again = await start("--label", "app=app", "app:1", "true");
    expect(await decided(again)).toBe("refused: labels");
  });

  test("explain says so, of one that was refused and of one that runs", async () => {
    const explained = (...words: string[]) =>
      spawnSync(process.execPath, [tool, "explain", ...words], {
        input: server.stdout,
        encoding: "utf8",
      }).stdout;
    const { happened } = explainReason("labels");
    const refused = await start("app:1", "true");
    await decided(refused);
    expect(explained("--last", refused, "--audit", "-")).toContain(happened);
    const idle = await docker(host, "run", "--detach", "--read-only", "app:1", "sleep", "600");
    const text = explained(idle, "--config", join(stage.directory, "authproxy.json"));
    await docker(host, "kill", idle);
    expect(text).toContain(happened);
    expect(text).toMatch(/fails +labels +"?app/);
  });
});

describe("Compose", () => {
  const project = join(stage.directory, "labels");
  const common = { network_mode: "host", read_only: true, environment: { PASSWORD: REFERENCE } };
  const of = (more: JsonObject) => ({ ...common, command: "true", ...more });
  let ids: Record<string, string> = {};

  beforeAll(async () => {
    mkdirSync(project);
    writeFileSync(join(project, "Dockerfile"), "FROM plain:1\n");
    const declares = { context: ".", dockerfile: "Declares" };
    writeFileSync(join(project, "Declares"), "FROM plain:1\nLABEL app=app\n");
    const file = {
      services: {
        given: of({ image: "plain:1", labels: { app: "app" } }),
        declared: of({ build: declares }),
        both: of({ build: declares, labels: { app: "app" } }),
        pulled: of({ image: "plain:1" }),
        built: of({ build: "." }),
      },
    };
    writeFileSync(join(project, "compose.yaml"), JSON.stringify(file)); // JSON is YAML
    const { program } = await plugin();
    const compose = (...words: string[]) => run(program, words, { cwd: project, env: host.env });
    await compose("up", "--detach");
    for (const name of Object.keys(file.services))
      ids = { ...ids, [name]: (await compose("ps", "--all", "--quiet", name)).stdout.trim() };
  });

  test.each([
    ["a label of the file's", "given", "granted: own"],
    ["a label of the Dockerfile's", "declared", "refused: labels"],
    ["a label of both", "both", "refused: labels"],
    ["Compose's own label, on an image that it did not build", "pulled", "granted: compose"],
    [
      "Compose's own label, on one that it built: it wrote it there too",
      "built",
      "refused: labels",
    ],
  ])("%s", async (_, name, wanted) => {
    expect(await decided(ids[name] ?? "")).toBe(wanted);
  });
});

describe("Swarm", () => {
  beforeAll(() => startSwarm(host));

  test.each([
    [
      "the label that the engine gives to a service's containers",
      "plain:1",
      "given",
      "granted: swarm",
    ],
    ["the same, declared by the image as well", "swarm:1", "declared", "refused: labels"],
    [
      "another's, declared by the image: the engine's word stands",
      "swarm:1",
      "other",
      "refused: no-match",
    ],
  ])("%s", async (_, image, name, wanted) => {
    const words = ["--detach", "--no-resolve-image", "--restart-condition", "none", "--read-only"];
    const what = [
      "--network",
      "host",
      "--env",
      `PASSWORD=${REFERENCE}`,
      "--name",
      name,
      image,
      "true",
    ];
    await docker(host, "service", "create", ...words, ...what);
    const list = ["ps", "--all", "--quiet", "--no-trunc", "--filter", `label=${OF_SWARM}=${name}`];
    await until("its container is there", async () => (await docker(host, ...list)) !== "");
    expect(await decided(await docker(host, ...list))).toBe(wanted);
  });
});
