/**
 * authproxy, the client as a module of Node. Its settings are the AUTHPROXY_… variables. Every
 * failure is an Error with `exitCode`, `message` and perhaps `hint`, and never holds a secret.
 */

/** Where Vault is, and how to trust it. */
export type VaultPlace = {
  /** "https://vault.example:8200" */
  readonly address: string;
  /** The CA in PEM; undefined where Vault's certificate is from a public CA. */
  readonly ca: string | undefined;
  readonly namespace: string | undefined;
};

export type Token = {
  readonly service: string;
  readonly token: string;
  readonly vault: VaultPlace;
};

/** Values by the names that were asked for; undefined where an optional reference (`#?`) leads nowhere. */
export type Secrets<References> = { [Name in keyof References]: string | undefined };

/** Returns this container's Vault token: it is asked for once, and is the same ever after. */
export declare function getToken(): Promise<Token>;

/**
 * Returns the values of references, such as `{ password: "vault:secret/data/app#password" }`. Each
 * call fetches them again; within one call, equal requests are made once.
 */
export declare function getSecrets<const References extends Readonly<Record<string, string>>>(
  references: References,
): Promise<Secrets<References>>;
