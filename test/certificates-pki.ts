// Question: which certificates does a service of the tests get, and for which name?
// Output:   in an OpenBao a root CA, and below it the one that issues: at `pki`, with a role for each
//           service that admits one name and nothing else. docs/certificates.md has the same for `bao`.
import { client, type OpenBao } from "../scripts/openbao.ts";
import type { JsonObject } from "../server/json.ts";

export const nameOf = (service: string) => `${service}.production.example.io`;

/** The root's certificate, in PEM. */
export async function mountPki(bao: OpenBao): Promise<string> {
  const vault = client(bao);
  const key = { key_type: "ec" };
  await vault.mount({ mount_point: "pki-root", type: "pki" });
  await vault.mount({ mount_point: "pki", type: "pki" });
  const top = { common_name: "root", ttl: "24h", ...key };
  const root: Answer = await vault.write("pki-root/root/generate/internal", top);
  const issuing = { common_name: "production", ...key };
  const { data }: Answer = await vault.write("pki/intermediate/generate/internal", issuing);
  const signed: Answer = await vault.write("pki-root/root/sign-intermediate", {
    csr: data.csr,
    common_name: "production",
    ttl: "12h",
    format: "pem_bundle",
  });
  await vault.write("pki/intermediate/set-signed", { certificate: signed.data.certificate });
  return String(root.data.certificate);
}

type Answer = { data: JsonObject };

/** The role decides which name, the policy that there is no second one: with a bare domain a role
 * admits e-mail addresses there too. `generate_lease`: a certificate is revoked with the token that
 * asked for it. */
export async function admit(bao: OpenBao, service: string, keyType = "ec"): Promise<void> {
  const vault = client(bao);
  await vault.write(`pki/roles/${service}`, {
    allowed_domains: nameOf(service),
    allow_bare_domains: true,
    allow_localhost: false,
    allow_ip_sans: false,
    cn_validations: "hostname",
    key_type: keyType,
    max_ttl: "1h",
    generate_lease: true,
  });
  const parameters = "allowed_parameters = { common_name = [], ttl = [] }";
  const policy = `path "pki/issue/${service}" { capabilities = ["update"] ${parameters} }`;
  await vault.addPolicy({ name: service, policy });
}
