// Question: which labels of a pod are not its creator's words, but differ from one of its pods to the
// next? A policy that matched them would hold until the next rollout, run or pod. Pure.
// Source: Kubernetes' reference "Well-Known Labels, Annotations and Taints", which reserves the domains
// kubernetes.io and k8s.io for its own parts.

const KUBERNETES_DOMAIN = /(^|\.)(x-)?(kubernetes|k8s)\.io$/;
/** These are for everybody's use. */
const SHARED_DOMAIN = "app.kubernetes.io";
/** What the kubelet tells the engine beside the pod's own labels. */
const KUBELETS = "io.kubernetes.";
/** They change with a release, as the image does, or without it. */
const OF_RELEASES = [`${SHARED_DOMAIN}/version`, "helm.sh/chart"];
/** Without a domain: of Deployments, DaemonSets, StatefulSets, Jobs, and Argo's rollouts. */
const OF_CONTROLLERS = [
  "pod-template-hash",
  "controller-revision-hash",
  "pod-template-generation",
  "controller-uid",
  "job-name",
  "rollouts-pod-template-hash",
];

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
/** What Kubernetes makes names unique with: no vowels, and no digits that look like them. */
const GENERATED = "[bcdfghjklmnpqrstvwxz2456789]";
const GENERATED_NAME = new RegExp(`-${GENERATED}{5}$`);
const GENERATED_PART = new RegExp(`^${GENERATED}{5,10}$`);

/** A controller or the kubelet adds it, or a release changes it. */
export function isOfController(label: string): boolean {
  if (label.startsWith(KUBELETS) || OF_CONTROLLERS.includes(label) || OF_RELEASES.includes(label))
    return true;
  const [domain = ""] = label.includes("/") ? label.split("/") : [];
  return domain !== SHARED_DOMAIN && KUBERNETES_DOMAIN.test(domain);
}

/** The value is of this one pod: its name or a generated part of that, or a unique id. */
export function isOfPod(value: string, podName: string): boolean {
  const isPart = GENERATED_PART.test(value) && podName.split("-").includes(value);
  return value === podName || isPart || UUID.test(value);
}

/** Such as app-5d4f7c9b8-x2v4k: a controller made it. */
export function isGeneratedName(podName: string): boolean {
  return GENERATED_NAME.test(podName);
}
