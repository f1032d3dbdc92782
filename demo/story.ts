// Question: what is there to see? Each function shows one thing, in the order in which it happens.
// Input:    a stage. Promise: it returns only if every check held (tell.ts).
import { createHash } from "node:crypto";
import { readFileSync, readlinkSync, statfsSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { client, type OpenBao } from "../scripts/openbao.ts";
import * as look from "./search.ts";
import { type AuditLine, image, type Outcome, password, type Stage, service } from "./stage.ts";
import { check, command, fact, NotShown, say, step, title } from "./tell.ts";

const TMPFS_MAGIC = 0x01021994; // statfs(2)
const deadAfterMsMax = 1000;
const momentDeadlineMs = 20_000;
const application = readFileSync(join(import.meta.dirname, "application.cjs"), "utf8");
const clientFile = join(import.meta.dirname, "../dist/authproxy.js");
const clientStart = readFileSync(clientFile, "utf8").slice(0, 200);
const reference = `DB_PASSWORD_FILE=vault:secret/data/${service}#password`;
const passwordHash = createHash("sha256").update(password).digest("hex");

type Inspected = { Id: string; Image: string; State: { Pid: number }; Config: { Env: string[] } };
/** `inspect` is all that the engine says, `granted` the server's audit line. */
type Container = Inspected & { inspect: string; granted: AuditLine };

export async function tell(stage: Stage): Promise<void> {
  title("authproxy: a container that holds no secret starts with its secrets");
  const bao = await setTheStage(stage);
  const created: { auth: { client_token: string } } = await client(bao).tokenCreate({
    policies: ["default"],
  });
  const specimen = created.auth.client_token;
  const search = look.searchFor(password, specimen, client(bao));
  const container = await startsWithAReference(stage, search);
  whoConnected(container);
  await hasItsSecret(stage, container);
  await leavesNothing(stage, search, specimen, container);
  await othersGetNothing(stage, container);
  await tokenDies(stage, bao, container);
}

async function setTheStage(stage: Stage): Promise<OpenBao> {
  say("First the stage. All of it is real, and on this machine:");
  const bao = await stage.startVault();
  say(`- OpenBao at ${bao.address}, which holds the password of the service "${service}"`, 3);
  await stage.startServer(bao);
  say(`- the authproxy server, listening in ${stage.socketDirectory}`, 3);
  say("- an image from Dockerfile.example (some seconds the first time, then cached) …", 3);
  await stage.buildImage();
  say(`- … is ready, as ${image}`, 3);
  return bao;
}

function runOptions(stage: Stage): string[][] {
  const tmpfs = "/run/authproxy-secrets:mode=0700,uid=1001,gid=1001,noexec,nosuid,size=1m";
  const socket = `${stage.socketDirectory}:/run/authproxy:ro`;
  const plain = [["--read-only"], ["--network", "host"], ["--ulimit", "core=0"]];
  return [...plain, ["--tmpfs", tmpfs], ["-v", socket], ["-e", reference]];
}

async function startsWithAReference(stage: Stage, search: look.Search): Promise<Container> {
  step(
    "The container is started with a reference, not with a secret",
    "It is told where its password is, and who can read its configuration learns no more. " +
      "(--network host: this OpenBao listens on 127.0.0.1; yours has an address.)",
  );
  const options = [...runOptions(stage), ["-l", `app=${service}`], [image]];
  const shown = options.map((words) => words.join(" "));
  command(["docker run -d", ...shown, 'node -e "$(cat demo/application.cjs)"']);
  const id = await stage.startContainer([...options.flat(), "node", "-e", application], "sha256");
  const granted = await stage.auditLine((l) => l.event === "granted" && l.container === id);
  const inspect = (await stage.docker("inspect", id)).stdout;
  const [inspected]: Inspected[] = JSON.parse(inspect);
  if (!inspected) throw new Error(`docker inspect ${id}: no such container`);
  const found = await search([Buffer.from(inspect)], reference);
  check("`docker inspect` has the reference in it, and the password nowhere", {
    wanted: { control: true, password: false },
    seen: { control: found.control, password: found.password },
  });
  const secrets = inspected.Config.Env.filter((variable) => variable.startsWith("DB_"));
  check(`of a secret its environment says only: ${secrets.join(" ")}`, {
    wanted: [reference],
    seen: secrets,
  });
  return { ...inspected, inspect, granted };
}

function whoConnected({ Id, Image, State, granted }: Container): void {
  step(
    "The server knew who connected, and read nothing from it",
    "The container connected to a socket and sent not one byte. The server's audit line of the " +
      "grant, compared with what kernel and engine say now:",
  );
  const { pid, uid, exe } = granted;
  fact("pid", pid, "the kernel, at connect(); the engine too", State.Pid, pid);
  fact("uid", uid, "the kernel, at connect()", statSync(`/proc/${State.Pid}`).uid, uid);
  fact("executable", exe, "/proc/<pid>/exe", readlinkSync(`/proc/${State.Pid}/exe`), exe);
  fact("container", short(granted.container), "its cgroup and the engine", Id, granted.container);
  fact("image", short(granted.image), "the engine", Image, granted.image);
  const rule = `the policy: uid 1001, label app=${service}`;
  fact("service", granted.service, rule, service, granted.service);
}

async function hasItsSecret(stage: Stage, { Id, State }: Container): Promise<void> {
  step(
    "The application has its password",
    "The client fetched the password with its token and became the application. That one prints a " +
      "hash of what it got; the demo has drawn the password itself, so it can compare.",
  );
  const { stdout } = await stage.docker("logs", Id);
  const [firstLine = ""] = stdout.split("\n");
  check(`docker logs: ${firstLine.slice(0, 48)}… is the right one`, {
    wanted: `sha256 of my password: ${passwordHash}`,
    seen: firstLine,
  });
  const directory = `/proc/${State.Pid}/root/run/authproxy-secrets`;
  const { mode, uid } = statSync(`${directory}/DB_PASSWORD`);
  check("it is a file in memory (tmpfs) that only the application's user can read", {
    wanted: { type: TMPFS_MAGIC, mode: "400", uid: 1001 },
    seen: { type: statfsSync(directory).type, mode: (mode & 0o777).toString(8), uid },
  });
}

/** Where something could be left, each with a text that is there: a search must find that. */
function places(
  stage: Stage,
  { Id, Image, State, inspect }: Container,
): [string, look.Bytes, string][] {
  const proc = (name: string) => look.fileBytes(`/proc/${State.Pid}/${name}`);
  const layers = "docker save \"$1\" | tar -x --to-command='gzip -cdf' -f -";
  const files = 'docker diff "$1"; docker export "$1"';
  const logs = 'docker logs "$1" 2>&1';
  return [
    ["docker inspect", [Buffer.from(inspect)], reference],
    ["image, each layer", stage.output(layers, Image), clientStart],
    ["container's files", stage.output(files, Id), clientStart],
    ["container's logs", stage.output(logs, Id), passwordHash],
    ["its environment", proc("environ"), "DB_PASSWORD_FILE=/run/authproxy-secrets/DB_PASSWORD"],
    ["its command line", proc("cmdline"), application],
    ["server's output", [Buffer.from(stage.serverOutput())], Id],
  ];
}

async function leavesNothing(
  stage: Stage,
  search: look.Search,
  specimen: string,
  container: Container,
): Promise<void> {
  step(
    "Neither the password nor a token is left anywhere else",
    "Every byte of each place is searched for the password, and for the token. The token was shown " +
      "to nobody, so whatever has the shape of one is tried at OpenBao, which knows its own.",
  );
  for (const [place, bytes, control] of places(stage, container)) {
    const { size, ...found } = await search(bytes, control);
    const wanted = { control: true, password: false, token: false };
    fact(place, sizeOf(size), "neither is there", wanted, found);
  }
  const { pid } = container.granted;
  const { size, control, token } = await search(look.memoryBytes(pid), "DB_PASSWORD_FILE");
  const nothing = { control: true, token: false };
  fact("its memory", sizeOf(size), "no token: it went with the client", nothing, {
    control,
    token,
  });
  const planted = stage.write("planted", `${"-".repeat(99_990)}${password} ${specimen}`);
  const { size: plantedSize, ...both } = await search(look.fileBytes(planted), "---");
  const all = { control: true, password: true, token: true };
  fact(
    "a file of the demo",
    sizeOf(plantedSize),
    "both, put there: the search does find",
    all,
    both,
  );
}

async function othersGetNothing(stage: Stage, { Id, State }: Container): Promise<void> {
  step(
    "Nobody else gets anything",
    "First a stranger: the same image and options, without the label. Then somebody who got into " +
      "the good container and runs the client again. Both are told nothing; the audit says why.",
  );
  command(["docker run (the same options)", image]);
  const stranger = await stage.runContainer([...runOptions(stage).flat(), image]);
  sawRefusal(stranger);
  const first = await stage.auditLine((l) => l.event === "refused" && l.container !== Id);
  const { path, wanted, seen } = first.detail;
  check(`audit: ${first.reason}: ${path} is ${seen}, wanted "${wanted}"`, {
    wanted: ["no-match", "container.Config.Labels.app", service, null],
    seen: [first.reason, path, wanted, seen],
  });
  const again = ["node", "--disable-sigusr1", "/authproxy/authproxy.js", "--", "true"];
  command(["docker exec", short(Id), ...again]);
  sawRefusal(await stage.docker("exec", Id, ...again));
  const second = await stage.auditLine((l) => l.event === "refused" && l.claimed === Id);
  check(
    `audit: ${second.reason}: process ${second.pid} is not the container's first, ${State.Pid}`,
    {
      wanted: ["init", true],
      seen: [second.reason, second.pid !== State.Pid],
    },
  );
}

function sawRefusal({ status, stdout, stderr }: Outcome): void {
  const [line = ""] = stderr.split("\n");
  check(`exit code ${status}; it says "${line}"`, {
    wanted: [77, "", "authproxy: the server refused this container"],
    seen: [status, stdout, line],
  });
}

async function tokenDies(
  stage: Stage,
  bao: OpenBao,
  { Id, State, granted }: Container,
): Promise<void> {
  step(
    "The token dies with the container",
    "The server holds the kernel's handle of the very process that got the token (a pidfd). When " +
      "that exits, it revokes. OpenBao is asked by the token's accessor, which the audit names.",
  );
  const { accessor } = granted;
  const alive: { data: { meta: Record<string, string> } } = await client(bao).tokenLookupAccessor({
    accessor,
  });
  const { meta } = alive.data;
  check(
    `it lives, and OpenBao knows whose it is: ${meta.service}, container ${short(meta.container)}`,
    {
      wanted: [service, Id],
      seen: [meta.service, meta.container],
    },
  );
  command(["docker stop", short(Id)]);
  const [exitedMs, deadMs, stoppedMs] = await Promise.all([
    momentWhen(async () => !isRunning(State.Pid)),
    momentWhen(async () => !(await isAlive(bao, accessor))),
    stage.docker("stop", Id).then(() => performance.now()),
  ]);
  const afterExitMs = Math.max(0, Math.round(deadMs - exitedMs));
  const sinceStopMs = Math.round(deadMs - stoppedMs);
  const order = `${Math.abs(sinceStopMs)} ms ${sinceStopMs < 0 ? "before" : "after"}`;
  const limit = `dead within ${deadAfterMsMax} ms`;
  check(`${afterExitMs} ms after the process exited it is dead, ${order} docker stop returned`, {
    wanted: limit,
    seen: afterExitMs <= deadAfterMsMax ? limit : `dead after ${afterExitMs} ms`,
  });
  const revoked = await stage.auditLine((l) => l.event === "revoked" && l.accessor === accessor);
  check(`audit: ${revoked.event}: ${revoked.service}, container ${short(revoked.container)}`, {
    wanted: [service, Id],
    seen: [revoked.service, revoked.container],
  });
}

async function isAlive(bao: OpenBao, accessor: string): Promise<boolean> {
  try {
    await client(bao).tokenLookupAccessor({ accessor });
    return true;
  } catch (error) {
    if (look.isUnknown(error)) return false;
    throw error;
  }
}

/** A process that has exited and that nobody has waited for yet has no executable (proc(5)). */
function isRunning(pid: number): boolean {
  try {
    return readlinkSync(`/proc/${pid}/exe`) !== "";
  } catch {
    return false;
  }
}

async function momentWhen(happened: () => Promise<boolean>): Promise<number> {
  const deadlineMs = performance.now() + momentDeadlineMs;
  while (!(await happened())) {
    if (performance.now() > deadlineMs) throw new NotShown("it did not happen in time");
    await sleep(1);
  }
  return performance.now();
}

function short(id: unknown): string {
  return String(id).replace("sha256:", "").slice(0, 12);
}

function sizeOf(bytes: number): string {
  if (bytes < 10_000) return `${bytes} bytes`;
  return bytes < 10_000_000 ? `${Math.round(bytes / 1e3)} kB` : `${Math.round(bytes / 1e6)} MB`;
}
