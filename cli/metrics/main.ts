// Question: what does a Prometheus see of the server? Input: its audit stream, a file or a pipe
// that never ends. Output: a file for node_exporter's textfile collector, which sees either the
// whole new one or the whole old one. The server does not know of it: the audit stream is all that
// it needs.
import { renameSync, writeFileSync } from "node:fs";
import { linesOf } from "../input.ts";
import type { Options } from "../options.ts";
import { Failure, remark } from "../terminal.ts";
import { Counter } from "./count.ts";
import { exposition } from "./exposition.ts";

/** The command `metrics`: `file` is the audit stream, "-" being standard input. Returns the exit
 * code; throws Failures. */
export async function metrics(file = "-", { out, every = "5" }: Options): Promise<number> {
  const intervalMs = Number(every) * 1000;
  requireUsable(file, out, every);

  const counter = new Counter();
  const write = () => {
    const text = exposition(counter.families());
    if (out === undefined) process.stdout.write(text);
    else replaceFile(out, text);
  };
  if (out !== undefined) {
    write(); // so that an empty stream has a file, and a file that cannot be written fails at once
    process.once("SIGTERM", () => {
      write();
      process.exit(0);
    });
  }

  let timer: NodeJS.Timeout | undefined;
  const writeLater = () => {
    timer = undefined;
    try {
      write();
    } catch (error) {
      remark("error", (error as Error).message); // a full disk may have room again later
    }
  };
  const reportSkipped = (why: string) => remark("note", `a line ${why}`);
  for await (const line of linesOf([file], reportSkipped)) {
    counter.add(line);
    if (out !== undefined) timer ??= setTimeout(writeLater, intervalMs);
  }
  clearTimeout(timer);
  write();
  return 0;
}

function requireUsable(file: string, out: string | undefined, every: string): void {
  if (file === "-" && process.stdin.isTTY) {
    throw new Failure(
      "usage",
      "metrics needs the audit stream",
      "try: journalctl -u authproxy -b -o cat -f -n all | authproxy metrics --out FILE.prom",
    );
  }
  // node_exporter passes over files with another name.
  if (out !== undefined && !out.endsWith(".prom"))
    throw new Failure("usage", `--out ${out}: must end in .prom`);
  if (!(Number(every) > 0))
    throw new Failure("usage", `--every ${every}: is not a number of seconds`);
}

function replaceFile(file: string, text: string): void {
  try {
    writeFileSync(`${file}.new`, text, { mode: 0o644 });
    renameSync(`${file}.new`, file);
  } catch (error) {
    throw new Failure("usage", `--out: ${(error as Error).message}`);
  }
}
