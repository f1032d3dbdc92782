// Which bytes are this keystore, or truststore, as Java reads it? A PKCS #12 file (RFC 7292): bags of
// keys and certificates, encrypted by PBES2, under a MAC with HMAC-SHA-256. All values are DER.

import { bmp, explicit, integer, nothing, octets, oid, sequence, set, tagged } from "./der.ts";
import { encrypt, ROUNDS, SALT_BYTES } from "./pbes2.ts";

const DATA = "1.2.840.113549.1.7.1";
const ENCRYPTED_DATA = "1.2.840.113549.1.7.6";
const KEY_BAG = "1.2.840.113549.1.12.10.1.2"; // pkcs8ShroudedKeyBag
const CERTIFICATE_BAG = "1.2.840.113549.1.12.10.1.3";
const X509_CERTIFICATE = "1.2.840.113549.1.9.22.1";
const FRIENDLY_NAME = "1.2.840.113549.1.9.20";
const LOCAL_KEY_ID = "1.2.840.113549.1.9.21";
/** Oracle's: without it Java takes a certificate for a link of some chain, and trusts it in nothing. */
const TRUSTED_KEY_USAGE = "2.16.840.1.113894.746875.1.1";
const ANY_USAGE = "2.5.29.37.0";
const SHA256 = "2.16.840.1.101.3.4.2.1";

/** Of SHA-256. */
const BLOCK_BYTES = 64;

export type Identity = {
  readonly alias: string;
  /** PKCS #8. */
  readonly key: Uint8Array;
  readonly certificate: Uint8Array;
  /** Who issued it, and who issued that. */
  readonly issuers: readonly Uint8Array[];
};

/** A key and its certificate with the chain. */
export function keystore(identity: Identity, password: string): Buffer {
  const { alias, key, certificate, issuers } = identity;
  const name = attribute(FRIENDLY_NAME, bmp(alias));
  // Equal for the key and its certificate; there is one of each.
  const pair = attribute(LOCAL_KEY_ID, octets(Buffer.of(1)));
  const { algorithm, ciphertext } = encrypt(key, password);
  const shrouded = sequence(algorithm, octets(ciphertext));
  const certificates = [
    certificateBag(certificate, name, pair),
    ...issuers.map((issuer) => certificateBag(issuer)),
  ];
  const keys = sequence(bag(KEY_BAG, shrouded, name, pair));
  return authenticated(
    [encryptedContent(sequence(...certificates), password), plainContent(keys)],
    password,
  );
}

/** Certificates to be trusted, by their aliases. */
export function truststore(
  certificates: Readonly<Record<string, Uint8Array>>,
  password: string,
): Buffer {
  const trusted = attribute(TRUSTED_KEY_USAGE, oid(ANY_USAGE));
  const bags = Object.entries(certificates).map(([alias, certificate]) =>
    certificateBag(certificate, attribute(FRIENDLY_NAME, bmp(alias)), trusted),
  );
  return authenticated([encryptedContent(sequence(...bags), password)], password);
}

/** PFX (4): the contents, and the MAC over them. */
function authenticated(contents: readonly Buffer[], password: string): Buffer {
  const { createHmac, randomBytes } = process.getBuiltinModule("node:crypto");
  const safe = sequence(...contents);
  const salt = randomBytes(SALT_BYTES);
  const mac = createHmac("sha256", macKey(password, salt, ROUNDS))
    .update(safe)
    .digest();
  const digest = sequence(sequence(oid(SHA256), nothing()), octets(mac));
  return sequence(integer(3), plainContent(safe), sequence(digest, octets(salt), integer(ROUNDS)));
}

/** Appendix B.2. What is asked for is as long as one SHA-256, so that its first round is all. */
export function macKey(password: string, salt: Uint8Array, rounds: number): Buffer {
  const { hash } = process.getBuiltinModule("node:crypto");
  // B.1: UTF-16, big-endian, with a NUL at its end.
  const secret = Buffer.from(`${password}\0`, "utf16le").swap16();
  const purpose = Buffer.alloc(BLOCK_BYTES, 3); // B.3: 3 is the key of a MAC
  let key = hash("sha256", Buffer.concat([purpose, fill(salt), fill(secret)]), "buffer");
  for (let round = 1; round < rounds; round++) key = hash("sha256", key, "buffer");
  return key;
}

/** Copies of it, the last cut, up to the end of a block. */
function fill(bytes: Uint8Array): Buffer {
  return Buffer.alloc(Math.ceil(bytes.length / BLOCK_BYTES) * BLOCK_BYTES, bytes);
}

function plainContent(content: Buffer): Buffer {
  return sequence(oid(DATA), explicit(0, octets(content)));
}

function encryptedContent(content: Buffer, password: string): Buffer {
  const { algorithm, ciphertext } = encrypt(content, password);
  // [0] IMPLICIT OCTET STRING (RFC 5652, 8).
  const info = sequence(oid(DATA), algorithm, tagged(0x80, ciphertext));
  return sequence(oid(ENCRYPTED_DATA), explicit(0, sequence(integer(0), info)));
}

function certificateBag(certificate: Uint8Array, ...attributes: readonly Buffer[]): Buffer {
  const content = sequence(oid(X509_CERTIFICATE), explicit(0, octets(certificate)));
  return bag(CERTIFICATE_BAG, content, ...attributes);
}

function bag(kind: string, content: Buffer, ...attributes: readonly Buffer[]): Buffer {
  const described = attributes.length > 0 ? [set(...attributes)] : [];
  return sequence(oid(kind), explicit(0, content), ...described);
}

function attribute(kind: string, value: Buffer): Buffer {
  return sequence(oid(kind), set(value));
}
