// Question: which file makes CRI-O know the handler `authproxy`?
//
// Input:    the directory of its drop-in files, and what `crio config` makes of it.
// Guaranteed: a file of ours, after which `crio config` differs by the handler alone.
// Source:   crio.conf(5), "CRIO.RUNTIME.RUNTIMES TABLE"; the template of `crio config` in CRI-O's
//           pkg/config/template.go, which comments what is at its default.
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { RUNTIME_NAME } from "./daemon-json.ts";
import {
  differences,
  hasBlock,
  meaningful,
  nested,
  parseToml,
  type TomlTable,
  withBlock,
} from "./handler-toml.ts";
import type { Change, NodeEngine, Planned, ProgramOf } from "./node-runtime.ts";
import { readText } from "./replace-file.ts";
import { Failure } from "./terminal.ts";

const FILE_NAME = "99-authproxy.conf";

export const crio: NodeEngine = {
  name: "crio",
  defaultConfig: "/etc/crio/crio.conf.d",
  defaultSocket: "/run/crio/crio.sock",
  directoryOf: dirname,
  planInstall,
  planUninstall,
};

function planInstall(directory: string, programOf: ProgramOf): Planned {
  const file = join(directory, FILE_NAME);
  const before = readText(file);
  const others = configured(directory, { file, before, after: undefined });
  if (runtimeTable(others, RUNTIME_NAME)) {
    throw new Failure(
      "config",
      `another handler is named ${RUNTIME_NAME}`,
      `take its table out of /etc/crio/crio.conf, or of a file in ${directory}, first`,
    );
  }
  const name = defaultRuntime(others);
  const { runtime_path: real, ...base } = runtimeTable(others, name) ?? {};
  if (base.runtime_type && base.runtime_type !== "oci") {
    const message = `CRI-O's default runtime ${name} is of the type ${base.runtime_type}`;
    throw new Failure(
      "config",
      message,
      "the handler needs the settings of one that calls runc or crun",
    );
  }
  const { path, launcher } = programOf(String(real || name));
  const handler = { ...(meaningful(base) as TomlTable), runtime_path: path, runtime_type: "oci" };
  const after = withBlock(
    undefined,
    nested(["crio", "runtime", "runtimes", RUNTIME_NAME], handler),
  );
  const address = addressIn(others);
  if (after === before) return { launcher, address };

  const change = { file, before, after };
  const changed = configured(directory, change);
  const taken = runtimeTable(changed, RUNTIME_NAME);
  if (differences(handler, taken).length === 0 && isSame(others, changed))
    return { change, launcher, address };
  const hint = `compare \`crio config\` without and with it:\n${after}`;
  throw new Failure(
    "config",
    `${file} would change more than the handler: nothing was changed`,
    hint,
  );
}

function planUninstall(directory: string): Planned {
  const file = join(directory, FILE_NAME);
  const before = readText(file);
  const change = { file, before, after: undefined };
  const text = configured(directory, change);
  if (defaultRuntime(text) === RUNTIME_NAME) {
    throw new Failure("config", `default_runtime is ${RUNTIME_NAME}`, "name another one first");
  }
  return { ...(hasBlock(before) ? { change } : {}), address: addressIn(text) };
}

/** What CRI-O makes of its configuration, where `change` is made. */
function configured(directory: string, { file, after }: Change): string {
  const scratch = mkdtempSync(join(tmpdir(), "authproxy-crio-"));
  try {
    if (existsSync(directory)) cpSync(directory, scratch, { recursive: true });
    rmSync(join(scratch, basename(file)), { force: true });
    if (after !== undefined) writeFileSync(join(scratch, basename(file)), after);
    const words = ["--config-dir", scratch, "config"];
    const options = { encoding: "utf8", maxBuffer: 1 << 24 } as const;
    const { status, stdout, stderr, error } = spawnSync("crio", words, options);
    if (status === 0) return stdout;
    const reason = error?.message ?? stderr.trim().split("\n").at(-1);
    throw new Failure(
      "config",
      `crio config: ${reason}`,
      "run this on a node, as root, with crio on the PATH",
    );
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

function defaultRuntime(text: string): string {
  return /^(?:# )?default_runtime = "(.+)"/m.exec(text)?.[1] ?? "runc";
}

function addressIn(text: string): string | undefined {
  return /^(?:# )?listen = "(.+)"/m.exec(text)?.[1];
}

/** The table of a runtime, which is a comment where it is at its default. */
function runtimeTable(text: string, name: string): TomlTable | undefined {
  const lines = text.split("\n").map((line) => line.replace(/^# /, ""));
  const begin = lines.indexOf(`[crio.runtime.runtimes.${name}]`);
  if (begin < 0) return undefined;
  const rest = lines.slice(begin + 1);
  const end = rest.findIndex((line) => !/^$|^[a-z_]+ = |^\t"|^\]$/.test(line));
  const own = end < 0 ? rest : rest.slice(0, end);
  return parseToml(own.join("\n"), `crio config, runtime ${name}`);
}

/** Whether two outputs differ by our table alone. Where it is there, the other runtimes are no longer at
 * their default, and so no comments. */
function isSame(before: string, after: string): boolean {
  const own = runtimeTable(after, RUNTIME_NAME) ?? {};
  const lines = (text: string) =>
    text
      .split("\n")
      .map((line) => line.replace(/^# /, ""))
      .filter((line) => line.trim() !== "");
  const remaining = lines(after);
  for (const line of lines(before)) {
    const at = remaining.indexOf(line);
    if (at < 0) return false;
    remaining.splice(at, 1);
  }
  const keys = [...Object.keys(own), `[crio.runtime.runtimes.${RUNTIME_NAME}]`];
  return remaining.every(
    (line) => keys.some((key) => line.startsWith(key)) || /^\t"|^\]$/.test(line),
  );
}
