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

/** The names are those of RFC 7292, RFC 5652, RFC 8018 and RFC 2985. */
const OID = {
  data: "1.2.840.113549.1.7.1",
  encryptedData: "1.2.840.113549.1.7.6",
  pkcs8ShroudedKeyBag: "1.2.840.113549.1.12.10.1.2",
  certBag: "1.2.840.113549.1.12.10.1.3",
  x509Certificate: "1.2.840.113549.1.9.22.1",
  friendlyName: "1.2.840.113549.1.9.20",
  localKeyId: "1.2.840.113549.1.9.21",
  // Oracle's. Without it Java takes a certificate for a link of some chain, and does not trust it.
  trustedKeyUsage: "2.16.840.1.113894.746875.1.1",
  anyExtendedKeyUsage: "2.5.29.37.0",
  sha256: "2.16.840.1.101.3.4.2.1",
  hmacWithSha256: "1.2.840.113549.2.9",
  pbkdf2: "1.2.840.113549.1.5.12",
  pbes2: "1.2.840.113549.1.5.13",
  aes256Cbc: "2.16.840.1.101.3.4.1.42",
};

/** keytool's number. */
const ROUNDS = 10_000;
/** SP 800-132, 5.1, asks for 16 bytes at least. */
const SALT_BYTES = 20;
const AES_KEY_BYTES = 32;
const AES_BLOCK_BYTES = 16;
const SHA256_BLOCK_BYTES = 64;
/** RFC 7292, B.3: the purpose "key of a MAC". */
const MAC_PURPOSE = 3;

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
  const name = attribute(OID.friendlyName, bmpString(identity.alias));
  // It is equal for the key and its certificate. There is one of each.
  const keyId = attribute(OID.localKeyId, octetString(Buffer.of(1)));

  const certificates = [
    certificateBag(identity.certificate, name, keyId),
    ...identity.issuers.map((issuer) => certificateBag(issuer)),
  ];
  const { algorithm, ciphertext } = encrypt(identity.key, password);
  const shroudedKey = sequence(algorithm, octetString(ciphertext));
  const keys = sequence(bag(OID.pkcs8ShroudedKeyBag, shroudedKey, name, keyId));
  const contents = [encryptedContent(sequence(...certificates), password), plainContent(keys)];
  return withMac(contents, password);
}

/** Returns a file with certificates that are to be trusted, by their aliases. */
export function makeTruststore(
  certificates: Readonly<Record<string, Uint8Array>>,
  password: string,
): Buffer {
  const trusted = attribute(OID.trustedKeyUsage, objectIdentifier(OID.anyExtendedKeyUsage));
  const bags = Object.entries(certificates).map(([alias, certificate]) =>
    certificateBag(certificate, attribute(OID.friendlyName, bmpString(alias)), trusted),
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
  const digestAlgorithm = sequence(objectIdentifier(OID.sha256), nullValue());
  const digestInfo = sequence(digestAlgorithm, octetString(mac));
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
  const purpose = Buffer.alloc(SHA256_BLOCK_BYTES, MAC_PURPOSE);
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
  const initialVector = randomBytes(AES_BLOCK_BYTES);
  const key = pbkdf2Sync(password, salt, ROUNDS, AES_KEY_BYTES, "sha256");
  const cipher = createCipheriv("aes-256-cbc", key, initialVector);
  const ciphertext = Buffer.concat([cipher.update(plaintext), cipher.final()]);

  const hmac = sequence(objectIdentifier(OID.hmacWithSha256), nullValue());
  const derivation = sequence(
    objectIdentifier(OID.pbkdf2),
    sequence(octetString(salt), integer(ROUNDS), hmac),
  );
  const encryption = sequence(objectIdentifier(OID.aes256Cbc), octetString(initialVector));
  const algorithm = sequence(objectIdentifier(OID.pbes2), sequence(derivation, encryption));
  return { algorithm, ciphertext };
}

function plainContent(content: Buffer): Buffer {
  return sequence(objectIdentifier(OID.data), explicit(0, octetString(content)));
}

function encryptedContent(content: Buffer, password: string): Buffer {
  const { algorithm, ciphertext } = encrypt(content, password);
  // [0] IMPLICIT OCTET STRING (RFC 5652, 8).
  const info = sequence(objectIdentifier(OID.data), algorithm, tagged(0x80, ciphertext));
  const encryptedData = sequence(integer(0), info);
  return sequence(objectIdentifier(OID.encryptedData), explicit(0, encryptedData));
}

function certificateBag(certificate: Uint8Array, ...attributes: readonly Buffer[]): Buffer {
  const x509 = objectIdentifier(OID.x509Certificate);
  const content = sequence(x509, explicit(0, octetString(certificate)));
  return bag(OID.certBag, content, ...attributes);
}

function bag(kind: string, content: Buffer, ...attributes: readonly Buffer[]): Buffer {
  const members = [objectIdentifier(kind), explicit(0, content)];
  if (attributes.length > 0) members.push(set(...attributes));
  return sequence(...members);
}

function attribute(kind: string, value: Buffer): Buffer {
  return sequence(objectIdentifier(kind), set(value));
}
