// Question: what did a check of `authproxy doctor` find, and how is it said to people?
// Guaranteed: a finding holds no secret. Messages of the server's modules and of Node name files, paths
// of Vault and error codes; that of a SyntaxError quotes the text, so it is left out.
import type { JsonObject } from "../../server/json.ts";
import { Refusal } from "../../server/refusal.ts";
import { type Colour, paint, printable } from "../terminal.ts";

const STATUSES = ["ok", "warning", "failed", "not checked"] as const;
/** "not checked": this process lacks a right or something to look at. */
export type Status = (typeof STATUSES)[number];

/** As `--json` prints it. `detail` is what was seen, and where; `advice` is what to do. */
export type Finding = { check: string; status: Status; detail: string; advice?: string };

const COLOURS: Record<Status, Colour> = {
  ok: "green",
  warning: "yellow",
  failed: "red",
  "not checked": "dim",
};
const STATUS_WIDTH = "not checked".length;

export function ok(check: string, detail: string): Finding {
  return { check, status: "ok", detail };
}

export function warning(check: string, detail: string, advice: string): Finding {
  return { check, status: "warning", detail, advice };
}

export function failed(check: string, detail: string, advice: string): Finding {
  return { check, status: "failed", detail, advice };
}

export function unchecked(check: string, detail: string, advice: string): Finding {
  return { check, status: "not checked", detail, advice };
}

export function needsRoot(check: string): Finding {
  return unchecked(check, "only root can look at it", "run it as root");
}

/** What `look` finds. An error is a finding too: "not checked" where root could look, else "failed"
 * with this advice. */
export async function attempt(
  check: string,
  advice: string,
  look: () => Finding[] | Promise<Finding[]>,
): Promise<Finding[]> {
  try {
    return await look();
  } catch (error) {
    const { code = "" } = error as NodeJS.ErrnoException;
    const mayBeDenied = !isRoot() && ["EACCES", "EPERM"].includes(code);
    return [mayBeDenied ? needsRoot(check) : failed(check, reasonOf(error), advice)];
  }
}

export function isRoot(): boolean {
  return process.getuid?.() === 0;
}

/** An error in a line. */
export function reasonOf(error: unknown): string {
  if (error instanceof SyntaxError) return "it is not JSON";
  if (!(error instanceof Refusal)) return (error as Error).message;
  const { detail, reason } = error;
  if (typeof detail === "string") return detail;
  const { path = reason, status, errors, message } = (detail ?? {}) as JsonObject;
  const said = Array.isArray(errors) ? errors.join("; ") : message;
  return [path, status && `status ${status}`, said].filter(Boolean).join(": ").replace(/\s+/g, " ");
}

/** A line for each, and one that counts them. */
export function findingLines(findings: Finding[]): string[] {
  const count = (wanted: Status) => findings.filter(({ status }) => status === wanted).length;
  const lines = findings.map(({ check, status, detail, advice }) => {
    const text = printable([check, detail, advice].filter(Boolean).join(": "));
    return `${paint(COLOURS[status], status.padEnd(STATUS_WIDTH))}  ${text}`;
  });
  const total = STATUSES.map((status) => `${status}: ${count(status)}`).join(", ");
  return [...lines, "", total];
}
