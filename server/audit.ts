// Question: what did the server decide, and why?
//
// Output: one line of JSON on standard output for each decision and each event of a lease.
// Guaranteed: when `record` resolves, the line has left this process. No token comes here
// (invariant 8).
import { unavailable } from "./refusal.ts";

/** docs/audit.md explains them. */
export type AuditEvent =
  | "ready"
  | "reload"
  | "reload-failed"
  | "login"
  // what became of a peer
  | "granted"
  | "refused"
  | "unavailable"
  | "retry"
  // what became of a token
  | "revoked"
  | "gone"
  | "expired"
  | "renew-failed"
  | "revoke-failed"
  | "set-aside";

const WRITE_DEADLINE_MS = 1000;
const STRING_LENGTH_MAX = 512;
/** In bytes: room for lines that must be written, when all others have filled the stream. */
const RESERVE = 1 << 20;
/** A second, of each key. */
const COUNTED_LINES_MAX = 10;

// EPIPE: nobody reads the stream any more. The callback of each write says so too.
process.stdout.on("error", () => {});

/** Writes one line. Throws the refusal "audit" if it is not written in time: without a line no token is
 * sent (invariant 9). */
export async function record(event: AuditEvent, fields: object): Promise<void> {
  // Lines must not pile up in memory while nobody reads them.
  if (process.stdout.writableLength > RESERVE) throw notWritten();

  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const line = JSON.stringify({ time: new Date().toISOString(), event, ...fields }, shorten);
  const timer = setTimeout(() => reject(notWritten()), WRITE_DEADLINE_MS);
  process.stdout.write(`${line}\n`, (error) => (error ? reject(notWritten()) : resolve()));
  await promise.finally(() => clearTimeout(timer));
}

/** Writes a line that nothing waits for: a revocation, trouble with Vault. It is lost if the stream is
 * full. */
export function note(event: AuditEvent, fields: object): void {
  if (!process.stdout.writableNeedDrain) record(event, fields).catch(() => {});
}

type Tally = { lines: number; latest: () => void };

/** By key: the lines of this second. */
let tallies = new Map<string, Tally>();

/** As `note`. Beyond ten lines of a key in a second there is one, of the latest, with their `count`:
 * nobody fills the stream (invariant 10). */
export function noteCounted(key: string, event: AuditEvent, fields: object): void {
  if (tallies.size === 0) setTimeout(noteCounts, 1000).unref();
  const lines = (tallies.get(key)?.lines ?? 0) + 1;
  const count = lines - COUNTED_LINES_MAX;
  tallies.set(key, { lines, latest: () => note(event, { ...fields, count }) });
  if (count <= 0) note(event, fields);
}

function noteCounts(): void {
  for (const { lines, latest } of tallies.values()) if (lines > COUNTED_LINES_MAX) latest();
  tallies = new Map();
}

function notWritten() {
  return unavailable("audit", "nobody reads the audit stream");
}

function shorten(_key: string, value: unknown): unknown {
  return typeof value === "string" ? value.slice(0, STRING_LENGTH_MAX) : value;
}
