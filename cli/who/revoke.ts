// Question: do the living tokens of a container or a service end now? Input: accessors from our audit
// streams, and an administrator's token of Vault. Guaranteed: a token is ended only where Vault
// itself says that it is that container's: a stream could name somebody else's.
import type { JsonObject } from "../../server/json.ts";
import { connect, tokenOf, type Vault } from "../administrator.ts";
import { readConfig } from "../configuration.ts";
import { confirm } from "../confirm.ts";
import { hint, type Options } from "../options.ts";
import { columns, Failure, print, printable, printJson, remark } from "../terminal.ts";
import { nameOf } from "./access.ts";
import type { Grants } from "./grants.ts";
import { isWho, type Selectors } from "./uses.ts";

type Living = { container: string; service: string; accessor: string };
type Ended = Living & { result: "revoked" | "had ended" | "not that container's: left alone" };

export async function endTokens(
  grants: Grants,
  wanted: Selectors,
  options: Options,
): Promise<number> {
  const { json, yes, audit, "dry-run": dryRun } = options;
  if (wanted.secret !== undefined || (!wanted.service && !wanted.container))
    throw new Failure("usage", "--revoke needs --service or --container, and nothing else", hint);
  if (!audit) throw new Failure("usage", "--revoke needs the audit streams", "try: --audit FILE");
  if (json && !yes && !dryRun)
    throw new Failure("usage", "what will be done would not be shown", "add --yes or --dry-run");
  const found = livingOf(grants, wanted);
  const nothing = dryRun || found.length === 0;
  if (!json) {
    const rows = found.map((one) =>
      [nameOf({ ...one, host: "", image: "" }), one.accessor].map(printable),
    );
    print([`living tokens, by the audit streams: ${found.length}`, ...columns(rows)]);
  } else if (nothing) printJson(found);
  if (nothing) return 0;
  const ended = await revokeAll(found, options);
  if (json) printJson(ended);
  else print(columns(ended.map(({ accessor, result }) => [printable(accessor), result])));
  remark("hint", "what was read is still known: stop the container, change the secrets of `who`");
  return 0;
}

function livingOf(grants: Grants, wanted: Selectors): Living[] {
  return [...grants].flatMap(([container, { service, living }]) => {
    const named = { container, service, host: "", image: "" };
    return isWho(named, wanted)
      ? [...living].map((accessor) => ({ container, service, accessor }))
      : [];
  });
}

async function revokeAll(found: Living[], options: Options): Promise<Ended[]> {
  const { vault: place, services } = readConfig(options.config);
  const token = tokenOf(options);
  await confirm(`Revoke them in Vault at ${place.address}?`, options.yes);
  const ended: Ended[] = [];
  for (const one of found) {
    const { namespace = place.namespace ?? "" } = services[one.service]?.token ?? {};
    ended.push(await revoke(connect({ ...place, namespace }, token), one));
  }
  return ended;
}

async function revoke(vault: Vault, living: Living): Promise<Ended> {
  const { accessor, container } = living;
  const token = await lookUp(vault, accessor);
  if (!token) return { ...living, result: "had ended" };
  const meta = token.meta as JsonObject | null;
  if (meta?.container !== container)
    return { ...living, result: "not that container's: left alone" };
  await vault.write("auth/token/revoke-accessor", { accessor });
  return { ...living, result: "revoked" };
}

async function lookUp(vault: Vault, accessor: string): Promise<JsonObject | undefined> {
  try {
    return (await vault.write("auth/token/lookup-accessor", { accessor })).data ?? undefined;
  } catch (error) {
    // Vault answers 403 for both: only its text tells that there is none from that we may not ask.
    if (error instanceof Failure && error.message.includes("invalid accessor")) return undefined;
    throw error;
  }
}
