// Question: can the server log in to Vault, and may its token do what the server does with it?
// Guaranteed: no token is made for a service, and the token of the login is revoked at the end. A call
// is tried in a form that Vault finds faulty, but only after its policies have let it through: so
// nothing is renewed or revoked, and no right beyond the server's own is needed (sys/capabilities-self
// takes the policy `default`).
// Sources: Vault's API page of auth/token; server/vault.ts and server/login.ts for the calls.
import { statSync } from "node:fs";
import type { Config, LoginConfig, Service } from "../../server/config.ts";
import type { JsonObject } from "../../server/json.ts";
import { logIn } from "../../server/login.ts";
import { Refusal } from "../../server/refusal.ts";
import { readTrustedFile } from "../../server/trusted-file.ts";
import { type TokenDescription, VaultApi } from "../../server/vault-api.ts";
import { attempt, type Finding, failed, ok, reasonOf, unchecked, warning } from "./finding.ts";
import { asUser, type ServerProcess, type User } from "./user.ts";

/** Where systemd puts what LoadCredential names, while the service runs. */
const CREDENTIALS = "/run/credentials/";
const LOGIN_ADVICE = 'see "The server\'s credential" in docs/operate.md';
const POLICY_ADVICE = "let the server's policy allow it: `authproxy provision` shows all of it";
const NO_ROLE = "Vault has no such token role";
/** What Vault says of an accessor that no token has. */
const NO_SUCH_TOKEN = /invalid accessor|no token found/i;
const NOBODYS_ACCESSOR = "authproxy-doctor";

type MadeToken = { accessor: string; client_token?: string };
type Description = TokenDescription & Partial<MadeToken> & { num_uses?: number };

export async function checkLogin(
  { vault, services }: Config,
  server: ServerProcess | undefined,
  user: User,
  mayUseUp: boolean,
): Promise<Finding[]> {
  const { login } = vault;
  const files = await attempt("credential", LOGIN_ADVICE, () => checkFiles(login, server));
  if (files.some(({ status }) => status === "failed" || status === "not checked")) return files;

  // A server that runs has used its secret id, and uses it at each login.
  const isCounted =
    login.body_files?.secret_id !== undefined || login.body?.secret_id !== undefined;
  if (isCounted && !server && !mayUseUp) {
    const detail = "no server is seen to run, and the uses of the secret id may be counted";
    return [...files, unchecked("login", detail, "start the server, or try --login")];
  }
  const found = await attempt("login", LOGIN_ADVICE, async () => {
    const api = new VaultApi(vault);
    const description = await logInAs(api, login, user);
    try {
      return [
        describeLogin(description, login),
        ...checkToken(description, login),
        ...(await checkRights(api, services)),
      ];
    } finally {
      const { accessor = "", client_token = "" } = description;
      if (!login.token_file) await endToken(api, { accessor, client_token });
    }
  });
  return [...files, ...found];
}

function credentialFiles({ token_file, body_files, client_key_file }: LoginConfig): string[] {
  const files = [token_file, client_key_file, ...Object.values(body_files ?? {})];
  return files.filter((file) => file !== undefined);
}

function checkFiles(login: LoginConfig, server: ServerProcess | undefined): Finding[] {
  return credentialFiles(login).flatMap((file) => {
    const stats = statSync(file, { throwIfNoEntry: false });
    if (!stats && file.startsWith(CREDENTIALS) && !server) {
      const advice = "systemd puts it there when the service starts: start it, and ask again";
      return [unchecked("credential", `there is no ${file} yet`, advice)];
    }
    if (!stats) return [failed("credential", `there is no ${file}`, LOGIN_ADVICE)];
    if (stats.mode & 0o004)
      return [warning("credential", `${file}: everybody can read it`, `chmod 0600 ${file}`)];
    return [];
  });
}

/** The token of a file is looked at, and not renewed. */
async function logInAs(api: VaultApi, login: LoginConfig, user: User): Promise<Description> {
  if (login.token_file) {
    api.token = asUser(user, () => readTrustedFile(login.token_file ?? "").trim());
    const { data } = await api.call("auth/token/lookup-self");
    return data;
  }
  // Files are read before the first `await`.
  const auth = await asUser(user, () => logIn(api, login));
  api.token = auth.client_token;
  return { ...auth, ttl: auth.lease_duration, type: auth.token_type };
}

function describeLogin({ ttl, policies }: Description, login: LoginConfig): Finding {
  const how = login.token_file ? `by ${login.token_file}` : `by ${login.path}`;
  const detail = `${how}: a token for ${ttl} s, with the policies ${policies.join(", ")}`;
  return ok("login", detail);
}

