// When is a secret asked for again? A lease is renewed after about two thirds of it, and fetched anew
// where Vault renews it no more; a certificate is fetched anew by then; what has no end (KV) is looked
// at every `refreshMs` or a little sooner. Other writes are never repeated: each would change Vault.

import { codeOf, Failure, say } from "./failure.ts";
import { parseJson, textOf } from "./json.ts";
import type { Options } from "./options.ts";
import { type Asked, fetchSecrets, type Secret, type Secrets, Unreadable } from "./secrets.ts";
import type { Session } from "./session.ts";
import { Vault } from "./vault.ts";
import { nowMs, pause } from "./wait.ts";

export type Kept = {
  readonly options: Options;
  readonly asked: readonly Asked[];
  readonly session: Session;
  readonly secrets: Secrets;
};

const RETRY_MS = 10_000;
const FOREVER_MS = 1e12;

/** Hands all secrets to `put` whenever some were fetched anew. Never ends and never fails: what goes
 * wrong is said once, and tried again. */
export async function refresh(
  { options, asked, session, secrets }: Kept,
  put: (secrets: Secrets) => void,
): Promise<never> {
  const { refreshMs, waitMs } = options;
  const known = new Map(secrets);
  const dueMs = new Map<string, number>();
  /** By requests, so that what fails on and on is said once. */
  const said = new Map<string, string>();
  const planIn = (request: string, delayMs: number) =>
    dueMs.set(request, nowMs() + delayMs * (0.8 + Math.random() / 5));
  const plan = ({ reference, request }: Asked, seconds?: number) => {
    const { leaseSeconds = 0 } = { ...known.get(request) } as Partial<Secret>;
    const endlessMs = reference.kind === "write" ? FOREVER_MS : refreshMs;
    planIn(request, ((seconds ?? leaseSeconds) * 2000) / 3 || endlessMs);
  };
  const requests = [...new Map(asked.map((each) => [each.request, each])).values()];
  for (const each of requests) plan(each);
  for (;;) {
    await pause(Math.max(0, Math.min(...dueMs.values()) - nowMs()));
    // What is due within a second goes along: a change of two is then seen at once.
    const soonMs = nowMs() + 1000;
    const due = requests.filter(({ request }) => (dueMs.get(request) ?? 0) <= soonMs);
    const vault = new Vault(session.grant.vault, session.token, nowMs() + waitMs);
    let problem = "";
    try {
      const ended: Asked[] = [];
      for (const each of due) {
        const leaseSeconds = await renew(known.get(each.request), vault);
        if (leaseSeconds > 0) plan(each, leaseSeconds);
        else ended.push(each);
      }
      const fetched = await fetchSecrets(ended, vault);
      for (const each of ended) {
        const { request, variable } = each;
        const secret = fetched.get(request);
        if (secret && !(secret instanceof Unreadable)) known.set(request, secret);
        else if (!(known.get(request) instanceof Unreadable)) {
          problem = `${variable}: ${secret?.message}; if the token is lost, a restart gets another`;
        }
        plan(each);
      }
      if (ended.length > 0) put(known);
    } catch (error) {
      problem = error instanceof Failure ? error.message : `internal error: ${codeOf(error)}`;
    }
    vault.close();
    if (problem && ![...said.values()].includes(problem)) {
      say(`warning: the application keeps what it has: ${problem}`);
    }
    for (const { request } of due) {
      said.set(request, problem);
      if (problem) planIn(request, Math.min(refreshMs, RETRY_MS));
    }
  }
}

/** The seconds that the lease has from now on; 0 where the secret has to be fetched anew. */
async function renew(secret: Secret | Unreadable | undefined, vault: Vault): Promise<number> {
  if (!secret || secret instanceof Unreadable || !secret.leaseId) return 0;
  const body = JSON.stringify({ lease_id: secret.leaseId, increment: secret.leaseSeconds });
  const answer = await vault.request({ path: "sys/leases/renew", body, impatient: true });
  const seconds = Number(textOf(parseJson(answer.body)?.lease_duration ?? 0));
  // Near the end of its longest life a lease is renewed for ever less.
  return answer.status === 200 && seconds > secret.leaseSeconds / 2 ? seconds : 0;
}
