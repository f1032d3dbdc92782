// Attacks by who builds images, moves their names, or writes where the program lies.
import { execFileSync } from "node:child_process";
import { chownSync, mkdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { app, base, until } from "../stage.ts";
import {
  type Defended,
  decision,
  honest,
  imageWith,
  naive,
  newStage,
  ours,
  run,
  SOCKET,
  type Target,
  TOKEN,
  USER,
} from "./arena.ts";
import { attack } from "./table.ts";

const image = imageWith(["trusted", "steal", "replace"]);

function digestOf(name: string): string {
  return execFileSync("docker", ["image", "inspect", "--format", "{{.Id}}", name], {
    encoding: "utf8",
  }).trim();
}

/** Runs a thief as the first process, and gives its container when it has had its answer. */
async function runThief(
  { stage }: Pick<Target, "stage">,
  from: string,
  labels?: Record<string, string>,
) {
  const wanted = { image: from, command: ["/app/steal", SOCKET] };
  const thief = await run(stage, labels ? { ...wanted, labels } : wanted);
  await thief.says("thief: end");
  return thief;
}

describe("an image that declares the label of the service itself", () => {
  const note = attack(14, "an image's own LABEL");
  const declaring = imageWith(["steal"], { changes: ["LABEL app=app"] });

  test("gets the token from a naive server", async () => {
    await using stage = newStage();
    const thief = await runThief(await naive(stage), declaring, {});
    expect(thief.output).toContain(TOKEN);
    note("naive", "falls");
  });

  test("gets nothing: labels", async () => {
    await using stage = newStage();
    const target = await ours(stage);
    const thief = await runThief(target, declaring, {});
    expect(thief.output).not.toContain(TOKEN);
    const wanted = { event: "refused", reason: "labels", detail: "app" };
    expect(await decision(target.server, thief)).toMatchObject(wanted);
    note("defended", "labels");
    await honest(stage, image, note);
  });

  test("gets the token where labels is relaxed", async () => {
    await using stage = newStage();
    const target = await ours(stage, { relax: ["labels"] });
    const thief = await runThief(target, declaring, {});
    expect(thief.output).toContain(TOKEN);
    expect(await decision(target.server, thief)).toMatchObject({ relaxed: ["labels"] });
    note("minus one", "without labels: falls");
  });
});

describe("an image that Compose built for another project of the same names", () => {
  const note = attack("14b", "the labels that Compose writes into images it builds");
  const labels = { "com.docker.compose.project": "shop", "com.docker.compose.service": "db" };
  const match = { container: { Config: { Labels: labels } } };
  const changes = Object.entries(labels).map(([key, value]) => `LABEL ${key}=${value}`);
  const composed = imageWith(["steal"], { changes });

  test("gets the token from a naive server", async () => {
    await using stage = newStage();
    const thief = await runThief(await naive(stage, match), composed, {});
    expect(thief.output).toContain(TOKEN);
    note("naive", "falls");
  });

  test("gets nothing: labels", async () => {
    await using stage = newStage();
    const target = await ours(stage, { match });
    const thief = await runThief(target, composed, labels);
    expect(thief.output).not.toContain(TOKEN);
    expect(await decision(target.server, thief)).toMatchObject({
      event: "refused",
      reason: "labels",
      detail: "com.docker.compose.project",
    });
    note("defended", "labels");
  });

  test("gets the token where labels is relaxed", async () => {
    await using stage = newStage();
    await ours(stage, { match, relax: ["labels"] });
    const thief = await runThief({ stage }, composed, {});
    expect(thief.output).toContain(TOKEN);
    note("minus one", "without labels: falls");
  });

  test("that has them from its start alone is served", async () => {
    await using stage = newStage();
    await ours(stage, { match });
    const container = await run(stage, { image, command: ["/app/trusted", SOCKET], labels });
    expect(await container.says("trusted: end")).toContain(TOKEN);
    note("honest", "served");
  });
});

describe.each([
  {
    number: 13,
    what: "program overwritten in the writable layer, container restarted",
    place: "in a layer that can be written",
    from: image,
    host: { ReadonlyRootfs: false },
    match: app.match,
  },
  {
    number: 34,
    what: "program overwritten on a VOLUME, container with a read-only root restarted",
    place: "on a volume, with a read-only root",
    from: imageWith(["trusted", "steal", "replace"], { changes: ["VOLUME /app"] }),
    host: {},
    match: { container: { ...app.match.container, HostConfig: { ReadonlyRootfs: true } } },
  },
])("a program that was overwritten $place", ({ number, what, from, host, match }) => {
  const note = attack(number, what);

  async function overwrite(target: Target, decided?: Defended) {
    const command = ["/app/trusted", SOCKET];
    const victim = await run(target.stage, { image: from, command, host });
    await victim.says("trusted: end");
    const { exitCode, output } = await victim.exec("/app/replace", "/app/steal", "/app/trusted");
    expect(exitCode, output).toBe(0);
    const { State } = await victim.inspect();
    await victim.kill();
    await victim.restart();
    const { State: now } = await victim.inspect();
    expect(now.StartedAt).not.toBe(State.StartedAt);
    const line = decided && (await decision(decided.server, victim, 2));
    const logs = () => execFileSync("docker", ["logs", victim.id], { encoding: "utf8" });
    await until("the thief has its answer", () => logs().includes("thief: end"));
    return { log: logs(), line };
  }

  test("gets the token from a naive server", async () => {
    await using stage = newStage();
    const { log } = await overwrite(await naive(stage, match));
    expect(log).toMatch(/thief got: .*"token"/);
    note("naive", "falls");
  });

  test("gets nothing: readonly", async () => {
    await using stage = newStage();
    const target = await ours(stage);
    const { log, line } = await overwrite(target, target);
    expect(log).not.toContain(TOKEN);
    const wanted = { event: "refused", reason: "readonly", detail: "/app/trusted" };
    expect(line).toMatchObject(wanted);
    note("defended", "readonly");
    await honest(stage, image, note);
  });

  test("gets the token where readonly is relaxed, and the audit says so", async () => {
    await using stage = newStage();
    const target = await ours(stage, { relax: ["readonly"] });
    const { log, line } = await overwrite(target, target);
    expect(log).toMatch(/thief got: .*"token"/);
    expect(line).toMatchObject({ event: "granted", relaxed: ["readonly"] });
    note("minus one", "without readonly: falls");
  });
});

describe.each([
  { form: "the shell form of CMD", command: ["sh", "-c", "exec node /data/server.cjs"] },
  { form: "a URL", command: ["node", "--import=file:///data/server.cjs", "-e", "0"] },
])("a script that was overwritten on a volume, and stands in $form", ({ form, command }) => {
  const note = attack("34b", `a script on a volume, named in ${form}, overwritten, restarted`);

  /** A program that asks as it should, but says who it is. */
  const script = (who: string) => `
    const socket = require("node:net").connect("${SOCKET}").setEncoding("utf8");
    socket.toArray().then((parts) => {
      console.log("${who} got: " + parts.join("").trim());
      console.log("${who}: end");
    });
    setInterval(() => {}, 60000);`;

  async function overwrite(target: Target) {
    const data = join(target.stage.directory, "data");
    mkdirSync(data);
    for (const [name, who] of [["server.cjs", "trusted"] as const, ["evil.cjs", "thief"] as const])
      writeFileSync(join(data, name), script(who));
    for (const name of ["", "server.cjs"]) chownSync(join(data, name), USER, USER);
    const mount = { Type: "bind" as const, Source: data, Target: "/data" };
    const victim = await run(target.stage, { image: base, command, host: { Mounts: [mount] } });
    await victim.says("trusted: end");
    const { exitCode, output } = await victim.exec("cp", "/data/evil.cjs", "/data/server.cjs");
    expect(exitCode, output).toBe(0);
    await victim.kill();
    await victim.restart();
    const logs = () => execFileSync("docker", ["logs", victim.id], { encoding: "utf8" });
    await until("the thief has its answer", () => logs().includes("thief: end"));
    return { victim, log: logs() };
  }

  test("gets the token from a naive server", async () => {
    await using stage = newStage();
    const match = { container: { ...app.match.container, HostConfig: { ReadonlyRootfs: true } } };
    const { log } = await overwrite(await naive(stage, match));
    expect(log).toMatch(/thief got: .*"token"/);
    note("naive", "falls");
  });

  test("gets nothing: readonly", async () => {
    await using stage = newStage();
    const target = await ours(stage);
    const { victim, log } = await overwrite(target);
    note("defended", /thief got: .*"token"/.test(log) ? "FALLS" : "readonly");
    expect(log).not.toMatch(/thief got: .*"token"/);
    const wanted = { event: "refused", reason: "readonly" };
    expect(await decision(target.server, victim, 2)).toMatchObject(wanted);
  });
});

describe("another image under the name, the container name or the host name of the right one", () => {
  const note = attack(15, "a tag moved to another image; a host name; a container name");
  const name = "authproxy-attack-moving:1";
  const thiefInstead = (directory: string) =>
    renameSync(join(directory, "steal"), join(directory, "trusted"));

  test.each([
    { what: "name", match: { container: { Config: { Image: name } } } },
    { what: "container name", match: { container: { Name: "/authproxy-attack-victim" } } },
    { what: "host name", match: { container: { Config: { Hostname: "victim" } } } },
  ])("gets the token from a naive server that trusts the $what", async ({ what, match }) => {
    await using stage = newStage();
    await naive(stage, match);
    imageWith(["trusted"], { name });
    imageWith(["steal"], { name, arrange: thiefInstead });
    const thief = await run(stage, {
      image: name,
      command: ["/app/trusted", SOCKET],
      name: "authproxy-attack-victim",
      hostname: "victim",
    });
    expect(await thief.says("thief: end")).toContain(TOKEN);
    note("naive", `falls (${what})`);
  });

  test("gets nothing where the policy pins the image: no-match, container.Image", async () => {
    await using stage = newStage();
    imageWith(["trusted"], { name });
    const right = digestOf(name);
    const match = { container: { Image: right } };
    const target = await ours(stage, { match });
    await honest(stage, name, note);
    imageWith(["steal"], { name, arrange: thiefInstead });
    const thief = await run(stage, { image: name, command: ["/app/trusted", SOCKET] });
    expect(await thief.says("thief: end")).not.toContain(TOKEN);
    expect(await decision(target.server, thief)).toMatchObject({
      event: "refused",
      reason: "no-match",
      detail: { path: "container.Image", wanted: right, seen: digestOf(name) },
    });
    note("defended", "no-match: container.Image");
  });

  test.each([
    { container: { Config: { Image: name } } },
    { container: { Name: "/authproxy-attack-victim" } },
    { container: { Config: { Hostname: "victim" } } },
  ])("is no service at all: a policy that rests on %j is refused at load", async (match) => {
    await using stage = newStage();
    const services = { app: { match, token: app.token } };
    const server = stage.start(stage.configure({ services }));
    expect(await server.ended).toBe(1);
    expect(server.stderr).toContain("services.app.match");
    note("minus one", "without the pin: refused at load");
  });
});
