// Question: what are the programs of a node told?
// Input:    the node's directory, the addresses and ports that are its own.
// Output:   configuration files, as text; the command of the API server.
import { join } from "node:path";

export const NODE = "node";
export const PAUSE_IMAGE = "docker.io/library/authproxy-pause:1";
export const ADMIN_TOKEN = "admin";
const KUBELET_TOKEN = "kubelet";

export type Place = {
  directory: string;
  /** The node's address on the pods' bridge, which has this name. */
  address: string;
  subnet: string;
  name: string;
  apiPort: number;
  etcdPort: number;
  peerPort: number;
  kubeletPort: number;
};

/** Version 2 of the format: containerd 1.6 and 1.7 know no newer one, and 2 still reads it. */
export function containerdSettings({ directory }: Place, cni: string, handler?: string): string {
  const cri = 'plugins."io.containerd.grpc.v1.cri"';
  const runtime = (name: string, options: string) => `
[${cri}.containerd.runtimes.${name}]
  runtime_type = "io.containerd.runc.v2"
  [${cri}.containerd.runtimes.${name}.options]
    SystemdCgroup = false
    ${options}`;
  return `version = 2
root = "${directory}/containerd"
state = "${directory}/state"
[grpc]
  address = "${directory}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "${directory}/opt"
[${cri}]
  sandbox_image = "${PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  [${cri}.cni]
    bin_dir = "${cni}"
    conf_dir = "${directory}/cni"
${runtime("runc", "")}
${handler ? runtime("authproxy", `BinaryName = "${handler}"`) : ""}
`;
}

/** Each pod has an address on the bridge, and reaches the node by its own. */
export function network({ directory, name, subnet }: Place): object {
  const ipam = {
    type: "host-local",
    ranges: [[{ subnet }]],
    routes: [{ dst: "0.0.0.0/0" }],
    dataDir: join(directory, "addresses"),
  };
  const plugin = { type: "bridge", bridge: name, isGateway: true, ipMasq: false, ipam };
  return { cniVersion: "0.4.0", name: "pods", plugins: [plugin] };
}

export function kubeletSettings({ directory, address, kubeletPort }: Place, cgroup: string) {
  const nothing = [
    "memory.available",
    "nodefs.available",
    "nodefs.inodesFree",
    "imagefs.available",
  ];
  return {
    apiVersion: "kubelet.config.k8s.io/v1beta1",
    kind: "KubeletConfiguration",
    address,
    port: kubeletPort,
    healthzPort: 0,
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: false },
      x509: { clientCAFile: join(directory, "to-kubelet.crt") },
    },
    authorization: { mode: "AlwaysAllow" },
    cgroupDriver: "cgroupfs",
    cgroupRoot: `/${cgroup}`,
    containerRuntimeEndpoint: `unix://${directory}/containerd.sock`,
    enforceNodeAllocatable: [],
    // This machine's disk is not the tests' to judge.
    evictionHard: Object.fromEntries(nothing.map((signal) => [signal, "0%"])),
    imageGCHighThresholdPercent: 100,
    failSwapOn: false,
    oomScoreAdj: 0, // a lower one needs CAP_SYS_RESOURCE
    fileCheckFrequency: "1s",
    staticPodPath: join(directory, "manifests"),
    podLogsDir: join(directory, "pods"),
    volumePluginDir: join(directory, "plugins"),
    maxPods: 200,
    // A container that ends is started again at once, not after 10 s and more.
    featureGates: { KubeletCrashLoopBackOffMax: true },
    crashLoopBackOff: { maxContainerRestartPeriod: "1s" },
  };
}

export function apiServerCommand({ directory, apiPort, etcdPort }: Place): string[] {
  const at = (name: string) => join(directory, name);
  const options = {
    "etcd-servers": `http://127.0.0.1:${etcdPort}`,
    "secure-port": apiPort,
    "bind-address": "127.0.0.1",
    "advertise-address": "127.0.0.1",
    "endpoint-reconciler-type": "none",
    "cert-dir": at("api"),
    "service-account-issuer": "https://kubernetes.default.svc",
    "service-account-key-file": at("accounts.key"),
    "service-account-signing-key-file": at("accounts.key"),
    "service-cluster-ip-range": "198.18.0.0/24",
    "token-auth-file": at("tokens.csv"),
    "authorization-mode": "Node,RBAC",
    // For exec, attach and the like.
    "kubelet-client-certificate": at("to-kubelet.crt"),
    "kubelet-client-key": at("to-kubelet.key"),
    "kubelet-preferred-address-types": "InternalIP",
  };
  return ["kube-apiserver", ...Object.entries(options).map(([key, value]) => `--${key}=${value}`)];
}

/** Who may ask the API server: token, user, uid, groups. */
export const TOKENS = `${ADMIN_TOKEN},admin,1,system:masters
${KUBELET_TOKEN},system:node:${NODE},2,system:nodes
`;

function kubeconfig({ directory, apiPort }: Place, token: string): object {
  const authority = join(directory, "api/apiserver.crt");
  const server = `https://127.0.0.1:${apiPort}`;
  return {
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "c", cluster: { server, "certificate-authority": authority } }],
    users: [{ name: "u", user: { token } }],
    contexts: [{ name: "c", context: { cluster: "c", user: "u" } }],
    "current-context": "c",
  };
}

export const kubeletKubeconfig = (place: Place) => kubeconfig(place, KUBELET_TOKEN);
export const adminKubeconfig = (place: Place) => kubeconfig(place, ADMIN_TOKEN);

export function kubeletCommand({ directory, address }: Place): string[] {
  const at = (name: string) => join(directory, name);
  const words = ["kubelet", "--config", at("kubelet.json")];
  words.push("--kubeconfig", at("kubelet.kubeconfig"), "--root-dir", at("kubelet"));
  words.push("--cert-dir", at("kubelet-certificates"));
  return [...words, "--hostname-override", NODE, "--node-ip", address];
}

export function etcdCommand({ directory, etcdPort, peerPort }: Place): string[] {
  const clients = `http://127.0.0.1:${etcdPort}`;
  const words = ["etcd", "--data-dir", join(directory, "etcd"), "--unsafe-no-fsync"];
  words.push("--listen-client-urls", clients, "--advertise-client-urls", clients);
  return [...words, "--listen-peer-urls", `http://127.0.0.1:${peerPort}`];
}

export const RUNTIME_CLASS = {
  apiVersion: "node.k8s.io/v1",
  kind: "RuntimeClass",
  metadata: { name: "authproxy" },
  handler: "authproxy",
};
