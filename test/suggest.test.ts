// Question: does a suggested policy serve every equal start of the container, and no start that
// differs in one setting? The engine is real, and the server's own functions answer.
import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { globSync, mkdtempSync, rmdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ContainerCreateOptions } from "dockerode";
import { getContainerRuntimeClient } from "testcontainers";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type Explanation, explain } from "../cli/explain.ts";
import { observe } from "../cli/observe.ts";
import { PINNED_PATHS } from "../cli/settings.ts";
import { type Suggestion, suggest } from "../cli/suggest.ts";
import { baseImage } from "../scripts/images.ts";
import type { Facts } from "../server/facts.ts";

const { container: client } = await getContainerRuntimeClient();
const docker = (...words: string[]) => execFileSync("docker", words, { encoding: "utf8" }).trim();

const run = randomUUID().slice(0, 8);
const scratch = mkdtempSync(join(tmpdir(), "authproxy-suggest-"));
const volume = `authproxy-suggest-${run}`;
const neighbour = `authproxy-neighbour-${run}`;
const cgroupParent = `authproxy-suggest-${run}`;
const ENVIRONMENT = ["MODE=a", "PATH=/usr/bin:/bin"];
const image = imageOf(["ENV MODE=a", "ENV PATH=/usr/bin:/bin"]);
const otherImage = imageOf(["ENV MODE=a", "ENV PATH=/usr/bin:/bin", "LABEL version=2"]);

/** An image whose tag only this run has. */
function imageOf(lines: string[]): string {
  const dockerfile = [`FROM ${baseImage()}`, ...lines].join("\n");
  const env = { ...process.env, DOCKER_BUILDKIT: "0" };
  const options = { input: dockerfile, env, encoding: "utf8", stdio: "pipe" } as const;
  const id = execFileSync("docker", ["build", "--quiet", "-"], options).trim();
  execFileSync("docker", ["tag", id, `authproxy-test-suggest:${id.slice(7, 24)}`]);
  return id;
}

const ids: string[] = [];
// Dozens at once would keep the engine busy.
afterEach(() => {
  const gone = ids.splice(0);
  if (gone.length > 0) docker("rm", "--force", "--volumes", ...gone);
});
beforeAll(() => {
  docker("run", "--detach", "--name", neighbour, "--ipc", "shareable", image, "sleep", "600");
});
afterAll(() => {
  docker("rm", "--force", "--volumes", neighbour, ...ids);
  docker("volume", "rm", "--force", volume);
  const parents = ["/sys/fs/cgroup", "/sys/fs/cgroup/*"].map((place) => `${place}/${cgroupParent}`);
  for (const cgroup of globSync(parents)) rmdirSync(cgroup);
  rmSync(scratch, { recursive: true, force: true });
});

/** Dockerode's type lacks some. */
type HostConfig = ContainerCreateOptions["HostConfig"] & { Cgroup?: string; CgroupnsMode?: string };
type Changes = Omit<ContainerCreateOptions, "HostConfig"> & { HostConfig?: HostConfig };

/** As most services are started. */
const USUAL: Changes = {
  Image: image,
  Entrypoint: ["sleep"],
  Cmd: ["600"],
  User: "1001:1001",
  Labels: { app: "app" },
  Env: ["PASSWORD=hunter2"],
  HostConfig: {
    ReadonlyRootfs: true,
    Tmpfs: { "/run/authproxy-secrets": "size=1m" },
    Mounts: [{ Type: "volume", Source: volume, Target: "/data", ReadOnly: false }],
  },
};

async function started(changes: Changes = {}): Promise<string> {
  const HostConfig = { ...USUAL.HostConfig, ...changes.HostConfig };
  const container = await client.dockerode.createContainer({ ...USUAL, ...changes, HostConfig });
  ids.push(container.id);
  await container.start();
  return container.id;
}

async function factsOf(id: string): Promise<Facts> {
  for (let tries = 0; ; tries++) {
    const { State } = await client.dockerode.getContainer(id).inspect();
    const observation = await observe(State.Pid);
    if (observation.facts) return observation.facts;
    const isBusy = observation.refusal.reason === "engine" && tries < 10;
    if (!isBusy) throw observation.refusal;
  }
}

/** What the server would answer it, where the suggestion is all of the policy. */
async function answerTo(id: string, { services }: Suggestion): Promise<Explanation> {
  return explain({ facts: await factsOf(id) }, services);
}

