// Question: does the host's security module let containers reach the server?
// Input: what the kernel says of SELinux; the labels of the server's process, of its socket, the socket's
// directory and the client directory.
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { securityModule } from "../host.ts";
import { type Finding, ok, warning } from "./finding.ts";
import type { ServerProcess } from "./user.ts";

const CHECK = "security module";
/** The types of packaging/selinux/authproxy.cil. */
const SERVER_TYPE = "authproxy_t";
const SOCKET_TYPE = "authproxy_socket_t";
const CLIENT_TYPE = "authproxy_client_t";
const CLIENT_DIRECTORY = join(import.meta.dirname, "../../dist/authproxy");
const ADVICE =
  'install the module authproxy, label the files, restart the server: "SELinux" in docs/operate.md; ' +
  "`ausearch -m avc -ts recent` shows what was denied";

/** What has another label than that of the module is found, also where a policy of the host's own allows
 * it: so it is a warning. */
export function checkSecurityModule(socket: string, server: ServerProcess | undefined): Finding[] {
  const name = securityModule();
  if (name !== "selinux") return [ok(CHECK, name ?? "none that labels processes")];
  const isEnforcing = readFileSync("/sys/fs/selinux/enforce", "utf8").trim() === "1";
  if (!isEnforcing) return [ok(CHECK, "selinux, permissive")];

  const findings: Finding[] = [];
  const expectType = (what: string, type: string, label: string) => {
    if (label.split(":")[2] === type) return;
    const detail = `selinux, enforcing: ${what} has the label ${label}, not ${type}`;
    findings.push(warning(CHECK, `${detail}: containers may get EACCES`, ADVICE));
  };
  if (server) expectType("the server", SERVER_TYPE, labelOfProcess(server.pid));
  const files = {
    [dirname(socket)]: SOCKET_TYPE,
    [socket]: SOCKET_TYPE,
    [CLIENT_DIRECTORY]: CLIENT_TYPE,
  };
  for (const [path, type] of Object.entries(files))
    if (existsSync(path)) expectType(path, type, labelOfFile(path));
  return findings.length > 0 ? findings : [ok(CHECK, "selinux, enforcing; the module is in use")];
}

function labelOfProcess(pid: number): string {
  return readFileSync(`/proc/${pid}/attr/current`, "utf8").replace(/\0$/, "");
}

/** Node cannot read extended attributes. */
function labelOfFile(path: string): string {
  return execFileSync("stat", ["--format=%C", "--", path], { encoding: "utf8" }).trim();
}
