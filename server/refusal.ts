// Question: why does a peer get no token?
//
// A Refusal carries the answer for the host's audit log. The peer hears only "refused", or
// "unavailable" where `canRetry` is set.
import type { Json } from "./json.ts";

/** Each reason that a line of the audit stream can have. docs/audit.md explains them. */
export type Reason =
  // peercred, from the kernel alone; "exited" also from /proc
  | "no-pid"
  | "unreadable"
  | "exited"
  | "spoke"
  | "closed"
  // facts, from /proc and the engine
  | "no-container"
  | "unknown-container"
  | "engine"
  | "too-large"
  | "starting"
  // policy
  | "no-match"
  | "ambiguous"
  // checks
  | "credentials"
  | "traced"
  | "user-namespace"
  | "namespace"
  | "clock"
  | "init"
  | "alone"
  | "once"
  | "readonly"
  | "labels"
  | "image-gone"
  | "capabilities"
  | "seccomp"
  // token, second look, audit
  | "vault"
  | "wrong-role"
  | "wrapping"
  | "no-token"
  | "changed"
  | "audit"
  // the server itself
  | "busy"
  | "internal";

export class Refusal extends Error {
  readonly reason: Reason;
  /** What was seen, and what was wanted: members named one by one, never a whole object of the engine,
   * no value of an environment or a command (invariant 8). */
  readonly detail: Json;
  /** Asking again may help: the container, the engine or Vault is not ready. */
  readonly canRetry: boolean;

  constructor(reason: Reason, detail: Json, canRetry = false) {
    super(reason);
    this.reason = reason;
    this.detail = detail;
    this.canRetry = canRetry;
  }
}

/** A Refusal after which the peer may ask again. */
export function unavailable(reason: Reason, detail: Json): Refusal {
  return new Refusal(reason, detail, true);
}

/** Any error as a Refusal. One that this server did not foresee is "internal": the audit says where
 * it arose, never its message, which may quote what was being read. */
export function toRefusal(error: unknown): Refusal {
  if (error instanceof Refusal) return error;
  const {
    code = "",
    syscall = "",
    path = "",
    name,
    message,
    stack,
  } = error as NodeJS.ErrnoException;
  if (syscall) return unavailable("internal", { code, syscall, path });
  const at = /\n +at (.*)/.exec(stack?.replace(message, "") ?? "")?.[1] ?? "";
  return unavailable("internal", { name, at });
}