describe("a policy that was suggested for a container", () => {
  let suggestion: Suggestion;
  beforeAll(async () => {
    suggestion = suggest(await factsOf(await started()), ENVIRONMENT);
  });

  test("pins every setting, and holds no value that was given at the start", () => {
    const [service] = Object.values(suggestion.services);
    for (const path of PINNED_PATHS) expect(service?.match).toHaveProperty(path.split("."));
    expect(JSON.stringify(suggestion)).not.toContain("hunter2");
    expect(suggestion.notes.join("\n")).toContain("Config.Env leaves PASSWORD open");
  });

  test("serves equal starts, and each again when it was restarted", async () => {
    for (let round = 0; round < 3; round++) {
      const id = await started();
      expect(await answerTo(id, suggestion)).toMatchObject({ answer: "granted" });
      await client.dockerode.getContainer(id).restart({ t: 0 });
      expect(await answerTo(id, suggestion)).toMatchObject({ answer: "granted" });
    }
  });

  // One for each way in which a start can differ that this engine knows (20.10, API 1.41).
  const host = (HostConfig: HostConfig): Changes => ({ HostConfig });
  const [data] = USUAL.HostConfig?.Mounts ?? [];
  const noCopy = { ...data, VolumeOptions: { NoCopy: true } };
  const others: [path: string, changes: Changes, how?: string][] = [
    ["peer.uid", { User: "1002:1001" }],
    ["peer.gid", { User: "1001:1002" }],
    ["peer.groups", host({ GroupAdd: ["7"] })],
    ["container.Image", { Image: otherImage }],
    ["container.Path", { Entrypoint: ["/usr/bin/sleep"] }],
    ["container.Args", { Cmd: ["601"] }],
    ["container.Config.Env", { Env: ["NODE_OPTIONS=--title=x"] }, "NODE_OPTIONS"],
    ["container.Config.Env", { Env: ["LD_PRELOAD=/data/x.so"] }, "LD_PRELOAD"],
    ["container.Config.Env", { Env: ["MODE=b"] }, "the image's MODE"],
    ["container.Mounts", host({ Binds: [`${scratch}:/app:ro`] })],
    ["container.Config.WorkingDir", { WorkingDir: "/tmp" }],
    ["container.Config.Healthcheck", { Healthcheck: { Test: ["CMD", "true"] } }],
    ["container.HostConfig.Mounts", host({ Mounts: [noCopy] as never })],
    ["container.HostConfig.SecurityOpt", host({ SecurityOpt: ["no-new-privileges"] })],
    ["container.HostConfig.Runtime", host({ Runtime: "io.containerd.runc.v2" })],
    [
      "container.HostConfig.Tmpfs",
      host({ Tmpfs: { ...USUAL.HostConfig?.Tmpfs, "/app": "" } }),
      "one more",
    ],
    ["container.HostConfig.Tmpfs", host({ Tmpfs: { "/app": "" } }), "another"],
    ["container.HostConfig.MaskedPaths", host({ MaskedPaths: ["/etc/group"] })],
    ["container.HostConfig.ReadonlyPaths", host({ ReadonlyPaths: [] })],
    ["container.HostConfig.ReadonlyRootfs", host({ ReadonlyRootfs: false })],
    ["container.HostConfig.Privileged", host({ Privileged: true })],
    ["container.HostConfig.CapAdd", host({ CapAdd: ["SYS_TIME"] })],
    ["container.HostConfig.CapDrop", host({ CapDrop: ["ALL"] })],
    [
      "container.HostConfig.Devices",
      host({
        Devices: [{ PathOnHost: "/dev/null", PathInContainer: "/dev/x", CgroupPermissions: "r" }],
      }),
    ],
    ["container.HostConfig.DeviceCgroupRules", host({ DeviceCgroupRules: ["c 1:3 r"] })],
    ["container.HostConfig.Init", host({ Init: true })],
    ["container.HostConfig.VolumesFrom", host({ VolumesFrom: [neighbour] })],
    ["container.Config.Shell", { Shell: ["/usr/bin/env", "sh"] }],
    ["container.Config.StopSignal", { StopSignal: "SIGUSR1" }],
    ["container.Config.Tty", { Tty: true }],
    ["container.HostConfig.Ulimits", host({ Ulimits: [{ Name: "core", Soft: 1, Hard: 1 }] })],
    ["container.Config.OpenStdin", { OpenStdin: true }],
    ["container.Config.User", { User: "app:1001" }],
    ["container.HostConfig.NetworkMode", host({ NetworkMode: "none" })],
    ["container.HostConfig.ExtraHosts", host({ ExtraHosts: ["vault:10.0.0.1"] })],
    ["container.HostConfig.Dns", host({ Dns: ["10.0.0.1"] })],
    ["container.HostConfig.DnsSearch", host({ DnsSearch: ["example"] })],
    ["container.HostConfig.DnsOptions", host({ DnsOptions: ["ndots:5"] })],
    ["container.HostConfig.Links", host({ Links: [`${neighbour}:vault`] })],
    ["container.Config.Domainname", { Domainname: "example" }],
    ["container.Config.NetworkDisabled", { NetworkDisabled: true }],
    ["container.HostConfig.Sysctls", host({ Sysctls: { "net.ipv4.ip_forward": "1" } })],
    ["container.HostConfig.IpcMode", host({ IpcMode: `container:${neighbour}` })],
    ["container.HostConfig.PidMode", host({ PidMode: `container:${neighbour}` })],
    ["container.HostConfig.UsernsMode", host({ UsernsMode: "host" })],
    ["container.HostConfig.UTSMode", host({ UTSMode: "host" })],
    ["container.HostConfig.CgroupnsMode", host({ CgroupnsMode: "private" })],
    ["container.HostConfig.CgroupParent", host({ CgroupParent: `/${cgroupParent}` })],
    ["container.HostConfig.Cgroup", host({ Cgroup: "container:x" })],
  ];
  const titled = others.map(([path, changes, how]) => {
    return { setting: how ? `${path}: ${how}` : path, path, changes };
  });
  test.each(titled)("refuses a start with another $setting", async ({ path, changes }) => {
    const explanation = await answerTo(await started(changes), suggestion);
    expect(explanation).toMatchObject({ answer: "refused", reason: "no-match" });
    const [{ missing } = { missing: [] }] = explanation.services;
    const isTheSetting = (found: string) => found === path || found.startsWith(`${path}.`);
    expect(missing.map((mismatch) => mismatch.path)).toSatisfy((paths: string[]) =>
      paths.some(isTheSetting),
    );
  });
});

