// Question: which settings of a container can whoever starts it choose, and what would another
// value let them do? This is the one list: `suggest` pins what is "always" here, `check` says what a
// service leaves open, and docs/policy.md has it as a table. A test goes through what real engines
// say of a container, so that no setting is forgotten.
//
// The paths are those of the identity document, which has the engine's own names: Docker Engine API
// 1.41 to 1.51, GET /containers/ID/json. A pod's container has a list of its own: CRI says less of it.

/** What another value changes of a container whose image stays the same: which code runs in it, what
 * that code sees or reaches, or what others get of it. */
export type Effect = "runs" | "sees" | "shares" | "nothing";

export type Setting = {
  path: string;
  changes: Effect;
  /** "always": `suggest` writes it, and `check` misses it. "given": `suggest` writes it where it was
   * given at the start, `check` does not miss it. "never": it cannot be pinned, or need not be. */
  pin: "always" | "given" | "never";
  /** What another value lets its setter do; of a setting that is never pinned, why it need not be. */
  reason: string;
};

export const MANIFEST_PATH = "container.ImageManifestDescriptor.digest";

/** Of a container, and of a pod's. */
const OF_PROCESS: Setting[] = [
  ...given("sees", {
    "process.uid_inside":
      "run it as another user; pinned where the engine maps users, in place of peer.uid where the map may differ by start",
  }),
  ...given("shares", {
    "process.dumpable":
      "take the token from a client that does not hide its memory; pinned where it does",
  }),
];

