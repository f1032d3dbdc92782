// Question: how does the server start? As `serve` of server/main.ts does, whose other lines are the
// process's own: its options, its signals, its end.
import { note, noteCounted } from "../../server/audit.ts";
import type { Config } from "../../server/config.ts";
import { DockerEngine } from "../../server/engine.ts";
import type { Server } from "../../server/grant.ts";
import { LeaseFiles } from "../../server/lease-files.ts";
import { Leases } from "../../server/leases.ts";
import { type Handlers, Peercred } from "../../server/peercred.ts";
import { Requests } from "../../server/requests.ts";
import { Vault } from "../../server/vault.ts";
import { KINDS, STATE } from "./world.ts";

const address = { address: "https://vault:8200", ca: undefined, namespace: undefined };

const services: Config["services"] = Object.fromEntries(
  KINDS.map((kind) => [
    kind,
    {
      match: { container: { Config: { Labels: { kind } } } },
      token:
        kind === "shared"
          ? { read: "secret/data/shared#token" }
          : {
              create: `auth/token/create/${kind}`,
              ...(kind === "wrapped" && { wrap_ttl: "60s" }),
            },
      relax: kind === "relaxed" ? ["init", "alone"] : [],
    },
  ]),
);

export function startServer(): Requests {
  const leaseFiles = new LeaseFiles(STATE);
  const vault = new Vault({ ...address, login: { path: "auth/approle/login", body: {} } });
  const handlers: Handlers = {
    ready: (hasPidfd) => {
      server.hasPidfd = hasPidfd;
      server.leases.takeUpFiles();
      void vault.stayLoggedIn();
      note("ready", { pidfd: hasPidfd });
    },
    peer: (peer) => void requests.attend(peer),
    drop: (reason, peer) =>
      noteCounted(`${reason} ${peer.uid}`, "refused", { ...peer, pidfd: server.hasPidfd, reason }),
  };
  const peercred = new Peercred("/socket", handlers, true);
  const server: Server = {
    engine: new DockerEngine("/engine"),
    leases: new Leases(leaseFiles, vault, peercred),
    peercred,
    services: Object.entries(services),
    vaultForClients: address,
    hasPidfd: false,
  };
  const requests = new Requests(server);
  return requests;
}
