// Question: what does the runtime `authproxy` add to a container's start, beside plain runc? Of a
// container without a reference, and of one that gets its secret before its command begins. On an
// engine of this machine's dockerd with its own data and configuration: the machine's own is not told.
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { removeBridge, startDocker } from "../test/lab/engine.ts";
import type { Round } from "./figures.ts";
import { interleave } from "./interleave.ts";
import { Report, type Scale } from "./part.ts";
import { anyProcess, Stage, USER } from "./stage.ts";

const root = join(import.meta.dirname, "..");
const REFERENCE = ["--env", "PASSWORD_FILE=vault:secret/data/app#password"];

export async function measureRuntime(scale: Scale): Promise<Report> {
  const report = new Report("what does the runtime add to a container's start?", scale);
  await using stage = await Stage.start();
  const sockets = join(stage.directory, "run");
  const path = join(root, "dist/runtime/authproxy-runc");
  const runtimes = { authproxy: { path, runtimeArgs: [`--sockets=${sockets}`] } };
  const engine = await startDocker({ path: "", versions: new Map() }, { runtimes });
  stage.defer(async () => {
    await engine.stop();
    removeBridge();
  });
  const host = ["--host", `unix://${engine.socket}`];
  const copy = `docker save "$1" | docker --host "$2" load`;
  execFileSync("sh", ["-c", copy, "sh", stage.image, `unix://${engine.socket}`]);
  await stage.server("authproxy", { app: anyProcess }, { engine: engine.socket });
  const started = (...words: string[]) => {
    const how = [
      "--rm",
      "--network",
      "host",
      "--read-only",
      "--user",
      `${USER}`,
      "--label",
      "app=app",
    ];
    const began = performance.now();
    execFileSync("docker", [...host, "run", ...how, ...words, stage.image, "true"]);
    return performance.now() - began;
  };
  const arm =
    (...words: string[]) =>
    async (): Promise<Round> => {
      const ms = started(...words);
      return { ms: [ms], seconds: ms / 1000 };
    };
  const arms = {
    runc: arm("--runtime", "runc"),
    untouched: arm("--runtime", "authproxy"),
    served: arm("--runtime", "authproxy", ...REFERENCE),
  };
  const measured = await interleave("runtime", arms, scale.quick ? 2 : 40);
  for (const [name, rounds] of Object.entries(measured)) report.add(`docker run, ${name},`, rounds);
  const runc: [string, Round[]] = ["runc", measured.runc];
  report.compare("without a reference over runc", ["untouched", measured.untouched], runc);
  report.compare("with its secret over runc", ["served", measured.served], runc);
  report.notes.push(
    "the whole of `docker run --rm … true`, from the command to its end",
    "served: Node rewrites, and Node is the client, which gets its token and its secret first",
  );
  return report;
}
