// Question: what did root configure? Input: the path of one JSON file. Output: on stdout, as JSON,
// the configuration with its defaults, the certificates in it, and what is told to clients about
// Vault; or one line on stderr, and exit 1. The server runs this in a process of its own at each
// load. Guaranteed: only root or the server's own user can have written the file, every key in it
// is known and stands once, every value is as config.schema.json allows.
import type { Config, Service, VaultConfig } from "../types.ts";
import { check } from "./check.ts";
import { readTrusted } from "./trusted.ts";

/** What the file says; the rest of Config has defaults. */
type Written = Partial<Config> & { vault: WrittenVault; services: Config["services"] };
type WrittenVault = Pick<VaultConfig, "address" | "namespace" | "login"> & {
  ca_file?: string;
  for_clients?: { address?: string; ca_file?: string };
};

// peercred takes a line of 128 KiB.
const CA_BYTES_MAX = 65_536;

/** Throws one line that says what is wrong, and where. */
export function loadConfig(file: string): Config {
  const text = readTrusted(file);
  const flaw = check(text);
  if (flaw) throw new Error(`${file}: ${flaw}`);
  const { vault: written, services, ...config }: Written = JSON.parse(text);
  const { ca_file, for_clients, ...vault } = written;
  const toldCa = for_clients?.ca_file ?? ca_file;
  const told = { address: for_clients?.address ?? vault.address, namespace: vault.namespace };
  return {
    socket: "/run/authproxy/authproxy.sock",
    state: "/run/authproxy-state",
    engine: "/var/run/docker.sock",
    ...config,
    services: Object.fromEntries(Object.entries(services).map(containerFirst)),
    vault: { ...vault, ca: ca_file && certificate(ca_file) },
    for_clients: { ...told, ca: toldCa && certificate(toldCa) },
  };
}

/** First what services differ in: each request looks at all, and most of a thousand end there. */
function containerFirst([name, service]: [string, Service]): [string, Service] {
  const { container = null, ...rest } = service.match;
  return [name, { ...service, match: { container, ...rest } }];
}

function certificate(file: string): string {
  const text = readTrusted(file);
  if (!text.includes("-----BEGIN CERTIFICATE-----"))
    throw new Error(`${file}: is no certificate (PEM)`);
  if (text.length > CA_BYTES_MAX) throw new Error(`${file}: over 64 KiB`);
  return text;
}

if (import.meta.main) {
  try {
    process.stdout.write(JSON.stringify(loadConfig(process.argv[2] ?? "")));
  } catch (error) {
    process.stderr.write((error as Error).message);
    process.exitCode = 1;
  }
}
