// Question: how do the commands that change Vault speak to it? Input: where Vault is, by the
// configuration; a token that the person who runs the command has brought.
// Guaranteed: TLS is verified, whatever the environment says; no token is in a message, and nothing
// of a request is in a debug log.
// Source: Vault's API pages; node-vault's documentation.
import nodeVault from "node-vault";
import type { VaultAddress } from "../server/config.ts";
import type { Json, JsonObject } from "../server/json.ts";
import { readTrustedFile } from "../server/trusted-file.ts";
import { readOrFail } from "./configuration.ts";
import { Failure } from "./terminal.ts";

const CALL_DEADLINE_MS = 10_000;

type WrapInfo = { token: string; wrapped_accessor: string; creation_path: string };
export type VaultResponse = { data?: JsonObject | null; wrap_info?: WrapInfo | null };
export type Vault = ReturnType<typeof connect>;

/** The Vault token of the person who runs the command: from --token-file or VAULT_TOKEN. Throws the
 * Failure "usage" where there is none. */
export function administratorToken({ "token-file": file }: { "token-file"?: string }): string {
  const token = file ? readOrFail(file, readTrustedFile).trim() : process.env.VAULT_TOKEN;
  if (token) return token;
  throw new Failure(
    "usage",
    "no Vault token was given",
    "log in to Vault, then pass --token-file FILE or set VAULT_TOKEN",
  );
}

/** A client of Vault for this token. Its functions throw the Failures "refused" (Vault said 403)
 * and "unavailable" (Vault did not answer, or with another error). */
export function connect({ address, ca, namespace = "" }: VaultAddress, token: string) {
  const client = nodeVault({
    endpoint: address,
    // Set here, these outweigh VAULT_SKIP_VERIFY and NODE_TLS_REJECT_UNAUTHORIZED.
    requestOptions: { strictSSL: true, timeout: CALL_DEADLINE_MS, ...(ca && { ca }) },
    debug: () => {}, // node-vault's own function prints whole requests
  });
  // Set here, these outweigh VAULT_TOKEN, VAULT_NAMESPACE and VAULT_PREFIX.
  Object.assign(client, { token, namespace, pathPrefix: "" });

  /** Undefined where Vault says 404. `call` names the request in messages. */
  async function unlessMissing(
    call: string,
    response: Promise<VaultResponse>,
  ): Promise<VaultResponse | undefined> {
    try {
      return await response;
    } catch (error) {
      const { response, message } = error as Partial<nodeVault.ApiResponseError> & Error;
      const status = response?.statusCode;
      if (status === 404) return undefined;
      const problem = `${call}: ${message.replace(/\s+/g, " ").trim()}`;
      if (status === 403)
        throw new Failure("refused", problem, "check that your token's policies allow this");
      throw new Failure("unavailable", `Vault at ${address}: ${problem}`);
    }
  }

  return {
    /** The `data` at a path; undefined where there is nothing. */
    async read(path: string): Promise<JsonObject | undefined> {
      const response = await unlessMissing(`read ${path}`, client.read(path));
      return response?.data ?? undefined;
    },

    /** The keys below a path; empty where there is nothing. */
    async list(path: string): Promise<Json[]> {
      const response = await unlessMissing(`list ${path}`, client.list(path));
      return (response?.data?.keys as Json[] | undefined) ?? [];
    },

    async write(path: string, body: JsonObject, headers = {}): Promise<VaultResponse> {
      const response = await unlessMissing(`write ${path}`, client.write(path, body, { headers }));
      if (response !== undefined) return response;
      throw new Failure("unavailable", `Vault at ${address}: write ${path}: no such path`);
    },
  };
}
