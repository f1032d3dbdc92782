// authproxy: gives each container its own short-lived Vault token, and reads nothing from it.
//
// This module puts the parts together. From a connection to its answer: requests.ts, then grant.ts.
import { parseArgs } from "node:util";
import { note, noteCounted } from "./audit.ts";
import { type Config, loadConfig } from "./config.ts";
import { type Engine, openEngine } from "./engine.ts";
import type { Server } from "./grant.ts";
import { LeaseFiles } from "./lease-files.ts";
import { Leases } from "./leases.ts";
import { type Handlers, Peercred } from "./peercred.ts";
import { Requests } from "./requests.ts";
import { Vault } from "./vault.ts";

const DEFAULT_FILE = "/etc/authproxy/authproxy.json";

function serve(file: string, config: Config, engine: Engine): void {
  const leaseFiles = new LeaseFiles(config.state);
  const vault = new Vault(config.vault);
  const handlers: Handlers = {
    ready: (hasPidfd) => {
      if (!hasPidfd && !config.allow_no_pidfd)
        throw new Error('this kernel has no SO_PEERPIDFD (Linux 6.5 has it): see "allow_no_pidfd"');
      server.hasPidfd = hasPidfd;
      server.leases.takeUpFiles(); // not before the socket is ours: another server may be running
      void vault.stayLoggedIn();
      note("ready", { pidfd: hasPidfd });
    },
    peer: (peer) => void requests.attend(peer),
    drop: (reason, peer) =>
      noteCounted(`${reason} ${peer.uid}`, "refused", { ...peer, pidfd: server.hasPidfd, reason }),
  };
  const peercred = new Peercred(config.socket, handlers, config.user_namespaces);
  const server: Server = {
    engine,
    leases: new Leases(leaseFiles, vault, peercred),
    peercred,
    services: Object.entries(config.services),
    vaultForClients: config.for_clients,
    hasPidfd: false,
  };
  const requests = new Requests(server);

  process.on("SIGHUP", () => reload(file, server));
  process.on("SIGTERM", async () => {
    await requests.stop(); // the leases are kept for the next start
    process.exit(0);
  });
}

/** Takes the services of the file; where it is wrong, the old ones stay in force. */
function reload(file: string, server: Server): void {
  try {
    const { services } = loadConfig(file);
    server.services = Object.entries(services);
    note("reload", { services: Object.keys(services) });
  } catch (error) {
    note("reload-failed", { detail: (error as Error).message });
  }
}

process.on("uncaughtException", ({ message }) => {
  process.stderr.write(`authproxy: error: ${message}\n`);
  process.exit(1); // peercred ends with this process
});

const options = { config: { type: "string" }, check: { type: "boolean" } } as const;
const { config: file = DEFAULT_FILE, check } = parseArgs({ options }).values;
const config = loadConfig(file);
if (!check) serve(file, config, await openEngine(config.engine));
