// Question: which bytes are this keystore, or truststore, as Java reads it?
// Output:   a PKCS #12 file (RFC 7292): bags of keys and certificates, encrypted by PBES2, under a MAC
//           with HMAC-SHA-256. PBES2 (RFC 8018, 6.2) is here PBKDF2 with HMAC-SHA-256, and AES-256 in
//           CBC mode. keytool writes the same, and a FIPS 140 provider takes it. All values are DER.

import {
  bmpString,
  explicit,
  integer,
  nullValue,
  objectIdentifier,
  octetString,
  sequence,
  set,
  tagged,
} from "./der.ts";

// The names are those of RFC 7292, RFC 5652, RFC 8018 and RFC 2985.
const DATA = "1.2.840.113549.1.7.1";
const ENCRYPTED_DATA = "1.2.840.113549.1.7.6";
const PKCS8_SHROUDED_KEY_BAG = "1.2.840.113549.1.12.10.1.2";
const CERT_BAG = "1.2.840.113549.1.12.10.1.3";
const X509_CERTIFICATE = "1.2.840.113549.1.9.22.1";
const FRIENDLY_NAME = "1.2.840.113549.1.9.20";
const LOCAL_KEY_ID = "1.2.840.113549.1.9.21";
/** Oracle's. Without it Java takes a certificate for a link of some chain, and does not trust it. */
const TRUSTED_KEY_USAGE = "2.16.840.1.113894.746875.1.1";
const ANY_EXTENDED_KEY_USAGE = "2.5.29.37.0";
const SHA256 = "2.16.840.1.101.3.4.2.1";
const HMAC_WITH_SHA256 = "1.2.840.113549.2.9";
const PBKDF2 = "1.2.840.113549.1.5.12";
const PBES2 = "1.2.840.113549.1.5.13";
const AES256_CBC = "2.16.840.1.101.3.4.1.42";

/** keytool's number. */
const ROUNDS = 10_000;
/** SP 800-132, 5.1, asks for 16 bytes at least. */
const SALT_BYTES = 20;
const SHA256_BLOCK_BYTES = 64;

export type Identity = {
  readonly alias: string;
  /** PKCS #8 in DER. */
  readonly key: Uint8Array;
  /** DER. */
  readonly certificate: Uint8Array;
  /** The certificates above in DER, the issuer's first. */
  readonly issuers: readonly Uint8Array[];
};

/** Returns a file with a key, its certificate and the chain. */
export function makeKeystore(identity: Identity, password: string): Buffer {
  const name = attribute(FRIENDLY_NAME, bmpString(identity.alias));
  // It is equal for the key and its certificate. There is one of each.
  const keyId = attribute(LOCAL_KEY_ID, octetString(Buffer.of(1)));

  const certificates = [
    certificateBag(identity.certificate, name, keyId),
    ...identity.issuers.map((issuer) => certificateBag(issuer)),
  ];
  const { algorithm, ciphertext } = encrypt(identity.key, password);
  const shroudedKey = sequence(algorithm, octetString(ciphertext));
  const keys = sequence(bag(PKCS8_SHROUDED_KEY_BAG, shroudedKey, name, keyId));
  const contents = [encryptedContent(sequence(...certificates), password), plainContent(keys)];
  return withMac(contents, password);
}

/** Returns a file with certificates that are to be trusted, by their aliases. */
export function makeTruststore(
  certificates: Readonly<Record<string, Uint8Array>>,
  password: string,
): Buffer {
  const trusted = attribute(TRUSTED_KEY_USAGE, objectIdentifier(ANY_EXTENDED_KEY_USAGE));
  const bags = Object.entries(certificates).map(([alias, certificate]) =>
    certificateBag(certificate, attribute(FRIENDLY_NAME, bmpString(alias)), trusted),
  );
  return withMac([encryptedContent(sequence(...bags), password)], password);
}

