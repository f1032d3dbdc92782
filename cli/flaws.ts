// Question: where in a configuration's text is what the server will not take, and what should stand
// there instead? Input: the text. Pure. The verdict is `findFlaw`'s, the server's own; this adds the
// place. Guaranteed: of all values only the one that is wrong is shown, and not even that below a
// login's body, Config.Env or a key that is not known, or where the text is not JSON.
import {
  getNodePath,
  type Node,
  type ParseError,
  parseTree,
  printParseErrorCode,
} from "jsonc-parser";
import type { Json, JsonObject } from "../server/json.ts";
import { findFlaw } from "../server/schema.ts";

/** Lines and columns count from 1, columns in UTF-16 units. */
export type Place = { line: number; column: number };
export type Flaw = Place & {
  message: string;
  instead?: string;
  /** The same key's first place. */
  first?: Place;
  /** The line of the text, less its secrets, and a caret below. */
  source: string[];
};

const widthMax = 96;
const hiddenBelow = ["body", "Env"]; // keys
const relaxations = ["init", "alone", "once", "readonly", "labels"];

/** None: the server takes it. All that is wrong with its writing; of its content, all unknown keys
 * up to the first other flaw. */
export function flawsIn(text: string): Flaw[] {
  const verdict = findFlaw(text);
  if (verdict === undefined) return [];
  const errors: ParseError[] = [];
  const tree = parseTree(text, errors, { disallowComments: true });
  if (verdict.startsWith("is not JSON") || !tree) return [notJson(text, verdict, errors[0])];
  if (verdict.startsWith("a key stands twice")) return unusual(text, verdict, tree);
  return misfits(text, tree);
}

const syntax: Record<string, string> = {
  InvalidSymbol: "texts stand in double quotes; only true, false, null and numbers go without",
  InvalidNumberFormat: "write a decimal number, as 1001",
  PropertyNameExpected: "a key in double quotes; after the last member stands no comma",
  ValueExpected: "a value; after the last one stands no comma",
  ColonExpected: "a colon between key and value",
  CommaExpected: "a comma before this",
  CloseBraceExpected: "a closing } is missing",
  CloseBracketExpected: "a closing ] is missing",
  EndOfFileExpected: "nothing may follow the configuration's closing }",
  InvalidCommentToken: "JSON has no comments: take it out",
  UnexpectedEndOfString: "a closing double quote is missing",
  InvalidEscapeCharacter: 'after a backslash stands one of "\\/bfnrtu',
  InvalidCharacter: "inside a text, write \\n for a line's end and \\t for a tab",
};

