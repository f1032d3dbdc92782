// Question: does the server take this configuration?
// Guaranteed: the server itself says so (`main.ts --check`), as its own user where we are root, so that
// a file which that user cannot read is found too.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { type Config, loadConfig } from "../../server/config.ts";
import { type Finding, failed, isRoot, needsRoot, ok, unchecked, warning } from "./finding.ts";
import { asUser, type User } from "./user.ts";

const SERVER = join(import.meta.dirname, "../../server/main.ts");

/** The configuration is undefined where it cannot be read at all. */
export function checkConfiguration(
  file: string,
  user: User,
): { config?: Config; findings: Finding[] } {
  const config = unlessWrong(() => asUser(user, () => loadConfig(file)));
  const loaded = config instanceof Error ? {} : { config };
  const code = config instanceof Error ? (config as NodeJS.ErrnoException).code : undefined;
  if (code === "EACCES" && !isRoot()) return { findings: [needsRoot("configuration")] };
  return { ...loaded, findings: [verdict(file, user, config)] };
}

function unlessWrong(load: () => Config): Config | Error {
  try {
    return load();
  } catch (error) {
    return error as Error;
  }
}

function verdict(file: string, user: User, config: Config | Error): Finding {
  const asServer = isRoot() ? { uid: user.uid, gid: user.gid } : {};
  const words = ["--disable-warning=ExperimentalWarning", SERVER, "--check", "--config", file];
  const options = { ...asServer, env: {}, encoding: "utf8" } as const;
  const { status, stderr, error } = spawnSync(process.execPath, words, options);
  if (error) {
    const advice = "check that this user may run Node and read the installation";
    return unchecked("configuration", `${file}: as uid ${user.uid}: ${error.message}`, advice);
  }
  if (status !== 0) {
    const said = stderr.trim().replace(/^authproxy: error: /, "") || `exit code ${status}`;
    const advice = said.includes("EACCES")
      ? `let the server's user (uid ${user.uid}) read it: chmod 0640, group authproxy`
      : `\`authproxy check --config ${file}\` shows where`;
    return failed("configuration", said.includes(file) ? said : `${file}: ${said}`, advice);
  }
  if (config instanceof Error) return failed("configuration", config.message, "correct that file");
  const count = Object.keys(config.services).length;
  if (count > 0) return ok("configuration", `${file}: the server takes it; services: ${count}`);
  return warning("configuration", `${file}: it has no service`, "`authproxy suggest` writes one");
}
