// What does an answer of a PKI engine hold for Java, beside its PEM? Three keys more:
//
//   keystore.p12        the key, under the alias "tls", with its certificate and the chain
//   truststore.p12      the CA that issued it, under "ca": nobody else is trusted, not the root above
//   keystore.password   of both: random, and the same for as long as this client lives, so that
//                       an application can read what replaced them
//
// Another answer stays as it is, one in another format than Vault's own (`"format":"pem"`) too.

import { type Fields, textOf } from "../json.ts";
import { Bytes } from "./bytes.ts";
import { keystore, truststore } from "./pkcs12.ts";

let password: string | undefined;

export function withKeystores(fields: Fields): Fields {
  const { certificate, private_key: key, issuing_ca: issuer, ca_chain: chain } = fields;
  const isIssued = fields.serial_number !== undefined;
  if (!(isIssued && isPem(certificate) && isPem(key) && isPem(issuer))) return fields;
  const { createPrivateKey, randomBytes, X509Certificate } =
    process.getBuiltinModule("node:crypto");
  // Hexadecimal: of base64url one in 64 begins with "-", which keytool takes for an option.
  password ??= randomBytes(32).toString("hex");
  const secret = password;
  const der = (pem: unknown) => new X509Certificate(textOf(pem)).raw;
  const issuers = Array.isArray(chain) && chain.length > 0 ? chain : [issuer];
  const identity = {
    alias: "tls",
    key: createPrivateKey(key).export({ format: "der", type: "pkcs8" }),
    certificate: der(certificate),
    issuers: issuers.map(der),
  };
  const all: Fields = { ...fields, "keystore.password": secret };
  // Made once, and only for who wants it: the rounds of each take some 10 ms.
  const add = (name: string, make: () => Uint8Array) => {
    let made: Bytes | undefined;
    const get = () => (made ??= new Bytes(make()));
    Object.defineProperty(all, name, { get, enumerable: true });
  };
  add("keystore.p12", () => keystore(identity, secret));
  add("truststore.p12", () => truststore({ ca: der(issuer) }, secret));
  return all;
}

function isPem(value: unknown): value is string {
  return typeof value === "string" && value.startsWith("-----BEGIN ");
}
