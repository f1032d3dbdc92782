// Question: who certifies a Vault of the tests, where that changes? Output: a certificate authority
// of its own, by openssl, and certificates of it for this machine's loopback.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Stage } from "../stage.ts";

const NEW = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"];
const NAMES = "subjectAltName=IP:127.0.0.1,DNS:localhost";

export class Authority {
  readonly caFile: string;
  readonly ca: string;
  readonly #keyFile: string;

  constructor(stage: Stage) {
    const directory = mkdtempSync(join(stage.directory, "authority-"));
    this.caFile = join(directory, "ca.pem");
    this.#keyFile = join(directory, "ca-key.pem");
    openssl("/CN=authproxy chaos", this.caFile, this.#keyFile);
    this.ca = readFileSync(this.caFile, "utf8");
  }

  /** Makes, or replaces, a certificate and its key. */
  certify(certFile: string, keyFile: string): void {
    const leaf = ["-CA", this.caFile, "-CAkey", this.#keyFile, "-addext", NAMES];
    const rest = ["-addext", "basicConstraints=critical,CA:FALSE"];
    openssl("/CN=localhost", certFile, keyFile, ...leaf, ...rest);
  }
}

function openssl(subject: string, certFile: string, keyFile: string, ...more: string[]): void {
  const files = ["-out", certFile, "-keyout", keyFile];
  execFileSync("openssl", ["req", "-x509", ...NEW, "-subj", subject, ...files, ...more], {
    stdio: "pipe",
  });
}
