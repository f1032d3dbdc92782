// Question: does a node's containerd come to know the handler, and forget it, with nothing else changed?
// Input:    config.toml as nodes have it, each read by containerd 1.6, 1.7 and 2.1; none of them runs.
//           runtime-node.kube.ts has nodes that do.
// Siblings covered: no file, an empty one, comments only, no line end, CRLF, a link; the whole default file
// with SystemdCgroup (kubeadm), the shortest one, one without runtimes, GPU nodes (another BinaryName), Kata
// as the default, base_runtime_spec (EKS), registry passwords, version 1, a version 2 file on containerd 2;
// imports that merge and imports that replace; k3s with and without drop-ins; Docker's package; a handler
// of somebody else, one written by hand, one that is out of date; inline tables; text that is not TOML;
// a read-only directory; other tools that drop our comments.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { parse } from "smol-toml";
import { afterAll, describe, expect, test } from "vitest";
import { containerd } from "../../cli/containerd.ts";
import {
  installHandler,
  type NodeOptions,
  uninstallHandler,
  wordsOfLauncher,
} from "../../cli/node-runtime.ts";
import { Failure } from "../../cli/terminal.ts";
import { type ContainerdVersion, containerdVersions, programs as prepared } from "./prepare.ts";

const root = join(import.meta.dirname, "../..");
const wrapper = join(root, "dist/runtime/authproxy-runc");
const scratch = mkdtempSync(join(tmpdir(), "authproxy-install-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const NOWHERE = join(scratch, "no.sock");

const programs = prepared().containerd;
type Version = ContainerdVersion;
/** 1.7 reads what 1.6 reads, and differs in what it prints: it is asked about the first of the files. */
const versions = containerdVersions;
const different = ["1.6", "2"] as const;
const FILES_OF_1_7 = 5;

type Ran = { status: number; stdout: string; stderr: string };
const PATH = process.env.PATH;

/** What the command prints where this containerd is the node's; in this process, which is faster. */
async function authproxy(
  version: Version,
  action: "install" | "uninstall",
  config: string,
  more: NodeOptions = {},
): Promise<Ran> {
  process.env.PATH = `${programs[version]}:${PATH}`;
  const carryOut = action === "install" ? installHandler : uninstallHandler;
  try {
    const lines = await carryOut(containerd, { config, address: NOWHERE, ...more });
    return { status: 0, stdout: lines.join("\n"), stderr: "" };
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return { status: error.exitCode, stdout: "", stderr: `${error.message}\n${error.hint}` };
  }
}

/** By the command itself. */
async function command(version: Version, [program = "", ...words]: string[]): Promise<Ran> {
  const env = { ...process.env, PATH: `${programs[version]}:${PATH}` };
  const child = spawn(program, words, { stdio: ["ignore", "pipe", "pipe"], env });
  const ended = once(child, "close");
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return { status: Number((await ended)[0]), stdout, stderr };
}

// biome-ignore lint/suspicious/noExplicitAny: what containerd prints
type Any = any;

/** What containerd says it would run with: not by the code under test. */
function dump(version: Version, file: string): Any {
  const words = existsSync(file) ? ["--config", file, "config", "dump"] : ["config", "default"];
  const stdio: ["ignore", "pipe", "ignore"] = ["ignore", "pipe", "ignore"];
  const program = join(programs[version], "containerd");
  return parse(execFileSync(program, words, { encoding: "utf8", stdio }));
}

const pluginOf = (dumped: Any) =>
  dumped.plugins[
    dumped.version >= 3 ? "io.containerd.cri.v1.runtime" : "io.containerd.grpc.v1.cri"
  ];

/** The runtimes, and all else. `imports` is the list of files. */
function apart({ imports: _, ...dumped }: Any) {
  const { containerd } = pluginOf(dumped);
  const { authproxy, ...others } = containerd.runtimes;
  containerd.runtimes = others;
  return { authproxy, others, rest: dumped };
}

/** Empty settings are not told from absent ones. */
function said(value: Any): Any {
  if (typeof value !== "object" || Array.isArray(value)) return value;
  const members = Object.entries(value).map(([key, member]) => [key, said(member)] as const);
  const isEmpty = (member: Any) =>
    !member || JSON.stringify(member) === "[]" || JSON.stringify(member) === "{}";
  return Object.fromEntries(
    members.filter(([, member]) => !isEmpty(member) && member !== "podsandbox"),
  );
}

const V2 = 'plugins."io.containerd.grpc.v1.cri"';
const V3 = "plugins.'io.containerd.cri.v1.runtime'";

function runcOf(plugin: string, ...options: string[]): string {
  return `  [${plugin}.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [${plugin}.containerd.runtimes.runc.options]\n${options.map((line) => `      ${line}\n`).join("")}`;
}

/** As `containerd config default` with one line changed, which is what kubeadm's documentation says. */
function wholeFile(version: Version): string {
  const program = join(programs[version], "containerd");
  const options = { encoding: "utf8" } as const;
  return execFileSync(program, ["config", "default"], options).replace(
    "SystemdCgroup = false",
    "SystemdCgroup = true",
  );
}

type File = string | undefined | ((version: Version) => string);
const files: Record<string, { file: File; only?: Version[]; base?: string; real?: string }> = {
  "that is not there": { file: undefined },
  "that is empty": { file: "" },
  "of comments only": { file: "# kept by hand\n\n#   by us\n" },
  "that is whole, with SystemdCgroup, as for kubeadm": { file: wholeFile },
  "that is short, with SystemdCgroup": {
    file: `# ours\nversion = 2\n[${V2}]\n${runcOf(V2, "SystemdCgroup = true # systemd")}`,
  },
  "without a line end": { file: `version = 2\n[${V2}]\n  enable_selinux = true` },
  "with Windows line ends": {
    file: `version = 2\r\n[${V2}]\r\n  enable_selinux = true\r\n`,
  },
  "without runtimes": {
    file: `version = 2\nroot = "/data"\n[${V2}]\n  max_container_log_line_size = 1\n`,
  },
  "of a node with GPUs": {
    file: `version = 2\n[${V2}.containerd]\n  default_runtime_name = "nvidia"\n${runcOf(V2)}
  [${V2}.containerd.runtimes.nvidia]
    privileged_without_host_devices = true
    runtime_type = "io.containerd.runc.v2"
    [${V2}.containerd.runtimes.nvidia.options]
      BinaryName = "/usr/bin/nvidia-container-runtime"
      SystemdCgroup = true\n`,
    base: "nvidia",
    real: "/usr/bin/nvidia-container-runtime",
  },
  "with crun in runc's place": {
    file: `version = 2\n${runcOf(V2, 'BinaryName = "crun"')}`,
    real: "crun",
  },
  "whose default runtime is Kata": {
    file: `version = 2\n[${V2}.containerd]\n  default_runtime_name = "kata"
  [${V2}.containerd.runtimes.kata]\n    runtime_type = "io.containerd.kata.v2"
${runcOf(V2, "SystemdCgroup = true")}`,
  },
  "with a runtime specification of its own, as on EKS": {
    file: `version = 2\n[${V2}.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  base_runtime_spec = "/etc/containerd/base-runtime-spec.json"
  pod_annotations = ["io.example.*"]
  [${V2}.containerd.runtimes.runc.options]\n    SystemdCgroup = true\n`,
  },
  "of version 1": {
    file: '[plugins.cri.containerd.runtimes.runc]\nruntime_type = "io.containerd.runc.v2"\n',
    only: ["1.6", "1.7"],
  },
  "of version 1 without runtimes": { file: 'root = "/data"\n', only: ["1.6", "1.7"] },
  "of version 3": {
    file: `version = 3\n[${V3}]\n${runcOf(V3, "SystemdCgroup = true")}`,
    only: ["2"],
  },
  "of version 3 without runtimes": {
    file: `version = 3\n[${V3}]\n  enable_selinux = true\n`,
    only: ["2"],
  },
};

describe.each(versions)("containerd %s: config.toml", (version) => {
  const all = Object.entries(files).filter(([, { only = versions }]) => only.includes(version));
  const cases = version === "1.7" ? all.slice(0, FILES_OF_1_7) : all;
  test.each(cases)("%s: the handler is like runc, and nothing else changes", async (_, how) => {
    const { file, base = "runc", real = "runc" } = how;
    const directory = mkdtempSync(join(scratch, "etc-"));
    const config = join(directory, "config.toml");
    const before = typeof file === "function" ? file(version) : file;
    if (before !== undefined) writeFileSync(config, before, { mode: 0o640 });
    const was = apart(dump(version, config));

    const installed = await authproxy(version, "install", config);
    expect(installed).toMatchObject({ status: 0, stderr: "" });
    expect(installed.stdout).toContain("takes effect when one starts");
    const is = apart(dump(version, config));
    expect(said(is.others)).toEqual(said(was.others));
    expect(said(is.rest)).toEqual(said(was.rest));
    const { options, ...handler } = said(is.authproxy);
    const { options: baseOptions = {}, ...baseHandler } = said(was.others[base]);
    const program = real === "runc" ? wrapper : join(directory, "authproxy-runc");
    expect(handler).toEqual(baseHandler);
    expect(options).toEqual({ ...baseOptions, BinaryName: program });
    if (real !== "runc")
      expect(readFileSync(program, "utf8")).toContain(`'${wrapper}' '--runtime=${real}' "$@"`);

    const removed = await authproxy(version, "uninstall", config);
    expect(removed).toMatchObject({ status: 0, stderr: "" });
    expect(existsSync(config) ? readFileSync(config, "utf8") : undefined).toBe(before);
    expect(readdirSync(directory)).toEqual(before === undefined ? [] : ["config.toml"]);
  });
});

describe.each(different)("containerd %s: config.toml", (version) => {
  /** What is refused leaves all as it was. */
  async function refused(config: string, before: string): Promise<string> {
    const listed = readdirSync(join(config, ".."));
    const { status, stdout, stderr } = await authproxy(version, "install", config);
    expect({ status, stdout }).toEqual({ status: 78, stdout: "" });
    expect(readFileSync(config, "utf8")).toBe(before);
    expect(readdirSync(join(config, ".."))).toEqual(listed);
    return stderr;
  }

  function written(content: string): string {
    const config = join(mkdtempSync(join(scratch, "etc-")), "config.toml");
    writeFileSync(config, content);
    return config;
  }

  const plugin = version === "2" ? V3 : V2;
  const head = `version = ${version === "2" ? 3 : 2}\n`;

  test("of Docker's package is refused: the CRI plugin is disabled", async () => {
    const before = '#   Copyright\n\ndisabled_plugins = ["cri"]\n';
    const disabled = /"(cri|io\.containerd\.grpc\.v1\.cri)" in disabled_plugins/;
    expect(await refused(written(before), before)).toMatch(disabled);
    const whole = 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n';
    expect(await refused(written(whole), whole)).toMatch(disabled);
  });

  test("with another handler of that name is refused", async () => {
    const before = `${head}[${plugin}.containerd.runtimes.authproxy]
  runtime_type = "io.containerd.runc.v2"
  options = { BinaryName = "/opt/other/runc" }\n${runcOf(plugin)}`;
    expect(await refused(written(before), before)).toContain("/opt/other/runc");
  });

  test("with our handler, written by hand, is good, and is not taken out", async () => {
    const before = `${head}${runcOf(plugin)}  [${plugin}.containerd.runtimes.authproxy]
    runtime_type = "io.containerd.runc.v2"
    options = { BinaryName = "${wrapper}" }\n`;
    const config = written(before);
    const installed = await authproxy(version, "install", config);
    expect([installed.status, installed.stdout]).toEqual([0, expect.stringContaining("nothing")]);
    const { status, stderr } = await authproxy(version, "uninstall", config);
    expect([status, stderr]).toEqual([78, expect.stringContaining("by hand")]);
    expect(readFileSync(config, "utf8")).toBe(before);
  });

  test("whose runtimes are an inline table is refused, and the handler is shown", async () => {
    const runtimes = '{ runc = { runtime_type = "io.containerd.runc.v2" } }';
    const before = `${head}[${plugin}]\ncontainerd = { runtimes = ${runtimes} }\n`;
    const said = await refused(written(before), before);
    expect(said).toContain(`BinaryName = "${wrapper}"`);
  });

  test("that is not TOML is refused, and no password of it is shown", async () => {
    const before = `${head}[x]\npassword = "hunter2\n`;
    expect(await refused(written(before), before)).not.toContain("hunter2");
  });

  test("with a registry's password changes, and does not show it", async () => {
    const registry = version === "2" ? "plugins.'io.containerd.cri.v1.images'" : V2;
    const before = `${head}[${registry}.registry.configs."r".auth]\npassword = "hunter2"\n${runcOf(plugin)}`;
    const config = written(before);
    const installed = await authproxy(version, "install", config);
    expect(installed.status).toBe(0);
    const shown = await authproxy(version, "install", written(before), { isDryRun: true });
    expect(shown.stdout).toContain(`BinaryName = "${wrapper}"`);
    expect(JSON.stringify([installed, shown])).not.toContain("hunter2");
  });

  test("that k3s generates is refused where it imports nothing; what to do is said", async () => {
    const before = `# File generated by k3s. DO NOT EDIT. Use config.toml.tmpl instead.\n${head}${runcOf(plugin, "SystemdCgroup = true")}`;
    const said = await refused(written(before), before);
    expect(said).toContain("config-v3.toml.tmpl");
    expect(said).toContain("SystemdCgroup = true");
  });

  test("whose runc has changed since: installing again changes the handler", async () => {
    const before = `${head}${runcOf(plugin, "SystemdCgroup = false")}`;
    const config = written(before);
    expect((await authproxy(version, "install", config)).status).toBe(0);
    const changed = (content: string) =>
      content.replace("SystemdCgroup = false", "SystemdCgroup = true");
    writeFileSync(config, changed(readFileSync(config, "utf8")));
    const again = await authproxy(version, "install", config, { sockets: "/srv/it's" });
    expect(again).toMatchObject({ status: 0, stderr: "" });
    const { options } = apart(dump(version, config)).authproxy;
    const launcher = join(config, "../authproxy-runc");
    expect(said(options)).toEqual({ BinaryName: launcher, SystemdCgroup: true });
    const script = readFileSync(launcher, "utf8");
    expect(script).toContain("'--sockets=/srv/it'\\''s'");
    expect(wordsOfLauncher(script).slice(1)).toEqual(["--sockets=/srv/it's"]);
    expect((await authproxy(version, "uninstall", config)).status).toBe(0);
    expect(readFileSync(config, "utf8")).toBe(changed(before));
    expect(existsSync(launcher)).toBe(false);
  });

  test("in a directory that is read-only: said, with the way to see what belongs there", async () => {
    const before = `${head}${runcOf(plugin)}`;
    const config = written(before);
    const script = 'mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; shift; exec "$@"';
    const unshare = ["unshare", "--mount", "sh", "-ec", script, "sh", join(config, "..")];
    const cli = [process.execPath, join(root, "cli/authproxy.ts"), "runtime", "install"];
    const words = [...cli, "--containerd", "--config", config, "--address", NOWHERE];
    const { status, stderr } = await command(version, [...unshare, ...words]);
    expect([status, stderr]).toEqual([78, expect.stringContaining("read-only file system")]);
    expect(stderr).toContain("--dry-run");
    const dry = await command(version, [...unshare, ...words, "--dry-run"]);
    expect([dry.status, dry.stdout]).toEqual([0, expect.stringContaining("[plugins.")]);
    expect(readFileSync(config, "utf8")).toBe(before);
  });

  test("is left alone where there is nothing to do", async () => {
    const config = written(`${head}${runcOf(plugin)}`);
    const nothing = `${config}: nothing to change`;
    expect((await authproxy(version, "uninstall", config)).stdout).toContain(nothing);
    expect((await authproxy(version, "install", config)).status).toBe(0);
    const installed = readFileSync(config, "utf8");
    expect((await authproxy(version, "install", config)).stdout).toContain(nothing);
    expect(readFileSync(config, "utf8")).toBe(installed);
  });

  test("that is a link stays one", async () => {
    const target = written(`${head}${runcOf(plugin)}`);
    const config = join(mkdtempSync(join(scratch, "etc-")), "config.toml");
    symlinkSync(target, config);
    expect((await authproxy(version, "install", config)).status).toBe(0);
    expect(lstatSync(config).isSymbolicLink()).toBe(true);
    expect(apart(dump(version, target)).authproxy.options.BinaryName).toBe(wrapper);
    expect((await authproxy(version, "uninstall", config)).status).toBe(0);
    expect(readFileSync(target, "utf8")).toBe(`${head}${runcOf(plugin)}`);
  });

  test("whose comments another tool has dropped: uninstall says what is to be done by hand", async () => {
    const config = written(`${head}${runcOf(plugin)}`);
    expect((await authproxy(version, "install", config)).status).toBe(0);
    const bare = readFileSync(config, "utf8").replace(/^#.*\n/gm, "");
    writeFileSync(config, bare);
    const { status, stderr } = await authproxy(version, "uninstall", config);
    expect([status, stderr]).toEqual([78, expect.stringContaining(config)]);
    expect(readFileSync(config, "utf8")).toBe(bare);
  });

  test("with a directory of drop-ins: a file of ours in it, or the file that counts", async () => {
    const directory = mkdtempSync(join(scratch, "etc-"));
    const config = join(directory, "config.toml");
    const pattern = version === "2" ? "conf.d/*.toml" : `${directory}/conf.d/*.toml`;
    const before = `# ours\n${head}imports = ["${pattern}"]\n${runcOf(plugin, "SystemdCgroup = true")}`;
    writeFileSync(config, before);
    const installed = await authproxy(version, "install", config);
    expect(installed).toMatchObject({ status: 0, stderr: "" });
    const dropIn = join(directory, "conf.d/authproxy.toml");
    expect(existsSync(dropIn), "only 2 merges").toBe(version === "2");
    const { options } = apart(dump(version, config)).authproxy;
    expect(said(options)).toEqual({ BinaryName: wrapper, SystemdCgroup: true });
    expect((await authproxy(version, "uninstall", config)).status).toBe(0);
    expect(readFileSync(config, "utf8")).toBe(before);
    expect(existsSync(dropIn)).toBe(false);

    // A file that is imported has the runtimes: before 2.0 it replaces what the main file says.
    mkdirSync(join(directory, "conf.d"), { recursive: true });
    const imported = join(directory, "conf.d/99-nvidia.toml");
    const theirs = `${head}${runcOf(plugin, "SystemdCgroup = true", 'Root = "/r"')}`;
    writeFileSync(imported, theirs);
    const was = apart(dump(version, config));
    expect((await authproxy(version, "install", config)).status).toBe(0);
    const is = apart(dump(version, config));
    expect(said(is.others)).toEqual(said(was.others));
    expect(said(is.authproxy.options)).toMatchObject({ BinaryName: wrapper, Root: "/r" });
    expect((await authproxy(version, "uninstall", config)).status).toBe(0);
    expect(readFileSync(imported, "utf8")).toBe(theirs);
    expect(readdirSync(join(directory, "conf.d"))).toEqual(["99-nvidia.toml"]);
  });
});

test("config.toml that k3s generates and that imports drop-ins: the handler is one", async () => {
  const directory = mkdtempSync(join(scratch, "k3s-"));
  const config = join(directory, "config.toml");
  const dropIns = join(directory, "config-v3.toml.d");
  const before = `# File generated by k3s. DO NOT EDIT. Use config-v3.toml.tmpl instead.\nversion = 3
imports = ["${dropIns}/*.toml"]\n${runcOf(V3, "SystemdCgroup = true")}`;
  writeFileSync(config, before);
  expect(await authproxy("2", "install", config)).toMatchObject({ status: 0, stderr: "" });
  expect(readFileSync(config, "utf8")).toBe(before);
  expect(readdirSync(dropIns)).toEqual(["authproxy.toml"]);
  expect((await authproxy("2", "uninstall", config)).status).toBe(0);
  expect(readdirSync(dropIns)).toEqual([]);
});