/** In the order in which `check` names them: what runs is first. */
export const SETTINGS: Setting[] = [
  ...always("runs", {
    "container.Image": "run another image",
    "container.Path": "run another program",
    "container.Args": "run another script, or the same with other options",
    "container.Config.Env":
      "load other code by a variable of the loader or interpreter; change what the program reads",
    "container.Mounts": "put a file or directory over the program or its configuration",
    "container.Config.WorkingDir": "move a relative path to another script",
    "container.Config.Healthcheck": "run any program beside the client",
    "container.HostConfig.Mounts":
      "take another directory of the same volume (volume-subpath), which Mounts does not show",
    "container.HostConfig.SecurityOpt":
      "answer the client's system calls by a seccomp agent; drop AppArmor, SELinux and seccomp",
    "container.HostConfig.Annotations": "tell the OCI runtime to run hooks or another profile",
    "container.HostConfig.Runtime": "run it by another OCI runtime, which may do anything",
    "container.HostConfig.Tmpfs": "hide a directory of the image by an empty one",
    "container.HostConfig.MaskedPaths": "hide a file or directory of the image; show /proc/kcore",
    "container.HostConfig.ReadonlyPaths": "make kernel settings in /proc writable from inside",
    "container.HostConfig.ReadonlyRootfs": "let code inside overwrite the program",
    "container.HostConfig.Privileged": "give it all capabilities and devices, without a profile",
    "container.HostConfig.CapAdd": "let code inside mount over files, trace, or load kernel code",
    "container.HostConfig.CapDrop":
      "keep the program from dropping its rights; let its uid read what the client hides",
    "container.HostConfig.Devices":
      "give it a disk or memory of the host, or another file as a device",
    "container.HostConfig.DeviceRequests": "let a device's hook mount libraries into it (GPUs)",
    "container.HostConfig.DeviceCgroupRules": "let it open devices of the host",
    "container.HostConfig.Init": "run another program as the first process (docker-init)",
    "container.HostConfig.VolumesFrom": "mount what another container mounts",
    "container.Config.Shell": "run another shell for a health check that is a line",
    "container.Config.StopSignal": "open Node's inspector by SIGUSR1 at `docker stop`",
    "container.Config.Tty": "start an interpreter as a prompt; change what the program prints",
    "container.HostConfig.Ulimits":
      "make it dump its memory to a file, run without address randomization (stack), or fail to open files",
  }),
  ...always("sees", {
    "container.Config.OpenStdin": "write to the program's standard input",
    "container.Config.User": "run it as another user by name",
    "peer.uid": "run it as another user: other files, other processes that may trace it",
    "peer.gid": "run it as another group",
    "peer.groups": "give it files of other groups",
    "container.HostConfig.NetworkMode":
      "share a network namespace; answer in another server's place",
    "container.HostConfig.ExtraHosts": "give another server the name of one that it calls",
    "container.HostConfig.Dns": "answer its questions for names",
    "container.HostConfig.DnsSearch": "complete its short names to other ones",
    "container.HostConfig.DnsOptions": "change how names are looked up",
    "container.HostConfig.Links": "name other containers, and add variables that describe them",
    "container.Config.Domainname": "give its own address the name of a server that it calls",
    "container.Config.NetworkDisabled": "take its network away",
    "container.HostConfig.Sysctls": "change the kernel's settings of its namespaces",
  }),
  ...always("shares", {
    "container.HostConfig.IpcMode": "read and replace what it has in /dev/shm",
    "container.HostConfig.PidMode": "trace it, or signal it, from another container or the host",
    "container.HostConfig.UsernsMode": "make its root the host's root",
    "container.HostConfig.UTSMode": "change its host name while it runs, or the host's",
    "container.HostConfig.CgroupnsMode": "show it the cgroups of others",
    "container.HostConfig.CgroupParent": "put it below another container's cgroup",
    "container.HostConfig.Cgroup": "put it into another container's cgroup",
  }),
  ...given("runs", {
    [MANIFEST_PATH]:
      "run another platform's image of the same index; only containerd's image store has it",
    "container.Config.Image":
      "run another image, where its name has a digest and stands for Image; else Image says it",
  }),
  ...OF_PROCESS,
  ...given("sees", {
    "container.Config.Hostname":
      "give its own address the name of a server that it calls; not pinned where it is the " +
      "container's id, which differs by start",
  }),
  ...given("nothing", {
    "container.Config.Labels":
      "be another service, where labels tell them apart; Compose's and the image's are left out",
  }),
  ...never("sees", {
    "container.NetworkSettings":
      "networks are joined at any time, and others on them answer to any name: only TLS says who",
  }),
  ...never("shares", {
    "peer.label":
      "with some security modules it differs by start; `suggest` notes that there is one",
    "container.HostConfig.LogConfig":
      "where its output goes, which whoever starts it may read anyway: print no secret",
    "container.HostConfig.PortBindings":
      "who reaches its ports; whoever may start containers here reaches them anyway",
    "container.HostConfig.PublishAllPorts": "as PortBindings",
  }),
  ...never("nothing", {
    "container.Config.Cmd": "Path and Args are what runs",
    "container.Config.Entrypoint": "Path and Args are what runs",
    "container.Config.ArgsEscaped": "Windows only",
    "container.Config.Volumes": "Mounts has them",
    "container.Config.ExposedPorts": "a note for people: it opens nothing",
    "container.Config.OnBuild": "for builds only",
    "container.Config.StopTimeout": "how long `docker stop` waits",
    "container.Config.AttachStdin": "without OpenStdin there is nothing to attach to",
    "container.Config.AttachStdout": "the output can be read anyway",
    "container.Config.AttachStderr": "the output can be read anyway",
    "container.Config.StdinOnce": "OpenStdin says whether there is an input at all",
    "container.Config.MacAddress": "an address in its network",
    "container.HostConfig.Binds": "Mounts has them",
    "container.HostConfig.VolumeDriver": "Mounts has each volume's driver",
    "container.HostConfig.GroupAdd": "peer.groups has them, by the kernel's word",
    "container.HostConfig.ContainerIDFile": "a file for the person who started it",
    "container.HostConfig.RestartPolicy": "when it starts again: each start is judged",
    "container.HostConfig.AutoRemove": "what is left when it has ended",
    "container.HostConfig.ConsoleSize": "the size of a terminal",
    "container.HostConfig.ShmSize": "how much fits into /dev/shm",
    "container.HostConfig.StorageOpt": "how much fits into its writable layer",
    "container.HostConfig.Isolation": "Windows only",
    ...each(
      "how much it gets of processor, memory, disk and processes",
      [
        ["BlkioDeviceReadBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteBps"],
        ["BlkioDeviceWriteIOps", "BlkioWeight", "BlkioWeightDevice", "CpuPeriod", "CpuQuota"],
        ["CpuRealtimePeriod", "CpuRealtimeRuntime", "CpuShares", "CpusetCpus", "CpusetMems"],
        ["KernelMemory", "KernelMemoryTCP", "Memory", "MemoryReservation", "MemorySwap"],
        ["MemorySwappiness", "NanoCpus", "OomKillDisable", "OomScoreAdj", "PidsLimit"],
      ].flat(),
    ),
    ...each("Windows only", ["CpuCount", "CpuPercent", "IOMaximumBandwidth", "IOMaximumIOps"]),
    "container.Name": "a name; on a network of its own containers find it by it",
    "container.AppArmorProfile": "SecurityOpt chooses it",
    "container.ProcessLabel": "peer.label is what the kernel says",
    "container.MountLabel": "SecurityOpt chooses it",
    ...Object.fromEntries(
      ["Created", "Driver", "ExecIDs", "GraphDriver", "HostnamePath", "HostsPath", "Id"]
        .concat(["LogPath", "Platform", "ResolvConfPath", "RestartCount", "SizeRootFs", "SizeRw"])
        .concat(["State", "Storage"])
        .map((name) => [`container.${name}`, "what the engine notes itself"]),
    ),
  }),
];

