// Question: can Vault be reached at this address, by TLS that is verified as the server verifies it, and
// is it ready to answer? No token is sent.
// Sources: Vault's API page of sys/health; verify(1) of OpenSSL for the names of TLS's errors.
import { lookup } from "node:dns/promises";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { request } from "node:https";
import { isIP } from "node:net";
import { text } from "node:stream/consumers";
import { connect, type DetailedPeerCertificate, type TLSSocket } from "node:tls";
import type { VaultAddress } from "../../server/config.ts";
import type { JsonObject } from "../../server/json.ts";
import { type Finding, failed, ok, reasonOf, warning } from "./finding.ts";
import type { ServerProcess } from "./user.ts";

const SERVERS_OWN = "vault";
const DEADLINE_MS = 5000;
const DAY_MS = 86_400_000;
const VALID_DAYS_MIN = 14;
const CLOCK_DIFFERENCE_MS_MAX = 60_000;
/** A server that wants a certificate says so in an alert: "bad certificate" in TLS 1.2, and in TLS 1.3,
 * after the handshake, "certificate required" (RFC 8446, 6.2). */
const DEMANDS_CERTIFICATE = /alert.(certificate.required|bad.certificate)/i;
const PROXY_VARIABLE = /^(https?|all)_proxy$/i;

const ADVICE: Record<string, string> = {
  ENOTFOUND: "correct the address, or this host's resolver",
  EAI_AGAIN: "correct this host's resolver: /etc/resolv.conf",
  ECONNREFUSED: "nothing listens there: correct the port, or start Vault",
  EHOSTUNREACH: "correct routes and firewalls between this host and Vault",
  ENETUNREACH: "correct routes and firewalls between this host and Vault",
  CERT_HAS_EXPIRED: "renew it, and correct this host's clock if it is wrong",
  CERT_NOT_YET_VALID: "correct this host's clock, or Vault's",
  ERR_TLS_CERT_ALTNAME_INVALID:
    "use a name of the certificate in the address, or issue another one",
};
const OTHER_AUTHORITY = "ca_file must hold the certificate of the authority that issued it";

/** By the status of sys/health. */
const HEALTH: Record<number, Pick<Finding, "status" | "detail"> & { advice?: string }> = {
  200: { status: "ok", detail: "active" },
  429: { status: "ok", detail: "a standby, which forwards to the active one" },
  473: { status: "ok", detail: "a performance standby" },
  472: {
    status: "failed",
    detail: "a secondary for disaster recovery",
    advice: "take the address of the primary",
  },
  501: { status: "failed", detail: "not initialised", advice: "vault operator init" },
  503: { status: "failed", detail: "sealed", advice: "vault operator unseal" },
};

/** `check` names the address: the server's own, or the one that containers are given. */
export async function checkVault(
  check: typeof SERVERS_OWN | "vault for clients",
  { address, ca }: VaultAddress,
  server: ServerProcess | undefined,
): Promise<Finding[]> {
  const url = new URL(address);
  try {
    const socket = await shakeHands(url, ca);
    const findings = checkCertificate(check, url, socket);
    socket.destroy();
    if (findings.some(({ status }) => status === "failed")) return findings;
    return [...findings, ...(await checkHealth(check, url, ca))];
  } catch (error) {
    return [unreachable(check, url, error as NodeJS.ErrnoException, server)];
  }
}

/** An IPv6 address stands in brackets in a URL only. */
function hostOf({ hostname }: URL): string {
  return hostname.replace(/^\[|\]$/g, "");
}

/** Whether its certificate is trusted is looked at afterwards, so that all can be said of it. */
async function shakeHands(url: URL, ca: string | undefined): Promise<TLSSocket> {
  const host = hostOf(url);
  await lookup(host);
  const servername = isIP(host) ? "" : host;
  const port = Number(url.port || 443);
  const socket = connect({ host, port, servername, ca, rejectUnauthorized: false });
  socket.setTimeout(DEADLINE_MS, () => socket.destroy(new Error("no answer in time")));
  await once(socket, "secureConnect");
  socket.on("error", () => {}); // of what comes later the next connection tells
  return socket;
}

function checkCertificate(check: string, url: URL, socket: TLSSocket): Finding[] {
  const certificates = chainOf(socket.getPeerCertificate(true));
  const [own] = certificates;
  const endsMs = Math.min(...certificates.map(({ valid_to }) => Date.parse(valid_to)));
  const days = Math.floor((endsMs - Date.now()) / DAY_MS);
  const end = `valid to ${new Date(endsMs).toISOString().slice(0, 10)}, ${days} days`;
  if (!socket.authorized) {
    const code = String(socket.authorizationError);
    const names = own?.subjectaltname ? `, for ${own.subjectaltname}` : "";
    const detail = `${url.origin}: its certificate is not trusted: ${code}; ${end}${names}`;
    return [failed(check, detail, ADVICE[code] ?? OTHER_AUTHORITY)];
  }
  const detail = `${url.origin}: ${socket.getProtocol()}, certificate trusted, ${end}`;
  if (days >= VALID_DAYS_MIN) return [ok(check, detail)];
  return [warning(check, detail, "renew it, or its authority's: nobody gets a secret after that")];
}