function checkToken(description: Description, { token_file }: LoginConfig): Finding[] {
  const { policies, identity_policies, type, renewable, ttl, num_uses } = description;
  const all = [...policies, ...(identity_policies ?? [])];
  const findings: Finding[] = [];
  if (all.includes("root")) {
    const advice = "give it the policy that `authproxy provision` shows, and revoke that token";
    findings.push(
      failed("server token", "it is a root token: whoever takes it has all of Vault", advice),
    );
  } else if (all.includes("default")) {
    const advice =
      "token_no_default_policy=true at its role, and lookup-self and renew-self in its own policy";
    const detail = "it has Vault's policy `default`, with which each grant takes longer";
    findings.push(warning("server token", detail, advice));
  }
  if (type === "batch") {
    const advice = "token_type=service at its role";
    findings.push(failed("server token", "it is a batch token, which cannot make others", advice));
  }
  if (num_uses) {
    const advice = "token_num_uses=0 at its role";
    findings.push(failed("server token", `it can be used ${num_uses} times`, advice));
  }
  if (token_file && !renewable && ttl > 0) {
    const advice = `write a new one into ${token_file} before that, or log in by another way`;
    findings.push(warning("server token", `it ends in ${ttl} s and cannot be renewed`, advice));
  }
  return findings.length > 0 ? findings : [ok("server token", "not root's, without `default`")];
}

type Trial = {
  path: string;
  body?: JsonObject;
  namespace?: string;
  wrapTtl?: string;
  service?: string;
};

/** In the form that Vault finds faulty. */
function trialsOf(services: Record<string, Service>): Trial[] {
  const sources = Object.entries(services).map(([service, { token }]) => ({ service, ...token }));
  const creating = sources.filter(({ create }) => create !== undefined);
  const isWrapping = creating.some(({ wrap_ttl }) => wrap_ttl);
  const byAccessor = [
    "renew-accessor",
    "revoke-accessor",
    ...(isWrapping ? ["lookup-accessor"] : []),
  ];
  const accessor = NOBODYS_ACCESSOR;
  return [
    { path: "auth/token/lookup-self" },
    { path: "auth/token/renew-self", body: { increment: "faulty" } },
    ...(creating.length > 0 ? byAccessor : []).map((call) => {
      return { path: `auth/token/${call}`, body: { accessor } };
    }),
    ...creating.map(({ service, create = "", namespace, wrap_ttl: wrapTtl }) => {
      const body = { meta: "faulty" };
      return {
        service,
        path: create,
        body,
        ...(namespace && { namespace }),
        ...(wrapTtl && { wrapTtl }),
      };
    }),
    ...sources.flatMap(({ service, read, namespace }) => {
      const path = read?.split("#")[0];
      return path ? [{ service, path, ...(namespace && { namespace }) }] : [];
    }),
  ];
}

async function checkRights(api: VaultApi, services: Record<string, Service>): Promise<Finding[]> {
  const findings: Finding[] = [];
  const allowed: string[] = [];
  for (const trial of trialsOf(services)) {
    const { path, service } = trial;
    const subject = service === undefined ? path : `${service}: ${path}`;
    // Another path may be a login, which takes any body.
    const isTried = !trial.body || path.startsWith("auth/token/");
    if (!isTried) {
      const advice = "the first container of the service shows it";
      findings.push(unchecked("rights", `${subject}: not the path of a token role`, advice));
      continue;
    }
    const problem = (await problemOf(api, trial)) ?? (await missingRole(api, trial));
    if (problem)
      findings.push({ check: "rights", ...problem, detail: `${subject}: ${problem.detail}` });
    else allowed.push(subject);
  }
  const all = ok("rights", `the server's token may ${allowed.join(", ")}`);
  return allowed.length > 0 ? [all, ...findings] : findings;
}

/** Undefined where Vault's policies let the call through. */
async function problemOf(
  api: VaultApi,
  { path, body, namespace, wrapTtl }: Trial,
): Promise<Omit<Finding, "check"> | undefined> {
  try {
    const { auth, wrap_info } = await api.call(path, body, { namespace, wrapTtl });
    // Vault has not found it faulty: the token is not to live.
    if (auth) await endToken(api, auth);
    if (wrap_info) await endToken(api, { accessor: wrap_info.wrapped_accessor });
    return undefined;
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    const { status, errors } = error.detail as JsonObject;
    const answer = JSON.stringify(errors ?? "");
    if (/unknown role/i.test(answer))
      return { status: "failed", detail: NO_ROLE, advice: "`authproxy provision` makes it" };
    if (NO_SUCH_TOKEN.test(answer) || (body && status === 400)) return undefined;
    if (status === 403)
      return { status: "failed", detail: "Vault denies it", advice: POLICY_ADVICE };
    const advice = "correct it in Vault, or in the configuration";
    return { status: "failed", detail: reasonOf(error), advice };
  }
}

/** Some versions look at `meta` before they look for the role, and at `ttl` afterwards. Where a policy
 * allows no `ttl`, this shows nothing. */
async function missingRole(
  api: VaultApi,
  trial: Trial,
): Promise<Omit<Finding, "check"> | undefined> {
  if (!trial.body?.meta) return undefined;
  const problem = await problemOf(api, { ...trial, body: { ttl: "faulty" } });
  return problem?.detail === NO_ROLE ? problem : undefined;
}

/** By its accessor, as the server ends tokens; where that is denied, the token may end itself. */
async function endToken(
  api: VaultApi,
  { accessor, client_token: token }: MadeToken,
): Promise<void> {
  try {
    await api.call("auth/token/revoke-accessor", { accessor });
  } catch {
    // Where that is denied too, it lives to the end of its TTL. No other token may end here.
    if (token) await api.call("auth/token/revoke-self", {}, { token }).catch(() => {});
  }
}
