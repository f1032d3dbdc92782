// Question: where do the tests and the demo get a real Vault from?
// Input:    dist/bao, as scripts/prepare.sh puts it there.
// Promise:  a real OpenBao over TLS, in memory, in a process of its own that ends with ours,
//           however that ends. It writes into one temporary directory only, never into the caller's
//           home, and takes nothing from the caller's environment.
//
// Dev mode makes a certificate for localhost and 127.0.0.1 and has no option for other names. To be
// reached from containers by the address of their bridge, the server issues itself a second one by
// its own PKI engine and reads it on SIGHUP: so neither openssl nor a configuration is needed.
import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import {
  closeSync,
  mkdtempSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { checkServerIdentity, type PeerCertificate } from "node:tls";
import vault from "node-vault";

const binary = join(import.meta.dirname, "../dist/bao");
const startDeadlineMs = 20_000;
const stopDeadlineMs = 5_000;
const attemptsMax = 3;

export type OpenBao = {
  /** "https://127.0.0.1:34567" */
  address: string;
  caFile: string;
  ca: string;
  rootToken: string;
  pid: number;
  stop(): Promise<void>;
};

export type StartOptions = {
  /** An IPv4 address on which containers reach this machine, for example their bridge's gateway. */
  listen?: string;
  /** The file of its audit log; none is kept otherwise. */
  audit?: string;
  /** More of its configuration, in HCL, such as a listener of another kind. */
  config?: string;
};

export async function startOpenBao(options: StartOptions = {}): Promise<OpenBao> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await startOnce(options);
    } catch (error) {
      // Between our choice of a free port and its use somebody else may have taken it.
      const taken = error instanceof Error && error.message.includes("address already in use");
      if (!taken || attempt === attemptsMax) throw error;
    }
  }
}

