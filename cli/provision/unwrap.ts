// Question: is this wrapping what `authproxy provision --deliver` made for this host, unopened, and
// where does the secret id in it belong? Guaranteed: the secret id is printed nowhere; its file is
// readable by its owner alone, and never half-written. A wrapping that somebody else has opened, or
// made, is an alarm.
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { connect } from "../administrator.ts";
import { readConfig, readOrFail } from "../configuration.ts";
import { HELP_HINT, type Options } from "../options.ts";
import { Failure, print } from "../terminal.ts";
import { appRoleLogin, roleNameOf } from "./objects.ts";

const STANDARD_INPUT = 0;

/** The command `unwrap`: `file` holds the wrapping token, "-" being standard input. Returns the
 * exit code. Throws the Failure "refused" as an alarm. */
export async function unwrap(file: string | undefined, options: Options): Promise<number> {
  if (!file) throw new Failure("usage", "unwrap needs the file of the wrapping", HELP_HINT);
  const { vault: vaultConfig } = readConfig(options.config);
  const roleName = roleNameOf(options.host ?? hostname().toLowerCase());
  const { mount } = appRoleLogin(vaultConfig.login);
  const target = vaultConfig.login.body_files?.secret_id;
  if (!target) {
    const message = "vault.login.body_files names no file for the secret_id";
    throw new Failure("config", message, HELP_HINT);
  }

  const token = readOrFail(file, readWrapping).trim();
  const vault = connect(vaultConfig, token);
  const expectedPath = `auth/${mount}/role/${roleName}/secret-id`;
  const lookup = await unlessOpened(vault.write("sys/wrapping/lookup", { token }));
  const creationPath = lookup.data?.creation_path;
  if (creationPath !== expectedPath)
    throw alarm(`it was made by ${creationPath}, not by ${expectedPath}`);

  const { data } = await unlessOpened(vault.write("sys/wrapping/unwrap", {}));
  writeFileSync(`${target}.new`, `${data?.secret_id}\n`, { mode: 0o600 });
  renameSync(`${target}.new`, target);
  print([
    `${target}: the secret id of ${roleName}, accessor ${data?.secret_id_accessor}`,
    "Start the server. When it has logged in, destroy the host's other secret ids:",
    `  authproxy provision --keep-only ${data?.secret_id_accessor} …`,
  ]);
  return 0;
}

function readWrapping(file: string): string {
  return readFileSync(file === "-" ? STANDARD_INPUT : file, "utf8");
}

async function unlessOpened<Answer>(call: Promise<Answer>): Promise<Answer> {
  try {
    return await call;
  } catch (error) {
    // Vault has no code for it: its message alone tells this from other errors with status 400.
    const isOpened = (error as Error).message.includes("wrapping token is not valid");
    throw isOpened ? alarm("it is too old, or somebody has opened it") : error;
  }
}

function alarm(problem: string): Failure {
  return new Failure(
    "refused",
    `ALARM: the wrapped secret id was not taken: ${problem}`,
    "unless it is simply too old: destroy the host's secret ids (provision --keep-only), and " +
      "find out who opened or replaced it",
  );
}
