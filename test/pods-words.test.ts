// Question: does the command line speak of pods as the server sees them: which container is meant, what
// is pinned of it, who could be a service, and what no page may show? Pure parts, on what a real
// containerd says of a pod (pods-commands.test.ts asks one).
// Beside the cases that have a test of their own: a pod that was made again under its name, one with a
// new sandbox, one whose containers were not made yet, a restarted container, ids as kubectl writes
// them, a sandbox's id; labels of Deployments, DaemonSets, StatefulSets, Jobs, of the kubelet and of
// releases, and values that are the pod's own; lists of namespaces, services of one namespace.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { type Advice, advise } from "../cli/advise.ts";
import { explain } from "../cli/explain.ts";
import { explanationLines } from "../cli/explanation-text.ts";
import { locateFlaws } from "../cli/flaws.ts";
import type { Host } from "../cli/host.ts";
import { lastRefusal } from "../cli/last.ts";
import { isOfController, isOfPod } from "../cli/pod-labels.ts";
import { chooseContainer, type ListedPod } from "../cli/pods.ts";
import { POD_PINNED_PATHS, POD_SETTINGS, type Setting, shortName } from "../cli/settings.ts";
import { suggest } from "../cli/suggest.ts";
import { EXIT, type Failure } from "../cli/terminal.ts";
import { accessIn, nameOf } from "../cli/who/access.ts";
import { addLine, type Grants } from "../cli/who/grants.ts";
import { isSelectedWho } from "../cli/who/uses.ts";
import type { Config, Service } from "../server/config.ts";
import type { Container, Pod } from "../server/engine.ts";
import type { Facts } from "../server/facts.ts";
import { documentOf } from "../server/grant.ts";
import type { Json, JsonObject } from "../server/json.ts";
import { choose } from "../server/policy.ts";
import { findFlaw } from "../server/schema.ts";

const digest = `sha256:${"d".repeat(64)}`;
const otherDigest = `sha256:${"e".repeat(64)}`;

