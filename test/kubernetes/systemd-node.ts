// Question: where is docs/kubernetes.md tried?
// Input:    the programs of prepare.ts, and images of this machine's Docker.
// Output:   a bare host (test/lab/host.ts) that is the node web1 of a cluster: Debian 13's systemd and
//           containerd as its package has it, a kubelet, kubectl for the cluster's administrator. The API
//           server and etcd run beside them; a scheduler and a controller-manager, as far as one node
//           and pods without an owner need them, are a few lines of shell each.
import { execFileSync } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fetchTree } from "../../scripts/debian.ts";
import { CONTAINERS, Host } from "../lab/host.ts";
import { programs } from "./prepare.ts";

/** Its own name for itself, as docs/kubernetes.md has it. */
const NODE = "web1";
const PACKAGES = [
  ..."containernetworking-plugins containerd runc systemd bash coreutils tar gzip grep sed".split(
    " ",
  ),
  ..."findutils util-linux mount procps hostname iproute2 libstdc++6".split(" "),
];

/** Where controllers are in hierarchies of version 1, programs of a node need those, and systemd has
 * another. This gives a program a view of its own, in which all other mounts are shared. */
const WITH_CGROUPS = `#!/bin/sh
[ -d /run/cgroups ] || exec "$@"
exec unshare --mount --propagation unchanged sh -ec '
  mount --make-rprivate /sys
  mount --rbind /run/cgroups /sys/fs/cgroup
  exec "$@"' sh "$@"
`;
const CONTAINERD_UNIT = `[Service]
ExecStart=
ExecStart=with-cgroups /usr/bin/containerd
`;
const AUTHPROXY_UNIT = `[Service]
BindReadOnlyPaths=-/run/cgroups:/sys/fs/cgroup
MemoryPressureWatch=off
`;

const network = {
  cniVersion: "0.4.0",
  name: "pods",
  plugins: [
    {
      type: "bridge",
      bridge: "cni0",
      isGateway: true, // ipMasq needs iptables, which the kernel may not have
      ipam: {
        type: "host-local",
        ranges: [[{ subnet: CONTAINERS }]],
        routes: [{ dst: "0.0.0.0/0" }],
      },
    },
  ],
};

const kubelet = {
  apiVersion: "kubelet.config.k8s.io/v1beta1",
  kind: "KubeletConfiguration",
  // The API server asks it for logs. Nobody else reaches this host.
  authentication: { anonymous: { enabled: true }, webhook: { enabled: false } },
  authorization: { mode: "AlwaysAllow" },
  cgroupDriver: "cgroupfs",
  containerRuntimeEndpoint: "unix:///run/containerd/containerd.sock",
  enforceNodeAllocatable: [],
  // This machine's disk is not the test's to judge.
  evictionHard: { "nodefs.available": "0%", "imagefs.available": "0%", "memory.available": "0%" },
  imageGCHighThresholdPercent: 100,
  failSwapOn: false,
  oomScoreAdj: 0, // a lower one needs CAP_SYS_RESOURCE
};

const kubeconfig = (token: string) => ({
  apiVersion: "v1",
  kind: "Config",
  clusters: [
    { name: "c", cluster: { server: "https://127.0.0.1:6443", "insecure-skip-tls-verify": true } },
  ],
  users: [{ name: "u", user: { token } }],
  contexts: [{ name: "c", context: { cluster: "c", user: "u" } }],
  "current-context": "c",
});

const API_SERVER = [
  "kube-apiserver",
  "--etcd-servers=http://127.0.0.1:2379",
  "--secure-port=6443",
  "--bind-address=127.0.0.1",
  "--advertise-address=127.0.0.1",
  "--endpoint-reconciler-type=none",
  "--cert-dir=/var/lib/api",
  "--service-account-issuer=https://kubernetes.default.svc",
  "--service-account-key-file=/mnt/accounts.key",
  "--service-account-signing-key-file=/mnt/accounts.key",
  "--service-cluster-ip-range=198.18.252.0/24",
  "--token-auth-file=/mnt/tokens.csv",
  "--authorization-mode=Node,RBAC",
  "--enable-admission-plugins=NodeRestriction",
];

/** What a scheduler does where there is one node. */
const SCHEDULER = `#!/bin/sh
while sleep 0.1; do
  kubectl get pods --all-namespaces --field-selector spec.nodeName= --no-headers \\
    --output custom-columns=:metadata.namespace,:metadata.name 2>/dev/null |
    while read -r namespace name; do
      kubectl create --raw "/api/v1/namespaces/$namespace/pods/$name/binding" --filename - <<END
{ "apiVersion": "v1", "kind": "Binding", "metadata": { "name": "$name", "namespace": "$namespace" },
  "target": { "apiVersion": "v1", "kind": "Node", "name": "${NODE}" } }
END
    done
done
`;

/** The node, with these images of this machine's Docker, and these programs for who administers it.
 * Nothing of authproxy is on it. */
