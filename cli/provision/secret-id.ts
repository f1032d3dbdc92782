// Question: how does a host's server get its credential, and how does an old one end?
// Guaranteed: the secret id itself comes to no machine but the host: what is handed over is a
// wrapping token, which opens once; whoever opened it before is noticed there.
// Source: Vault's API pages of auth/approle and of sys/wrapping.
import { closeSync, openSync, rmSync, writeSync } from "node:fs";
import type { Json } from "../../server/json.ts";
import type { Vault } from "../administrator.ts";
import { Failure } from "../terminal.ts";

/** `path`: the AppRole's. Returns the accessor of the new secret id, which is no secret. */
export async function deliver(
  vault: Vault,
  path: string,
  file: string,
  wrapTtl: string,
): Promise<string> {
  // Before Vault is asked: a place where it cannot be written costs no secret id.
  const target = file === "-" ? 1 : create(file);
  try {
    const headers = { "X-Vault-Wrap-TTL": wrapTtl };
    const { wrap_info: wrap } = await vault.write(`${path}/secret-id`, {}, headers);
    if (!wrap?.token) throw new Failure("unavailable", "Vault did not wrap the secret id");
    writeSync(target, `${wrap.token}\n`);
    return wrap.wrapped_accessor;
  } catch (error) {
    if (file !== "-") rmSync(file);
    throw error;
  } finally {
    if (file !== "-") closeSync(target);
  }
}

function create(file: string): number {
  try {
    return openSync(file, "wx", 0o600);
  } catch (error) {
    const hint = "a file of that name must not be there yet";
    throw new Failure("usage", `--deliver: ${(error as Error).message}`, hint);
  }
}

/** The host's other secret ids. */
export async function othersThan(accessor: string, vault: Vault, path: string): Promise<Json[]> {
  const all = await vault.list(`${path}/secret-id`);
  if (all.includes(accessor)) return all.filter((one) => one !== accessor);
  const hint = "it would be left without any; `authproxy unwrap` has said which one it got";
  throw new Failure(
    "usage",
    `--keep-only: no secret id of this host has the accessor ${accessor}`,
    hint,
  );
}

export async function destroy(accessor: Json, vault: Vault, path: string): Promise<void> {
  await vault.write(`${path}/secret-id-accessor/destroy`, { secret_id_accessor: accessor });
}
