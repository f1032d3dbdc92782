// Question: where can a secret be seen once the application has it, by which way of handing it over?
// Input:    real containers of the image that Dockerfile.example describes, served by the real server.
// Places:   `docker inspect`; what `docker exec` gets in its environment; /proc/1/environ and what
//           descriptor 0 leads to, for the application's own user and for the container's root; a file
//           in the container, for both; the container's layer on the host's disk.
// Promise:  the table in docs/client.md is the one that is found here.
import { execFileSync } from "node:child_process";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import {
  base,
  buildImage,
  type Container,
  type ContainerOptions,
  password,
  Stage,
} from "./stage.ts";

const root = join(import.meta.dirname, "..");
const image = await buildImage("authproxy-test-client", root, "Dockerfile.example", base);

const document = readFileSync(join(root, "docs/client.md"), "utf8");
const reference = "vault:secret/data/app#password";
const node = ["node", "-e", "console.log('up'); setInterval(() => {}, 60000)"];
const shell = ["/bin/sh", "-c", "echo up; sleep 600"];
const moduleScript =
  'require("/authproxy/authproxy.js").getSecrets({ p: process.env.REFERENCE })' +
  '.then(({ p }) => { globalThis.kept = p; console.log("up"); setInterval(() => {}, 60000); })';

const none = { DB_PASSWORD_FILE: "" };
const deliveries: Record<string, ContainerOptions> = {
  "`X`": { environment: { ...none, X: reference }, command: shell },
  "`X`, undumpable": { environment: { ...none, X: reference }, command: node },
  "`X_FILE`": { command: node },
  "`--stdin`": { environment: { ...none, X: reference, AUTHPROXY_STDIN: "1" }, command: shell },
  "`--stdin`, undumpable": {
    environment: { ...none, X: reference, AUTHPROXY_STDIN: "1" },
    command: node,
  },
  "module, undumpable": {
    environment: { ...none, REFERENCE: "vault:secret/data/app#password" },
    entrypoint: ["node", "--disable-sigusr1"],
    command: ["-e", moduleScript],
  },
};

function docker(...args: string[]): string {
  try {
    return execFileSync("docker", args, {
      encoding: "latin1",
      maxBuffer: 1 << 28,
      stdio: ["ignore", "pipe", "pipe"],
    });
  } catch (error) {
    return String((error as { stdout?: string }).stdout);
  }
}

function placesOf(container: Container): string[] {
  const { id } = container;
  const as = (user: string, ...command: string[]) => docker("exec", "-u", user, id, ...command);
  const places: Record<string, string> = {
    "`docker inspect`": docker("inspect", id),
    "`docker exec … env`": as("1001", "env"),
    "/proc/1/environ": as("1001", "cat", "/proc/1/environ"),
    "/proc/1/environ, by root": as("0", "cat", "/proc/1/environ"),
    "/proc/1/fd/0": as("1001", "cat", "/proc/1/fd/0"),
    "/proc/1/fd/0, by root": as("0", "cat", "/proc/1/fd/0"),
    "the file": as("1001", "cat", "/run/authproxy-secrets/DB_PASSWORD"),
    "the file, by root": as("0", "cat", "/run/authproxy-secrets/DB_PASSWORD"),
    "a disk": docker("export", id),
    "`docker logs`": docker("logs", id),
  };
  return Object.keys(places).filter((place) => places[place]?.includes(password));
}

test("what is found is the table of docs/client.md", async () => {
  const rows: string[] = [];
  for (const [delivery, options] of Object.entries(deliveries)) {
    await using stage = new Stage();
    await stage.server();
    const container = await stage.container({ image, ...options });
    await container.says("up");
    rows.push(`| ${delivery} | ${placesOf(container).join("; ") || "nowhere"} |`);
  }
  for (const row of rows) expect(document, rows.join("\n")).toContain(row);
});

test("an application that its user may not read is the kernel's own: no trace, no descriptors", async () => {
  await using stage = new Stage();
  await stage.server();
  const container = await stage.container({ image, command: node });
  await container.says("up");
  const { State } = await container.inspect();
  // proc(5): the files of a process that cannot be dumped belong to root.
  expect(statSync(`/proc/${State.Pid}/environ`).uid).toBe(0);
  const { output, exitCode } = await container.exec("ls", "/proc/1/fd");
  expect([exitCode === 0, output]).toEqual([false, expect.stringContaining("Permission denied")]);
  await using other = new Stage();
  await other.server();
  const readable = await other.container({ image, command: shell });
  await readable.says("up");
  expect((await readable.exec("ls", "/proc/1/fd")).exitCode, "the control").toBe(0);
});
