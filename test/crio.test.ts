// Question: does CRI-O come to know the handler, by a drop-in that is like its default runtime?
// Input:    drop-ins as distributions have them. There is no CRI-O here: a program of the test's own
//           prints what `crio config` prints, by the template of CRI-O 1.30 (pkg/config/template.go):
//           what is at its default is a comment.
// Siblings covered: no directory, no drop-in, crun and runc as the default, a path that is not on the
// PATH, a default runtime of another type, a handler of somebody else, one that is out of date, a drop-in
// that sorts after ours and takes the table over, a CRI-O that would change something else.
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parse } from "smol-toml";
import { afterAll, afterEach, expect, test } from "vitest";
import { crio } from "../cli/crio.ts";
import { tableAt } from "../cli/handler-toml.ts";
import { installHandler, uninstallHandler, wordsOfLauncher } from "../cli/node-runtime.ts";

const wrapper = join(import.meta.dirname, "../dist/runtime/authproxy-runc");
const scratch = mkdtempSync(join(tmpdir(), "authproxy-crio-test-"));
const { PATH } = process.env;
const bin = join(scratch, "bin");
mkdirSync(bin);
process.env.PATH = `${bin}:${PATH}`;
afterEach(() => writeProgram());
afterAll(() => {
  process.env.PATH = PATH;
  rmSync(scratch, { recursive: true, force: true });
});

/** Prints the configuration of a directory; `more` is a line of JavaScript that changes it. */
function writeProgram(more = ""): void {
  const source = `#!${process.execPath}
const { globSync, readFileSync } = require("node:fs");
const { parse } = require(${JSON.stringify(join(import.meta.dirname, "../node_modules/smol-toml"))});
const [flag, directory, command] = process.argv.slice(2);
if (flag !== "--config-dir" || command !== "config") process.exit(64);
let name = "crun", isDefault = true, runtimes = {};
const base = { runtime_path: "", runtime_type: "oci", runtime_root: "/run/crun", inherit_default_runtime: false, monitor_path: "", container_min_memory: "12 MiB" };
for (const file of globSync(directory + "/*").sort()) {
  const runtime = parse(readFileSync(file, "utf8")).crio?.runtime ?? {};
  name = runtime.default_runtime ?? name;
  Object.assign(runtimes, runtime.runtimes);
}
if (Object.keys(runtimes).length > 0) isDefault = false;
if (!runtimes[name]) runtimes = { [name]: {}, ...runtimes };
const mark = isDefault ? "# " : "";
let text = '# The CRI-O configuration file.\\n[crio.api]\\n# Path to the socket.\\n# listen = "/run/crio/crio.sock"\\n';
text += '[crio.runtime]\\n# default_runtime is the name of the runtime.\\n' + (name === "crun" ? "# " : "") + 'default_runtime = "' + name + '"\\n';
text += '# The table of runtimes:\\n# [crio.runtime.runtimes.runtime-handler]\\n#  runtime_path = "/path/to/the/executable"\\n\\n';
for (const [key, given] of Object.entries(runtimes)) {
  text += mark + "[crio.runtime.runtimes." + key + "]\\n";
  for (const [setting, value] of Object.entries({ ...base, ...given })) {
    if (!Array.isArray(value)) text += mark + setting + " = " + JSON.stringify(value) + "\\n";
    else text += mark + setting + " = [\\n" + value.map((one) => mark + "\\t" + JSON.stringify(one) + ",\\n").join("") + mark + "]\\n\\n";
  }
}
text += "\\n# The workloads table.\\n[crio.image]\\n# pause_image = \\"pause\\"\\n";
${more}
process.stdout.write(text);
`;
  writeFileSync(join(bin, "crio"), source);
  chmodSync(join(bin, "crio"), 0o755);
}
writeProgram();

/** A directory of drop-ins, and what the handler is there. */
function node(files: Record<string, string> = {}) {
  const directory = join(mkdtempSync(join(scratch, "etc-")), "crio.conf.d");
  if (Object.keys(files).length > 0) mkdirSync(directory);
  for (const [name, content] of Object.entries(files))
    writeFileSync(join(directory, name), content);
  const file = join(directory, "99-authproxy.conf");
  const options = { config: directory, address: join(scratch, "no.sock") };
  return {
    directory,
    file,
    install: (more = {}) => installHandler(crio, { ...options, ...more }),
    uninstall: () => uninstallHandler(crio, options),
    handler: (): unknown => {
      const path = ["crio", "runtime", "runtimes", "authproxy"];
      return tableAt(parse(readFileSync(file, "utf8")), path);
    },
  };
}

