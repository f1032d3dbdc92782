// Question: how does a host's server get its credential, and how does an old one end?
// Guaranteed: the secret id itself comes to no machine but the host. What is handed over is a
// wrapping token, which opens once; if somebody has opened it before, the host notices.
// Source: Vault's API pages of auth/approle and of sys/wrapping.
import { closeSync, openSync, rmSync, writeSync } from "node:fs";
import type { Json } from "../../server/json.ts";
import type { Vault } from "../administrator.ts";
import { Failure } from "../terminal.ts";

const STANDARD_OUTPUT = 1;

/** Makes a new secret id, and writes its wrapping token to the file, "-" being standard output.
 * `rolePath` is the AppRole's; `wrapTtl` is how long it can be opened, such as "30m". Returns the
 * accessor of the secret id, which is not a secret. Throws the Failures "usage" and
 * "unavailable". */
export async function deliver(
  vault: Vault,
  rolePath: string,
  file: string,
  wrapTtl: string,
): Promise<string> {
  // Before Vault is asked, so that a file that cannot be written costs no secret id.
  const descriptor = file === "-" ? STANDARD_OUTPUT : create(file);
  try {
    const headers = { "X-Vault-Wrap-TTL": wrapTtl };
    const { wrap_info: wrapInfo } = await vault.write(`${rolePath}/secret-id`, {}, headers);
    if (!wrapInfo?.token) throw new Failure("unavailable", "Vault did not wrap the secret id");
    writeSync(descriptor, `${wrapInfo.token}\n`);
    return wrapInfo.wrapped_accessor;
  } catch (error) {
    if (file !== "-") rmSync(file);
    throw error;
  } finally {
    if (file !== "-") closeSync(descriptor);
  }
}

function create(file: string): number {
  try {
    return openSync(file, "wx", 0o600);
  } catch (error) {
    const hint = "name a file that does not exist yet";
    throw new Failure("usage", `--deliver: ${(error as Error).message}`, hint);
  }
}

/** The accessors of the role's other secret ids. Throws the Failure "usage" where it has no such
 * one. */
export async function otherAccessors(
  accessor: string,
  vault: Vault,
  rolePath: string,
): Promise<Json[]> {
  const accessors = await vault.list(`${rolePath}/secret-id`);
  if (accessors.includes(accessor)) return accessors.filter((other) => other !== accessor);
  throw new Failure(
    "usage",
    `--keep-only ${accessor}: no secret id of this host has this accessor`,
    "the host would be left without any; `authproxy unwrap` prints the accessor of the one it got",
  );
}

export async function destroySecretId(
  accessor: Json,
  vault: Vault,
  rolePath: string,
): Promise<void> {
  const body = { secret_id_accessor: accessor };
  await vault.write(`${rolePath}/secret-id-accessor/destroy`, body);
}
