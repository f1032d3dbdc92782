// Question: for how long is what Vault answered good?
// Input:    the body of an answer, and the clock. Whoever wrote a KV secret chose its fields, so they say
//           nothing here, whatever their names are.
// Output:   seconds. An engine gives the end of what it makes as a lease, as the time that is left, or as a
//           date, which an SSH certificate has inside it.

import { type Fields, textOf, type VaultBody } from "./values.ts";

/** The time that is left: identity/oidc/token and static roles, a roleset of gcp, an AppRole. */
const TTL_FIELDS = ["ttl", "token_ttl", "secret_id_ttl"];
/** A date: pki, gcp, plugins for GitHub and GitLab, and tokens. */
const END_FIELDS = [
  "expiration",
  "expires_at_seconds",
  "expires_at",
  "expire_time",
  "valid_before",
];

/** How many strings the public key has in an SSH certificate, by a word of its type. */
const SSH_KEY_STRINGS: Readonly<Record<string, number>> = { rsa: 2, dss: 4, ed25519: 1, sha2: 2 };

/**
 * Returns the seconds until the lease, the certificate or the like ends, 0 where that is over, or
 * undefined where nothing ends or Vault does not say when.
 */
export function lifetimeOf(body: VaultBody): number | undefined {
  const leaseSeconds = Number(textOf(body.lease_duration ?? 0));
  if (body.lease_id) return leaseSeconds;

  // Only KV version 1 has a lease_duration without a lease. It is the mount's TTL, unless the secret has
  // a field `ttl` or `lease`: then it is that, also where that is 0. Version 2 has `data` and `metadata`.
  const fields = body.data ?? {};
  if (leaseSeconds !== 0 || "lease" in fields) return undefined;

  const ttlField = TTL_FIELDS.find((name) => name in fields);
  if (ttlField) {
    const seconds = Number(textOf(fields[ttlField]));
    if (seconds >= 1) return seconds;
    return isRotated(fields) ? 0 : undefined;
  }

  const ends = END_FIELDS.map((name) => secondsSince1970(fields[name]));
  ends.push(sshCertificateEnd(fields.signed_key));
  const end = Math.min(...ends.filter((seconds) => seconds > 0));
  if (end === Number.POSITIVE_INFINITY) return undefined;
  return Math.max(0, Math.ceil(end - Date.now() / 1000));
}

/**
 * Says whether it is the password of a static role, which Vault replaces at its end, or when it is told
 * to. Until Vault has done so its `ttl` is 0.
 */
export function isRotated(fields: Fields): boolean {
  return "last_vault_rotation" in fields;
}

/** Returns NaN where the value is neither seconds nor a date in text. */
function secondsSince1970(value: unknown): number {
  const text = textOf(value ?? null);
  const seconds = Number(text);
  return Number.isNaN(seconds) ? Date.parse(text) / 1000 : seconds;
}

/** Returns `valid before` of a certificate in the format of OpenSSH's PROTOCOL.certkeys, or NaN. */
function sshCertificateEnd(signedKey: unknown): number {
  const match = /^(sk-)?(?:ssh|ecdsa)-([a-z\d]+)\S* (\S+)/.exec(textOf(signedKey ?? null));
  const [, securityKey, keyType = "", base64 = ""] = match ?? [];
  const keyStrings = (SSH_KEY_STRINGS[keyType] ?? 0) + (securityKey ? 1 : 0);
  const bytes = Buffer.from(base64, "base64");
  let position = 0;
  function skipStrings(count: number): void {
    for (let index = 0; index < count; index++) position += 4 + bytes.readUInt32BE(position);
  }

  try {
    // Its type and a nonce come first.
    skipStrings(2 + keyStrings);
    // A serial number of 8 bytes, and whether it is a user's or a host's, in 4.
    position += 12;
    // Its name and the principals.
    skipStrings(2);
    // `valid after` takes 8 bytes.
    return Number(bytes.readBigUInt64BE(position + 8));
  } catch {
    return Number.NaN;
  }
}
