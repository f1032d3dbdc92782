// Question: which pod does a server take a process for, if it is written as one would write it first?
// Input:    the peer's /proc, and a list of pods: the kubelet's, or the API server's.
// Output:   as SPIRE's attestor for Kubernetes and Teleport's say it: the last container id in the
//           process's cgroups, or in its mounts, looked up in the list. test/attacks/naive.ts has the rest.
import { readFileSync } from "node:fs";
import { request } from "node:https";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import type { JsonObject } from "../../server/json.ts";
import type { Cluster, ContainerStatus } from "./cluster.ts";

/** What an object of kind Pod says, as far as it is wanted here. */
export type ListedPod = {
  metadata: { [member: string]: unknown; name: string; namespace: string; uid: string };
  spec: { serviceAccountName?: string };
  status: Record<string, ContainerStatus[] | undefined>;
};

/** What the kubelet answers to those who have its certificate: it knows a container when it has looked
 * for changes, each second. */
export async function podsOfKubelet(cluster: Cluster): Promise<ListedPod[]> {
  const read = (name: string) => readFileSync(join(cluster.directory, name), "utf8");
  const { address, port } = JSON.parse(read("kubelet.json"));
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const certificate = { key: read("to-kubelet.key"), cert: read("to-kubelet.crt") };
  const options = { ...certificate, rejectUnauthorized: false }; // the kubelet has signed its own
  request(`https://${address}:${port}/pods`, options, (response) => resolve(text(response)))
    .on("error", reject)
    .end();
  return JSON.parse(await promise).items ?? [];
}

export async function podsOfApiServer({ api }: Cluster): Promise<ListedPod[]> {
  return (await api.ask("GET", "/api/v1/pods")).items as unknown as ListedPod[];
}

/** Which of these pods the process runs in, if any. */
export type Find = (pid: number, pods: ListedPod[]) => { pod: JsonObject } | undefined;

/** By the rightmost id of the last line. */
export const byCgroup: Find = (pid, pods) => byId(readCgroup(pid), pods);

/** The same in the mounts of cgroup file systems: which directory of theirs each shows. */
export const byMounts: Find = (pid, pods) => {
  // ID PARENT DEVICE ROOT POINT OPTIONS [FIELD…] - TYPE SOURCE OPTIONS
  const lines = readFileSync(`/proc/${pid}/mountinfo`, "utf8").split("\n");
  const roots = lines.filter((line) => / - cgroup2? /.test(line)).map((line) => line.split(" ")[3]);
  return byId(roots.join("\n"), pods);
};

/** By the pod's uid, which is in the name of the cgroup above. */
export const byPodUid: Find = (pid, pods) => {
  const [, uid] = /\/pod([0-9a-f-]{36})\//.exec(readCgroup(pid)) ?? [];
  const found = pods.find(({ metadata }) => metadata.uid === uid);
  return found && { pod: found.metadata as JsonObject };
};

function readCgroup(pid: number): string {
  return readFileSync(`/proc/${pid}/cgroup`, "utf8");
}

function byId(text: string, pods: ListedPod[]): { pod: JsonObject } | undefined {
  const id = text.match(/[0-9a-f]{64}/g)?.at(-1);
  for (const { metadata, spec, status } of pods) {
    const { containerStatuses = [], ephemeralContainerStatuses = [] } = status;
    const all = [...containerStatuses, ...ephemeralContainerStatuses];
    const found = all.find(({ containerID }) => containerID === `containerd://${id}`);
    if (!found) continue;
    const { name: container, image } = found;
    return { pod: { ...metadata, ...spec, container, image } as JsonObject };
  }
  return undefined;
}
