// Question: how long does a program take to the first instruction of the application, with a token
// and one KV secret of a real Vault in hand; and how much memory, at most?
// Each is started in the same container, one after the other, by programs/launcher.c.
import { realpathSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { client } from "../scripts/openbao.ts";
import type { Round } from "./figures.ts";
import { interleave } from "./interleave.ts";
import { Report, type Scale } from "./part.ts";
import { anyProcess, type Inside, Stage } from "./stage.ts";

export const bao = realpathSync(join(import.meta.dirname, "../dist/bao"));
const NODE = "/usr/local/bin/node";
const FIRST = "/bench/first";

type Start = { ms: number; mb: number };

async function start(launcher: Inside, ...command: string[]): Promise<Start> {
  const answer = await launcher.tell("start", ...command);
  const [ns = 0, kib = 0, exit] = answer.split(" ").map(Number);
  if (exit !== 0 || ns === 0) throw new Error(`${command.join(" ")}: exit ${exit}`);
  return { ms: ns / 1e6, mb: kib / 1024 };
}

/** For `bao agent` in exec mode: a token in a file, the secret as a variable. */
function agentConfiguration(address: string): string {
  return `
vault {
  address = "${address}"
  ca_cert = "/bench/ca.pem"
}
auto_auth {
  method "token_file" {
    config = { token_file_path = "/bench/token" }
  }
}
env_template "DB_PASSWORD" {
  contents = "{{ with secret \\"secret/data/app\\" }}{{ .Data.data.password }}{{ end }}"
}
exec {
  command = ["${FIRST}"]
}
`;
}

export async function measureStart(scale: Scale): Promise<Report> {
  const report = new Report(
    "how long from a program's start to the application's first instruction, with a secret?",
    scale,
  );
  await using stage = await Stage.start();
  const { auth } = await client(stage.bao).tokenCreate({ policies: ["app"], no_parent: true });
  const token: string = auth.client_token;
  writeFileSync(join(stage.programs, "token"), token, { mode: 0o644 });
  writeFileSync(join(stage.programs, "agent.hcl"), agentConfiguration(stage.bao.address));
  const { socket } = await stage.server("start", { app: anyProcess });
  const binds = [`${bao}:/usr/local/bin/bao:ro`];
  const [launcher] = await stage.containers("launcher", 1, { binds });
  if (!launcher) throw new Error("no launcher");
  const { address } = stage.bao;
  const reference = "DB_PASSWORD=vault:secret/data/app#password";
  const options = ["--socket", socket, "--", FIRST];
  const arms = {
    smallest: () =>
      start(launcher, NODE, "/bench/smallest.cjs", address, "/bench/ca.pem", token, FIRST),
    authproxy: () =>
      start(launcher, reference, NODE, "--disable-sigusr1", "/bench/authproxy.js", ...options),
    "node-vault": () =>
      start(
        launcher,
        ...[`VAULT_ADDR=${address}`, `VAULT_TOKEN=${token}`, "CA=/bench/ca.pem"],
        ...[NODE, "/bench/node-vault.cjs"],
      ),
  };
  const rounds = scale.quick ? 3 : 100;
  const measured = await interleave("start", arms, rounds);
  // Two seconds each, by design: a run of its own, beside ours once more.
  const agent = await interleave(
    "start",
    {
      authproxy: arms.authproxy,
      "bao agent": () => start(launcher, "/usr/local/bin/bao", "agent", "-config=/bench/agent.hcl"),
    },
    scale.quick ? 1 : 10,
    0,
  );
  const all: Record<string, Start[]> = { ...measured, "bao agent": agent["bao agent"] };
  const asRounds = (starts: Start[]): Round[] =>
    starts.map(({ ms }) => ({ ms: [ms], seconds: ms / 1000 }));
  for (const [name, starts] of Object.entries(all)) {
    report.note(
      `${name} start`,
      "ms",
      starts.map(({ ms }) => ms),
    );
    report.note(
      `${name} peak memory`,
      "MB",
      starts.map(({ mb }) => mb),
    );
  }
  for (const name of ["smallest", "node-vault"] as const) {
    const of = ["authproxy", asRounds(measured.authproxy)] as [string, Round[]];
    report.compare(`authproxy over ${name}, start`, of, [name, asRounds(measured[name])]);
    const memory = (starts: Start[]) => starts.map(({ mb }) => ({ ms: [mb], seconds: 1 }));
    report.compare(
      `authproxy over ${name}, peak memory`,
      ["authproxy", memory(measured.authproxy)],
      [name, memory(measured[name])],
    );
  }
  report.compare(
    "authproxy over bao agent, start",
    ["authproxy", asRounds(agent.authproxy)],
    ["bao agent", asRounds(agent["bao agent"])],
  );
  report.notes.push(
    "smallest: a Node program that is given its token, and does one https GET and execve: no more",
    "authproxy also connects to the server and waits for a token that a real Vault mints",
    "authproxy is the container's second process here, so `init`, `alone` and `once` are relaxed",
    "node-vault is bundled into one file, which loads faster than its folders do",
    "vault-env of bank-vaults, measured apart from this on a machine of this kind: 39 ms, 40 MB, " +
      "a token given. It is ahead of every Node program: Node's own start is 28 ms and 42 MB",
  );
  return report;
}
