// Question: which of a service's selectors are too wide for a pod, or can never hold of one? Input: the
// service's selectors, who may create its pods, and the other services. Pure.
import type { Service } from "../server/config.ts";
import { isGeneratedName, isOfController } from "./pod-labels.ts";
import { alternatives, isImageDigest, type Selector, selectorsOf, valuesAt } from "./selectors.ts";
import { POD_SETTINGS } from "./settings.ts";
import { enumerate } from "./words.ts";

const LABELS = "pod.labels.";
/** All of these are the pod's creator's words; labels are those of every container of the pod. */
const CREATORS_WORDS = ["pod.labels", "pod.annotations", "pod.container", "pod.name"];

/** Warnings about the service by itself. `starter` is `starterOf` its match. */
export function warningsAboutPod(selectors: Selector[], starter: string): string[] {
  return [
    ...namespaceWarning(selectors),
    ...imageWarning(selectors, starter),
    ...containerWarning(selectors),
    ...changingWarnings(selectors),
    ...neverSaidWarnings(selectors),
  ];
}

function namespaceWarning(selectors: Selector[]): string[] {
  if (has(selectors, "pod.namespace")) return [];
  return [
    "pod.namespace is not pinned: whoever may create pods in any namespace of the cluster can be this " +
      'service; match "pod": { "namespace": "…" }',
  ];
}

function imageWarning(selectors: Selector[], starter: string): string[] {
  if (selectors.some(isImageDigest)) return [];
  const words = CREATORS_WORDS.filter((path) => has(selectors, path));
  const what = words.length > 0 ? `${enumerate(words)}: ` : "";
  return [
    `no image is pinned: ${what}${starter} can give these words to any image; ` +
      'match "container": { "Image": "sha256:…" }',
  ];
}

function containerWarning(selectors: Selector[]): string[] {
  const isCommandPinned = ["container.Path", "container.Args"].every((path) =>
    has(selectors, path),
  );
  const isWide = selectors.some(isImageDigest) && !isCommandPinned;
  if (!isWide || has(selectors, "pod.container")) return [];
  return [
    "pod.container is not pinned: a sidecar or a container of `kubectl debug` with the same image " +
      'passes, whatever it runs; match "pod": { "container": "…" }',
  ];
}

/** The path, or something below it. */
function has(selectors: Selector[], wanted: string): boolean {
  return selectors.some(({ path }) => path === wanted || path.startsWith(`${wanted}.`));
}

function changingWarnings(selectors: Selector[]): string[] {
  const warnings: string[] = [];
  if (has(selectors, "pod.uid")) {
    warnings.push("pod.uid is different for each pod: this holds for one pod only");
  }
  if (valuesAt(selectors, "pod.name").some((name) => isGeneratedName(String(name))))
    warnings.push("pod.name is one that a controller made: the next pod has another one");
  const labels = selectors.filter(
    ({ path }) => path.startsWith(LABELS) && isOfController(path.slice(LABELS.length)),
  );
  if (labels.length > 0) {
    warnings.push(
      `${enumerate(labels.map(({ path }) => path))}: a controller or a release sets it, so it differs ` +
        "by rollout, run or pod; take it out",
    );
  }
  return warnings;
}

/** Docker's words that CRI does not have. `null` holds, as of everything that is absent. */
function neverSaidWarnings(selectors: Selector[]): string[] {
  const isSaid = (path: string) =>
    POD_SETTINGS.some((said) => path === said.path || path.startsWith(`${said.path}.`));
  return selectors
    .filter(({ path }) => path.startsWith("container.") && !isSaid(path))
    .filter(({ wanted }) => !alternatives(wanted).includes(null))
    .map(({ path }) => `${path} can never hold: a node's engine does not say it (docs/policy.md)`);
}

/** Of two services with one namespace and one image the creator of a pod chooses. */
export function choiceWarnings(
  selectors: Selector[],
  starter: string,
  others: [name: string, service: Service][],
): string[] {
  const names = others
    .filter(([, { match }]) => isChosenBetween(selectors, selectorsOf(match)))
    .map(([name]) => name);
  if (names.length === 0) return [];
  return [
    `${starter} chooses between it and ${enumerate(names)}: no namespace and no image tells them ` +
      "apart; give each a namespace of its own, if that matters",
  ];
}

function isChosenBetween(mine: Selector[], theirs: Selector[]): boolean {
  const [ours, others] = [mine, theirs].map((selectors) => selectors.filter(isImageDigest));
  if (
    ours?.length &&
    others?.length &&
    !ours.some((pin) => others.some((other) => meets(pin, other)))
  )
    return false;
  const [here, there] = [mine, theirs].map((selectors) => valuesAt(selectors, "pod.namespace"));
  return !here?.length || !there?.length || here.some((namespace) => there.includes(namespace));
}

/** Of two names of images one may be the other's digest: then nobody knows. */
function meets(one: Selector, other: Selector): boolean {
  const values = alternatives(other.wanted);
  return (
    one.path === other.path && alternatives(one.wanted).some((value) => values.includes(value))
  );
}
