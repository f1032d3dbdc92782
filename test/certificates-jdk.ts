// Question: what does a command of the JDK on this machine say?
import { spawnSync } from "node:child_process";

/** What it prints; throws with that where it fails. */
export function jdk(command: string, ...args: string[]): string {
  const { error, status, stdout, stderr } = spawnSync(command, args, { encoding: "utf8" });
  if (error) {
    throw new Error(`no ${command} on the PATH: \`sh scripts/prepare.sh tests\` installs a JDK`);
  }
  if (status !== 0) throw new Error(`${command}: ${stdout}${stderr}`); // keytool's errors go to stdout
  return stdout;
}
