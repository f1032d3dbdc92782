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
const INTERPRETER =
  /^(node(js)?|deno|bun|python[\d.]*|pypy[\d.]*|ruby[\d.]*|perl[\d.]*|php[\d.]*|java|dotnet|mono|lua(jit)?[\d.]*|tclsh[\d.]*|Rscript|erl|beam\.smp|[gm]?awk|sed|make|env|(ba|da|a|k|z|fi|c|tc)?sh|busybox|toybox|ld[-.].*)$/;

/** Variables that name programs or libraries, for loaders, shells and languages. A name can be
 * 128 KiB long, and is read once: nothing that repeats begins at more than one place (invariant 10). */
const SEARCH_VARIABLE =
  /^LD_|PATH|(OPT|OPTS|OPTIONS|LIB|^BASH_ENV|^ENV|^OPENSSL_CONF|^PYTHON(HOME|STARTUP|USERBASE))$/;
/** Of these, the ones in which not every word is a path. */
const HAS_OTHER_WORDS = /^LD_(?!.*PATH)|(OPT|OPTS|OPTIONS|^ENV)$/;
const WORD_END = /[=:;\s]/;

/** Where the kernel, the engine and the client have mounts of their own, which hold no program; and the
 * root, of which the engine has said that it is read-only, or new at each start. */
const OWN_MOUNT =
  /^\/((dev|proc|sys)(\/.*)?|etc\/(hosts|hostname|resolv\.conf)|run\/authproxy-secrets)?$/;

/** "/" where it is not within a path: of "-I/data/x" the first. */
const PATH_START = /(?<!\/[\p{L}\p{N}_.-]+)\//gu;
const COMPONENT_START = /^[\p{L}\p{N}_.-]/u;

/** Characters, for each mount. Whoever starts a container chooses how much there is to compare, and all
 * others wait meanwhile (invariant 10). */
const COMPARED_MAX = 1 << 22;
const TOO_MANY = "more than are looked at";

export type WritablePart = { part: string; mount: string };

/** `data`: mounts that hold no program, by the word of whoever wrote the policy. The command may name
 * them; no program may lie on them, and no search path may lead there. */
export function writablePart(
  { process: { exe }, container, mounts }: Facts,
  data: string[] = [],
): WritablePart | undefined {
  const { Path, Args, Config, HostConfig, Mounts, pod } = container;
  // Each start in a pod is that of another container, with a root of its own.
  if (HostConfig.ReadonlyRootfs !== true && !pod) return { part: "root", mount: "/" };
  if (!mounts) return { part: "root", mount: TOO_MANY };
  if (typeof Path !== "string" || !Path)
    return { part: "Path", mount: "not known: nobody says it" };

  // A tmpfs is empty at each start: what was written there before is not run again.
  const tmpfs = Mounts.filter(({ Type }) => Type === "tmpfs").map(({ Destination }) => Destination);
  const fresh = [...Object.keys(HostConfig.Tmpfs ?? {}), ...tmpfs].map(withoutSlash);
  const lasting = writableMounts(container, mounts.writable).filter(
    (point) => !fresh.includes(point),
  );

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
  const commandWords = isInterpreted ? Args : [];
  const checkWords = isInterpreter(check) ? checkArgs : [];
  const variables = wordsOf(Config.Env).filter((text) => SEARCH_VARIABLE.test(nameOf(text)));
  const entries = variables.flatMap((text) => text.split(WORD_END));
  const compared = [...commandWords, ...checkWords, ...entries];
  const length = compared.join("").length + compared.length * directory.length;
  if (length * lasting.length > COMPARED_MAX) return { part: "Args and Env", mount: TOO_MANY };

  // As it stands, "-I/data", and as a path, "main.js" or "//data/../x".
  const spelled = (part: string) => (word: string, i: number) => ({
    part: `${part}.${i}`,
    text: `${word} ${posix.resolve(directory, word)}`,
  });
  const words = [...commandWords.map(spelled("Args")), ...checkWords.map(spelled("Healthcheck"))];
  const searched = variables.map((text) => searchVariable(text, directory));
  const declared = data.map(withoutSlash);
  const undeclared = lasting.filter((point) => !declared.includes(point));
  return firstNamed(words, undeclared) ?? firstNamed(searched, lasting);
}

type Part = { part: string; text: string };

function nameOf(variable: string): string {
  return variable.split(WORD_END, 1)[0] ?? "";
}

/** It as it stands, and its words as paths. */
function searchVariable(text: string, directory: string): Part {
  const [name = "", ...words] = text.split(WORD_END);
  const isOfPaths = !HAS_OTHER_WORDS.test(name);
  const paths = words
    .filter((word) => isOfPaths || /^\.|\//.test(word))
    .map((word) => posix.resolve(directory, word));
  return { part: name, text: [text, ...paths].join(" ") };
}

/** The first part in which the path of a mount stands: whole components, and not below another
 * path. */
function firstNamed(parts: Part[], mounts: string[]): WritablePart | undefined {
  for (const { part, text } of parts) {
    const decoded = text.replace(/%([0-9a-f]{2})/gi, (_, code) =>
      String.fromCharCode(Number.parseInt(code, 16)),
    );
    for (const { index } of decoded.matchAll(PATH_START)) {
      const path = decoded.slice(index);
      const mount = mounts.find(
        (point) => path.startsWith(point) && !COMPONENT_START.test(path.slice(point.length)),
      );
      if (mount !== undefined) return { part, mount };
    }
  }
  return undefined;
}

/** Its arguments are programs, or name them. */
export function isInterpreter(program: string): boolean {
  return INTERPRETER.test(basename(program));
}

/** Its words; a command for a shell is taken apart at white space. */
function healthCheck({ Config }: Container): string[] {
  const [kind, ...words] = wordsOf(Config.Healthcheck?.Test);
  return kind === "CMD-SHELL" ? words.join(" ").trim().split(/\s+/) : words;
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