describe("a container that was started by `docker run`", () => {
  /** Its options are groups of words, given in an order that differs each time. */
  function dockerRun(options: string[][]): string {
    const shuffled = options.toSorted(() => Math.random() - 0.5).flat();
    const id = docker("run", "--detach", "--read-only", ...shuffled, image, "sleep", "600");
    ids.push(id);
    return id;
  }

  test("is served at each equal start, in whatever order its options are given", async () => {
    const options = [
      ...["A_FILE=vault:secret/data/a#b", "B_FILE=vault:secret/data/b#b", "AUTHPROXY_WAIT=5"],
      ...["C_FILE=vault:secret/data/c#b", "D_FILE=vault:secret/data/d#b", "PASSWORD=hunter2"],
    ].map((variable) => ["--env", variable]);
    options.push(["--volume", `${volume}:/data`], ["--volume", `${scratch}:/more:ro`]);
    options.push(["--tmpfs", "/tmp"], ["--tmpfs", "/run/authproxy-secrets"]);
    options.push(["--label", "app=app"], ["--label", "stage=test"], ["--cap-drop", "ALL"]);
    options.push(["--sysctl", "net.ipv4.ip_forward=1"], ["--sysctl", "kernel.msgmax=9000"]);
    options.push(["--health-cmd", "true", "--health-interval", "1h"], ["--hostname", "db"]);
    options.push(["--add-host", "vault:10.0.0.1"], ["--publish", "127.0.0.1::8080"]);
    const suggestion = suggest(await factsOf(dockerRun(options)), ENVIRONMENT);
    for (let round = 0; round < 8; round++) {
      const answer = await answerTo(dockerRun(options), suggestion);
      expect(answer).toMatchObject({ answer: "granted" });
    }
  });

  test.each<{ setting: string; options: string[][]; note: string }>([
    {
      setting: "NetworkMode",
      options: [["--network", `container:${neighbour}`]],
      note: "HostConfig.NetworkMode is not pinned: it holds an id",
    },
    {
      setting: "IpcMode",
      options: [["--ipc", `container:${neighbour}`]],
      note: "HostConfig.IpcMode is not pinned: it holds an id",
    },
    {
      setting: "PidMode",
      options: [["--pid", `container:${neighbour}`]],
      note: "HostConfig.PidMode is not pinned: it holds an id",
    },
    {
      setting: "Links",
      options: [["--link", `${neighbour}:vault`]],
      note: "HostConfig.Links is not pinned: it holds this container's own name",
    },
    {
      setting: "Mounts, where a volume has no name",
      options: [["--volume", "/more"]],
      note: "Mounts is not pinned: the volume at /more has no name",
    },
    {
      setting: "Ulimits, where there are several",
      options: [
        ["--ulimit", "core=0"],
        ["--ulimit", "nofile=99"],
      ],
      note: "HostConfig.Ulimits is not pinned: engines and clients give several",
    },
    {
      setting: "Mounts of HostConfig, where the driver has options",
      options: [
        [
          "--mount",
          `type=volume,src=${volume},dst=/data,volume-opt=o=hunter2,volume-opt=type=tmpfs`,
        ],
      ],
      note: "HostConfig.Mounts is not pinned: the driver's options for /data may hold a password",
    },
  ])("is told that $setting cannot be pinned, and is served all the same", async (row) => {
    const first = dockerRun(row.options);
    const suggestion = suggest(await factsOf(first), ENVIRONMENT);
    expect(suggestion.notes.join("\n")).toContain(row.note);
    expect(JSON.stringify(suggestion)).not.toContain("hunter2");
    const { services } = explain(
      { facts: await factsOf(dockerRun(row.options)) },
      suggestion.services,
    );
    expect(services[0]?.missing).toEqual([]);
  });
});