describe("the container that is meant", () => {
  const id = (character: string) => character.repeat(64);
  const container = (character: string, name: string, state = "running", createdNs = 1) =>
    ({ id: id(character), name, state, createdNs }) as ListedPod["containers"][number];
  const pod = (
    name: string,
    containers: ListedPod["containers"],
    more: Partial<ListedPod> = {},
  ) => ({
    sandbox: id("9"),
    namespace: "shop",
    name,
    uid: `uid-of-${name}`,
    isReady: true,
    createdNs: 1,
    handler: "",
    containers,
    ...more,
  });
  const app = pod("app-5d4f7c9b8-x2v4k", [container("a", "app"), container("b", "init", "exited")]);
  const pods: ListedPod[] = [
    app,
    pod("two", [container("c", "web"), container("d", "logger")], { sandbox: id("8") }),
    pod(
      "restarted",
      [
        container("0", "app", "exited", 1),
        container("1", "app", "running", 3),
        container("2", "app", "exited", 2),
      ],
      { sandbox: id("7") },
    ),
    pod("again", [container("e", "app", "exited")], {
      sandbox: id("6"),
      isReady: false,
      createdNs: 1,
    }),
    pod("again", [container("f", "app")], { sandbox: id("5"), createdNs: 2 }),
    pod("waiting", [], { sandbox: id("4") }),
    pod("app-0", [container("3", "app")], {
      namespace: "billing",
      sandbox: id("3").replace("3", "4"),
    }),
  ];

  test.each<[string, string, string]>([
    ["a pod with one that runs", "shop/app-5d4f7c9b8-x2v4k", "a"],
    ["a pod and a container", "shop/two/logger", "d"],
    ["the running one of several starts", "shop/restarted/app", "1"],
    ["a pod that was made again", "shop/again", "f"],
    ["another namespace", "billing/app-0", "3"],
    ["the beginning of an id", "cccc", "c"],
    ["an id as kubectl writes it", `containerd://${id("d")}`, "d"],
    ["CRI-O's", `cri-o://${id("d")}`, "d"],
    ["a sandbox's id, of a pod with one container", id("9"), "a"],
  ])("is found by %s", (_, subject, found) => {
    expect(chooseContainer(subject, pods, "node-1")).toBe(id(found));
  });

  test.each<[string, string, keyof typeof EXIT, RegExp, RegExp]>([
    [
      "several containers: which they are",
      "shop/two",
      "usage",
      /several containers that run: logger and web/,
      /shop\/two\/logger/,
    ],
    [
      "a sandbox's id, of a pod with several",
      id("8"),
      "usage",
      /several containers that run: logger and web/,
      /shop\/two\/logger/,
    ],
    [
      "another node's pod: which command lists what is here, and where it is",
      "shop/elsewhere",
      "noInput",
      /^the pod shop\/elsewhere is not on this node \(node-1\)$/,
      /`authproxy check --running` lists .*`kubectl get pod elsewhere --namespace shop --output wide`/,
    ],
    [
      "a name that is nearly one of here",
      "shop/app-5d4f7c9b8-x2v4",
      "noInput",
      /not on this node/,
      /did you mean shop\/app-5d4f7c9b8-x2v4k\?/,
    ],
    [
      "the right pod of another namespace",
      "shop/app-0",
      "noInput",
      /the pod shop\/app-0 is not on this node/,
      /./,
    ],
    [
      "a container that the pod has not",
      "shop/two/app",
      "noInput",
      /the pod shop\/two has no container app/,
      /it has logger and web/,
    ],
    [
      "a container that has ended",
      "shop/app-5d4f7c9b8-x2v4k/init",
      "noInput",
      /the container shop\/app-5d4f7c9b8-x2v4k\/init has ended/,
      /explain --last shop\/app-5d4f7c9b8-x2v4k\/init/,
    ],
    [
      "a pod of which nothing was made yet",
      "shop/waiting",
      "noInput",
      /no container of the pod shop\/waiting runs: none was made yet/,
      /explain --last shop\/waiting/,
    ],
    [
      "a pod without its namespace",
      "two",
      "noInput",
      /no container two/,
      /did you mean shop\/two\?/,
    ],
    ["a container's name alone", "web", "noInput", /no container web/, /did you mean shop\/two\?/],
    ["no such id", "0123", "noInput", /no container 0123/, /NAMESPACE\/POD/],
    ["too many parts", "shop/two/web/x", "usage", /does not name a pod/, /NAMESPACE\/POD/],
    ["no pod", "shop/", "usage", /does not name a pod/, /NAMESPACE\/POD/],
    ["no container", "shop/two/", "usage", /does not name a pod/, /NAMESPACE\/POD/],
  ])("is not guessed by %s", (_, subject, exit, message, hint) => {
    const failure = failureOf(() => chooseContainer(subject, pods, "node-1"));
    expect(failure.exitCode).toBe(EXIT[exit]);
    expect(failure.message).toMatch(message);
    expect(failure.hint).toMatch(hint);
  });

  function failureOf(work: () => unknown): Failure {
    try {
      work();
    } catch (error) {
      return error as Failure;
    }
    throw new Error("it did not fail");
  }
});

const labels: JsonObject = {
  app: "timeline",
  "app.kubernetes.io/part-of": "shop",
  // The kubelet's, a ReplicaSet's, a chart's, and the name of this pod.
  "io.kubernetes.pod.name": "app-5d4f7c9b8-x2v4k",
  "pod-template-hash": "5d4f7c9b8",
  "helm.sh/chart": "app-1.2.3",
  instance: "app-5d4f7c9b8-x2v4k",
};
const pod: Pod = {
  namespace: "shop",
  name: "app-5d4f7c9b8-x2v4k",
  uid: "22222222-2222-3333-4444-555555555555",
  container: "app",
  labels,
  annotations: {
    "kubectl.kubernetes.io/last-applied-configuration": '{"env":[{"name":"A","value":"hunter2"}]}',
  },
};

