// Attacks by who builds images, moves their names, or writes where the program lies.
import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { chownSync, mkdirSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { app, base, until } from "../stage.ts";
import {
  type Defended,
  decision,
  digestOf,
  honest,
  imageOver,
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
  const note = attack("14");
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
  const note = attack("14b");
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
    number: "13" as const,
    place: "in a layer that can be written",
    from: image,
    host: { ReadonlyRootfs: false },
    match: app.match,
    detail: { part: "root", mount: "/" },
  },
  {
    number: "34" as const,
    place: "on a volume, with a read-only root",
    from: imageWith(["trusted", "steal", "replace"], { changes: ["VOLUME /app"] }),
    host: {},
    match: { container: { ...app.match.container, HostConfig: { ReadonlyRootfs: true } } },
    detail: { part: "exe", mount: "/app" },
  },
])("a program that was overwritten $place", ({ number, from, host, match, detail }) => {
  const note = attack(number);

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
    const wanted = { event: "refused", reason: "readonly", detail };
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

const linked = await imageOver(base, ["COPY srv /srv"], {
  arrange: (directory) => {
    mkdirSync(join(directory, "srv"));
    symlinkSync("/data/server.cjs", join(directory, "srv/server.cjs"));
  },
});

/** A program that asks as it should, but says who it is. */
const script = (who: string) => `
  const socket = require("node:net").connect("${SOCKET}").setEncoding("utf8");
  socket.toArray().then((parts) => {
    console.log("${who} got: " + parts.join("").trim());
    console.log("${who}: end");
  });
  setInterval(() => {}, 60000);`;

const shellForm = ["sh", "-c", "exec node /data/server.cjs"];
const url = ["node", "--import=file:///data/server.cjs", "-e", "0"];
const refused = { event: "refused", reason: "readonly" };
const granted = { event: "granted", relaxed: [] as string[] };

describe.each([
  {
    number: "34b" as const,
    form: "the shell form of CMD",
    from: base,
    command: shellForm,
    end: "readonly",
    line: refused,
    stolen: false,
    relaxed: ["readonly"],
  },
  {
    number: "34c" as const,
    form: "a URL",
    from: base,
    command: url,
    end: "readonly",
    line: refused,
    stolen: false,
    relaxed: ["readonly"],
  },
  {
    number: "34d" as const,
    form: "a symbolic link of the image, to a path on the volume",
    from: linked,
    command: ["node", "/srv/server.cjs"],
    end: "FALLS, a known weakness: the links of an image are not followed",
    line: granted,
    stolen: true,
    relaxed: [],
  },
])("a script that was overwritten on a volume, and stands in $form", (row) => {
  const note = attack(row.number);
  const STOLEN = /thief got: .*"token"/;

  async function overwrite(target: Target, decided?: Defended) {
    const data = join(target.stage.directory, "data");
    mkdirSync(data);
    writeFileSync(join(data, "server.cjs"), script("trusted"));
    writeFileSync(join(data, "evil.cjs"), script("thief"));
    for (const name of ["", "server.cjs"]) chownSync(join(data, name), USER, USER);
    const { from: image, command } = row;
    const host = { Mounts: [{ Type: "bind" as const, Source: data, Target: "/data" }] };
    const victim = await run(target.stage, { image, command, host });
    await victim.says("trusted: end");
    const { exitCode, output } = await victim.exec("cp", "/data/evil.cjs", "/data/server.cjs");
    expect(exitCode, output).toBe(0);
    await victim.kill();
    await victim.restart();
    const line = decided && (await decision(decided.server, victim, 2));
    const logs = () => execFileSync("docker", ["logs", victim.id], { encoding: "utf8" });
    await until("the thief has its answer", () => logs().includes("thief: end"));
    return { stolen: STOLEN.test(logs()), line };
  }

  test("gets the token from a naive server", async () => {
    await using stage = newStage();
    const match = { container: { ...app.match.container, HostConfig: { ReadonlyRootfs: true } } };
    const { stolen } = await overwrite(await naive(stage, match));
    expect(stolen).toBe(true);
    note("naive", "falls");
  });

  test(`meets its end: ${row.end}`, async () => {
    await using stage = newStage();
    const target = await ours(stage);
    const { stolen, line } = await overwrite(target, target);
    expect(stolen).toBe(row.stolen);
    expect(line).toMatchObject(row.line);
    note("defended", row.end);
    await honest(stage, image, note);
  });

  test("gets the token where readonly is relaxed", async () => {
    await using stage = newStage();
    const target = await ours(stage, { relax: ["readonly"] });
    const { stolen, line } = await overwrite(target, target);
    expect(stolen).toBe(true);
    expect(line).toMatchObject({ event: "granted", relaxed: row.relaxed });
    note("minus one", "without readonly: falls");
  });
});

describe("an image committed from a running container of the service", () => {
  const note = attack("14c");

  /** Runs the image, which has the labels of the container that it was made of, as another program. */
  async function runCommitted(target: Target, labels?: Record<string, string>) {
    const victim = await honest(target.stage, image);
    const words = ["commit", "--change", 'CMD ["true"]', victim.id];
    const committed = execFileSync("docker", words, { encoding: "utf8" }).trim();
    target.stage.defer(() => execFileSync("docker", ["image", "rm", "--force", committed]));
    return await runThief(target, committed, labels);
  }

  test("gets the token from a naive server", async () => {
    await using stage = newStage();
    const thief = await runCommitted(await naive(stage), {});
    expect(thief.output).toContain(TOKEN);
    note("naive", "falls");
  });

  test("gets nothing: labels", async () => {
    await using stage = newStage();
    const target = await ours(stage);
    const thief = await runCommitted(target, {});
    expect(thief.output).not.toContain(TOKEN);
    const wanted = { event: "refused", reason: "labels", detail: "app" };
    expect(await decision(target.server, thief)).toMatchObject(wanted);
    note("defended", "labels");
    note("honest", "served");
  });

  test("gets the token where labels is relaxed", async () => {
    await using stage = newStage();
    const target = await ours(stage, { relax: ["labels"] });
    const thief = await runCommitted(target, {});
    expect(thief.output).toContain(TOKEN);
    expect(await decision(target.server, thief)).toMatchObject({ relaxed: ["labels"] });
    note("minus one", "without labels: falls");
  });
});

describe("another image under the name, the container name or the host name of the right one", () => {
  const note = attack("15");
  const victim = `authproxy-attack-${randomUUID()}`;
  const name = `${victim}:1`;
  const thiefInstead = (directory: string) =>
    renameSync(join(directory, "steal"), join(directory, "trusted"));

  test.each([
    { what: "name", match: { container: { Config: { Image: name } } } },
    { what: "container name", match: { container: { Name: `/${victim}` } } },
    { what: "host name", match: { container: { Config: { Hostname: "victim" } } } },
  ])("gets the token from a naive server that trusts the $what", async ({ what, match }) => {
    await using stage = newStage();
    await naive(stage, match);
    imageWith(["trusted"], { name });
    imageWith(["steal"], { name, arrange: thiefInstead });
    const thief = await run(stage, {
      image: name,
      command: ["/app/trusted", SOCKET],
      name: victim,
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
    { what: "name", match: { container: { Config: { Image: name } } } },
    { what: "container name", match: { container: { Name: `/${victim}` } } },
    { what: "host name", match: { container: { Config: { Hostname: "victim" } } } },
  ])("is no service: a policy that rests on the $what is refused at load", async ({ match }) => {
    await using stage = newStage();
    const services = { app: { match, token: app.token } };
    const server = stage.start(stage.configure({ services }));
    expect(await server.ended).toBe(1);
    expect(server.stderr).toContain("services.app.match");
    note("minus one", "without the pin: refused at load");
  });
});
