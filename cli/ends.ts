// Question: which events of the audit stream say that a token has ended?
import type { AuditEvent } from "../server/audit.ts";

const ENDS: AuditEvent[] = ["revoked", "gone", "expired"];

export function isEnd(event: unknown): boolean {
  return ENDS.some((end) => end === event);
}