/** As containerd 1.6 says it. */
function factsOf(changes: Partial<Container> = {}, podChanges: Partial<Pod> = {}): Facts {
  const container = {
    Id: "a".repeat(64),
    Image: digest,
    Path: "/bin/app",
    Args: ["--listen", ":80"],
    State: { Pid: 7, StartedAt: "2026-01-01T00:00:00.000Z" },
    Config: {
      User: "1001:1001",
      WorkingDir: "/",
      Env: ["PATH=/bin", "DB=vault:secret/data/a#b"],
      KubernetesEnv: ["HOSTNAME=app-5d4f7c9b8-x2v4k"],
    },
    HostConfig: {
      ReadonlyRootfs: true,
      CapAdd: [],
      SecurityOpt: ['seccomp={"defaultAction":"SCMP_ACT_ERRNO"}'],
      PidMode: "",
      Annotations: { "io.kubernetes.cri-o.Annotations": '{"a":"hunter2"}' },
    },
    Mounts: [
      { Type: "configmap", Name: "config", Destination: "/etc/app", RW: false },
      { Type: "empty-dir", Name: "cache", Destination: "/var/cache", RW: true },
    ],
    pod: { ...pod, ...podChanges },
    ...changes,
  };
  const ofProcess = {
    exe: "/bin/app",
    uids: [1001, 1001, 1001, 1001],
    gids: [1001, 1001, 1001, 1001],
    uid_inside: 1001,
    dumpable: false,
    exe_mount: 1,
    init: true,
    alone: true,
    tracer: 0,
    pids: [7, 1],
    capabilities: [],
    namespaces: { user: "u", pid: "p", mnt: "m" },
    cgroup: [],
    start_ticks: 1,
  };
  return {
    peer: { id: "", pid: 7, uid: 1001, gid: 1001, groups: [1001], label: "" },
    process: ofProcess,
    container,
    init: ofProcess,
    mounts: { numbers: [1], writable: [] },
    imageLabels: { labels: {}, areOfManifest: true },
    userNamespace: "u",
    bootMs: 0,
  } as unknown as Facts;
}

