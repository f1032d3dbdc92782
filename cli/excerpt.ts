// Question: how is a place in a configuration's text shown to a person, without the secrets beside
// it? Pure. Guaranteed: of all values only the one that is wrong is shown, and not even that below
// a login's body or Config.Env, in an address with a password, or where the text is not JSON.
import { getNodePath, type Node } from "jsonc-parser";

/** Both count from 1, columns in UTF-16 units. */
export type TextPosition = { line: number; column: number };

/** A part of the text, in UTF-16 units. */
export type Span = { offset: number; length: number };

const WIDTH_MAX = 96;
/** Keys below which any value may be a secret. */
const SECRET_KEYS = ["body", "Env"];
const ADDRESS_WITH_USER = /:\/\/[^/]*@/;

/** The line of the text in which the span begins, with its number, secrets as dots; and a second
 * line with carets below the span. A long line is cut on both sides. */
export function excerptOf(text: string, span: Span, secrets: Span[]): string[] {
  const { line, column } = positionOf(text, span.offset);
  const lineOffset = span.offset - column + 1;
  const lineText = text.slice(lineOffset).split(/\r?\n/, 1)[0] ?? "";
  const masked = lineText
    .split("")
    .map((character, i) => (isWithin(lineOffset + i, secrets) ? "·" : spaced(character)))
    .join("");

  const isLong = lineText.length > WIDTH_MAX;
  const cutBefore = isLong ? Math.max(0, column - WIDTH_MAX / 2) : 0;
  const visible = masked.slice(cutBefore, cutBefore + WIDTH_MAX);
  const indent = column - 1 - cutBefore;
  const caretCount = Math.max(1, Math.min(span.length, visible.length - indent));

  const number = String(line);
  const gutter = " ".repeat(number.length);
  const carets = " ".repeat(indent) + "^".repeat(caretCount);
  return [`${number} | ${visible}`, `${gutter} | ${carets}`];
}

function isWithin(offset: number, spans: Span[]): boolean {
  return spans.some((span) => span.offset <= offset && offset < span.offset + span.length);
}

/** A control character would end the line or move the carets. */
function spaced(character: string): string {
  return character.replace(/\p{C}/u, " ");
}

export function positionOf(text: string, offset: number): TextPosition {
  const lines = text.slice(0, offset).split("\n");
  return { line: lines.length, column: (lines.at(-1)?.length ?? 0) + 1 };
}

/** This node and all below it. */
export function nodesIn(node: Node): Node[] {
  return [node, ...(node.children ?? []).flatMap(nodesIn)];
}

export function isKey({ parent, offset }: Node): boolean {
  return parent?.type === "property" && parent.children?.[0]?.offset === offset;
}

/** All scalars of the text but those of the visible node; of these, too, what may be a secret. */
export function secretsIn(tree: Node, visible?: Node): Node[] {
  const isVisible = (node: Node) =>
    visible !== undefined &&
    isWithin(node.offset, [visible]) &&
    !getNodePath(node).some((key) => SECRET_KEYS.includes(String(key))) &&
    !ADDRESS_WITH_USER.test(String(node.value));
  return nodesIn(tree).filter((node) => !node.children && !isKey(node) && !isVisible(node));
}

/** All words of a text that is not JSON, but keys and true, false, null. */
export function secretsInBrokenText(text: string): Span[] {
  const words = [...text.matchAll(/"(?:[^"\\\n]|\\.)*"?|[^\s{}[\],:"]+/g)];
  const values = words.filter(({ 0: word, index }) => {
    if (/^(true|false|null)$/.test(word)) return false;
    const followsColon = /:\s*$/.test(text.slice(0, index));
    const precedesColon = /^\s*:/.test(text.slice(index + word.length));
    const isCertainlyKey = /^".*"$/.test(word) && precedesColon && !followsColon;
    return !isCertainlyKey;
  });
  return values.map(({ 0: word, index }) => ({ offset: index, length: word.length }));
}