/** From Vault's own to that of the authority, which names itself as its issuer. */
function chainOf(certificate: DetailedPeerCertificate): DetailedPeerCertificate[] {
  const chain: DetailedPeerCertificate[] = [];
  for (
    let next: DetailedPeerCertificate | undefined = certificate;
    next?.valid_to && !chain.includes(next);
    next = next.issuerCertificate
  )
    chain.push(next);
  return chain;
}

async function checkHealth(check: string, url: URL, ca: string | undefined): Promise<Finding[]> {
  const askedMs = Date.now();
  const outgoing = request({
    host: hostOf(url),
    port: url.port,
    path: "/v1/sys/health",
    agent: false,
    ca,
    rejectUnauthorized: true,
    timeout: DEADLINE_MS,
  });
  outgoing.on("timeout", () => outgoing.destroy(new Error("no answer in time"))).end();
  const [response] = (await once(outgoing, "response")) as [IncomingMessage];
  const hereMs = (askedMs + Date.now()) / 2;
  const { statusCode = 0, headers } = response;
  const { version, cluster_name: cluster } = parsed(await text(response));
  const health = HEALTH[statusCode];
  if (!health || typeof version !== "string") {
    const advice = "something before Vault answers in its place: take Vault's own address";
    return [failed(check, `${url.origin}: status ${statusCode}, not in Vault's form`, advice)];
  }
  const name = cluster ? `, ${cluster}` : "";
  return [
    { ...health, check, detail: `${url.origin}: ${health.detail}, version ${version}${name}` },
    ...checkClock(headers.date, hereMs),
  ];
}

function parsed(body: string): JsonObject {
  try {
    return JSON.parse(body) ?? {};
  } catch {
    return {};
  }
}

function checkClock(date: string | undefined, hereMs: number): Finding[] {
  const differenceMs = Date.parse(date ?? "") - hereMs;
  if (Number.isNaN(differenceMs)) return [];
  const seconds = Math.round(differenceMs / 1000);
  const detail = `Vault's is ${Math.abs(seconds)} s ${seconds < 0 ? "behind" : "ahead of"} this host's`;
  if (Math.abs(differenceMs) <= CLOCK_DIFFERENCE_MS_MAX) return [ok("clock", detail)];
  const advice = "certificates and logins may count as too old or too new: set both by NTP";
  return [warning("clock", detail, advice)];
}

function unreachable(
  check: string,
  url: URL,
  error: NodeJS.ErrnoException,
  server: ServerProcess | undefined,
): Finding {
  const { code = "" } = error;
  if (DEMANDS_CERTIFICATE.test(`${code} ${error.message}`)) {
    return failed(
      check,
      `${url.origin} demands a client certificate, and containers have none`,
      "take tls_require_and_verify_client_cert from that listener, or take the address of another " +
        '(a login by certificate needs only that it asks: "TLS and proxies" in docs/operate.md)',
    );
  }
  const isTls = /^(EPROTO|ERR_SSL_)/.test(code);
  const advice = isTls
    ? "Vault must offer TLS 1.2 or newer there, and demand no client certificate (tls_require_and_verify_client_cert)"
    : ADVICE[code];
  const ordinary = advice ?? "check that Vault runs, and that this host may reach it";
  const proxy = proxyVariable(server);
  const direct = proxy ? `; ${proxy} is set, and not used: the token goes to Vault directly` : "";
  const detail = `${url.origin}: ${code || reasonOf(error)}`;
  if (check === SERVERS_OWN || isTls) return failed(check, detail, ordinary + direct);
  return warning(check, detail, "from this host; check that containers can reach it");
}

/** The name of a variable of ours, or of the server's, that names a proxy. */
function proxyVariable(server: ServerProcess | undefined): string | undefined {
  let ofServer: string[] = [];
  try {
    if (server) ofServer = readFileSync(`/proc/${server.pid}/environ`, "utf8").split("\0");
  } catch {
    // Only root and the server's own user can read it.
  }
  const names = [
    ...Object.keys(process.env),
    ...ofServer.map((text) => text.split("=", 1)[0] ?? ""),
  ];
  return names.find((name) => PROXY_VARIABLE.test(name));
}
