// Question: what do running containers lose while a part is away? For just under half of a token's
// life: nothing, neither the token nor what was leased under it. For longer: what Vault itself has
// ended, and nothing that comes later.
import { execFileSync } from "node:child_process";
import {
  closeSync,
  constants,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as pass } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { client, type OpenBao, provision, startOpenBao } from "../../scripts/openbao.ts";
import { Gate } from "../gate.ts";
import { password, type Server, Stage, type StartOptions, until, vaultAt } from "../stage.ts";
import { Authority } from "./authority.ts";
import { livingTokens, Patient, shortenTokens } from "./patients.ts";
import { row } from "./table.ts";

const TTL_SECONDS = 20;
const PATIENTS = 4;
/** Parts of a token's life. The first renewal comes after three tenths of it. */
const BEFORE_RENEWAL = 0.29;
const JUST_UNDER_HALF = 0.48;
const passLives = (lives: number) => pass(lives * TTL_SECONDS * 1000);

/** A Vault with a gate before it, and our server. */
type Scene = { stage: Stage; vault: OpenBao; gate: Gate; config: string; server: Server };
/** A container that holds a token, and something that Vault has leased to that token. */
type Holder = { patient: Patient; lease: string };

async function open(stage: Stage, authority?: Authority, options?: StartOptions): Promise<Scene> {
  const vault = await startOpenBao();
  stage.defer(() => vault.stop());
  const { roleId, secretId } = await provision(vault, { services: { app: { password } } });
  await shortenTokens(TTL_SECONDS, vault);
  await leaseCertificates(vault);
  if (authority) {
    await replaceCertificate(vault, authority);
    writeFileSync(vault.caFile, authority.ca);
  }
  const gate = await Gate.before(vault.address);
  stage.defer(() => gate.shut());
  const config = stage.configure({ vault: vaultAt(gate.address, vault, roleId) }, secretId);
  const server = stage.start(config, options);
  return { stage, vault, gate, config, server };
}

/** Vault then issues certificates under a lease, which ends with the token that asked for it. */
async function leaseCertificates(vault: OpenBao): Promise<void> {
  const root = client(vault);
  const key = { key_type: "ec", key_bits: 256 };
  await root.mount({ mount_point: "pki", type: "pki" });
  await root.write("pki/root/generate/internal", { common_name: "leases", ttl: "24h", ...key });
  await root.write("pki/roles/app", {
    allow_any_name: true,
    generate_lease: true,
    ttl: "1h",
    ...key,
  });
  const policy = 'path "pki/issue/app" { capabilities = ["update"] }';
  await root.addPolicy({ name: "app", policy });
}

async function hold({ stage, vault }: Scene): Promise<Holder> {
  const patient = await Patient.start(stage);
  const { token = "" } = await patient.ask();
  const own = client({ ...vault, rootToken: token });
  const { lease_id } = await own.write("pki/issue/app", { common_name: "app.example" });
  return { patient, lease: lease_id };
}

/** How many of these have lost their token or their lease. */
async function lost(holders: Holder[], { vault }: Scene): Promise<number> {
  const root = client(vault);
  const alive = holders.map(async ({ patient, lease }) => {
    const { data } = await root.write("sys/leases/lookup", { lease_id: lease }).catch(() => ({}));
    return data?.ttl > 0 && (await patient.token(vault)) !== undefined;
  });
  return (await Promise.all(alive)).filter((one) => !one).length;
}

/** Looks again and again for a whole life of a token; the most that were lost. */
async function lostForALife(holders: Holder[], scene: Scene): Promise<number> {
  const endMs = performance.now() + TTL_SECONDS * 1000;
  let most = 0;
  while (performance.now() < endMs) {
    most = Math.max(most, await lost(holders, scene));
    await pass(250);
  }
  return most;
}

/** All of a sudden nobody lives; then no token does. */
async function endAll(holders: Holder[], { stage, vault }: Scene): Promise<number> {
  for (const { patient } of holders) await patient.die();
  await until("each token is revoked", async () => (await livingTokens(vault)).size === 0);
  await until("each file is gone", () => readdirSync(join(stage.directory, "state")).length === 0);
  return (await livingTokens(vault)).size;
}

type Fault = { what: string; begin(scene: Scene): unknown; end(scene: Scene): unknown };
const faults: Fault[] = [
  {
    what: "the server is away",
    begin: ({ server }) => server.end("SIGTERM"),
    end: async (scene) => {
      scene.server = scene.stage.start(scene.config);
      await scene.server.until({ event: "ready" });
    },
  },
  {
    what: "the server was killed",
    begin: ({ server }) => server.end("SIGKILL"),
    end: async (scene) => {
      scene.server = scene.stage.start(scene.config);
      await scene.server.until({ event: "ready" });
    },
  },
  {
    what: "Vault accepts and never answers",
    begin: ({ vault }) => process.kill(vault.pid, "SIGSTOP"),
    end: ({ vault }) => process.kill(vault.pid, "SIGCONT"),
  },
  {
    what: "nobody listens at Vault's address",
    begin: ({ gate }) => gate.shut(),
    end: ({ gate }) => gate.raise(),
  },
  {
    what: "Vault is sealed",
    begin: ({ vault }) => client(vault).seal(),
    end: ({ vault }) => unseal(vault),
  },
];

async function unseal(vault: OpenBao): Promise<void> {
  const log = readFileSync(join(dirname(vault.caFile), "log"), "utf8");
  await client(vault).unseal({ key: /Unseal Key: (\S+)/.exec(log)?.[1] ?? "" });
}

