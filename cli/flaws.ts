// Question: where in a configuration's text is what the server would not accept, and what should
// stand there instead? Input: the text. Pure. The verdict is `findFlaw`'s, the server's own; this
// adds the place. Guaranteed: no flaw where the server finds none; secrets are shown as excerpt.ts
// says.
import { type Node, type ParseError, parseTree, printParseErrorCode } from "jsonc-parser";
import type { JsonObject } from "../server/json.ts";
import { type ContentFlaw, findFlaw } from "../server/schema.ts";
import {
  excerptOf,
  isKey,
  nodesIn,
  positionOf,
  type Span,
  secretsIn,
  secretsInBrokenText,
  type TextPosition,
} from "./excerpt.ts";
import { hintFor, SYNTAX_HINTS } from "./hints.ts";

/** As `authproxy check --json` prints it. Columns count UTF-16 units. */
export type LocatedFlaw = TextPosition & {
  message: string;
  instead?: string;
  /** Where the same key stands first. */
  first?: TextPosition;
  /** The line of the text, less its secrets, and a line of carets. */
  source: string[];
};

/** All flaws in how the text is written; or of its content all unknown keys, up to the first other
 * flaw. Empty where the server accepts the text. */
export function locateFlaws(text: string): LocatedFlaw[] {
  const flaw = findFlaw(text);
  if (!flaw) return [];
  if (flaw.kind === "not-json") return [locateSyntaxError(text)];

  const tree = parseTree(text);
  if (!tree) throw new Error("jsonc-parser finds no value in a text that JSON.parse accepts");
  return flaw.kind === "spelling"
    ? locateSpelling(text, flaw.message, tree)
    : locateContent(text, tree);
}

function located(
  text: string,
  message: string,
  span: Span,
  secrets: Span[],
  instead?: string,
): LocatedFlaw {
  const source = excerptOf(text, span, secrets);
  const flaw = { ...positionOf(text, span.offset), message, source };
  return instead === undefined ? flaw : { ...flaw, instead };
}

/** Where jsonc-parser finds the first error. Node does not always say where it is. */
function locateSyntaxError(text: string): LocatedFlaw {
  const errors: ParseError[] = [];
  parseTree(text, errors, { disallowComments: true });
  const [error] = errors;
  const span = error ?? { offset: 0, length: 1 };
  const hint = error && SYNTAX_HINTS[printParseErrorCode(error.error)];
  return located(text, "is not JSON", span, secretsInBrokenText(text), hint);
}

/** The server compares the text with what JSON.stringify would write: here is each difference. */
function locateSpelling(text: string, message: string, tree: Node): LocatedFlaw[] {
  const nodes = nodesIn(tree);
  const keys = nodes.filter(isKey);
  const spellings = [...duplicateKeys(text, tree, keys), ...unusualScalars(text, tree, nodes)];
  if (spellings.length > 0) return spellings.sort((a, b) => a.line - b.line || a.column - b.column);

  const numericKeys = keys.filter((key) => /^\d+$/.test(key.value));
  if (numericKeys.length > 0) {
    return numericKeys.map((key) => {
      const message = `the key "${key.value}" is a number`;
      return located(text, message, key, secretsIn(tree, key), "use a key with a letter in it");
    });
  }
  return [located(text, message, tree, secretsIn(tree))];
}

function duplicateKeys(text: string, tree: Node, keys: Node[]): LocatedFlaw[] {
  return keys.flatMap((key) => {
    const properties = key.parent?.parent?.children ?? [];
    const siblings = properties.flatMap(({ children }) => children?.[0]);
    const first = siblings.find((sibling) => sibling?.value === key.value);
    if (!first || first === key) return [];

    const message = `the key ${JSON.stringify(key.value)} is there twice`;
    const flaw = located(text, message, key, secretsIn(tree, key), "keep one of the two");
    return [{ ...flaw, first: positionOf(text, first.offset) }];
  });
}

/** Strings and numbers that JSON.stringify would write in another way. */
function unusualScalars(text: string, tree: Node, nodes: Node[]): LocatedFlaw[] {
  return nodes.flatMap((node) => {
    const usual = JSON.stringify(node.value);
    const written = text.slice(node.offset, node.offset + node.length);
    if (node.children || written === usual) return [];

    const secrets = secretsIn(tree, node);
    const isExponent = /^\d.*e/.test(usual); // would be refused again
    const canBeShown = !secrets.includes(node) && !isExponent;
    const hint = canBeShown ? `write ${usual}` : "write it as JSON.stringify does";
    return [located(text, `unusual spelling of a ${node.type}`, node, secrets, hint)];
  });
}

/** What config.schema.json does not allow. After an unknown key the server is asked again without
 * that key. */
function locateContent(text: string, tree: Node): LocatedFlaw[] {
  const config: JsonObject = JSON.parse(text);
  const flaws: LocatedFlaw[] = [];
  const removed: string[][] = [];
  for (;;) {
    const flaw = findFlaw(JSON.stringify(config));
    if (!flaw || !("path" in flaw)) return flaws;
    // An object that lacks only what was taken out of it is not another flaw.
    const objectPath = flaw.kind === "missing-key" ? flaw.path.slice(0, -1) : flaw.path;
    if (removed.some((path) => isAbove(objectPath, path))) return flaws;

    flaws.push(locateInTree(text, tree, flaw));
    if (flaw.kind !== "unknown-key") return flaws;
    removed.push(flaw.path);
    removeKey(config, flaw.path);
  }
}

function locateInTree(text: string, tree: Node, flaw: ContentFlaw): LocatedFlaw {
  const node = nodeAt(tree, flaw.path);
  const key = node.parent?.type === "property" ? node.parent.children?.[0] : undefined;
  const isOfKey = flaw.kind === "unknown-key" || flaw.kind === "missing-key";
  const span = isOfKey && key ? key : node;
  // Below an unknown key there may be anything, a secret too.
  const secrets = secretsIn(tree, flaw.kind === "unknown-key" ? undefined : node);
  return located(text, flaw.message, span, secrets, hintFor(flaw, node.value));
}

/** The value at this path, or the object that lacks it. */
function nodeAt(tree: Node, path: string[]): Node {
  let node = tree;
  for (const key of path) {
    const children = node.children ?? [];
    const property = children.find((child) => child.children?.[0]?.value === key);
    const next = node.type === "array" ? children[Number(key)] : property?.children?.[1];
    if (!next) return node;
    node = next;
  }
  return node;
}

function isAbove(path: string[], other: string[]): boolean {
  return path.length < other.length && path.every((key, i) => key === other[i]);
}

function removeKey(config: JsonObject, path: string[]): void {
  let parent = config;
  for (const key of path.slice(0, -1)) parent = parent[key] as JsonObject;
  delete parent[path.at(-1) ?? ""];
}
