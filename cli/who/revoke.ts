// Question: do the living tokens of a container or a service end now? Input: accessors from our
// audit streams, and an administrator's token of Vault. Guaranteed: a token is revoked only where
// Vault itself says that it is that container's, because a stream could name somebody else's.
import type { VaultConfig } from "../../server/config.ts";
import type { JsonObject } from "../../server/json.ts";
import { administratorToken, connect, type Vault } from "../administrator.ts";
import { readConfig } from "../configuration.ts";
import { confirm } from "../confirm.ts";
import { HELP_HINT, type Options } from "../options.ts";
import { columns, Failure, print, printable, printJson, remark } from "../terminal.ts";
import { nameOf } from "./access.ts";
import type { Grants } from "./grants.ts";
import { isSelectedWho, type Selectors } from "./uses.ts";

type LivingToken = { container: string; service: string; pod?: string; accessor: string };
type EndedToken = LivingToken & {
  result: "revoked" | "had ended" | "not that container's: left alone";
};

/** `authproxy who --revoke`. Returns the exit code; throws Failures. */
export async function revokeTokens(
  grants: Grants,
  selectors: Selectors,
  options: Options,
): Promise<number> {
  requireUsable(selectors, options);
  const { json, "dry-run": dryRun } = options;
  const living = livingTokens(grants, selectors);
  const isDone = dryRun || living.length === 0;
  if (!json) print(livingLines(living));
  else if (isDone) printJson(living);
  if (isDone) return 0;

  const ended = await revokeAll(living, options);
  if (json) printJson(ended);
  else print(columns(ended.map(({ accessor, result }) => [printable(accessor), result])));
  remark(
    "hint",
    "what was read is still known: stop the container, and change the secrets that `who` lists",
  );
  return 0;
}

function requireUsable({ service, container, pod, secret }: Selectors, options: Options): void {
  const { json, yes, audit, "dry-run": dryRun } = options;
  if (secret !== undefined || (!service && !container && !pod)) {
    const message = "--revoke needs --service or --container, and takes no --secret";
    throw new Failure("usage", message, HELP_HINT);
  }
  if (!audit) throw new Failure("usage", "--revoke needs the audit streams", "try: --audit FILE");
  if (json && !yes && !dryRun) {
    const message = "what would be done could not be shown before it is done";
    throw new Failure("usage", message, "add --yes or --dry-run");
  }
}

function livingTokens(grants: Grants, selectors: Selectors): LivingToken[] {
  return [...grants].flatMap(([container, { service, pod, living }]) => {
    const holder = { container, service, ...(pod && { pod }) };
    if (!isSelectedWho(whoHas(holder), selectors)) return [];
    return [...living].map((accessor) => ({ ...holder, accessor }));
  });
}

/** Host and image are neither asked for nor printed here. */
function whoHas({ container, service, pod }: Omit<LivingToken, "accessor">) {
  return { container, service, host: "", image: "", ...(pod && { pod }) };
}

function livingLines(living: LivingToken[]): string[] {
  const rows = living.map((token) => [printable(nameOf(whoHas(token))), printable(token.accessor)]);
  return [`living tokens, by the audit streams: ${living.length}`, ...columns(rows)];
}

async function revokeAll(living: LivingToken[], options: Options): Promise<EndedToken[]> {
  const { vault: vaultConfig, services } = readConfig(options.config);
  const token = administratorToken(options);
  await confirm(`Revoke them in Vault at ${vaultConfig.address}?`, options.yes);
  const ended: EndedToken[] = [];
  for (const livingToken of living) {
    const ownNamespace = services[livingToken.service]?.token.namespace;
    ended.push(await revoke(livingToken, vaultIn(ownNamespace, vaultConfig, token)));
  }
  return ended;
}

function vaultIn(namespace: string | undefined, vaultConfig: VaultConfig, token: string): Vault {
  return connect({ ...vaultConfig, namespace: namespace ?? vaultConfig.namespace }, token);
}

async function revoke(livingToken: LivingToken, vault: Vault): Promise<EndedToken> {
  const { accessor, container } = livingToken;
  const description = await lookUp(accessor, vault);
  if (!description) return { ...livingToken, result: "had ended" };
  const meta = description.meta as JsonObject | null;
  if (meta?.container !== container)
    return { ...livingToken, result: "not that container's: left alone" };
  await vault.write("auth/token/revoke-accessor", { accessor });
  return { ...livingToken, result: "revoked" };
}

/** Undefined where there is no such token. */
async function lookUp(accessor: string, vault: Vault): Promise<JsonObject | undefined> {
  try {
    const { data } = await vault.write("auth/token/lookup-accessor", { accessor });
    return data ?? undefined;
  } catch (error) {
    // Vault answers 403 where there is no such token, and where we may not ask. Only its text tells
    // the two apart.
    const isUnknown = error instanceof Failure && error.message.includes("invalid accessor");
    if (isUnknown) return undefined;
    throw error;
  }
}
