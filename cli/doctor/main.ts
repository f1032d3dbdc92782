// Question: what keeps authproxy from working on this host, and what is there to do? The command
// `doctor` looks at all that a person would look at by hand.
// Guaranteed: nothing is changed, no file is written, and no secret is printed. Two things leave a trace
// elsewhere: a line in the server's audit stream (server.ts), and in Vault's log a login whose token is
// revoked at once (login.ts).
import { readFileSync } from "node:fs";
import type { Config, VaultAddress } from "../../server/config.ts";
import { DEFAULT_FILE, DEFAULT_SOCKET } from "../configuration.ts";
import { HELP_HINT, type Options } from "../options.ts";
import { Failure, print, printJson } from "../terminal.ts";
import { checkConfiguration } from "./configuration.ts";
import { checkEngine } from "./engine.ts";
import { type Finding, findingLines, unchecked } from "./finding.ts";
import { checkLogin } from "./login.ts";
import { checkMachine } from "./machine.ts";
import { checkServer } from "./server.ts";
import { findServer, type ServerProcess, type User, userOfUnit } from "./user.ts";
import { checkVault } from "./vault.ts";

const SOMETHING_FAILED = 1;

/** Returns the exit code: 1 where something failed. */
export async function doctor(subject: string | undefined, options: Options): Promise<number> {
  if (subject) throw new Failure("usage", `doctor takes no argument: ${subject}`, HELP_HINT);
  const findings = await examine(options.config ?? DEFAULT_FILE, options.login ?? false);
  if (options.json) printJson(findings);
  else print(findingLines(findings));
  return findings.some(({ status }) => status === "failed") ? SOMETHING_FAILED : 0;
}

async function examine(file: string, mayUseUp: boolean): Promise<Finding[]> {
  const socket = socketOf(file);
  const server = findServer(socket);
  const user = server ?? userOfUnit();
  const { config, findings } = checkConfiguration(file, user);
  const ofMachine = await checkMachine(config, socket, server);
  const rest = config ? await examineWith(config, server, user, mayUseUp) : withoutConfiguration();
  return [...ofMachine, ...findings, ...rest];
}

/** Also where the server would not take the file. */
function socketOf(file: string): string {
  try {
    return JSON.parse(readFileSync(file, "utf8")).socket ?? DEFAULT_SOCKET;
  } catch {
    return DEFAULT_SOCKET; // checkConfiguration says what is wrong
  }
}

async function examineWith(
  config: Config,
  server: ServerProcess | undefined,
  user: User,
  mayUseUp: boolean,
): Promise<Finding[]> {
  const { vault, for_clients } = config;
  const ofVault = await checkVault("vault", vault, server);
  const isReachable = !ofVault.some(({ status }) => status === "failed");
  return [
    ...(await checkServer(config, server, user)),
    ...(await checkEngine(config, user)),
    ...ofVault,
    ...(isSamePlace(vault, for_clients)
      ? []
      : await checkVault("vault for clients", for_clients, server)),
    ...(isReachable
      ? await checkLogin(config, server, user, mayUseUp)
      : [unchecked("login", "Vault cannot be asked", "correct what is said of vault first")]),
  ];
}

function isSamePlace(one: VaultAddress, other: VaultAddress): boolean {
  return one.address === other.address && one.ca === other.ca;
}

function withoutConfiguration(): Finding[] {
  const advice = "correct the configuration first";
  return ["server", "engine", "vault", "login"].map((check) =>
    unchecked(check, "the configuration says where it is", advice),
  );
}
