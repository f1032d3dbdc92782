// Question: does the engine of this Kubernetes node speak the server's CRI, and does a kubelet run beside
// it?
// Input: the engine's own answers; /proc for the kubelet.
import { readdirSync, readFileSync } from "node:fs";
import { KubernetesNode } from "../kubernetes-node.ts";
import { Failure } from "../terminal.ts";
import { type Finding, failed, ok, warning } from "./finding.ts";

const CRI_ADVICE =
  'check that it runs, that "engine": { "cri": … } in the configuration is its socket, and that ' +
  "containerd's configuration does not name cri under disabled_plugins";
const NOT_READY_ADVICE: Record<string, string> = {
  NetworkReady: "pods with a network of their own do not start: install a CNI plugin",
};
/** The kubelet, and programs that hold one: k3s, RKE2, MicroK8s. */
const KUBELET = /^(kubelet|k3s(-server|-agent)?|rke2|kubelite)$/;

/** Which engine it is, in which version, and what keeps it from being ready. */
export async function askNode(path: string): Promise<Finding[]> {
  try {
    const { name, notReady, cgroupDriver } = await new KubernetesNode(path).status();
    const driver = cgroupDriver ? `, with the cgroup driver ${cgroupDriver}` : "";
    const answers = ok("engine", `${path}: ${name}, by CRI runtime.v1${driver}`);
    const warnings = notReady.map(({ name: condition, reason }) =>
      warning(
        "engine",
        `${path}: ${condition} is not true: ${reason}`,
        NOT_READY_ADVICE[condition] ?? "its log says why",
      ),
    );
    return [answers, ...warnings];
  } catch (error) {
    if (error instanceof Failure) return [failed("engine", error.message, CRI_ADVICE)];
    throw error;
  }
}

/** Where there is none, nobody makes pods. */
export function checkKubelet(proc = "/proc"): Finding[] {
  const pids = readdirSync(proc).filter((name) => /^\d+$/.test(name));
  const pid = pids.find((each) => KUBELET.test(nameOfProcess(proc, each)));
  if (pid) return [ok("kubelet", `process ${pid} (${nameOfProcess(proc, pid)})`)];
  return [
    warning(
      "kubelet",
      "none runs, or none can be seen from here",
      "start it; in a pod this command needs hostPID: true to see it",
    ),
  ];
}

function nameOfProcess(proc: string, pid: string): string {
  try {
    return readFileSync(`${proc}/${pid}/comm`, "utf8").trim();
  } catch {
    return ""; // it has ended
  }
}