async function startOnce({ listen = "127.0.0.1", ...more }: StartOptions): Promise<OpenBao> {
  const hostAndPort = `${listen}:${await freePort(listen)}`;
  const directory = mkdtempSync(join(tmpdir(), "authproxy-openbao-"));
  const rootToken = randomUUID();
  const server = { address: `https://${hostAndPort}`, rootToken, directory };
  const child = spawnBao(server, hostAndPort, more);
  const remove = () => rmSync(directory, { recursive: true, force: true });
  process.once("exit", remove);
  const stop = async () => {
    await end(child);
    remove();
    process.off("exit", remove);
  };
  try {
    const caFile = join(directory, "vault-ca.pem");
    await untilReady(child, server, () => clientNamed("localhost", server, caFile));
    if (listen !== "127.0.0.1") await certifyFor(listen, child, server, caFile);
    const { pid } = child;
    if (pid === undefined) throw new Error("openbao: the process has no pid");
    const ca = readFileSync(caFile, "utf8");
    return { address: server.address, caFile, ca, rootToken, pid, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

type Server = { address: string; rootToken: string; directory: string };

function spawnBao(
  server: Server,
  hostAndPort: string,
  { audit, config = "" }: StartOptions,
): ChildProcess {
  const { directory, rootToken } = server;
  const log = openSync(logOf(directory), "a", 0o600);
  // PR_SET_PDEATHSIG (prctl(2)): the kernel ends it when we are gone, even by SIGKILL.
  const argv = ["--pdeathsig", "TERM", "--", binary, "server", "-dev", "-dev-no-store-token"];
  argv.push(`-dev-root-token-id=${rootToken}`, `-dev-listen-address=${hostAndPort}`);
  argv.push("-dev-tls", `-dev-tls-cert-dir=${directory}`);
  if (audit || config) {
    const file = join(directory, "more.hcl");
    const ofAudit = audit ? `audit "file" "log" {\n options { file_path = "${audit}" }\n}\n` : "";
    writeFileSync(file, ofAudit + config);
    argv.push(`-config=${file}`);
  }
  const child = spawn("setpriv", argv, {
    env: { HOME: directory, PATH: process.env.PATH ?? "" },
    stdio: ["ignore", log, log],
    // Ctrl-C on a terminal goes to the whole group: whoever cleans up still needs the server.
    detached: true,
  });
  closeSync(log);
  return child;
}

function logOf(directory: string): string {
  return join(directory, "log");
}

/** Resolves when the server answers a client that checks its certificate, and is unsealed. */
async function untilReady(
  child: ChildProcess,
  { directory }: Server,
  connect: () => vault.client,
): Promise<void> {
  let failure: unknown;
  child.once("error", (error) => {
    failure = error;
  });
  const deadlineMs = performance.now() + startDeadlineMs;
  while (!failure && child.exitCode === null && performance.now() < deadlineMs) {
    try {
      const health: { sealed: boolean } = await connect().health();
      if (!health.sealed) return;
    } catch {
      // Not listening yet, or no certificate yet.
    }
    await sleep(50);
  }
  const lastLines = readFileSync(logOf(directory), "utf8").trimEnd().split("\n").slice(-3);
  throw new Error(`openbao: ${binary} did not start: ${failure ?? lastLines.join("; ")}`);
}

async function certifyFor(
  ipAddress: string,
  child: ChildProcess,
  server: Server,
  caFile: string,
): Promise<void> {
  const bao = clientNamed("localhost", server, caFile);
  await bao.mount({ mount_point: "listener-pki", type: "pki" });
  await bao.write("listener-pki/root/generate/internal", { common_name: "authproxy test CA" });
  await bao.write("listener-pki/roles/listener", { allow_any_name: true });
  const issued: { data: { certificate: string; private_key: string; issuing_ca: string } } =
    await bao.write("listener-pki/issue/listener", {
      common_name: "localhost",
      ip_sans: `127.0.0.1,${ipAddress}`,
      ttl: "24h",
    });
  const { certificate, private_key, issuing_ca } = issued.data;
  replaceFile(join(server.directory, "vault-key.pem"), `${private_key}\n`);
  replaceFile(join(server.directory, "vault-cert.pem"), `${certificate}\n`);
  replaceFile(caFile, `${issuing_ca}\n`);
  child.kill("SIGHUP");
  await untilReady(child, server, () => clientNamed(ipAddress, server, caFile));
  await clientNamed(ipAddress, server, caFile).unmount({ mount_point: "listener-pki" });
}

function replaceFile(path: string, content: string): void {
  writeFileSync(`${path}.new`, content, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

async function end(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill("SIGTERM");
  const stuck = setTimeout(() => child.kill("SIGKILL"), stopDeadlineMs);
  await exited;
  clearTimeout(stuck);
}

/** That nobody listens on at this moment. */
export async function freePort(host = "127.0.0.1"): Promise<number> {
  const probe = createServer();
  probe.listen(0, host);
  await once(probe, "listening");
  const address = probe.address();
  probe.close();
  await once(probe, "close");
  if (typeof address !== "object" || address === null) throw new Error("a TCP socket has a port");
  return address.port;
}

function clientNamed(serverName: string, server: Server, caFile: string): vault.client {
  return vault({
    endpoint: server.address,
    token: server.rootToken,
    requestOptions: {
      ca: readFileSync(caFile),
      agentOptions: {
        checkServerIdentity: (_: string, certificate: PeerCertificate) =>
          checkServerIdentity(serverName, certificate),
      },
    },
  });
}

/** node-vault, with the root token: a Vault client that is not ours. */
export function client({ address, ca, rootToken }: OpenBao): vault.client {
  return vault({ endpoint: address, token: rootToken, requestOptions: { ca } });
}

export type Provisioned = { roleId: string; secretId: string };
export type ProvisionOptions = { services: Record<string, Record<string, string>> };

/**
 * Makes what an authproxy server and its services need: an AppRole login for the server, that may
 * mint for these services, renew and revoke, and nothing else; for each service a policy, a token
 * role and its secret, at secret/data/<service>. Can be run again, with all services.
 */
export async function provision(
  bao: OpenBao,
  { services }: ProvisionOptions,
): Promise<Provisioned> {
  const vaultClient = client(bao);
  for (const [service, secret] of Object.entries(services)) {
    await vaultClient.addPolicy({ name: service, policy: servicePolicy(service) });
    await vaultClient.write(`auth/token/roles/${service}`, {
      allowed_policies: [service],
      orphan: true,
      renewable: true,
      token_period: "3600s",
      token_type: "service",
    });
    await vaultClient.write(`secret/data/${service}`, { data: secret });
  }
  const mints = Object.keys(services).map((service) => `auth/token/create/${service}`);
  await vaultClient.addPolicy({ name: "authproxy", policy: serverPolicy(mints) });
  const methods: { data: Record<string, unknown> } = await vaultClient.auths();
  if (!("approle/" in methods.data)) {
    await vaultClient.enableAuth({ mount_point: "approle", type: "approle" });
  }
  await vaultClient.write("auth/approle/role/authproxy", {
    token_policies: ["authproxy"],
    token_no_default_policy: true,
    token_period: "3600s",
  });
  const role: { data: { role_id: string } } = await vaultClient.read(
    "auth/approle/role/authproxy/role-id",
  );
  const secretId: { data: { secret_id: string } } = await vaultClient.write(
    "auth/approle/role/authproxy/secret-id",
    {},
  );
  return { roleId: role.data.role_id, secretId: secretId.data.secret_id };
}

function servicePolicy(service: string): string {
  return ["", "/*"].map((rest) => rule(`secret/data/${service}${rest}`, "read")).join("");
}

function serverPolicy(mints: string[]): string {
  // To look an accessor up is for tokens that are wrapped.
  const accessors = ["renew-accessor", "revoke-accessor", "lookup-accessor", "renew-self"];
  const updates = [...mints, ...accessors.map((call) => `auth/token/${call}`)];
  const rules = updates.map((path) => rule(path, "update"));
  return [...rules, rule("auth/token/lookup-self", "read")].join("");
}

function rule(path: string, capability: "read" | "update"): string {
  return `path "${path}" { capabilities = ["${capability}"] }\n`;
}
