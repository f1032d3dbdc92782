// Question: does the engine come to know the runtime, and forget it, with nothing else changed?
// Input:    daemon.json as people write it; an engine of the tests' own, with its own.
import { spawn } from "node:child_process";
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, describe, expect, test } from "vitest";
import { withoutRuntime, withRuntime } from "../../cli/daemon-json.ts";
import { requireTrusted } from "../../cli/runtime.ts";
import { block } from "../documents.ts";
import { REFERENCE, root, runtime, Scene } from "./scene.ts";

const scratch = mkdtempSync(join(tmpdir(), "authproxy-install-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

async function authproxy(...words: string[]) {
  const argv = [join(root, "cli/authproxy.ts"), "runtime", ...words];
  const child = spawn(process.execPath, argv, { stdio: ["ignore", "pipe", "pipe"] });
  const ended = new Promise<number>((resolve) => child.on("close", resolve));
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return { status: await ended, stdout, stderr };
}

const entry = { path: runtime };

describe("daemon.json", () => {
  const files = {
    "with other content": '{\n  "log-driver": "journald",\n  "bip": "10.0.0.1/24"\n}\n',
    "with other runtimes":
      '{\n  "runtimes": {\n    "runsc": {\n      "path": "/r"\n    }\n  }\n}\n',
    "indented by tabs": '{\n\t"debug": true\n}\n',
    "indented by four": '{\n    "debug": true,\n    "labels": ["a=b", "c=d"]\n}',
    "in one line": '{"debug":true,"labels":["a"]}',
    "with Windows line ends": '{\r\n  "debug": true\r\n}\r\n',
    "with the same key elsewhere": '{\n  "authproxy": 1,\n  "x": {"runtimes": {}}\n}\n',
  };
  test.each(Object.entries(files))("%s is byte by byte what it was", (_, before) => {
    const after = withRuntime(before, entry);
    const { runtimes, ...others } = JSON.parse(after);
    const { runtimes: former, ...was } = JSON.parse(before);
    expect([others, runtimes]).toEqual([was, { ...former, authproxy: entry }]);
    expect(withRuntime(after, entry)).toBe(after);
    expect(withoutRuntime(after)).toBe(before);
  });
  test("by hand, as docs/runtime.md has it, is the same", () => {
    const path = "/usr/local/lib/authproxy/runtime/authproxy-runc";
    const byHand = JSON.parse(block("docs/runtime.md", '{ "runtimes"'));
    expect(byHand).toEqual(JSON.parse(withRuntime(undefined, { path })));
  });
  test.each([undefined, "", "{}", " {}\n"])("that was %j leaves none behind", (before) => {
    const after = withRuntime(before, entry);
    expect(JSON.parse(after)).toEqual({ runtimes: { authproxy: entry } });
    expect(withoutRuntime(after)).toBeUndefined();
  });
  test.each(["[]", "null", '{"a":', '{"a": 1} x', '{"a": 1, // b\n "c": 2}'])(
    "that is %j is not touched",
    (before) => {
      expect(() => withRuntime(before, entry)).toThrow("not one JSON object");
      expect(() => withoutRuntime(before)).toThrow("not one JSON object");
    },
  );
  test("with another runtime of that name is refused; with other options it is changed", () => {
    const other = withRuntime("{}", { path: "/opt/other/authproxy-runc" });
    expect(() => withRuntime(other, entry)).toThrow("/opt/other/authproxy-runc");
    const present = withRuntime("{}", { ...entry, runtimeArgs: ["--sockets=/a"] });
    expect(JSON.parse(withRuntime(present, entry)).runtimes.authproxy).toEqual(entry);
  });
  test("whose usual runtime it is keeps it", () => {
    const usual = withRuntime('{"default-runtime":"authproxy"}', entry);
    expect(() => withoutRuntime(usual)).toThrow('"default-runtime" is authproxy');
  });
  test("without the runtime is left alone", () => {
    const before = '{ "runtimes": {"runsc": {"path": "/r"}} }';
    expect(withoutRuntime(before)).toBe(before);
  });
});

describe("where no engine runs", () => {
  test("a file is made, with a link to it kept, its mode and its owner", async () => {
    const file = join(scratch, "target.json");
    const link = join(scratch, "link.json");
    const before = `{"pidfile": "${scratch}/none"}\n`;
    writeFileSync(file, before);
    chmodSync(file, 0o640);
    symlinkSync(file, link);
    const { ino } = statSync(file);
    const installed = await authproxy("install", "--daemon-json", link, "--sockets", "/srv/s");
    expect(installed).toMatchObject({ status: 0, stderr: "" });
    expect(installed.stdout).toContain("no engine runs");
    expect(statSync(file).ino, "replaced whole").not.toBe(ino);
    const { runtimes } = JSON.parse(readFileSync(file, "utf8"));
    expect(runtimes.authproxy).toEqual({ path: runtime, runtimeArgs: ["--sockets=/srv/s"] });
    expect([lstatSync(link).isSymbolicLink(), statSync(file).mode & 0o777]).toEqual([true, 0o640]);
    expect((await authproxy("uninstall", "--daemon-json", link)).status).toBe(0);
    expect(readFileSync(file, "utf8")).toBe(before);
    expect(readdirSync(scratch).filter((name) => name.includes(".authproxy"))).toEqual([]);
  });
  test("a file is again what it was where what should follow is no engine", async () => {
    const file = join(scratch, "other.json");
    const before = `{"pidfile": "${scratch}/pid"}\n`;
    writeFileSync(file, before);
    writeFileSync(join(scratch, "pid"), `${process.pid}`); // which SIGHUP would end
    const { status, stderr } = await authproxy("install", "--daemon-json", file);
    expect([status, stderr]).toEqual([69, expect.stringContaining("not dockerd")]);
    expect(readFileSync(file, "utf8")).toBe(before);
  });
  test("what cannot be is said", async () => {
    const nowhere = await authproxy("install", "--daemon-json", join(scratch, "none/daemon.json"));
    expect([nowhere.status, nowhere.stderr]).toEqual([66, expect.stringContaining("no directory")]);
    const relative = await authproxy("install", "--daemon-json", "x", "--sockets", "run");
    expect(relative).toMatchObject({ status: 64, stdout: "" });
    expect(await authproxy()).toMatchObject({ status: 64, stdout: "" });
    expect(await authproxy("upgrade")).toMatchObject({ status: 64, stdout: "" });
    const ofOthers = await authproxy("install", "--restart", "true");
    expect([ofOthers.status, ofOthers.stderr]).toEqual([
      64,
      expect.stringContaining("--restart needs --containerd or --crio"),
    ]);
  });
  test("nothing is installed that others than root could change", () => {
    const copy = join(scratch, "copy");
    mkdirSync(join(copy, "runtime"), { recursive: true });
    const file = join(copy, "runtime/authproxy-runc");
    writeFileSync(file, "", { mode: 0o755 });
    expect(() => requireTrusted(file)).not.toThrow();
    chmodSync(copy, 0o777);
    expect(() => requireTrusted(file)).toThrow(`${copy} is not root's alone`);
  });
});

test("a running engine follows, both times, and its containers do not notice", async () => {
  await using scene = await Scene.open();
  await scene.serve();
  const busybox = scene.busybox();
  const file = join(dirname(scene.engine.socket), "daemon.json");
  const before = readFileSync(file, "utf8");
  const bystander = await scene.start("--runtime", "runc", busybox, "sleep", "600");
  const names = async () => {
    const { stdout } = await scene.docker("info", "--format", "{{json .Runtimes}}");
    return Object.keys(JSON.parse(stdout));
  };
  const removed = await authproxy("uninstall", "--daemon-json", file);
  expect(removed).toMatchObject({ status: 0, stderr: "" });
  expect(await names()).not.toContain("authproxy");
  const asking = ["--user", "1001", "--env", `X=${REFERENCE}`, busybox, "true"];
  expect(await scene.run(...asking)).toMatchObject({ status: 125 });

  const installed = await authproxy("install", "--daemon-json", file, "--sockets", scene.sockets);
  expect(installed).toMatchObject({ status: 0, stderr: "" });
  expect(installed.stdout).toContain("has been told, and follows");
  expect(await names()).toContain("authproxy");
  expect(await scene.run(...asking)).toMatchObject({ status: 0, stderr: "" });
  expect(JSON.parse(readFileSync(file, "utf8"))).toEqual(JSON.parse(before));
  const { stdout } = await scene.docker("inspect", "--format", "{{.State.Running}}", bystander);
  expect(stdout).toBe("true\n");
  await scene.docker("kill", bystander); // it would not end by itself
});
