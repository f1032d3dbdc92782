// Question: does docs/kubernetes.md hold, on a real node, in a real systemd?
// A stranger's way: its code blocks, in their order, and nothing else, from a node that has nothing of
// authproxy to a pod of an unchanged image that has its secret. Then what the page says of other pods:
// an image with a client of its own, a pod without the runtime, the Pod Security levels, `kubectl exec`
// and ephemeral containers; and who may use a service by the admission policy: pods, what makes pods,
// a label that is added later, another image under a label, a debugger, controllers.
import { copyFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type OpenBao, startOpenBao } from "../../scripts/openbao.ts";
import { makeArchive } from "../../scripts/package.ts";
import type { JsonObject } from "../../server/json.ts";
import { block, shell } from "../documents.ts";
import { GATEWAY, type Host, makeGateway, removeGateway } from "../lab/host.ts";
import { images, makeImages } from "./document-images.ts";
import { bootNode, makeServiceAccounts, onNode, until } from "./systemd-node.ts";

const root = join(import.meta.dirname, "../..");
const STARTED = "started with a password of 13 characters";
const blocks = shell("docs/kubernetes.md");
const CONFIG = "/etc/authproxy/authproxy.json";

let host: Host;
let bao: OpenBao;
let environment: Record<string, string>;

beforeAll(async () => {
  const archive = await makeArchive();
  makeImages();
  makeGateway();
  bao = await startOpenBao({ listen: GATEWAY });
  host = await bootNode(Object.values(images), [join(root, "dist/bao")]);
  for (const file of [archive.file, bao.caFile])
    copyFileSync(file, join(host.share, basename(file)));
  const ca = `/mnt/${basename(bao.caFile)}`;
  environment = { BAO_ADDR: bao.address, BAO_TOKEN: bao.rootToken, BAO_CACERT: ca };
}, 600_000);

afterAll(async () => {
  await host?.[Symbol.asyncDispose]();
  await bao?.stop();
  removeGateway();
});

/** Runs all shell of a section, as it stands there; what it said. */
async function walk(section: string): Promise<string> {
  const found = blocks.filter((block) => block.section === section);
  expect(found).not.toEqual([]);
  let said = "";
  for (const { text } of found) {
    said += await onNode(host, text, environment);
    if (text.includes("kubectl")) await makeServiceAccounts(host);
  }
  return said;
}

/** What the page shows, with one thing changed. */
function changed(text: string, ...changes: [from: string, to: string][]): string {
  for (const [from, to] of changes) {
    expect(text).toContain(from);
    text = text.replaceAll(from, to);
  }
  return text;
}

/** What kubectl says when it does not do it; "" if it does. */
async function refusalOf(script: string): Promise<string> {
  return await host.sh(script).then(
    () => "",
    (error: Error) => error.message,
  );
}

const untilStarted = (pod: string, namespace = "shop") =>
  until(host, `sh -c 'kubectl logs --namespace ${namespace} ${pod} | grep --quiet "${STARTED}"'`);

const manifestOf = (words: string) =>
  `${block("docs/kubernetes.md", words).split("\nEND\n")[0]}\nEND\n`;
/** The page's pod without the runtime. */
const ownPod = () => manifestOf("timeline-with-client");

/** An ephemeral container in the page's pod, which asks for the secret too. */
const debug = (name: string, options = "--profile=restricted") =>
  `kubectl debug --namespace shop timeline ${options} --quiet --attach=false --container=${name} \
    --image=${images.unchanged} --env=DB_PASSWORD_FILE=vault:secret/data/timeline#password -- app`;

async function audit(): Promise<JsonObject[]> {
  const lines = await host.sh("journalctl --unit authproxy --output cat | grep '^{'");
  return lines
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
}

/** Changes the server's configuration, and waits until it is in force. */
async function reconfigure(change: (config: { services: object }) => void): Promise<void> {
  const config = JSON.parse(await host.sh(`cat ${CONFIG}`));
  change(config);
  writeFileSync(join(host.share, "authproxy.json"), JSON.stringify(config));
  const reloads = "journalctl --unit authproxy --output cat | grep --count '\"reload\"' || true";
  const before = Number(await host.sh(reloads));
  await host.sh(`cat /mnt/authproxy.json > ${CONFIG}; systemctl reload authproxy`);
  await expect
    .poll(async () => Number(await host.sh(reloads)), { timeout: 30_000 })
    .toBe(before + 1);
}

const pod = () => manifestOf("image: registry.example/timeline:1.4");
const renamed = (name: string, ...changes: [string, string][]) =>
  changed(pod(), ["\n  name: timeline\n", `\n  name: ${name}\n`], ...changes);