describe("a service that is suggested for a pod", () => {
  const matchOf = (facts: Facts, imageEnv = ["PATH=/bin"]) => {
    const { services, notes } = suggest(facts, imageEnv);
    const [[name, service] = []] = Object.entries(services);
    return { name, service, match: service?.match as JsonObject, notes };
  };

  test("is one that the server takes, matches it, and has all that its creator can set", () => {
    const facts = factsOf();
    const { name, service, match } = matchOf(facts);
    expect(name).toBe("shop-timeline");
    const vault = { address: "https://vault:8200", login: { token_file: "/token" } };
    const engine = { cri: "/run/containerd/containerd.sock" };
    expect(findFlaw(JSON.stringify({ engine, vault, services: { app: service } }))).toBeUndefined();
    const identity = documentOf(facts) as unknown as JsonObject;
    expect(choose(identity, [["app", service as Service]])[0]).toBe("app");
    expect(match).toEqual({
      peer: { uid: 1001, gid: 1001, groups: [1001] },
      process: { dumpable: false },
      pod: {
        namespace: "shop",
        container: "app",
        labels: { app: "timeline", "app.kubernetes.io/part-of": "shop" },
      },
      container: {
        Image: digest,
        Path: "/bin/app",
        Args: ["--listen", ":80"],
        Config: { Env: expect.objectContaining({ DB: "vault:secret/data/a#b" }), WorkingDir: "/" },
        HostConfig: { ReadonlyRootfs: true, CapAdd: [], PidMode: "" },
        Mounts: factsOf().container.Mounts,
      },
    });
  });

  test("serves the next pod of the same controller, and none of another namespace, container or image", () => {
    const { service } = matchOf(factsOf());
    const isServed = (facts: Facts) => {
      try {
        choose(documentOf(facts) as unknown as JsonObject, [["app", service as Service]]);
        return true;
      } catch {
        return false;
      }
    };
    const next = {
      name: "app-7c9b85d4f-k4v2x",
      uid: "33333333-2222-3333-4444-555555555555",
      labels: { ...labels, "pod-template-hash": "7c9b85d4f", instance: "app-7c9b85d4f-k4v2x" },
      annotations: {},
    };
    expect(isServed(factsOf({}, next))).toBe(true);
    expect(isServed(factsOf({}, { ...next, namespace: "other" }))).toBe(false);
    expect(isServed(factsOf({}, { ...next, container: "debugger" }))).toBe(false);
    expect(isServed(factsOf({ Image: otherDigest }, next))).toBe(false);
    expect(isServed(factsOf({ Args: ["--listen", ":81"] }, next))).toBe(false);
    expect(isServed(factsOf({ Mounts: [] }, next))).toBe(false);
  });

  test("holds no value that was given at the start, and names those that it leaves open", () => {
    const Env = ["PATH=/bin", "PASSWORD=hunter2", "PATH=/bin"];
    const { match, notes } = matchOf(factsOf({ Config: { WorkingDir: "/", Env } }));
    expect(JSON.stringify([match, notes])).not.toContain("hunter2");
    expect(notes.join("\n")).toContain("Config.Env leaves PATH and PASSWORD open");
    expect(match).toHaveProperty("container.Config.Env.NODE_OPTIONS", null);
  });

  test("leaves open what differs from pod to pod, and says so", () => {
    const withArgs = matchOf(factsOf({ Args: ["--name", pod.name] }));
    expect(withArgs.match).not.toHaveProperty("container.Args");
    expect(withArgs.notes.join("\n")).toContain("Args is not pinned: it holds the pod's own name");

    const ofSet = {
      name: "db-0",
      labels: { app: "db", "statefulset.kubernetes.io/pod-name": "db-0" },
    };
    const claimed = { Type: "csi", Name: "pvc-11111111-2222-3333-4444-555555555555" };
    const Mounts = [{ ...claimed, Destination: "/data", RW: true }];
    const stateful = matchOf(factsOf({ Mounts }, ofSet));
    expect(stateful.match).not.toHaveProperty("container.Mounts");
    expect(stateful.notes.join("\n")).toContain(
      "each pod of a StatefulSet has a volume of its own",
    );
    expect(matchOf(factsOf({ Mounts })).match).toHaveProperty("container.Mounts", Mounts);
  });

  test("pins a name that nobody generated, also where a command holds it", () => {
    const { match } = matchOf(factsOf({ Args: ["--name=app"] }, { name: "app" }));
    expect(match).toHaveProperty("container.Args", ["--name=app"]);
  });

  test("has no label where only a controller has set some", () => {
    const { name, match } = matchOf(factsOf({}, { labels: { "pod-template-hash": "5d4f7c9b8" } }));
    expect(match).not.toHaveProperty("pod.labels");
    expect(name).toBe("shop-app");
  });

  test("is read back by check without a warning, and never with the word only", () => {
    const { service } = matchOf(factsOf());
    const advice = adviceOn({ app: service as Service });
    expect(advice.warnings).toEqual([]);
    expect(advice.open).toEqual([]);
    expect(advice.who).toBe(
      "whoever may create pods in namespace shop can be this service by this image with another " +
        "seccomp profile, hook or exec probe: of a pod these are the creator's word; so can whoever " +
        "writes to the volumes config",
    );
  });
});

