// Question: what did root configure?
//
// Input: the path of one JSON file.
// Guaranteed: only root or the server's own user can have written the file, every key in it is known
// and stands once, every value is as config.schema.json allows. The engine's socket is theirs too.
import type { Container } from "./engine.ts";
import type { JsonObject } from "./json.ts";
import { findFlaw } from "./schema.ts";
import { readTrustedFile, requireTrustedEngine } from "./trusted-file.ts";

/** Where a service's token comes from. `create` is a path below /v1/ whose answer has `auth`, and
 * `body` goes with it. Or `read` is PATH#KEY of a ready token, which all containers of the service
 * share. */
export type TokenSource = {
  create?: string;
  body?: JsonObject;
  /** Such as "60s". */
  wrap_ttl?: string;
  read?: string;
  namespace?: string;
};

export type Service = {
  match: JsonObject;
  token: TokenSource;
  relax?: string[];
  /** Where its writable mounts are that hold no program. */
  data?: string[];
};

/** How the server logs in to Vault: login.ts. */
export type LoginConfig = {
  path?: string;
  body?: JsonObject;
  body_files?: Record<string, string>;
  token_file?: string;
  client_cert_file?: string;
  client_key_file?: string;
};

/** Where Vault is. `ca` is PEM; without it Node's own list of authorities counts. */
export type VaultAddress = {
  address: string;
  ca: string | undefined;
  namespace: string | undefined;
};
export type VaultConfig = VaultAddress & { login: LoginConfig };

/** The configuration with its defaults, and certificates in place of their files. */
export type Config = {
  socket: string;
  state: string;
  /** The socket of Docker's API, or of a CRI. */
  engine: string | { cri: string };
  allow_no_pidfd: boolean;
  /** Containers may have user namespaces of their own. */
  user_namespaces: boolean;
  vault: VaultConfig;
  /** What containers are told. */
  for_clients: VaultAddress;
  services: Record<string, Service>;
};

type WrittenVault = {
  address: string;
  ca_file?: string;
  namespace?: string;
  login: LoginConfig;
  for_clients?: { address?: string; ca_file?: string };
};
type Defaulted = "socket" | "state" | "engine" | "allow_no_pidfd" | "user_namespaces";
type WrittenConfig = Partial<Pick<Config, Defaulted>> & {
  vault: WrittenVault;
  services: Record<string, Service>;
};

/** The answer to a container holds the certificate as JSON, and peercred takes a line of 128 KiB. */
const CERTIFICATE_BYTES_MAX = 65_536;

/** Throws an Error of one line that says what is wrong, and where. */
export function loadConfig(file: string): Config {
  const text = readTrustedFile(file);
  const flaw = findFlaw(text);
  if (flaw) throw new Error(`${file}: ${flaw.message}`);

  const written: WrittenConfig = JSON.parse(text);
  for (const [name, { match }] of Object.entries(written.services)) {
    const twice = variableTwice(match);
    if (twice !== undefined)
      throw new Error(
        `${file}: services.${name}.match.container.Config.Env must have each variable once, and has ${twice} twice`,
      );
  }
  const { address, ca_file, namespace, login, for_clients } = written.vault;
  const clientsCaFile = for_clients?.ca_file ?? ca_file;
  const { engine = "/var/run/docker.sock" } = written;
  requireTrustedEngine(typeof engine === "string" ? engine : engine.cri);
  return {
    socket: written.socket ?? "/run/authproxy/authproxy.sock",
    state: written.state ?? "/run/authproxy-state",
    engine,
    allow_no_pidfd: written.allow_no_pidfd ?? false,
    user_namespaces: written.user_namespaces ?? false,
    vault: { address, ca: readCertificate(ca_file), namespace, login },
    for_clients: {
      address: for_clients?.address ?? address,
      ca: readCertificate(clientsCaFile),
      namespace,
    },
    services: Object.fromEntries(Object.entries(written.services).map(containerFirst)),
  };
}

/** Services differ in `container` most. Where it is compared first, most of a thousand services are
 * passed over at their first selector. */
function containerFirst([name, service]: [string, Service]): [string, Service] {
  const { container = {}, ...others } = service.match;
  return [name, { ...service, match: { container, ...others } }];
}

/** Of the same name twice in a list programs take the first or the last, so no container matches. */
function variableTwice(match: JsonObject): string | undefined {
  const { Env } = (match.container as Partial<Container> | undefined)?.Config ?? {};
  if (!Array.isArray(Env)) return undefined;
  const names = Env.map((text) => String(text).split("=", 1)[0]);
  return names.find((name, i) => names.indexOf(name) < i);
}

function readCertificate(file: string | undefined): string | undefined {
  if (!file) return undefined;
  const text = readTrustedFile(file);
  if (!text.includes("-----BEGIN CERTIFICATE-----"))
    throw new Error(`${file}: is not a PEM certificate`);
  if (Buffer.byteLength(JSON.stringify(text)) > CERTIFICATE_BYTES_MAX)
    throw new Error(`${file}: is longer than 64 KiB, as JSON`);
  return text;
}