function notJson(text: string, verdict: string, error?: ParseError): Flaw {
  const message = verdict.replace(/ \(line .*/, "");
  const [, line = 1, column = 1] = /line (\d+) column (\d+)/.exec(verdict) ?? [];
  const offset = error?.offset ?? offsetOf(text, Number(line), Number(column));
  const instead = error && syntax[printParseErrorCode(error.error)];
  const found = flaw(text, message, { offset, length: error?.length ?? 1 }, valuesOf(text));
  return instead ? { ...found, instead } : found;
}

/** Keys that stand twice or are numbers (JavaScript would sort them), and unusual ways to write. */
function unusual(text: string, verdict: string, tree: Node): Flaw[] {
  const nodes = nodesOf(tree);
  const at = (node: Node, message: string, instead: string) => ({
    ...flaw(text, message, node, secretsOf(tree, node)),
    instead,
  });
  const keys = nodes.filter(isKey);
  const twice = keys.flatMap((key) => {
    const siblings = (key.parent?.parent?.children ?? []).flatMap(({ children }) => children?.[0]);
    const first = siblings.find((sibling) => sibling?.value === key.value);
    if (!first || first === key) return [];
    const found = at(
      key,
      `the key ${JSON.stringify(key.value)} stands twice`,
      "keep one of the two",
    );
    return [{ ...found, first: placeOf(text, first.offset) }];
  });
  const written = nodes.flatMap((node) => {
    const usual = JSON.stringify(node.value);
    const raw = text.slice(node.offset, node.offset + node.length);
    if (node.children || raw === usual) return [];
    const hidden = secretsOf(tree, node).includes(node) || /^\d.*e/.test(usual);
    const instead = hidden ? "write it as JSON.stringify does" : `write ${usual}`;
    return [at(node, `a ${node.type} is written unusually`, instead)];
  });
  const numbered = keys
    .filter((key) => /^\d+$/.test(key.value))
    .map((key) => at(key, `the key "${key.value}" is a number`, "take a key with a letter in it"));
  const found = [...twice, ...written].sort((a, b) => a.line - b.line || a.column - b.column);
  if (found.length > 0) return found;
  return numbered.length > 0 ? numbered : [flaw(text, verdict, tree, secretsOf(tree))];
}

/** What config.schema.json does not allow. After an unknown key it is asked again without it. */
function misfits(text: string, tree: Node): Flaw[] {
  const config: Json = JSON.parse(text);
  const values = nodesOf(tree).filter((node) => node.type !== "property" && !isKey(node));
  const flaws: Flaw[] = [];
  const removed: string[] = [];
  for (;;) {
    const verdict = findFlaw(JSON.stringify(config));
    if (verdict === undefined) return flaws;
    const found = values
      .map((node) => ({ node, path: getNodePath(node), name: getNodePath(node).join(".") }))
      .filter(({ name }) => verdict.startsWith(`${name || "the configuration"} `))
      .sort((a, b) => b.name.length - a.name.length)[0];
    const { node, path, name } = found ?? { node: tree, path: [], name: "" };
    // It lacks only what was taken out.
    if (removed.some((gone) => gone.startsWith(name ? `${name}.` : ""))) return flaws;
    const unknown = / is not a known key/.test(verdict);
    const key = node.parent?.type === "property" ? node.parent.children?.[0] : undefined;
    const at = (unknown || / needs "/.test(verdict)) && key ? key : node;
    const instead = insteadOf(verdict, path.map(String), valueAt(config, path));
    const place = flaw(text, verdict, at, secretsOf(tree, unknown ? undefined : node));
    flaws.push(instead ? { ...place, instead } : place);
    const last = path.at(-1);
    if (!unknown || last === undefined) return flaws;
    removed.push(name);
    delete (valueAt(config, path.slice(0, -1)) as JsonObject)[last];
  }
}

/** Where a selector belongs that stands directly in `match`. */
const homes: Record<string, string> = {
  ...Object.fromEntries(["uid", "gid", "groups", "label"].map((key) => [key, "peer"])),
  ...Object.fromEntries(["exe", "cgroup", "dumpable"].map((key) => [key, "process"])),
  ...Object.fromEntries(["Image", "Path", "Args", "Mounts", "Config"].map((k) => [k, "container"])),
  Labels: "container.Config",
  Env: "container.Config",
};

const examples: Record<string, string> = {
  vault: '"vault": { "address": "https://…:8200", "login": { … } }',
  address: '"address": "https://vault.example:8200"',
  login: '"login": { "path": "auth/approle/login", "body": { … }, "body_files": { … } }',
  path: '"path": "auth/approle/login"',
  services: '"services": { "NAME": { "match": { … }, "token": { "create": "…" } } }',
  match: '"match": { "container": { "Config": { "Labels": { "app": "…" } } } }',
  container: '"container": { "Config": { "Labels": { "app": "…" } } }, or "Image": "sha256:…"',
  token: '"token": { "create": "auth/token/create/ROLE" }',
  create: '"create": "auth/token/create/ROLE"',
};

function insteadOf(verdict: string, path: string[], value: Json): string | undefined {
  const key = path.at(-1) ?? "";
  const [, known = ""] = / is not a known key; known are: (.*)$/.exec(verdict) ?? [];
  if (known) return insteadOfKey(key, path.at(-2), known.split(", "));
  const [, needed = ""] = / needs "(.*)"$/.exec(verdict) ?? [];
  if (needed) return examples[needed] && `add ${examples[needed]}`;
  const word = typeof value === "string" ? value : "";
  const bare = `write ${word}, without quotes`;
  if (/ must be a number/.test(verdict) && /^\d+$/.test(word)) return bare;
  if (/ must be boolean/.test(verdict) && /^(true|false)$/.test(word)) return bare;
  if (/ must be a text/.test(verdict) && ["number", "boolean"].includes(typeof value))
    return `write "${value}", in quotes`;
  if (/ must be array/.test(verdict) && word) return `write [${JSON.stringify(word)}]`;
  if (/ must be https:/.test(verdict))
    return "https only, without a path or a user; a private authority's certificate goes to ca_file";
  if (/ must be an absolute path/.test(verdict)) return "write the whole path, from /";
  if (/ must be init, alone/.test(verdict)) {
    const near = nearest(word, relaxations);
    return near && `did you mean "${near}"?`;
  }
  if (/Image must be sha256:/.test(verdict))
    return (
      "`docker image inspect --format '{{.Id}}' NAME` says this engine's digest; one that is the " +
      'same on every host goes to "Config": { "Image": "NAME@sha256:…" }'
    );
  if (/ rests on Image/.test(verdict))
    return "`authproxy suggest CONTAINER` writes a block for a container that runs";
  if (/ an object that is not empty/.test(verdict))
    return "take the key out if any value will do, or write what `authproxy explain` shows of it";
  return undefined;
}

function insteadOfKey(key: string, parent: string | undefined, known: string[]) {
  if (parent === "match" && Object.hasOwn(homes, key)) return `it belongs below ${homes[key]}`;
  const near = nearest(key, known);
  return near ? `did you mean "${near}"?` : undefined;
}

/** The candidate that a slip of the keyboard away was meant, if there is one. */
export function nearest(word: string, candidates: string[]): string | undefined {
  const distances = candidates.map((candidate) => ({
    candidate,
    distance: distanceOf(word.toLowerCase(), candidate.toLowerCase()),
  }));
  const [best] = distances.sort((a, b) => a.distance - b.distance);
  return best && best.distance <= Math.max(2, word.length / 3) ? best.candidate : undefined;
}

/** Levenshtein's: how many characters to insert, drop or replace. */
function distanceOf(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (const [i, letter] of [...a].entries()) {
    const next = [i + 1];
    for (const [j, other] of [...b].entries()) {
      const replaced = (row[j] ?? 0) + (letter === other ? 0 : 1);
      next.push(Math.min(replaced, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1));
    }
    row = next;
  }
  return row.at(-1) ?? 0;
}

type Span = { offset: number; length: number };

function flaw(text: string, message: string, span: Span, secrets: Span[]): Flaw {
  const { line, column } = placeOf(text, span.offset);
  const lineStart = span.offset - column + 1;
  const lineText = text.slice(lineStart).split(/\r?\n/, 1)[0] ?? "";
  const visible = [...lineText.split("").entries()].map(([i, character]) => {
    const at = lineStart + i;
    const secret = secrets.some(({ offset, length }) => offset <= at && at < offset + length);
    return secret ? "·" : character.replace(/\p{C}/u, " ");
  });
  // A long line is cut on both sides of the place.
  const from = lineText.length > widthMax ? Math.max(0, column - widthMax / 2) : 0;
  const shown = visible.slice(from, from + widthMax).join("");
  const carets = Math.max(1, Math.min(span.length, shown.length - (column - 1 - from)));
  const below = " ".repeat(column - 1 - from) + "^".repeat(carets);
  const number = String(line);
  const gutter = " ".repeat(number.length);
  return { line, column, message, source: [`${number} | ${shown}`, `${gutter} | ${below}`] };
}

function placeOf(text: string, offset: number): Place {
  const before = text.slice(0, offset).split("\n");
  return { line: before.length, column: (before.at(-1)?.length ?? 0) + 1 };
}

function offsetOf(text: string, line: number, column: number): number {
  const before = text.split("\n").slice(0, line - 1);
  return before.reduce((sum, { length }) => sum + length + 1, column - 1);
}

function nodesOf(node: Node): Node[] {
  return [node, ...(node.children ?? []).flatMap(nodesOf)];
}

function isKey({ parent, offset }: Node): boolean {
  return parent?.type === "property" && parent.children?.[0]?.offset === offset;
}

function valueAt(config: Json, path: (string | number)[]): Json {
  return path.reduce<Json>((part, key) => (part as JsonObject)[key] ?? null, config);
}

/** All scalars, save what is shown, and of that too what may be a secret. */
function secretsOf(tree: Node, visible?: Node): Span[] {
  const inside = (node: Node) =>
    visible && visible.offset <= node.offset && node.offset < visible.offset + visible.length;
  const open = (node: Node) =>
    inside(node) &&
    !getNodePath(node).some((key) => hiddenBelow.includes(`${key}`)) &&
    !/:\/\/[^/]*@/.test(String(node.value)); // an address with a password
  return nodesOf(tree).filter((node) => !node.children && !isKey(node) && !open(node));
}

/** Where the structure is broken: every word but keys, and true, false, null. */
function valuesOf(text: string): Span[] {
  const words = [...text.matchAll(/"(?:[^"\\\n]|\\.)*"?|[^\s{}[\],:"]+/g)];
  const values = words.filter(({ 0: word, index }) => {
    const afterColon = /:\s*$/.test(text.slice(0, index));
    const key = /^".*"$/.test(word) && /^\s*:/.test(text.slice(index + word.length));
    return !/^(true|false|null)$/.test(word) && (afterColon || !key);
  });
  return values.map(({ 0: word, index }) => ({ offset: index, length: word.length }));
}