/** All that the identity document has of a pod's container. Whoever may create pods in its namespace
 * also sets much that CRI does not say: docs/policy.md names it. */
export const POD_SETTINGS: Setting[] = [
  ...always("runs", {
    "pod.namespace": "do the same from another namespace, as whoever may create pods there",
    "pod.container": "be a sidecar, an init container or one of `kubectl debug`",
    "container.Image": "run another image",
    "container.Path": "run another program (command)",
    "container.Args": "run another script, or the same with other options (args)",
    "container.Config.Env":
      "load other code by a variable of the loader or interpreter; change what the program reads",
    "container.Mounts": "put a volume over the program or its configuration",
    "container.Config.WorkingDir": "move a relative path to another script",
    "container.HostConfig.ReadonlyRootfs": "let code inside overwrite the program while it runs",
    "container.HostConfig.CapAdd": "let code inside mount over files, trace, or load kernel code",
  }),
  ...always("sees", {
    "peer.uid": "run it as another user: other files, other processes that may trace it",
    "peer.gid": "run it as another group",
    "peer.groups": "give it files of other groups (supplementalGroups, fsGroup)",
  }),
  ...always("shares", {
    "container.HostConfig.PidMode": "trace it, or signal it, from another container or the node",
  }),
  ...OF_PROCESS,
  ...given("nothing", {
    "pod.labels":
      "be another service, where labels tell them apart; those that a controller adds are left out",
  }),
  ...never("runs", {
    "container.HostConfig.SecurityOpt":
      "the node's default profile differs by its containerd; another one is the pod's own wish",
    "container.HostConfig.Annotations": "they hold the pod's name and uid",
  }),
  ...never("shares", {
    "peer.label": "SELinux gives each pod another one; `suggest` notes that there is one",
  }),
  ...never("sees", {
    "container.Config.KubernetesEnv":
      "the pod's name, and addresses of the namespace's Services, which come and go; Env is without them",
  }),
  ...never("nothing", {
    "pod.name": "a controller gives each of its pods another one",
    "pod.uid": "each pod has another one",
    "pod.annotations": "notes of the pod's creator, and of tools",
    "container.Config.Image": "Image says what runs",
    "container.Config.User": "peer.uid is what the kernel says",
    "container.Id": "what the engine notes itself",
    "container.State": "what the engine notes itself",
  }),
];

function always(changes: Effect, reasons: Record<string, string>): Setting[] {
  return settings("always", changes, reasons);
}

function given(changes: Effect, reasons: Record<string, string>): Setting[] {
  return settings("given", changes, reasons);
}

function never(changes: Effect, reasons: Record<string, string>): Setting[] {
  return settings("never", changes, reasons);
}

function settings(
  pin: Setting["pin"],
  changes: Effect,
  reasons: Record<string, string>,
): Setting[] {
  return Object.entries(reasons).map(([path, reason]) => ({ path, changes, pin, reason }));
}

/** The same reason for these members of HostConfig. */
function each(reason: string, names: string[]): Record<string, string> {
  return Object.fromEntries(names.map((name) => [`container.HostConfig.${name}`, reason]));
}

/** The paths that `suggest` writes, and that `check` misses. */
export const PINNED_PATHS = pinnedIn(SETTINGS);
export const POD_PINNED_PATHS = pinnedIn(POD_SETTINGS);

function pinnedIn(list: Setting[]): string[] {
  return list.filter(({ pin }) => pin === "always").map(({ path }) => path);
}

/** A setting's name for people, as the engine has it. */
export function shortName(path: string): string {
  if (path === "container.HostConfig.Mounts") return "Mounts of HostConfig";
  return path.replace(/^container\.(HostConfig\.)?/, "");
}
