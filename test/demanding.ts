// Question: what stands there where Vault demands a client certificate?
// Output:   another OpenBao, with two listeners that do: any version of TLS, and 1.2 at most.
import { dirname, join } from "node:path";
import { freePort, type OpenBao, startOpenBao } from "../scripts/openbao.ts";

/** `bao` lends its certificate. The first of the ports speaks TLS 1.3. The caller stops what it gets. */
export async function startDemandingOpenBao(
  bao: OpenBao,
): Promise<{ demanding: OpenBao; ports: number[] }> {
  const certificates = dirname(bao.caFile);
  const ports = [await freePort(), await freePort()];
  const listeners = ports.map((port, i) => {
    return `listener "tcp" {
      address = "127.0.0.1:${port}"
      tls_cert_file = "${join(certificates, "vault-cert.pem")}"
      tls_key_file = "${join(certificates, "vault-key.pem")}"
      tls_require_and_verify_client_cert = true
      tls_client_ca_file = "${bao.caFile}"
      ${i === 0 ? "" : 'tls_max_version = "tls12"'}
    }`;
  });
  return { demanding: await startOpenBao({ config: listeners.join("\n") }), ports };
}