export async function bootNode(images: string[], tools: string[]): Promise<Host> {
  const host = new Host(await fetchTree("trixie", PACKAGES), hierarchies());
  const { kubernetes, etcd } = programs();
  for (const name of ["kubelet", "kube-apiserver", "kubectl"]) host.provide(join(kubernetes, name));
  for (const program of [join(etcd, "etcd"), ...tools]) host.provide(program);
  try {
    await host.boot();
    await makeNode(host, images);
    return host;
  } catch (error) {
    await host[Symbol.asyncDispose]();
    throw error;
  }
}

async function makeNode(host: Host, images: string[]): Promise<void> {
  const put = (name: string, text: string) => writeFileSync(join(host.share, name), text);
  put("with-cgroups", WITH_CGROUPS);
  put("containerd.conf", CONTAINERD_UNIT);
  put("authproxy.conf", AUTHPROXY_UNIT);
  put("scheduler", SCHEDULER);
  put("pods.conflist", JSON.stringify(network));
  put("kubelet.json", JSON.stringify(kubelet));
  put("kubelet.conf", JSON.stringify(kubeconfig("kubelet")));
  put("admin.conf", JSON.stringify(kubeconfig("admin")));
  put("tokens.csv", `admin,admin,1,system:masters\nkubelet,system:node:${NODE},2,system:nodes\n`);
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  put("accounts.key", privateKey.export({ type: "pkcs8", format: "pem" }).toString());
  const archive = join(host.share, "images.tar");
  execFileSync("docker", ["save", "--output", archive, ...images]);
  await host.sh(`
    hostname ${NODE}; echo "127.0.0.1 localhost ${NODE}" > /etc/hosts
    touch /etc/resolv.conf
    ln -s null /dev/kmsg # a kubelet watches the kernel's messages, and this machine's are not its
    install -m 0755 /mnt/with-cgroups /mnt/scheduler /usr/local/bin
    for unit in containerd authproxy; do
      install -D -m 0644 /mnt/$unit.conf /etc/systemd/system/$unit.service.d/cgroups.conf
    done
    install -D -m 0644 /mnt/pods.conflist /etc/cni/net.d/10-pods.conflist
    install -D -m 0600 /mnt/admin.conf /root/.kube/config`);
  await startContainerd(host);
  await host.sh("ctr --namespace k8s.io images import /mnt/images.tar");
  await startCluster(host);
}

/** Debian's own configuration; less of what this machine's root may not do. */
async function startContainerd(host: Host): Promise<void> {
  const section = String.raw`\[plugins."io.containerd.grpc.v1.cri"\]`;
  await host.sh(`sed -i 's/^ *${section}$/&\\n    restrict_oom_score_adj = true/' /etc/containerd/config.toml
    grep --quiet restrict_oom_score_adj /etc/containerd/config.toml`);
  await host.sh("systemctl daemon-reload; systemctl restart containerd");
}

async function startCluster(host: Host): Promise<void> {
  const start = (name: string, command: string) =>
    host.sh(`systemd-run --quiet --unit ${name} ${command}`);
  await start("etcd", "etcd --data-dir /var/lib/etcd");
  await start("kube-apiserver", API_SERVER.join(" "));
  await until(host, "kubectl get --raw /readyz");
  const words = ["--config /mnt/kubelet.json", "--kubeconfig /mnt/kubelet.conf"];
  words.push(`--hostname-override ${NODE}`, "--node-ip 198.18.254.2");
  await start("kubelet", `with-cgroups kubelet ${words.join(" ")}`);
  await until(host, `kubectl wait --for=condition=Ready --timeout=1s node/${NODE}`);
  await start("scheduler", "--setenv=HOME=/root scheduler");
}

/** What a controller-manager does in a new namespace, before which it takes no pods. */
export async function makeServiceAccounts(host: Host): Promise<void> {
  await host.sh(`
    for namespace in $(kubectl get namespaces --output name); do
      kubectl get serviceaccount default --namespace "\${namespace#*/}" >/dev/null 2>&1 ||
        kubectl create serviceaccount default --namespace "\${namespace#*/}"
    done`);
}

/** As an administrator of the node would run it: in the node's view. */
export async function onNode(
  host: Host,
  script: string,
  environment: Record<string, string> = {},
): Promise<string> {
  const file = join(host.share, "script");
  writeFileSync(file, script);
  return await host.sh("cd /mnt; with-cgroups sh -eu script", environment);
}

/** Until the host says yes. Throws what the kubelet said last. */
export async function until(host: Host, what: string): Promise<void> {
  await host.sh(`left=90
    until ${what} >/dev/null 2>&1; do
      left=$((left - 1))
      [ $left -gt 0 ] || { journalctl --output cat --lines 40; exit 1; }
      sleep 0.2
    done`);
}

/** This machine's, of cgroups of version 1, where version 2 has no controllers. */
function hierarchies(): string[] {
  const top = "/sys/fs/cgroup";
  if (existsSync(join(top, "cgroup.controllers"))) return [];
  const names = readdirSync(top).filter((name) => existsSync(join(top, name, "cgroup.procs")));
  return names.filter((name) => !existsSync(join(top, name, "cgroup.controllers")));
}