describe("a label that a controller, the kubelet or a release sets", () => {
  test.each([
    "pod-template-hash",
    "controller-revision-hash",
    "pod-template-generation",
    "batch.kubernetes.io/job-name",
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-completion-index",
    "job-name",
    "controller-uid",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "topology.kubernetes.io/zone",
    "jobset.sigs.k8s.io/job-index",
    "kueue.x-k8s.io/podset",
    "rollouts-pod-template-hash",
    "io.kubernetes.pod.uid",
    "helm.sh/chart",
    "app.kubernetes.io/version",
  ])("is not the creator's: %s", (label) => {
    expect(isOfController(label)).toBe(true);
  });

  test.each([
    "app",
    "app.kubernetes.io/name",
    "example.com/kubernetes.io",
    "notkubernetes.io/a",
    "tier",
  ])("is the creator's: %s", (label) => {
    expect(isOfController(label)).toBe(false);
  });

  test("may be known by its value alone", () => {
    for (const value of ["db-x2v4k", "x2v4k", "22222222-2222-3333-4444-555555555555"])
      expect(isOfPod(value, "db-x2v4k")).toBe(true);
    for (const value of ["db", "x2v4", "other", "nginx"])
      expect(isOfPod(value, "db-nginx-x2v4k")).toBe(false);
  });
});

const engine = { cri: "/run/containerd/containerd.sock" };
function adviceOn(services: Record<string, Service>, host: Host = { engine: "cri" }): Advice {
  const socket = "/run/authproxy/authproxy.sock";
  const all = advise({ vault: {}, engine, socket, services } as unknown as Config, host);
  return all[Object.keys(services)[0] ?? ""] as Advice;
}
const service = (match: JsonObject): Service => ({
  match,
  token: { create: "auth/token/create/a" },
});
const undumpable = { process: { dumpable: false } };
const inShop = (more: JsonObject = {}, container?: JsonObject): JsonObject => ({
  ...undumpable,
  pod: { namespace: "shop", ...more },
  ...(container && { container }),
});