// Side by side: what takes its time here is a token's life.
describe.concurrent("for just under half of a token's life, and no token or lease is lost:", () => {
  test.each(faults)("$what", async ({ what, begin, end }) => {
    const beganMs = performance.now();
    await using stage = new Stage();
    const scene = await open(stage);
    const holders = await Promise.all(Array.from({ length: PATIENTS }, () => hold(scene)));
    await passLives(BEFORE_RENEWAL);
    await begin(scene);
    await passLives(JUST_UNDER_HALF);
    await end(scene);
    const dead = await lostForALife(holders, scene);
    const next = await hold(scene); // and it goes on
    const leaked = await endAll([...holders, next], scene);
    row(`${what} for just under half a TTL`, 1, leaked, dead, beganMs);
    expect(dead).toBe(0);
  });

  test("Vault's certificate is of another authority, after it was replaced by another of the right one", async () => {
    const beganMs = performance.now();
    await using stage = new Stage();
    const [right, wrong] = [new Authority(stage), new Authority(stage)];
    const scene = await open(stage, right);
    const { vault, gate } = scene;
    const holders = [await hold(scene)];
    const useCertificateOf = async (authority: Authority) => {
      await replaceCertificate(vault, authority);
      await gate.shut(); // connections that stand go on with the old one
      await gate.raise();
    };
    await useCertificateOf(right);
    holders.push(await hold(scene));
    await useCertificateOf(wrong);
    await scene.server.end("SIGTERM"); // else it resumes its TLS session, and sees no certificate
    scene.server = stage.start(scene.config);
    const late = await Patient.start(stage);
    const answered = late.ask();
    await scene.server.until({ event: "unavailable", container: late.id, reason: "vault" });
    const { detail } = await scene.server.until({ event: "login" });
    expect(String(detail)).toContain("certificate");
    await passLives(JUST_UNDER_HALF / 2);
    await useCertificateOf(right);
    expect((await answered).token).toBeDefined();
    const dead = await lostForALife(holders, scene);
    const leaked = await endAll([...holders, { patient: late, lease: "" }], scene);
    row("Vault's certificate replaced", 2, leaked, dead, beganMs);
    expect(dead).toBe(0);
  });
});

/** Vault serves with a new certificate of this authority, from the next connection on. */
async function replaceCertificate(vault: OpenBao, authority: Authority): Promise<void> {
  const directory = dirname(vault.caFile);
  authority.certify(join(directory, "vault-cert.pem"), join(directory, "vault-key.pem"));
  process.kill(vault.pid, "SIGHUP");
  vault.ca = authority.ca; // for the tests' own client
  await until("Vault has its new certificate", () => answers(vault));
}

async function answers(vault: OpenBao): Promise<boolean> {
  try {
    await client(vault).health();
    return true;
  } catch {
    return false;
  }
}

describe.concurrent("for longer:", () => {
  const together = ["sh", "-c", 'exec "$@" 2>&1', "sh"]; // as a service manager does
  test.each([
    { what: "the audit stream", under: [] },
    { what: "the audit stream and the errors, which share a pipe", under: together },
  ])(
    "nobody reads $what, for a life and a half: tokens live, and are revoked",
    async ({ what, under }) => {
      const beganMs = performance.now();
      await using stage = new Stage();
      const pipe = join(stage.directory, "audit");
      execFileSync("mkfifo", [pipe]);
      const reader = openSync(pipe, constants.O_RDWR | constants.O_NONBLOCK);
      stage.defer(() => closeSync(reader));
      const stdout = openSync(pipe, "w");
      const scene = await open(stage, undefined, { stdout, under });
      closeSync(stdout);
      const holders = await Promise.all(Array.from({ length: PATIENTS }, () => hold(scene)));
      expect(() => {
        for (;;) writeSync(reader, "\n"); // until the pipe takes no more
      }).toThrow("EAGAIN");
      await passLives(JUST_UNDER_HALF);
      const dead = await lostForALife(holders, scene);
      const leaked = await endAll(holders, scene); // still nobody reads
      row(`nobody reads ${what} for 1.5 TTL`, 1, leaked, dead, beganMs);
      expect(dead).toBe(0);
    },
  );

  test("Vault is stopped, longer than any token lives: the next are served, nothing is left", async () => {
    const beganMs = performance.now();
    await using stage = new Stage();
    const scene = await open(stage);
    const { vault, server } = scene;
    await client(vault).write("auth/approle/role/authproxy", { token_period: `${TTL_SECONDS}s` });
    await server.end("SIGTERM"); // it logs in again: its own token is as short-lived
    scene.server = stage.start(scene.config);
    const holders = [await hold(scene), await hold(scene)];
    process.kill(vault.pid, "SIGSTOP");
    const late = await Patient.start(stage);
    const answered = late.ask();
    const [leaver] = holders.splice(0, 1);
    await leaver?.patient.die();
    await passLives(1.1);
    process.kill(vault.pid, "SIGCONT");
    expect((await answered).token).toBeDefined();
    const { patient } = await hold(scene);
    await until("what Vault has ended is dead", async () => (await lost(holders, scene)) === 1);
    const minted = [late, patient];
    await until("only who asked since then has one", async () => {
      return (await livingTokens(vault)).size === minted.length;
    });
    const living = await Promise.all(minted.map((one) => one.token(vault)));
    const dead = living.filter((token) => !token).length;
    const all = [...holders, ...minted.map((one) => ({ patient: one, lease: "" }))];
    const leaked = await endAll(all, scene);
    row("Vault stopped for longer than a TTL", 1, leaked, dead, beganMs);
    expect(dead).toBe(0);
  });
});
