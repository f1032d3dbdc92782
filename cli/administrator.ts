// Question: how do the commands that change Vault speak to it? Input: where Vault is, by the
// configuration; a token that the person who runs the command has brought, or none.
// Guaranteed: TLS is verified, whatever the environment says; a token is in no message, and nothing
// of a request in a debug log.
import vault from "node-vault";
import type { VaultConfig } from "../server/config.ts";
import type { Json, JsonObject } from "../server/json.ts";
import { readTrustedFile } from "../server/trusted-file.ts";
import { read } from "./configuration.ts";
import { Failure } from "./terminal.ts";

const DEADLINE_MS = 10_000;

export type Place = Pick<VaultConfig, "address" | "ca" | "namespace">;
type Wrapped = { token: string; wrapped_accessor: string; creation_path: string };
export type Answer = { data?: JsonObject | null; wrap_info?: Wrapped | null };
export type Vault = ReturnType<typeof connect>;

/** The token of who runs the command, from a file or the environment. */
export function tokenOf({ "token-file": file }: { "token-file"?: string }): string {
  const token = file ? read(file, readTrustedFile).trim() : process.env.VAULT_TOKEN;
  if (token) return token;
  const hint = "log in to Vault, then try: --token-file FILE, or VAULT_TOKEN in the environment";
  throw new Failure("usage", "there is no token of yours for Vault", hint);
}

export function connect({ address, ca, namespace = "" }: Place, token: string) {
  // Said here it outweighs VAULT_SKIP_VERIFY and NODE_TLS_REJECT_UNAUTHORIZED.
  const request = { strictSSL: true, timeout: DEADLINE_MS, ...(ca && { ca }) };
  const client = vault({
    endpoint: address,
    requestOptions: request,
    debug: () => {}, // node-vault's own prints whole requests
  });
  // Not the environment's: VAULT_TOKEN, VAULT_NAMESPACE, VAULT_PREFIX.
  Object.assign(client, { token, namespace, pathPrefix: "" });

  /** Undefined: there is no such thing. */
  async function look(what: string, answer: Promise<Answer>): Promise<Answer | undefined> {
    try {
      return await answer;
    } catch (error) {
      const { response, message } = error as Partial<vault.ApiResponseError> & Error;
      const { statusCode: status } = response ?? {};
      if (status === 404) return undefined;
      const said = `${what}: ${message.replace(/\s+/g, " ").trim()}`;
      if (status === 403) throw new Failure("refused", said, "may your token do that?");
      throw new Failure("unavailable", `Vault at ${address}: ${said}`);
    }
  }

  return {
    read: async (path: string): Promise<JsonObject | undefined> =>
      (await look(`read ${path}`, client.read(path)))?.data ?? undefined,
    list: async (path: string): Promise<Json[]> =>
      ((await look(`list ${path}`, client.list(path)))?.data?.keys as Json[]) ?? [],
    write: async (path: string, json: JsonObject, headers = {}): Promise<Answer> => {
      const answer = await look(`write ${path}`, client.write(path, json, { headers }));
      if (answer !== undefined) return answer;
      throw new Failure("unavailable", `Vault at ${address}: write ${path}: there is no such path`);
    },
  };
}
