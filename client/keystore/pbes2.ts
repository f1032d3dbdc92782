// How is this encrypted under a password? PBES2 of RFC 8018 (6.2): the key by PBKDF2 with
// HMAC-SHA-256, the cipher AES-256 in CBC mode: what keytool writes too, and a FIPS 140 provider takes.

import { integer, nothing, octets, oid, sequence } from "./der.ts";

/** As keytool. */
export const ROUNDS = 10_000;
/** SP 800-132, 5.1, asks for 16 bytes at least. */
export const SALT_BYTES = 20;

export type Encrypted = {
  /** The AlgorithmIdentifier, in DER. */
  readonly algorithm: Buffer;
  readonly ciphertext: Buffer;
};

export function encrypt(plaintext: Uint8Array, password: string): Encrypted {
  const { createCipheriv, pbkdf2Sync, randomBytes } = process.getBuiltinModule("node:crypto");
  const salt = randomBytes(SALT_BYTES);
  const initial = randomBytes(16);
  const key = pbkdf2Sync(password, salt, ROUNDS, 32, "sha256");
  const cipher = createCipheriv("aes-256-cbc", key, initial);
  const ciphertext = Buffer.concat([cipher.update(plaintext), cipher.final()]);
  const hmacWithSha256 = sequence(oid("1.2.840.113549.2.9"), nothing());
  const derivation = sequence(
    oid("1.2.840.113549.1.5.12"), // id-PBKDF2
    sequence(octets(salt), integer(ROUNDS), hmacWithSha256),
  );
  const encryption = sequence(oid("2.16.840.1.101.3.4.1.42"), octets(initial)); // aes256-CBC-PAD
  const algorithm = sequence(
    oid("1.2.840.113549.1.5.13"), // id-PBES2
    sequence(derivation, encryption),
  );
  return { algorithm, ciphertext };
}
