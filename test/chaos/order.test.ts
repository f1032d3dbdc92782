// Question: a process is given its token and ends at once, and the server hears of both in one
// breath: does it know that this start of the container has had its token (invariant 6)?
import { execFile } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { SOCKET, TOKEN } from "../attacks/arena.ts";
import { Gate } from "../gate.ts";
import { app, bao, Stage, until, vaultAt } from "../stage.ts";
import { livingTokens, Patient } from "./patients.ts";

const run = promisify(execFile);

test("its token is revoked, and the next process of that start is refused: once", async () => {
  await using stage = new Stage();
  const gate = await Gate.before(bao.address);
  stage.defer(() => gate.shut());
  const services = { app: { ...app, relax: ["init", "alone"] } };
  const server = await stage.server({ vault: vaultAt(gate.address), services });
  await (await Patient.start(stage)).ask(); // it has logged in
  const { id } = await Patient.start(stage);
  const brief = () => run("docker", ["exec", id, "/app/brief", SOCKET, "waits"]);

  const held = gate.hold();
  const first = brief();
  await held;
  process.kill(server.helper, "SIGSTOP");
  gate.release();
  const { accessor } = await server.until({ event: "granted", container: id });
  process.kill(server.pid, "SIGHUP");
  await server.until({ event: "reload" }); // by now it has told the helper to send
  process.kill(server.pid, "SIGSTOP");
  const { helper } = server;
  process.kill(helper, "SIGCONT");
  expect((await first).stdout).toContain(TOKEN);
  process.kill(server.pid, "SIGCONT");
  await server.until({ event: "revoked", accessor });

  expect((await brief()).stdout).not.toContain(TOKEN);
  await server.until({ event: "refused", container: id, reason: "once" });
  expect([...(await livingTokens()).values()]).not.toContain(id);
  const ours = () =>
    readdirSync(join(stage.directory, "state")).filter((name) => name.startsWith(id));
  expect(ours().length).toBe(1);
  await run("docker", ["kill", id]);
  await until("its lease is forgotten", () => ours().length === 0);
});
