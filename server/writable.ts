// Question: what of a container's program could someone inside overwrite, to be run at its next
// start?
//
// Input: the engine's words about the container, and the mounts that the kernel shows its first
// process. The image and whoever starts the container choose command, environment and mounts; with
// CAP_SYS_ADMIN a process can hide a mount from the kernel's list, but not from the engine's.
// Pure. No file of the container is looked at: a symbolic link is not followed, and an interpreter
// under another name is not known as one.
// Guaranteed: the name of one part, and the mount on which it lies. Never a word of a command or the
// value of a variable, which may be secrets.
import { basename, posix } from "node:path";
import type { Container } from "./engine.ts";
import type { Facts } from "./facts.ts";
import { wordsOf } from "./json.ts";

/** Programs whose arguments are programs, or name them. */
export const INTERPRETER =
  /^(node(js)?|deno|bun|python[\d.]*|pypy[\d.]*|ruby[\d.]*|perl[\d.]*|php[\d.]*|java|dotnet|mono|lua(jit)?[\d.]*|tclsh[\d.]*|Rscript|erl|beam\.smp|[gm]?awk|sed|make|env|(ba|da|a|k|z|fi|c|tc)?sh|busybox|toybox|ld[-.].*)$/;

/** Variables that name programs or libraries, for loaders, shells and languages. */
const SEARCH_VARIABLE =
  /^(LD_\w+|\w*(PATH\w*|OPT|OPTS|OPTIONS|LIB)|BASH_ENV|ENV|OPENSSL_CONF|PYTHON(HOME|STARTUP|USERBASE))=/;
/** By such an entry the working directory is searched. */
const RELATIVE_ENTRY = /[=:\s]\.|PATH\w*=(:|.*::|.*:$)/;

/** Where the kernel, the engine and the client have mounts of their own, which hold no program; and the
 * root, of which the engine has said that it is read-only, or new at each start. */
const OWN_MOUNT =
  /^\/((dev|proc|sys)(\/.*)?|etc\/(hosts|hostname|resolv\.conf)|run\/authproxy-secrets)?$/;

export type WritablePart = { part: string; mount: string };

export function writablePart({
  process: { exe },
  container,
  mounts,
}: Facts): WritablePart | undefined {
  const { Path, Args, Config, HostConfig, Mounts, pod } = container;
  // Each start in a pod is that of another container, with a root of its own.
  if (HostConfig.ReadonlyRootfs !== true && !pod) return { part: "root", mount: "/" };
  if (!mounts) return { part: "root", mount: "more than are looked at" };
  if (typeof Path !== "string" || !Path)
    return { part: "Path", mount: "not known: nobody says it" };

  // A tmpfs is empty at each start: what was written there before is not run again.
  const tmpfs = Mounts.filter(({ Type }) => Type === "tmpfs").map(({ Destination }) => Destination);
  const fresh = [...Object.keys(HostConfig.Tmpfs ?? {}), ...tmpfs].map(withoutSlash);
  const lasting = writableMounts(container, mounts).filter((point) => !fresh.includes(point));

  const directory = String(Config.WorkingDir || "/");
  const [check = "", ...checkArgs] = healthCheck(container);
  for (const [part, program] of Object.entries({ exe, Path, Healthcheck: check })) {
    if (!program.includes("/")) continue; // it is looked for in PATH
    const path = posix.resolve(directory, program);
    const mount = [...lasting, ...fresh].find((point) => `${path}/`.startsWith(`${point}/`));
    if (mount !== undefined) return { part, mount };
  }

  // What runs under another name than the command's is a script, or was put before it.
  const isInterpreted = basename(exe) !== basename(Path) || isInterpreter(Path);
  const variables = wordsOf(Config.Env).filter((text) => SEARCH_VARIABLE.test(text));
  // As it stands, "-I/data", and as a path, "main.js" or "//data/../x".
  const spelled = (part: string) => (word: string, i: number) => [
    `${part}.${i}`,
    `${word} ${posix.resolve(directory, word)}`,
  ];
  const words = [
    ...(isInterpreted ? Args : []).map(spelled("Args")),
    ...(isInterpreter(check) ? checkArgs : []).map(spelled("Healthcheck")),
    ...variables.map((text) => [
      text.split("=", 1)[0],
      RELATIVE_ENTRY.test(text) ? `${text}:${directory}` : text,
    ]),
  ];
  for (const [part = "", text = ""] of words) {
    const mount = lasting.find((point) => names(text, point));
    if (mount !== undefined) return { part, mount };
  }
  return undefined;
}

function isInterpreter(program: string): boolean {
  return INTERPRETER.test(basename(program));
}

/** Its words; a command for a shell is taken apart at white space. */
function healthCheck({ Config }: Container): string[] {
  const [kind, ...words] = wordsOf(Config.Healthcheck?.Test);
  if (kind === "CMD") return words;
  return kind === "CMD-SHELL" ? words.join(" ").trim().split(/\s+/) : [];
}

/** By the engine's word; and by the kernel's, which also shows a mount below another one, and one that
 * a link of the image has led elsewhere. */
function writableMounts({ Mounts }: Container, ofKernel: string[]): string[] {
  const ofEngine = Mounts.filter(({ RW }) => RW !== false).map(({ Destination }) => Destination);
  return [...ofEngine, ...ofKernel.filter((point) => !OWN_MOUNT.test(point))].map(withoutSlash);
}

function withoutSlash(path: string): string {
  return String(path).replace(/\/+$/, "");
}

/** The path of the mount stands in the text: whole components, and not below another path. */
function names(text: string, point: string): boolean {
  const decoded = text.replace(/%([0-9a-f]{2})/gi, (_, code) =>
    String.fromCharCode(Number.parseInt(code, 16)),
  );
  const component = "[\\p{L}\\p{N}_.-]";
  return new RegExp(`(?<!/${component}+)${RegExp.escape(point)}(?!${component})`, "u").test(
    decoded,
  );
}
