// Question: what happens inside a guest, or a pid namespace? Usage: inside.ts FILE, of a Guest as
// JSON. Output: its results, one line of JSON. A guest has the real Vault of its host: a relay
// carries the TLS connection there, so that its address, and the certificate, are the same on both.
import { readFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { startRegistry } from "./registry.ts";
import { type Findings, play, refusesToStart, type Scene } from "./scene.ts";

const HOST = "10.0.2.2"; // where qemu's user network has the host's loopback

export type Guest = {
  /** What a machine of its own does not have. */
  lacks?: {
    layer: string;
    registryPort: number;
    /** On the host; in the guest too, unless it has another one there. */
    vaultPort: number;
    ownVaultPort?: number;
    architecture?: string;
  };
  /** The server must refuse to start with this one. */
  first?: Scene;
  scene: Scene;
};
export type Results = { refusal?: string; findings: Findings };

export async function provide(lacks: NonNullable<Guest["lacks"]>): Promise<void> {
  const { layer, registryPort, vaultPort, ownVaultPort = vaultPort, architecture } = lacks;
  await startRegistry(readFileSync(layer), registryPort, architecture);
  createServer((local) => {
    const remote = connect(vaultPort, HOST);
    local.pipe(remote).pipe(local);
    for (const one of [local, remote])
      one.on("error", () => {
        local.destroy();
        remote.destroy();
      });
  }).listen(ownVaultPort, "127.0.0.1");
}

if (import.meta.main) {
  const guest: Guest = JSON.parse(readFileSync(process.argv[2] ?? "", "utf8"));
  if (guest.lacks) await provide(guest.lacks);
  const refusal = guest.first && (await refusesToStart(guest.first));
  const findings = await play(guest.scene);
  const results: Results = { ...(refusal && { refusal }), findings };
  await new Promise((written) => process.stdout.write(`${JSON.stringify(results)}\n`, written));
  process.exit(0); // the registry and the relay still listen
}
