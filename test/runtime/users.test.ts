// Question: do images and options that people have work with `--runtime authproxy` as they mean them?
// Input:    an engine of the tests' own, the real server, a real Vault; images that do what well-known
//           ones do.
// Covered:  an image of another processor, with and without an emulator on the host; AUTHPROXY_SET_X
//           where the image has X, twice, empty, as a reference, for PATH, by the runtime and by the
//           client alone; too little memory, with and without swap, that the client can do with or not.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { foreignProgram, registerEmulator, removeEmulator } from "../binfmt.ts";
import { Api } from "../lab/api.ts";
import { client, password, REFERENCE, Scene } from "./scene.ts";

const scene = await Scene.open();
afterAll(() => scene[Symbol.asyncDispose]());
beforeAll(async () => {
  await scene.serve();
});
const user = ["--user", "1001:1001"];
const asking = [...user, "--env", `X=${REFERENCE}`];

/** With the client mounted into the container, and without our runtime. */
function runByClientAlone(options: string[], image: string, command: string[]) {
  const mounts = ["-v", `${client}:/authproxy:ro`, "-v", `${scene.sockets}:/run/authproxy:ro`];
  const entrypoint = ["--entrypoint", "/authproxy/ld.so"];
  const loader = ["--inhibit-cache", "--library-path", "/authproxy", "/authproxy/node"];
  const program = ["--disable-sigusr1", "/authproxy/authproxy.js", "--"];
  const words = ["--runtime", "runc", ...options, ...asking, ...mounts, ...entrypoint, image];
  return scene.run(...words, ...loader, ...program, ...command);
}

describe("an image of another processor", () => {
  const put = (directory: string) => {
    mkdirSync(join(directory, "app"));
    writeFileSync(join(directory, "app/foreign"), foreignProgram(), { mode: 0o755 });
  };
  const images = {
    "nothing else": scene.image({}, put),
    "a shell of this one": scene.busybox(put),
  };

  test.each(Object.entries(images))(
    "with %s in it runs where the host emulates it",
    async (_, image) => {
      registerEmulator();
      const ran = await scene.run(...asking, image, "/app/foreign", "last");
      expect(ran).toEqual({ status: 0, stdout: `emulated last ${password.length}\n`, stderr: "" });
      removeEmulator();
    },
  );
  test.each(Object.entries(images))(
    "with %s in it is refused where nothing does",
    async (_, image) => {
      const ran = await scene.run(...asking, image, "/app/foreign", "last");
      expect(ran).toMatchObject({ status: 126, stdout: "" });
      expect(ran.stderr).toMatch(/^authproxy: \/app\/foreign: built for another processor/);
    },
  );
});

describe("AUTHPROXY_SET_X has the last word over the image's X, which the application has once:", () => {
  const says = ["ENV NODE_OPTIONS=image LD_LIBRARY_PATH=/image PLAIN=image PATH=/bin"];
  const image = scene.busybox(undefined, says);
  /** What the application has under this name. */
  const has = (stdout: string, name: string) =>
    stdout
      .split("\n")
      .filter((line) => line.startsWith(`${name}=`) || line.startsWith("AUTHPROXY_"));

  const cases: [name: string, value: string, has: string][] = [
    ["NODE_OPTIONS", "user", "user"],
    ["NODE_OPTIONS", "", ""],
    ["NODE_OPTIONS", REFERENCE, password],
    ["LD_LIBRARY_PATH", "/user", "/user"],
    ["PLAIN", "user", "user"],
    ["PATH", "/nowhere:/bin", "/nowhere:/bin"],
  ];
  test.each(cases)("%s=%s, by the runtime", async (name, value, expected) => {
    const words = [...asking, "--env", `AUTHPROXY_SET_${name}=${value}`, image, "env"];
    const { status, stdout, stderr } = await scene.run(...words);
    expect([status, stderr, has(stdout, name)]).toEqual([0, "", [`${name}=${expected}`]]);
  });
  test.each(cases)("%s=%s, by the client alone", async (name, value, expected) => {
    // An empty NODE_OPTIONS: the image's is no option of Node's.
    const set = ["--env", "NODE_OPTIONS=", "--env", `AUTHPROXY_SET_${name}=${value}`];
    const { status, stdout, stderr } = await runByClientAlone(set, image, ["env"]);
    expect([status, stderr, has(stdout, name)]).toEqual([0, "", [`${name}=${expected}`]]);
  });
  test("each twice: the last, as runc does without us", async () => {
    const names = ["NODE_OPTIONS", "AUTHPROXY_SET_NODE_OPTIONS", "PLAIN"];
    const Env = ["first", "last"].flatMap((value) => names.map((name) => `${name}=${value}`));
    const { Id } = await new Api(scene.engine.socket).run({
      Image: image,
      Cmd: ["env"],
      User: "1001",
      Labels: { app: "app" },
      Env: [...Env, `X=${REFERENCE}`],
      HostConfig: { Runtime: "authproxy", NetworkMode: "host", ReadonlyRootfs: true },
    });
    await scene.docker("wait", Id);
    const { stdout, stderr } = await scene.docker("logs", Id);
    expect([stderr, has(stdout, "NODE_OPTIONS")]).toEqual(["", ["NODE_OPTIONS=last"]]);
    expect(has(stdout, "PLAIN")).toEqual(["PLAIN=last"]);
  });
  test("a command is looked for in that PATH", async () => {
    const nowhere = scene.busybox(undefined, ["ENV PATH=/nowhere"]);
    const words = [...asking, "--env", "AUTHPROXY_SET_PATH=/bin", nowhere, "env"];
    expect((await scene.run(...words)).stdout).toContain("PATH=/bin\n");
  });
});

describe("too little memory", () => {
  const warning = (megabytes: number) =>
    `authproxy: warning: the memory limit or reservation is ${megabytes} MB: if the container is killed (137), give it 64 MB\n`;
  const image = scene.busybox();
  const command = ["sh", "-c", "echo $X"];

  test.each([
    ["--memory=32m"],
    ["--memory=63m"],
    ["--memory=32m", "--memory-swap=32m"],
    ["--memory=32m", "--memory-swap=-1"],
  ])("is said, where the client may do with it: %s %s", async (...limits) => {
    const megabytes = Number.parseInt(limits[0]?.split("=")[1] ?? "", 10);
    const ran = await scene.run(...limits.filter(Boolean), ...asking, image, ...command);
    expect(ran).toEqual({ status: 0, stdout: `${password}\n`, stderr: warning(megabytes) });
  });
  test("is said by the client alone too", async () => {
    const ran = await runByClientAlone(["--memory=40m"], image, command);
    expect(ran).toEqual({ status: 0, stdout: `${password}\n`, stderr: warning(40) });
  });
  test.each([["--memory=10m"], ["--memory=15m"]])(
    "is refused, where it cannot: %s",
    async (limit) => {
      const ran = await scene.run(limit, ...asking, image, ...command);
      expect(ran).toMatchObject({ status: 125, stdout: "" });
      expect(ran.stderr).toContain(
        "authproxy: the container's memory limit is too low for the client: give it 64 MB",
      );
    },
  );
  test("is nobody's business in a container without a reference", async () => {
    const ran = await scene.run("--memory=10m", ...user, image, ...command);
    expect(ran).toEqual({ status: 0, stdout: "\n", stderr: "" });
  });
  test.each([["--memory=64m"], ["--memory=0"]])(
    "is not said where there is enough: %s",
    async (limit) => {
      const ran = await scene.run(limit, ...asking, image, ...command);
      expect(ran).toEqual({ status: 0, stdout: `${password}\n`, stderr: "" });
    },
  );
});
