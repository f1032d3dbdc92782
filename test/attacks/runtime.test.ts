// Attacks on secrets through the runtime: the image's links decide where the container's own mounts are.
import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { client as vault } from "../../scripts/openbao.ts";
import { client, password, REFERENCE, Scene } from "../runtime/scene.ts";
import { bao, until } from "../stage.ts";
import { attack } from "./table.ts";

const scratch = mkdtempSync(join(tmpdir(), "authproxy-links-"));
chmodSync(scratch, 0o755);
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** Ours with another client: it writes by the path, and writes again each second. */
const naiveClient = join(scratch, "client");
execFileSync("cp", ["--archive", client, naiveClient]);
rmSync(join(naiveClient, "authproxy.js"));
writeFileSync(
  join(naiveClient, "authproxy.js"),
  `const fs = require("node:fs");
  const write = (text) => fs.writeFileSync("/run/authproxy-secrets/DB", text);
  write("the first secret");
  console.log("delivered");
  setInterval(() => { try { write("the next secret"); } catch {} }, 1000);`,
);

/** A wrapper that compares the destinations as they are written. */
function naiveRuntime(clientDirectory: string): string {
  const path = join(scratch, `naive-${clientDirectory === client ? "ours" : "naive"}`);
  const naive = join(import.meta.dirname, "../runtime/naive.ts");
  const lines = `sockets=\${1#*=}; shift
case " $* " in *" create "*) bundle=\${*#*--bundle }; bundle=\${bundle%% *}
  "${process.execPath}" "${naive}" written "${clientDirectory}" $sockets $bundle || exit 1;;
esac
exec runc "$@"`;
  writeFileSync(path, `#!/bin/sh\n${lines}\n`, { mode: 0o755 });
  return path;
}

const scene = await Scene.open((own) => ({
  naive: { path: naiveRuntime(naiveClient), runtimeArgs: own },
  half: { path: naiveRuntime(client), runtimeArgs: own },
}));
afterAll(() => scene[Symbol.asyncDispose]());
beforeAll(async () => {
  await scene.serve();
});

describe("a link of the image that leads a shared volume over /run", () => {
  const note = attack("58");
  const linked = scene.busybox((directory) => {
    mkdirSync(join(directory, "run"));
    symlinkSync("run", join(directory, "data"));
  });
  const plain = scene.busybox();
  const path = "secret/data/app/shared";
  const honest = ["--user", "1001:1001", "--env", `DB_FILE=${REFERENCE}`];
  const asking = [
    ...["--user", "1001:1001", "--env", `DB_FILE=vault:${path}#password`],
    ...["--env", "AUTHPROXY_WATCH=1", "--env", "AUTHPROXY_REFRESH=1"],
  ];
  const application = ["sh", "-c", "echo delivered; exec sleep 600"];
  const write = (secret: string) => vault(bao).write(path, { data: { password: secret } });

  /** What another container does that has the volume. */
  async function inVolume(volume: string, script: string): Promise<string> {
    const words = ["--rm", "--network=none", "--volume", `${volume}:/v`, plain, "sh", "-c", script];
    const { status, stdout, stderr } = await scene.docker("run", ...words);
    expect([status, stderr]).toEqual([0, ""]);
    return stdout;
  }
  const ls = (volume: string) => inVolume(volume, "busybox ls /v/authproxy-secrets");
  const takeAway = (volume: string) =>
    inVolume(
      volume,
      "cd /v && busybox rmdir authproxy-secrets && busybox mkdir -m 777 authproxy-secrets",
    );

  async function victimOf(runtime: string, volume: string): Promise<string> {
    await write(password);
    const how = ["--runtime", runtime, "--volume", `${volume}:/data`, ...asking];
    const id = await scene.start(...how, linked, ...application);
    await says(id, "delivered");
    return id;
  }
  async function says(id: string, text: string): Promise<void> {
    const logs = async () => {
      const { stdout, stderr } = await scene.docker("logs", id);
      return stdout + stderr;
    };
    await until(text, async () => (await logs()).includes(text));
  }

  test("brings a naive client's next secret to a disk that another container reads", async () => {
    await victimOf("naive", "first");
    await takeAway("first");
    await until("it writes again", async () => (await ls("first")).includes("DB"));
    const found = await inVolume("first", "cat /v/authproxy-secrets/DB");
    expect(found).toBe("the next secret");
    note("naive", "falls");
  });

  test("brings nothing there from ours, if the runtime does not see it", async () => {
    const id = await victimOf("half", "second");
    await takeAway("second");
    await write("another password");
    await says(id, "/run/authproxy-secrets is no longer the directory that it was at the start");
    expect(await ls("second")).toBe("");
    note("minus one", "the runtime's comparison as written: stopped by the client, which says so");
  });

  test("is one in a volume too, on which another is mounted: the runtime sees it", async () => {
    await inVolume("outer", "busybox ln -s /run /v/x");
    const how = ["--volume", "outer:/data", "--volume", "inner:/data/x", ...honest];
    const look = [plain, "grep", "inner", "/proc/self/mountinfo"];
    const control = await scene.run("--runtime", "half", ...how, ...look);
    expect(control.stdout, "the control: it is over /run").toContain("/inner/_data /run rw");
    const ran = await scene.run(...how, ...look);
    expect(ran).toMatchObject({ status: 125, stdout: "" });
    expect(ran.stderr).toContain("own mount at /data/x is in the way of /run/authproxy");
  });

  test("is seen by the runtime: the container does not start", async () => {
    const how = ["--volume", "third:/data", ...asking];
    const ran = await scene.run(...how, linked, ...application);
    expect(ran).toMatchObject({ status: 125, stdout: "" });
    expect(ran.stderr).toContain("own mount at /data is in the way of /run/authproxy");
    note("defended", "the runtime: the mount is in the way");

    const served = await scene.run(
      "--volume",
      "third:/data",
      ...honest,
      plain,
      "sh",
      "-c",
      'cat "$DB_FILE"',
    );
    expect(served).toEqual({ status: 0, stdout: password, stderr: "" });
    note("honest", "served");
  });
});
