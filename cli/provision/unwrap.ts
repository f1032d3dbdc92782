// Question: is this wrapping what `authproxy provision --deliver` made for this host, unopened, and
// where does the secret id in it belong? Guaranteed: it is printed nowhere, the file is its owner's
// alone and never half-written; a wrapping that another has opened, or made, is said loudly.
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { connect } from "../administrator.ts";
import { read, readConfig } from "../configuration.ts";
import { hint, type Options } from "../options.ts";
import { Failure, print } from "../terminal.ts";
import { loginOf, roleOf } from "./wanted.ts";

export async function unwrap(file: string | undefined, options: Options): Promise<number> {
  if (!file) throw new Failure("usage", "unwrap: the file of the wrapping is missing", hint);
  const { vault: place } = readConfig(options.config);
  const host = options.host ?? hostname().toLowerCase();
  const { mount } = loginOf(place.login);
  const target = place.login.body_files?.secret_id;
  if (!target)
    throw new Failure("config", "vault.login.body_files names no file for the secret_id", hint);
  const token = read(file, (name) => readFileSync(name === "-" ? 0 : name, "utf8")).trim();
  const vault = connect(place, token);
  const wanted = `auth/${mount}/role/${roleOf(host)}/secret-id`;
  const { data: looked } = await opened(vault.write("sys/wrapping/lookup", { token }));
  if (looked?.creation_path !== wanted)
    throw alarm(`it was made by ${looked?.creation_path}, not by ${wanted}`);
  const { data } = await opened(vault.write("sys/wrapping/unwrap", {}));
  writeFileSync(`${target}.new`, `${data?.secret_id}\n`, { mode: 0o600 });
  renameSync(`${target}.new`, target);
  print([
    `${target}: the secret id of ${roleOf(host)}, accessor ${data?.secret_id_accessor}`,
    "Start the server; when it has logged in, destroy the host's other secret ids:",
    `  authproxy provision --keep-only ${data?.secret_id_accessor} …`,
  ]);
  return 0;
}

async function opened<T>(answer: Promise<T>): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    const { message } = error as Error;
    if (!message.includes("wrapping token is not valid")) throw error;
    throw alarm("it is too old, or somebody has opened it");
  }
}

function alarm(what: string): Failure {
  const hint =
    "if it is not simply old: destroy the host's secret ids (provision --keep-only), look for who";
  return new Failure("refused", `ALARM: the wrapped secret id was not taken: ${what}`, hint);
}