/** PFX (RFC 7292, 4): the contents, and the MAC over them. */
function withMac(contents: readonly Buffer[], password: string): Buffer {
  const { createHmac, randomBytes } = process.getBuiltinModule("node:crypto");
  const authenticatedSafe = sequence(...contents);
  const salt = randomBytes(SALT_BYTES);
  const key = deriveMacKey(password, salt, ROUNDS);
  const mac = createHmac("sha256", key).update(authenticatedSafe).digest();
  const digestInfo = sequence(typed(SHA256, nullValue()), octetString(mac));
  const macData = sequence(digestInfo, octetString(salt), integer(ROUNDS));
  return sequence(integer(3), plainContent(authenticatedSafe), macData);
}

/**
 * Derives the key of the MAC (RFC 7292, B.2). It is as long as one SHA-256, so that the first step of
 * the derivation is the last.
 */
export function deriveMacKey(password: string, salt: Uint8Array, rounds: number): Buffer {
  const { hash } = process.getBuiltinModule("node:crypto");
  // B.1: the password in UTF-16, big-endian, with a NUL at its end.
  const passwordBytes = Buffer.from(`${password}\0`, "utf16le").swap16();
  // B.3: 3 is the purpose "key of a MAC".
  const purpose = Buffer.alloc(SHA256_BLOCK_BYTES, 3);
  const input = Buffer.concat([purpose, fillBlocks(salt), fillBlocks(passwordBytes)]);
  let key = hash("sha256", input, "buffer");
  for (let round = 1; round < rounds; round++) key = hash("sha256", key, "buffer");
  return key;
}

/** Repeats the bytes up to the end of a block. The last copy may be cut. */
function fillBlocks(bytes: Uint8Array): Buffer {
  const blocks = Math.ceil(bytes.length / SHA256_BLOCK_BYTES);
  return Buffer.alloc(blocks * SHA256_BLOCK_BYTES, bytes);
}

type Encrypted = {
  /** An AlgorithmIdentifier in DER. */
  readonly algorithm: Buffer;
  readonly ciphertext: Buffer;
};

function encrypt(plaintext: Uint8Array, password: string): Encrypted {
  const { createCipheriv, pbkdf2Sync, randomBytes } = process.getBuiltinModule("node:crypto");
  const salt = randomBytes(SALT_BYTES);
  // AES-256 has a key of 32 bytes, and a block of 16.
  const initialVector = randomBytes(16);
  const key = pbkdf2Sync(password, salt, ROUNDS, 32, "sha256");
  const cipher = createCipheriv("aes-256-cbc", key, initialVector);
  const ciphertext = Buffer.concat([cipher.update(plaintext), cipher.final()]);

  const hmac = typed(HMAC_WITH_SHA256, nullValue());
  const derivation = typed(PBKDF2, sequence(octetString(salt), integer(ROUNDS), hmac));
  const encryption = typed(AES256_CBC, octetString(initialVector));
  return { algorithm: typed(PBES2, sequence(derivation, encryption)), ciphertext };
}

function plainContent(content: Buffer): Buffer {
  return typed(DATA, explicit(0, octetString(content)));
}

function encryptedContent(content: Buffer, password: string): Buffer {
  const { algorithm, ciphertext } = encrypt(content, password);
  // [0] IMPLICIT OCTET STRING (RFC 5652, 8).
  const info = typed(DATA, algorithm, tagged(0x80, ciphertext));
  return typed(ENCRYPTED_DATA, explicit(0, sequence(integer(0), info)));
}

function certificateBag(certificate: Uint8Array, ...attributes: readonly Buffer[]): Buffer {
  const content = typed(X509_CERTIFICATE, explicit(0, octetString(certificate)));
  return bag(CERT_BAG, content, ...attributes);
}

function bag(kind: string, content: Buffer, ...attributes: readonly Buffer[]): Buffer {
  const members = [explicit(0, content)];
  if (attributes.length > 0) members.push(set(...attributes));
  return typed(kind, ...members);
}

function attribute(kind: string, value: Buffer): Buffer {
  return typed(kind, set(value));
}

/** A SEQUENCE that begins with the identifier of what follows. */
function typed(kind: string, ...members: readonly Buffer[]): Buffer {
  return sequence(objectIdentifier(kind), ...members);
}