describe("what `check` says of a service of pods", () => {
  test.each<[string, JsonObject, RegExp]>([
    [
      "a namespace and labels",
      inShop({ labels: { app: "a" }, container: "app" }),
      /^namespace, labels, container and dumpable only: whoever may create pods in namespace shop can be this service$/,
    ],
    [
      "an image in a namespace",
      inShop({ container: "app" }, { Image: digest }),
      /^whoever may create pods in namespace shop can be this service by this image with other Path, Args/,
    ],
    [
      "two namespaces",
      inShop({ namespace: ["shop", "billing"], container: "app" }, { Image: digest }),
      /^whoever may create pods in one of the namespaces shop and billing can be this service/,
    ],
    [
      "an image alone",
      { ...undumpable, container: { Image: digest } },
      /^whoever may create pods in any namespace can be this service by this image/,
    ],
  ])("says who can be it by %s, and never `only this image`", (_, match, who) => {
    const said = adviceOn({ a: service(match) }).who;
    expect(said).toMatch(who);
    expect(said).not.toMatch(/only this image/);
  });

  test("names the creator of pods for each selector that is their word", () => {
    const match = inShop({ container: "app", labels: { app: "a" } }, { Image: digest, Args: [] });
    const forgers = Object.fromEntries(
      adviceOn({ a: service({ ...match, peer: { uid: 1 } }) }).selectors.map(
        ({ path, forgedBy }) => [path, forgedBy],
      ),
    );
    expect(forgers).toMatchObject({
      "pod.namespace": "whoever may create pods in namespace shop, and root of the node",
      "pod.container": "whoever may create pods in namespace shop",
      "pod.labels.app": "whoever may create pods in namespace shop",
      "container.Args": "the image, or whoever may create pods in namespace shop",
      "container.Image": "nobody: it is the digest of the image's content",
      "peer.uid": "whoever may create pods in namespace shop (securityContext)",
    });
  });

  // The warning, a service that has it, and one that does not.
  test.each<[string, JsonObject, JsonObject, Host?]>([
    [
      "pod.namespace is not pinned",
      { ...undumpable, container: { Image: digest } },
      inShop({ container: "app" }, { Image: digest }),
    ],
    [
      "no image is pinned: pod.labels and pod.container: whoever may create pods in namespace shop",
      inShop({ labels: { app: "a" }, container: "app" }),
      inShop({ labels: { app: "a" }, container: "app" }, { Image: digest }),
    ],
    [
      "no image is pinned",
      inShop({ container: "app" }, { Config: { Image: "app:1" } }),
      inShop({ container: "app" }, { Config: { Image: `app@${digest}` } }),
    ],
    [
      "pod.container is not pinned",
      inShop({}, { Image: digest, Path: "/app" }),
      inShop({}, { Image: digest, Path: "/app", Args: [] }),
    ],
    [
      "pod.uid is different for each pod",
      inShop({ uid: "1" }, { Image: digest }),
      inShop({ name: "app" }, { Image: digest }),
    ],
    [
      "pod.name is one that a controller made",
      inShop({ name: ["app", "app-5d4f7c9b8-x2v4k"] }, { Image: digest }),
      inShop({ name: "app-0" }, { Image: digest }),
    ],
    [
      "pod.labels.pod-template-hash: a controller or a release sets it",
      inShop({ labels: { "pod-template-hash": "5d4f7c9b8" } }, { Image: digest }),
      inShop({ labels: { app: "a" } }, { Image: digest }),
    ],
    [
      "container.HostConfig.NetworkMode can never hold: a node's engine does not say it",
      inShop({}, { Image: digest, HostConfig: { NetworkMode: "host" } }),
      inShop(
        {},
        { Image: digest, HostConfig: { NetworkMode: null, PidMode: "" }, State: { Pid: 1 } },
      ),
    ],
    [
      `Image ${otherDigest} is the digest of a manifest, and a node's engine uses that of the configuration: write ${digest}`,
      inShop({}, { Image: otherDigest }),
      inShop({}, { Image: digest }),
      { engine: "cri", images: [{ Id: digest, RepoDigests: [`app@${otherDigest}`] }] },
    ],
    ['start it with capabilities: { drop: ["ALL"] }', { pod: { namespace: "shop" } }, inShop()],
  ])("warns: %s, and not where there is no reason", (warning, warned, silent, host) => {
    const warnings = (match: JsonObject) =>
      adviceOn({ a: service(match) }, host).warnings.filter((text) => text.includes(warning));
    expect(warnings(warned)).toHaveLength(1);
    expect(warnings(silent)).toEqual([]);
  });

  test.each<[string, JsonObject, boolean]>([
    ["another label", inShop({ labels: { app: "b" } }, { Image: digest }), true],
    ["another command", inShop({}, { Image: digest, Args: ["b"] }), true],
    ["no image", inShop({ container: "b" }), true],
    ["no namespace", { container: { Image: digest } }, true],
    ["another image", inShop({}, { Image: otherDigest }), false],
    ["another namespace", inShop({ namespace: "billing" }, { Image: digest }), false],
  ])("warns of a service that the same people choose: %s", (_, other, isWarned) => {
    const mine = inShop({ labels: { app: "a" } }, { Image: digest, Args: ["a"] });
    const { warnings } = adviceOn({ mine: service(mine), other: service(other) });
    const choice = "whoever may create pods in namespace shop chooses between it and other";
    expect(warnings.some((text) => text.startsWith(choice))).toBe(isWarned);
  });

  test.each(POD_PINNED_PATHS)("names %s where it is open", (path) => {
    const { services } = suggest(factsOf(), ["PATH=/bin"]);
    const [whole] = Object.values(services);
    const match = structuredClone(whole?.match ?? {});
    const keys = path.split(".");
    const last = keys.pop() ?? "";
    let parent: JsonObject = match;
    for (const key of keys) parent = parent[key] as JsonObject;
    delete parent[last];
    const advice = adviceOn({ a: service(match) });
    expect(advice.open).toEqual([path]);
    const isImage = path === "container.Image";
    expect(advice.who).toContain(isImage ? "only: " : `with other ${shortName(path)}`);
  });

  test("does not speak of pods to those who have none", () => {
    const match = { container: { Image: digest } };
    const config = {
      vault: {},
      socket: "/run/authproxy/authproxy.sock",
      engine: "/var/run/docker.sock",
    };
    const services = { a: service(match) };
    const { a } = advise({ ...config, services } as unknown as Config, {});
    expect(JSON.stringify(a)).not.toMatch(/\bpods?\b/);
  });
});