describe("docs/kubernetes.md", () => {
  test("leads from a node without authproxy to a pod of an unchanged image with its secret", async () => {
    const manual = shell("docs/operate.md");
    for (const section of ["Install", "The server's credential"])
      for (const { text } of manual.filter((block) => block.section === section))
        await onNode(host, text, environment);

    expect(await walk("A node by hand")).toContain("the server takes it");
    await walk("A cluster");
    await walk("A pod of an image that nobody changed");
    await untilStarted("timeline");
    const granted = { event: "granted", service: "timeline", pod: "shop/timeline" };
    expect(await audit()).toContainEqual(expect.objectContaining(granted));
  });

  test("explain and suggest speak of the pod, and pin its image", async () => {
    const [, look = "", pin = ""] = blocks
      .filter(({ section }) => section === "A pod of an image that nobody changed")
      .map(({ text }) => text);
    expect(await onNode(host, look)).toMatch(/"event":"granted"[\s\S]*pod\.namespace +"shop"/);
    await onNode(host, pin);
    const suggested = JSON.parse(await host.sh("cat /mnt/timeline.json"));
    expect(JSON.stringify(suggested)).toMatch(/"Image":"sha256:[0-9a-f]{64}"/);
  });

  test("the namespace is restricted: no hostPath, and no debugger with SYS_PTRACE", async () => {
    const place = "name: timeline, namespace: legacy";
    const withHostPath = changed(ownPod(), [place, "name: other, namespace: shop"]);
    expect(await refusalOf(withHostPath)).toMatch(/violates PodSecurity "restricted.*hostPath/);
    const traces = debug("tracer", "--profile=general --target=timeline");
    expect(await refusalOf(traces)).toMatch(/violates PodSecurity "restricted.*SYS_PTRACE/);
  });

  test("an image with the client in front gets its secret with the runtime, as it is", async () => {
    const own = renamed(
      "own",
      [images.unchanged, images.withClient],
      ['\n      command: [app, --port, "8080"]', ""],
    );
    await host.sh(own);
    await untilStarted("own");
  });

  test("and without the runtime, by the socket's directory, in a namespace that allows it", async () => {
    const services = JSON.parse(`{${block("docs/kubernetes.md", '"legacy": {')}}`);
    await reconfigure((config) => Object.assign(config.services, services));
    await walk("A pod of your own image");
    await untilStarted("timeline", "legacy");
  });

  test("kubectl exec sees the reference and the files of its user, and gets no token", async () => {
    const exec = (words: string) => host.sh(`kubectl exec --namespace shop timeline -- ${words}`);
    expect(await exec("sh -c 'echo $DB_PASSWORD_FILE'")).toBe(
      "vault:secret/data/timeline#password\n",
    );
    expect(await exec("sh -c 'read -r p </run/authproxy-secrets/DB_PASSWORD; echo $p'")).toBe(
      "correct-horse\n",
    );
    const client = `/.authproxy/ld.so --inhibit-cache --library-path /.authproxy /.authproxy/node
      --inspect-port=255.255.255.255:1024
      /.authproxy/authproxy.js -- sh -c 'echo got it'`.replace(/\s+/g, " ");
    expect(await refusalOf(`kubectl exec --namespace shop timeline -- ${client}`)).toMatch(
      /only a container's first process is served[\s\S]*exit code 77|exit code 77[\s\S]*first process/,
    );
  });

  test("an ephemeral container cannot have the name of a service's container, and is refused", async () => {
    expect(await refusalOf(debug("timeline"))).toContain('Duplicate value: "timeline"');
    await host.sh(debug("another"));
    const refusals = async () => (await audit()).filter(({ event }) => event === "refused");
    const detail = { path: "pod.container", wanted: "timeline", seen: "another" };
    await expect
      .poll(refusals, { timeout: 60_000 })
      .toContainEqual(expect.objectContaining({ detail: expect.objectContaining(detail) }));
  });

  test("a container that restarts gets a token of its own, and the former one is revoked", async () => {
    const of = async (event: string) =>
      (await audit()).filter((line) => line.event === event && line.pod === "shop/timeline");
    const [former] = await of("granted");
    await host.sh("kill -KILL $(pgrep --full 'sleep 100000')"); // the node's root may
    await expect
      .poll(async () => (await of("granted")).length, { timeout: 60_000 })
      .toBeGreaterThan(1);
    const [, latter] = await of("granted");
    expect(latter?.accessor).not.toBe(former?.accessor);
    const revoked = async () =>
      (await audit()).filter(({ event }) => event === "revoked").map(({ accessor }) => accessor);
    await expect.poll(revoked, { timeout: 60_000 }).toContain(former?.accessor);
  });

  describe("who may use a service", () => {
    /** As these people, with what a role such as `edit` allows. */
    const as = (user: string, manifest: string) =>
      refusalOf(manifest.replaceAll("kubectl ", `kubectl --as=${user} `));
    const owned = (
      kind: string,
      apiVersion: string,
      spec: object,
    ) => `kubectl apply --dry-run=server -f - <<'END'
${JSON.stringify({ apiVersion, kind, metadata: { name: "any", namespace: "shop" }, spec })}
END
`;
    const labels = { "authproxy/service": "timeline" };
    const containers = [{ name: "c", image: images.unchanged }];
    const template = { metadata: { labels }, spec: { containers, restartPolicy: "Never" } };
    const always = { metadata: { labels }, spec: { containers } };
    const selector = { matchLabels: labels };
    const makers: [string, string][] = [
      ["another pod", renamed("any")],
      ["a deployment", owned("Deployment", "apps/v1", { selector, template: always })],
      ["a replica set", owned("ReplicaSet", "apps/v1", { selector, template: always })],
      [
        "a stateful set",
        owned("StatefulSet", "apps/v1", { selector, serviceName: "s", template: always }),
      ],
      ["a daemon set", owned("DaemonSet", "apps/v1", { selector, template: always })],
      [
        "a replication controller",
        owned("ReplicationController", "v1", { selector: labels, template: always }),
      ],
      ["a job", owned("Job", "batch/v1", { template })],
      [
        "a cron job",
        owned("CronJob", "batch/v1", { schedule: "@daily", jobTemplate: { spec: { template } } }),
      ],
    ];

    test("before the page's policy anybody may who edits in the namespace, and then not", async () => {
      // `edit` gets its rules from a controller that is not here.
      await host.sh(`kubectl create rolebinding editors --namespace shop \
        --clusterrole=system:aggregate-to-edit --user=alice --user=bob
        kubectl create rolebinding viewers --namespace shop \
        --clusterrole=system:aggregate-to-view --user=alice --user=bob
        kubectl create rolebinding administrators --namespace shop \
        --clusterrole=system:aggregate-to-admin --user=bob
        kubectl create role debuggers --namespace shop --verb=patch --resource=pods/ephemeralcontainers
        kubectl create rolebinding debuggers --namespace shop --role=debuggers --user=bob
        kubectl create rolebinding controllers --namespace shop \
        --clusterrole=system:aggregate-to-edit --serviceaccount=kube-system:replicaset-controller`);
      const probe = renamed("probe", ["kubectl apply", "kubectl --as=bob apply --dry-run=server"]);
      expect(await refusalOf(probe)).toBe("");
      await walk("Who may use a service");
      // The API server learns of a policy a moment after it was written.
      await expect.poll(() => refusalOf(probe), { timeout: 60_000 }).toContain("may not use");
    });

    test.each(makers)(
      "%s with the label: by alice, who holds the right, and not by bob",
      async (_, manifest) => {
        expect(await as("bob", manifest)).toContain("bob may not use the service timeline");
        expect(await as("alice", manifest)).toBe("");
      },
    );

    test("a label that is added later, or was there before: not by bob", async () => {
      const plain = renamed("plain", ["authproxy/service: timeline", "app: any"]);
      expect(await as("bob", plain)).toBe("");
      const label = "kubectl label pod plain --namespace shop authproxy/service=timeline";
      expect(await as("bob", label)).toContain("may not use");
      expect(await as("alice", label)).toBe("");
      const unlabel = "kubectl label pod plain --namespace shop authproxy/service-";
      expect(await as("bob", unlabel)).toContain("may not use");
      await host.sh("kubectl delete pod plain --namespace shop --wait=false");
    });

    test("another image under the label: not by bob", async () => {
      const image = `kubectl set image pod/timeline --namespace shop timeline=${images.withClient}`;
      expect(await as("bob", image)).toContain("may not use");
    });

    test("a debugger beside it: not by bob", async () => {
      expect(await as("bob", debug("bobs"))).toContain("may not use");
    });

    test("the right is one service's, in one namespace", async () => {
      const other = renamed("billing", [
        "authproxy/service: timeline",
        "authproxy/service: billing",
      ]);
      expect(await as("alice", other)).toContain("alice may not use the service billing");
    });

    test("a controller of Kubernetes makes pods from what was checked before", async () => {
      const made = renamed("made", ["kubectl apply", "kubectl create"]);
      expect(await as("system:serviceaccount:kube-system:replicaset-controller", made)).toBe("");
    });

    test("nobody gives away the right that they do not hold", async () => {
      const role = manifestOf("kind: ValidatingAdmissionPolicy").split("---\n")[2] ?? "";
      const given = changed(role, ["name: use-timeline", "name: given"]);
      const refusal = await as("bob", `kubectl apply -f - <<'END'\n${given}END\n`);
      expect(refusal).toContain("attempting to grant RBAC permissions not currently held");
    });
  });
});
