// Question: what did root configure? config/load.ts reads and checks it, in a process of its own.
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { Config } from "../types.ts";

const PROGRAM = `${import.meta.dirname}/../config/load.ts`;

/** Throws one line that says what is wrong, and where. */
export async function loadConfig(file: string): Promise<Config> {
  const running = promisify(execFile)(process.execPath, [PROGRAM, file], { env: {} });
  const { stdout } = await running.catch(({ stderr, message }) => {
    throw new Error(stderr || message);
  });
  return JSON.parse(stdout);
}
