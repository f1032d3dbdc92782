/** authproxy, the client as a module of Node. Settings are the AUTHPROXY_… variables. What goes
 * wrong is an Error with `exitCode`, `message` and perhaps `hint`, never with a secret in it. */

export type VaultPlace = {
  /** "https://vault.example:8200" */
  readonly address: string;
  /** PEM; undefined: a public one. */
  readonly ca: string | undefined;
  readonly namespace: string | undefined;
};

export type Token = {
  readonly service: string;
  readonly token: string;
  readonly vault: VaultPlace;
};

/** By the names that were asked for; undefined where an optional reference (`#?`) leads nowhere. */
export type Secrets<References> = { [Name in keyof References]: string | undefined };

/** This container's own Vault token: asked for once, then always the same. */
export declare function getToken(): Promise<Token>;

/** The values of references, as `{ password: "vault:secret/data/app#password" }`: fetched anew with
 * each call, equal requests of one call once. */
export declare function getSecrets<const References extends Readonly<Record<string, string>>>(
  references: References,
): Promise<Secrets<References>>;