const CRUN = `[crio.runtime]
default_runtime = "crun"
[crio.runtime.runtimes.crun]
runtime_path = "/usr/libexec/crio/crun"
runtime_root = "/run/crun"
monitor_path = "/usr/libexec/crio/conmon"
allowed_annotations = ["io.containers.trace-syscall", "io.kubernetes.cri-o.Devices"]
`;

test("the handler is like the default runtime, and is gone without a trace", async () => {
  const { directory, file, install, uninstall, handler } = node({ "10-crio.conf": CRUN });
  expect(await install()).toContain(`${file}: written`);
  const launcher = join(directory, "../authproxy-runc");
  expect(handler()).toEqual({
    runtime_path: launcher,
    runtime_type: "oci",
    runtime_root: "/run/crun",
    monitor_path: "/usr/libexec/crio/conmon",
    container_min_memory: "12 MiB",
    allowed_annotations: ["io.containers.trace-syscall", "io.kubernetes.cri-o.Devices"],
  });
  // What it is to become is not on the PATH.
  const text = readFileSync(launcher, "utf8");
  expect(text).toContain("'--runtime=/usr/libexec/crio/crun' \"$@\"");
  expect(wordsOfLauncher(text).slice(1)).toEqual(["--runtime=/usr/libexec/crio/crun"]);
  expect(execFileSync("sh", ["-n", launcher], { encoding: "utf8" })).toBe("");
  expect(await install()).toContain(`${directory}: nothing to change`);
  await uninstall();
  expect(readdirSync(directory)).toEqual(["10-crio.conf"]);
  expect(existsSync(launcher)).toBe(false);
  expect(await uninstall()).toContain(`${directory}: nothing to change`);
});

test("where all is at its default, which CRI-O prints as comments, it is the same", async () => {
  const { install, handler } = node();
  await install();
  expect(handler()).toMatchObject({ runtime_root: "/run/crun", runtime_type: "oci" });
  const other = node({
    "01-runc.conf": '[crio.runtime]\ndefault_runtime = "runc"\n[crio.runtime.runtimes.runc]\n',
  });
  await other.install();
  expect(other.handler()).toMatchObject({ runtime_path: wrapper });
});

test("what has changed since is taken over by installing again", async () => {
  const { directory, file, install, handler } = node({ "10-crio.conf": CRUN });
  await install();
  writeFileSync(join(directory, "10-crio.conf"), CRUN.replace("/run/crun", "/run/other"));
  expect(await install()).toContain(`${file}: written`);
  expect(handler()).toMatchObject({ runtime_root: "/run/other" });
  // CRI-O would read a copy too.
  expect(readdirSync(directory)).toEqual(["10-crio.conf", "99-authproxy.conf"]);
});

test.each([
  [
    "a default runtime of another type",
    CRUN.replace("runtime_root", 'runtime_type = "vm"\nruntime_root'),
    "of the type vm",
  ],
  [
    "another handler of that name",
    `${CRUN}[crio.runtime.runtimes.authproxy]\nruntime_path = "/x"\n`,
    "another handler",
  ],
])("%s is refused, and nothing is written", async (_, content, reason) => {
  const { directory, install } = node({ "10-crio.conf": content });
  await expect(install()).rejects.toThrow(reason);
  expect(readdirSync(directory)).toEqual(["10-crio.conf"]);
});

test("a CRI-O that would change anything else is refused", async () => {
  writeProgram('if (text.includes("authproxy")) text = text.replace("pause_image", "other");');
  const { directory, install } = node({ "10-crio.conf": CRUN });
  await expect(install()).rejects.toThrow("would change more than the handler");
  expect(readdirSync(directory)).toEqual(["10-crio.conf"]);
});

test("a CRI-O whose default is the handler keeps it", async () => {
  const { directory, file, install, uninstall } = node({ "10-crio.conf": CRUN });
  await install();
  const usual = '[crio.runtime]\ndefault_runtime = "authproxy"\n';
  writeFileSync(join(directory, "99-z.conf"), usual);
  await expect(uninstall()).rejects.toThrow("default_runtime is authproxy");
  expect(existsSync(file)).toBe(true);
});

test("a host without CRI-O is told so", async () => {
  rmSync(join(bin, "crio"));
  const { install } = node({ "10-crio.conf": CRUN });
  await expect(install()).rejects.toThrow("crio config: spawnSync crio ENOENT");
});

test("what would be done is only shown", async () => {
  const { directory, file, install } = node({ "10-crio.conf": CRUN });
  const [shown = ""] = await install({ isDryRun: true });
  expect(shown).toContain(`${file} would have at its end:`);
  expect(readdirSync(directory)).toEqual(["10-crio.conf"]);
});