describe("a configuration that the server would not take", () => {
  const flawsOf = (match: JsonObject, engine?: Json) => {
    const vault = { address: "https://vault:8200", login: { token_file: "/token" } };
    const config = {
      ...(engine !== undefined && { engine }),
      vault,
      services: { a: service(match) },
    };
    return locateFlaws(JSON.stringify(config, null, 2));
  };
  const cri = { cri: "/run/containerd/containerd.sock" };

  test.each<[string, JsonObject, Json | undefined, RegExp, RegExp?]>([
    [
      "labels alone",
      { pod: { labels: { app: "a" } } },
      cri,
      /match must be with/,
      /suggest NAMESPACE/,
    ],
    [
      "a namespace without container or image",
      { pod: { namespace: "shop", labels: { app: "a" } } },
      cri,
      /match must be with container\.Image, or with pod\.container/,
      /suggest NAMESPACE\/POD/,
    ],
    ["a pod of Docker", inShop({ container: "a" }), undefined, /match\.pod must be left out/],
    [
      "a container's labels on a node",
      { container: { Config: { Labels: { app: "a" } } } },
      cri,
      /Labels must be left out/,
    ],
    ["a namespace beside the pod", { namespace: "shop" }, cri, /not a known key/, /below pod/],
    [
      "a misspelled key",
      { pod: { namespace: "shop", contaner: "a" } },
      cri,
      /not a known key/,
      /did you mean "container"/,
    ],
    [
      "a service account",
      { pod: { namespace: "shop", container: "a", serviceAccountName: "a" } },
      cri,
      /not a known key/,
      /whoever creates a pod may choose it/,
    ],
    [
      "the kubelet's word for a socket",
      inShop({ container: "a" }),
      { cri: "unix:///run/containerd/containerd.sock" },
      /engine must be an absolute path/,
      /without unix:\/\//,
    ],
  ])("has a place and a hint: %s", (_, match, engine, message, hint = /^$/) => {
    const [flaw] = flawsOf(match, engine);
    expect(flaw?.message).toMatch(message);
    expect(flaw?.instead ?? "").toMatch(hint);
    expect(flaw?.source.length).toBeGreaterThan(0);
  });

  test("is none of a good one", () => {
    expect(flawsOf(inShop({ container: "a" }), cri)).toEqual([]);
    expect(flawsOf({ container: { Image: digest } }, cri)).toEqual([]);
  });
});

describe("an explanation of a pod", () => {
  test("shows namespace, name, uid, container and labels", () => {
    const match = inShop({ namespace: "other" }, { Image: digest });
    const explanation = explain({ facts: factsOf() }, { app: service(match) });
    const text = explanationLines(explanation).join("\n");
    expect(text).toMatch(/pod\.namespace +"shop"/);
    expect(text).toMatch(/pod\.container +"app"/);
    expect(text).toMatch(/pod\.labels +.*"app":"timeline"/);
    expect(text).toContain('pod.namespace: wanted "other", seen "shop"');
    expect(explanation.identity.pod).toMatchObject({ name: pod.name, uid: pod.uid });
  });

  test("shows no annotation's value, which may hold whole manifests, in text or JSON", () => {
    for (const services of [{}, { app: service(inShop({}, { Image: digest })) }]) {
      const explanation = explain({ facts: factsOf() }, services);
      const all = JSON.stringify(explanation) + explanationLines(explanation).join("\n");
      expect(all).not.toContain("hunter2");
      expect(all).toContain("kubectl.kubernetes.io/last-applied-configuration");
    }
  });

  test("of which not all was learned shows none either", () => {
    const { container } = factsOf();
    const refusal = { reason: "exited", detail: null, canRetry: true };
    const observation = { partialFacts: { container }, refusal } as never;
    expect(JSON.stringify(explain(observation, {}))).not.toContain("hunter2");
  });
});

