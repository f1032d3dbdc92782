// Question: does `authproxy check` find, among the containers that run on a real engine, those that
// could replace the server's socket, and with --running those that the checks would refuse?
import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findNeighbours, howItCan, placeIn } from "../cli/neighbours.ts";
import { judgeRunning, runningLines } from "../cli/running.ts";
import { baseImage } from "../scripts/images.ts";
import type { Service } from "../server/config.ts";
import type { JsonObject } from "../server/json.ts";
import { authproxy } from "./command.ts";

const docker = (...words: string[]) => execFileSync("docker", words, { encoding: "utf8" }).trim();
const image = baseImage();
const run = randomUUID().slice(0, 8);
const scratch = mkdtempSync(join(tmpdir(), "authproxy-running-"));
const socketDirectory = join(scratch, "a run", "authproxy");
mkdirSync(socketDirectory, { recursive: true });

const ids: string[] = [];
afterAll(() => {
  docker("rm", "--force", ...ids);
  rmSync(scratch, { recursive: true, force: true });
});

function started(...options: string[]): string {
  const id = docker("run", "--detach", "--user", "1001", ...options, image, "sleep", "600");
  ids.push(id);
  return id;
}

describe("containers that could replace the socket", () => {
  const readonly = ["--volume", `${socketDirectory}:/run/authproxy:ro`];
  const cases: { title: string; options: string[]; how?: RegExp }[] = [
    { title: "none that sees nothing of it", options: ["--privileged"] },
    { title: "none that has it read-only", options: readonly },
    {
      title: "one that has it writable",
      options: ["--volume", `${socketDirectory}:/sockets`],
      how: /^has the socket's directory writable, at \/sockets$/,
    },
    {
      title: "one that has a directory above it writable",
      options: ["--volume", `${scratch}:/all`],
      how: /writable, at \/all$/,
    },
    {
      title: "one that may mount over it",
      options: [...readonly, "--cap-add", "SYS_ADMIN"],
      how: /^has CAP_SYS_ADMIN, and can mount over \/run\/authproxy or remount it$/,
    },
    {
      title: "one that is privileged",
      options: [...readonly, "--privileged"],
      how: /^has CAP_SYS_ADMIN/,
    },
    { title: "none with other capabilities", options: [...readonly, "--cap-add", "NET_ADMIN"] },
  ];
  let found: Map<string, string>;
  const containers: string[] = [];
  beforeAll(async () => {
    for (const { options } of cases) containers.push(started(...options));
    const neighbours = await findNeighbours(socketDirectory);
    found = new Map(neighbours.map(({ id, how }) => [id, how]));
  });

  test.each(cases.map((row, i) => ({ ...row, i })))("are named: $title", ({ how, i }) => {
    const said = found.get(containers[i] ?? "");
    if (how) expect(said).toMatch(how);
    else expect(said).toBeUndefined();
  });

  test("are named by the command, for people and machines", async () => {
    const file = join(scratch, "socket.json");
    const vault = { address: "https://vault:8200", login: { token_file: "/token" } };
    const match = { container: { Config: { Labels: { app: "app" } } } };
    const services = { app: { match, token: { create: "auth/token/create/app" } } };
    const socket = join(socketDirectory, "authproxy.sock");
    writeFileSync(file, JSON.stringify({ socket, vault, services }), { mode: 0o600 });
    const plain = await authproxy(["check", "--config", file]);
    expect(plain.status).toBe(0);
    expect(plain.stdout).toMatch(/^neighbours {2}their code could take the socket's place/m);
    expect(plain.stdout).toMatch(/ {2}has the socket's directory writable, at \/sockets$/m);
    const machine = await authproxy(["check", "--json", "--config", file]);
    const { neighbours } = JSON.parse(machine.stdout);
    expect(neighbours.map(({ id }: { id: string }) => id).toSorted()).toEqual(
      [...found.keys()].toSorted(),
    );
  });

  test("are not looked for where the server has no directory yet", async () => {
    expect(await findNeighbours(join(scratch, "nothing"))).toEqual([]);
  });

  test("are found by file system and directory, whatever their mounts are called", () => {
    const host = [
      "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw",
      "23 22 0:20 / /run rw,nosuid shared:2 - tmpfs tmpfs rw",
      "24 22 8:2 /volumes /srv\\040data rw - ext4 /dev/sdb rw",
    ].join("\n");
    const place = placeIn(host, "/run/authproxy") ?? { device: "", path: "" };
    expect(place).toEqual({ device: "0:20", path: "/authproxy" });
    expect(placeIn(host, "/srv data/x")).toEqual({ device: "8:2", path: "/volumes/x" });
    expect(placeIn(host, "/runner")).toEqual({ device: "8:1", path: "/runner" });
    const mounted = (root: string, options: string) =>
      howItCan(
        place,
        `9 8 0:20 ${root} /x ${options} - tmpfs tmpfs rw`,
        "CapBnd:\t0000000000200000\n",
      );
    expect(mounted("/authproxy", "rw")).toContain("writable, at /x");
    expect(mounted("/", "rw")).toContain("writable, at /x");
    expect(mounted("/authproxy", "ro,nosuid")).toContain("CAP_SYS_ADMIN");
    expect(mounted("/authproxy2", "rw")).toBeUndefined();
    expect(mounted("/authproxy/below", "rw")).toBeUndefined();
    const otherDevice = "9 8 0:21 /authproxy /x rw - tmpfs tmpfs rw";
    expect(howItCan(place, otherDevice, "CapBnd:\t0000000000200000\n")).toBeUndefined();
  });
});

describe("running containers that the checks would refuse", () => {
  const label = `running-${run}`;
  const service = (app: string, more: JsonObject = {}, relax: string[] = []): Service => ({
    match: { ...more, container: { Config: { Labels: { [label]: app } } } },
    token: { create: "auth/token/create/app" },
    relax,
  });
  const services = {
    good: service("good"),
    writable: service("writable", { peer: { uid: 7 }, process: { dumpable: false } }),
    relaxed: service("relaxed", {}, ["readonly"]),
  };
  let writable: string;
  beforeAll(() => {
    started("--label", `${label}=good`, "--read-only");
    writable = started("--label", `${label}=writable`);
    started("--label", `${label}=relaxed`);
    started("--label", `${label}=nobody's`);
  });

  test("are those of a service, whatever their process has become, by check", async () => {
    const report = await judgeRunning(services);
    expect(report.matching).toBe(3);
    expect(report.refused).toEqual([
      {
        id: writable,
        name: expect.any(String),
        service: "writable",
        check: "readonly",
        detail: { part: "root", mount: "/" },
      },
    ]);
    const lines = runningLines(report);
    expect(lines[0]).toBe("3 running containers are of a service; 1 would be refused");
    expect(lines.join("\n")).toContain("readonly  the program can be overwritten from inside");
  });

  test("end the command with 77, and none with 0; as JSON they are whole", async () => {
    const file = join(scratch, "authproxy.json");
    const words = ["check", "--running", "--json", "--config", file];
    const write = (of: Record<string, Service>) => {
      const vault = { address: "https://vault:8200", login: { token_file: "/token" } };
      writeFileSync(file, JSON.stringify({ vault, services: of }), { mode: 0o600 });
    };
    write(services);
    const refused = await authproxy(words);
    expect(refused.status).toBe(77);
    expect(JSON.parse(refused.stdout)).toMatchObject({ matching: 3, refused: [{ id: writable }] });
    write({ good: services.good });
    const served = await authproxy(words);
    expect(served.status).toBe(0);
    expect(JSON.parse(served.stdout)).toMatchObject({ matching: 1, refused: [] });
  });
});
