// Question: how do engines of different kinds get the very same image, by the digest that a policy
// pins? Input: a layer, as a tar file. Output: the part of a registry that a pull needs, on
// loopback, where engines ask for no TLS. Source: OCI distribution specification, "Pull".
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";

const TYPES = {
  manifest: "application/vnd.oci.image.manifest.v1+json",
  config: "application/vnd.oci.image.config.v1+json",
  layer: "application/vnd.oci.image.layer.v1.tar",
};

export type Registry = { server: Server; port: number; reference: string };

/** Port 0: any that is free. `reference` is what to pull, and what a policy can pin. `architecture`: as
 * images have it. */
export async function startRegistry(
  layer: Buffer,
  port = 0,
  architecture = "amd64",
): Promise<Registry> {
  const blobs = new Map<string, { bytes: Buffer; mediaType: string }>();
  const add = (bytes: Buffer, mediaType: string) => {
    const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
    blobs.set(digest, { bytes, mediaType });
    return { mediaType, digest, size: bytes.length };
  };
  const addJson = (value: object, type: string) => add(Buffer.from(JSON.stringify(value)), type);
  const layers = [add(layer, TYPES.layer)];
  const rootfs = { type: "layers", diff_ids: layers.map(({ digest }) => digest) };
  const built = { architecture, os: "linux", config: { User: "1001:1001" }, rootfs };
  const config = addJson(built, TYPES.config);
  const manifest = { schemaVersion: 2, mediaType: TYPES.manifest, config, layers };
  const { digest } = addJson(manifest, TYPES.manifest);

  const server = createServer(({ method, url = "" }, answer) => {
    const wanted = url.split("/").at(-1) ?? "";
    const blob = url.startsWith("/v2/authproxy-lab/") ? blobs.get(wanted) : undefined;
    if (url === "/v2/") answer.end("{}");
    else if (!blob) answer.writeHead(404).end();
    else {
      answer.setHeader("Content-Type", blob.mediaType);
      answer.setHeader("Content-Length", blob.bytes.length);
      answer.setHeader("Docker-Content-Digest", wanted);
      answer.end(method === "HEAD" ? undefined : blob.bytes);
    }
  });
  await once(server.listen(port, "127.0.0.1"), "listening");
  const { port: taken } = server.address() as AddressInfo;
  return { server, port: taken, reference: `127.0.0.1:${taken}/authproxy-lab@${digest}` };
}