describe("a pod in the logs", () => {
  const id = "a".repeat(64);
  const line = (entry: JsonObject) =>
    JSON.stringify({ time: "2026-01-01T00:00:00.000Z", container: id, service: "a", ...entry });
  const ofPod = { pod: "shop/app-0", pod_container: "app" };

  test.each<[string, boolean]>([
    ["shop/app-0", true],
    ["shop/app-0/app", true],
    ["shop/app-0/sidecar", false],
    ["shop/app", false],
  ])("is found by explain --last %s: %s", async (name, isFound) => {
    const refused = line({ event: "refused", reason: "readonly", ...ofPod });
    expect((await lastRefusal([refused], [name])) !== undefined).toBe(isFound);
  });

  test.each<[string, boolean]>([
    ["shop", true],
    ["shop/app-0", true],
    ["shop/app-0/app", true],
    ["shop/app", false],
    ["shop/app-0/ap", false],
    ["sho", false],
  ])("is selected by who --container %s: %s", (selected, isSelected) => {
    const access = accessIn(
      JSON.stringify({
        type: "response",
        time: "2026-01-01T00:00:00.000Z",
        auth: {
          display_name: "token-authproxy-a",
          metadata: { container: id, service: "a", host: "node-1", image: digest, ...ofPod },
        },
        request: {
          operation: "read",
          path: "secret/data/a",
          mount_type: "kv",
          mount_point: "secret/",
        },
        response: { data: {} },
      }),
    );
    expect(nameOf(access?.who ?? { person: "" })).toBe(
      `a shop/app-0/app ${id.slice(0, 12)} on node-1`,
    );
    expect(isSelectedWho(access?.who ?? { person: "" }, { pod: selected })).toBe(isSelected);
  });

  test("has its living tokens, also where the line that ends them does not name it", () => {
    const grants: Grants = new Map();
    addLine(grants, line({ event: "granted", accessor: "one", ...ofPod }));
    addLine(grants, line({ event: "granted", accessor: "two", ...ofPod }));
    addLine(grants, line({ event: "revoked", accessor: "one" }));
    expect(grants.get(id)).toMatchObject({ pod: "shop/app-0/app", living: new Set(["two"]) });
  });
});

describe("the table of pods in docs/policy.md", () => {
  const page = readFileSync(join(import.meta.dirname, "../docs/policy.md"), "utf8");
  const nameIn = ({ path }: Setting) => `\`${path.replace("container.", "")}\``;
  const pinnedBy = { always: "yes", given: "if given", never: "no" };
  const rows = POD_SETTINGS.map(
    (setting) =>
      `| ${nameIn(setting)} | ${setting.changes} | ${pinnedBy[setting.pin]} | ${setting.reason} |`,
  );

  test("has a row for each setting, and no other", () => {
    const head =
      "| of a pod | changes | pinned | another value lets its creator; or why it is not pinned |";
    const lines = page.split("\n");
    const begin = lines.indexOf(head);
    const length = lines.slice(begin).findIndex((row) => !row.startsWith("|"));
    expect(lines.slice(begin + 2, begin + length)).toEqual(rows);
  });

  test("lists each setting once", () => {
    const paths = POD_SETTINGS.map(({ path }) => path);
    expect(paths).toEqual([...new Set(paths)]);
  });
});
