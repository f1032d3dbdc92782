// Question: what does a Prometheus see of the server? Input: its audit stream, a file or a pipe that
// never ends. Output: a file for node_exporter's textfile collector, which sees all of it or the former
// one. The server knows nothing of it: the stream is all there is.
import { renameSync, writeFileSync } from "node:fs";
import { linesOf } from "../input.ts";
import type { Options } from "../options.ts";
import { Failure, remark } from "../terminal.ts";
import { startCounting } from "./count.ts";
import { exposition } from "./exposition.ts";

export async function metrics(file = "-", { out, every = "5" }: Options): Promise<number> {
  if (file === "-" && process.stdin.isTTY)
    throw new Failure(
      "usage",
      "metrics: the audit stream is missing",
      "try: journalctl -u authproxy -b -o cat -f -n all | authproxy metrics --out FILE.prom",
    );
  // node_exporter passes over what has another name.
  if (out !== undefined && !out.endsWith(".prom"))
    throw new Failure("usage", `--out ${out}: must end in .prom`);
  const everyMs = Number(every) * 1000;
  if (!(everyMs > 0)) throw new Failure("usage", `--every ${every}: is no number of seconds`);
  const { take, families } = startCounting();
  const write = () => {
    const text = exposition(families());
    if (out === undefined) process.stdout.write(text);
    else replace(out, text);
  };
  let timer: NodeJS.Timeout | undefined;
  if (out !== undefined) {
    write(); // an empty stream is seen too, and a place that cannot be written at once
    process.once("SIGTERM", () => {
      write();
      process.exit(0);
    });
  }
  const later = () => {
    timer = undefined;
    try {
      write();
    } catch (error) {
      remark("error", (error as Error).message); // a full disk may have room again
    }
  };
  for await (const line of linesOf([file], (why) => remark("note", `a line ${why}`))) {
    take(line);
    if (out !== undefined) timer ??= setTimeout(later, everyMs);
  }
  clearTimeout(timer);
  write();
  return 0;
}

function replace(file: string, text: string): void {
  try {
    writeFileSync(`${file}.new`, text, { mode: 0o644 });
    renameSync(`${file}.new`, file);
  } catch (error) {
    throw new Failure("usage", `--out: ${(error as Error).message}`);
  }
}
