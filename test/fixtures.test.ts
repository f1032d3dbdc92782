// Question: does the server read what other engines and kernels show as it must? Input:
// test/fixtures/engines: what /proc, the cgroup file system and the engine said there about a
// container that asks, captured by `npm run test:lab`. Each is laid out as files again, and mounted
// in a mount namespace of its own, where the server's own code reads it: nothing of it is replaced.
import { execFileSync } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { judge } from "../server/checks.ts";
import type { Service } from "../server/config.ts";
import type { Facts } from "../server/facts.ts";
import type { Peer } from "../server/peercred.ts";
import { choose } from "../server/policy.ts";
import type { Process } from "../server/process.ts";
import { findContainer } from "../server/process.ts";
import type { Capture } from "./lab/capture.ts";

const folder = join(import.meta.dirname, "fixtures/engines");
const source = join(import.meta.dirname, "../server/process.ts");
const scratch = mkdtempSync(join(tmpdir(), "authproxy-fixtures-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const captures = readdirSync(folder).map((name) => {
  const capture: Capture = JSON.parse(readFileSync(join(folder, name), "utf8"));
  return { name: name.replace(".json", ""), ...capture };
});

/** Why a capture's peer gets nothing where only the server's user namespace is served. */
const REFUSED: Record<string, string> = {
  "docker-20.10-userns": "user-namespace",
};

const service: Service = {
  match: { container: { Config: { Labels: { app: "app" } } } },
  token: { create: "auth/token/create/app" },
};

/** Podman's containers of a user: the name of no cgroup is believed, and here there is none. */
const [nameless, named] = [true, false].map((wanted) =>
  captures.filter(({ name }) => name.endsWith("rootless") === wanted),
);

test.each(nameless ?? [])("$name: its cgroup names no container", (capture) => {
  expect(capture.files.cgroup).not.toContain(capture.container.Id);
  expect(() => readLaidOut(capture)).toThrow("no-container");
});

describe.each(named ?? [])("$name:", (capture) => {
  const { pid, container, files, bootMs, userNamespace } = capture;
  const lines = (files.cgroup ?? "").trimEnd().split("\n");

  test("the cgroup names the container that the engine knows", () => {
    expect(findContainer(lines)?.id).toBe(container.Id);
  });

  test("another container's name in a further line is refused", () => {
    const forged = [...lines, `99:more:/docker/${"0".repeat(64)}`];
    expect(findContainer(forged)).toBeUndefined();
  });

  test("a status without TracerPid is not read as that of a process without a tracer", () => {
    const status = (files.status ?? "").replace(/^TracerPid:.*\n/m, "");
    expect(status).not.toBe(files.status);
    const changed = { ...capture, name: `${capture.name}-no-tracer`, files: { ...files, status } };
    expect(() => readLaidOut(changed)).toThrow("/proc/PID/status has no TracerPid");
  });

  test("the process is the container's first, alone, and judged as it was there", () => {
    const seen = readLaidOut(capture);
    expect(seen).toMatchObject({ init: true, alone: true, tracer: 0, exe: "/app/ask" });
    expect(seen.pids).toEqual([pid, 1]);
    const [uid = -1] = seen.uids;
    const [gid = -1] = seen.gids;
    const peer: Peer = { id: "1", pid, uid, gid, groups: [], label: "" };
    const identity = { peer, process: seen, container };
    const imageLabels = { labels: capture.imageLabels ?? {}, areOfManifest: true };
    expect(choose(identity, [["app", service]])).toEqual(["app", service]);
    const facts: Facts = {
      ...identity,
      init: seen,
      mounts: { numbers: [seen.exe_mount], writable: [] },
      imageLabels,
      userNamespace,
      bootMs,
    };
    const reason = REFUSED[capture.name];
    if (reason) expect(() => judge(facts, undefined, service)).toThrow(reason);
    // Where users are mapped: the one that owns its pid namespace is its own (test/lab asks for it).
    const owner = reason ? seen.namespaces.user : userNamespace;
    expect(judge({ ...facts, userNamespace: owner }, undefined, service)).toEqual([]);
  });
});

describe("the uid inside, by the map of the process's user namespace:", () => {
  const mapped = captures.find(({ name }) => name === "docker-20.10-userns");
  test.each([
    ["users are remapped", "         0     165536      65536\n", 1001],
    ["one user keeps its id", "0 100000 1001\n1001 166537 1\n1002 101001 64535\n", 1001],
    ["it is root there", "0 166537 1\n", 0],
    ["it is the last of a range", "0 300000 10\n10 166528 10\n", 19],
    ["it is a namespace that maps everybody", "0 0 4294967295\n", 166_537],
    ["it is in no range", "0 166538 65536\n65536 100000 66537\n", -1],
    ["there is no map yet", "", -1],
  ])("%s", (name, uid_map, uid_inside) => {
    if (!mapped) throw new Error("test/lab captures it");
    const capture = { ...mapped, name: `map-${name}`, files: { ...mapped.files, uid_map } };
    expect(readLaidOut(capture)).toMatchObject({
      uids: [166_537, 166_537, 166_537, 166_537],
      uid_inside,
    });
  });
});

/** What server/process.ts reads where /proc and /sys/fs/cgroup are the captured ones. */
function readLaidOut({
  name,
  pid,
  files,
  links,
  cgroups,
  unified,
  userNamespace,
}: (typeof captures)[number]): Process {
  const root = join(scratch, name);
  const place = (path: string) => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    return join(root, path);
  };
  for (const [file, text] of Object.entries({ environ: "", ...files }))
    writeFileSync(place(`proc/${pid}/${file}`), text);
  // Its program is there to be opened; what descriptors are, only the real /proc says.
  const { exe = "", ...namespaces } = links;
  writeFileSync(place(exe), "");
  for (const [link, target] of Object.entries({ ...namespaces, exe: join(root, exe) }))
    symlinkSync(target, place(`proc/${pid}/${link}`));
  symlinkSync(userNamespace, place("proc/self/ns/user"));
  symlinkSync(join(root, "real/self/fdinfo"), place("proc/self/fdinfo"));
  mkdirSync(join(root, "real"));
  for (const [path, text] of Object.entries(cgroups))
    writeFileSync(place(`cgroup/${path}/cgroup.procs`), text);
  if (unified) writeFileSync(place("cgroup/cgroup.controllers"), "");
  const mounts = `mount --bind /proc "${root}/real"; mount --bind "${root}/cgroup" /sys/fs/cgroup
    mount --bind "${root}/proc" /proc`;
  const program = `import { readProcess } from ${JSON.stringify(source)};
    console.log(JSON.stringify(readProcess(${pid})))`;
  const node = [process.execPath, "--input-type=module", "--eval", program];
  const words = ["--mount", "--propagation", "private", "sh", "-ec", `${mounts}; exec "$@"`, "sh"];
  const output = execFileSync("unshare", [...words, ...node], { encoding: "utf8", stdio: "pipe" });
  return JSON.parse(output.replace(root, ""));
}
