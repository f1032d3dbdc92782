// Question: what does Java need of a PKI engine's answer, besides its PEM?
// Input:    the fields of an answer. Vault wrote them.
// Output:   three fields more:
//
//   keystore.p12        the key under the alias "tls", with its certificate and the chain
//   truststore.p12      the CA that issued it, under "ca". Nothing else is trusted, not the root above
//   keystore.password   the password of both. It is random, and the same for as long as this client
//                       lives, so that an application can read what replaced them
//
// Any other answer stays as it is, also one in another format than Vault's own (`"format":"pem"`).

import { type Fields, textOf } from "../values.ts";
import { makeKeystore, makeTruststore } from "./pkcs12.ts";

let password: string | undefined;

/** Returns the fields with a keystore and a truststore, or as they are where they are not of a PKI. */
export function withKeystores(fields: Fields): Fields {
  const { certificate, private_key: key, issuing_ca: issuer, ca_chain: chain } = fields;
  if (fields.serial_number === undefined) return fields;
  if (!isPem(certificate) || !isPem(key) || !isPem(issuer)) return fields;

  const { createPrivateKey, randomBytes } = process.getBuiltinModule("node:crypto");
  // Hexadecimal, because one in 64 texts in base64url begins with "-", which keytool takes for an
  // option.
  password ??= randomBytes(32).toString("hex");
  const storePassword = password;

  const issuers = Array.isArray(chain) && chain.length > 0 ? chain : [issuer];
  const identity = {
    alias: "tls",
    key: createPrivateKey(key).export({ format: "der", type: "pkcs8" }),
    certificate: derOf(certificate),
    issuers: issuers.map(derOf),
  };
  const withStores: Fields = { ...fields, "keystore.password": storePassword };
  addOnDemand(withStores, "keystore.p12", () => makeKeystore(identity, storePassword));
  addOnDemand(withStores, "truststore.p12", () =>
    makeTruststore({ ca: derOf(issuer) }, storePassword),
  );
  return withStores;
}

/** The rounds of a key derivation take some 10 ms: a store is made once, and only where it is read. */
function addOnDemand(fields: Fields, name: string, make: () => Buffer): void {
  let bytes: Uint8Array | undefined;
  Object.defineProperty(fields, name, {
    enumerable: true,
    get() {
      // A plain Uint8Array, because a Buffer has a toJSON() of its own: see jsonOf() in values.ts.
      bytes ??= new Uint8Array(make());
      return bytes;
    },
  });
}

function derOf(pem: unknown): Buffer {
  const { X509Certificate } = process.getBuiltinModule("node:crypto");
  return new X509Certificate(textOf(pem)).raw;
}

function isPem(value: unknown): value is string {
  return typeof value === "string" && value.startsWith("-----BEGIN ");
}
