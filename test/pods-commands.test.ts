// Question: does the command line say of a pod what its node's engine knows? A containerd of its own, with
// the sandboxes and containers that a kubelet would make; the command as people run it.
// Beside the cases that have a test of their own: a pid and an id in place of a name, an image's variable
// that the pod overrides, volumes, the next pod of a controller, an engine that is Docker's, one whose
// CRI is switched off, none at all, a process that /proc here does not show.
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type EngineAddress, engineAt } from "../cli/containers.ts";
import { checkEngine } from "../cli/doctor/engine.ts";
import type { Finding } from "../cli/doctor/finding.ts";
import { checkKubelet } from "../cli/doctor/node.ts";
import { type Explanation, explain } from "../cli/explain.ts";
import { describeImage } from "../cli/host.ts";
import { KubernetesNode } from "../cli/kubernetes-node.ts";
import { observe } from "../cli/observe.ts";
import { judgeRunning, runningLines } from "../cli/running.ts";
import { POD_SETTINGS } from "../cli/settings.ts";
import { pidOf } from "../cli/subject.ts";
import { suggest } from "../cli/suggest.ts";
import type { Config, Service } from "../server/config.ts";
import type { Facts } from "../server/facts.ts";
import type { Json, JsonObject } from "../server/json.ts";
import { authproxy } from "./command.ts";
import { Containerd } from "./containerd.ts";
import { compile } from "./programs.ts";

const scratch = mkdtempSync(join(tmpdir(), "authproxy-pods-"));
/** It is not there. */
const handler = join(scratch, "authproxy-runc");
const containerd = await Containerd.start(compile("pod"), undefined, handler);
afterAll(async () => {
  await containerd.stop();
  rmSync(scratch, { recursive: true, force: true });
});
const engine = { cri: containerd.socket };

const NAME = "app-5d4f7c9b8-x2v4k";
const LABELS = { app: "timeline", "pod-template-hash": "5d4f7c9b8" };
const ids: Record<string, string> = {};
beforeAll(async () => {
  const app = await containerd.pod(LABELS, { name: NAME });
  ids.app = await containerd.container(app, containerd.usual(app, { env: ENVIRONMENT }));
  ids.sandbox = app.sandbox;
  const two = await containerd.pod({}, { name: "two" });
  ids.web = await containerd.container(two, { name: "web", args: ["/program", "wait"] });
  ids.logger = await containerd.container(two, { name: "logger", args: ["/program", "wait"] });
});
/** The image has another PATH. */
const ENVIRONMENT = { PASSWORD: "hunter2", DB: "vault:secret/data/app#password", PATH: "/sbin" };

let configs = 0;
function configured(services: Record<string, Service> = {}, of: Json = engine): string {
  const vault = { address: "https://vault:8200", login: { token_file: "/token" } };
  const file = join(scratch, `${configs++}.json`);
  writeFileSync(file, JSON.stringify({ engine: of, vault, services }), { mode: 0o600 });
  return file;
}

async function factsOf(subject: string): Promise<Facts> {
  const observation = await observe(await pidOf(subject, engine), engine);
  if (observation.facts) return observation.facts;
  throw observation.refusal;
}

async function suggested(subject: string): Promise<Record<string, Service>> {
  const facts = await factsOf(subject);
  const { env } = await describeImage(facts.container, engine);
  return suggest(facts, env).services;
}

async function explained(subject: string, services: Record<string, Service>): Promise<Explanation> {
  return explain({ facts: await factsOf(subject) }, services);
}

describe("a pod on this node", () => {
  test("is suggested a service by its namespace, container, digest and command, and no name or uid", async () => {
    const ran = await authproxy(["suggest", `shop/${NAME}`, "--config", configured()]);
    expect(ran.status).toBe(0);
    const services: Record<string, Service> = JSON.parse(ran.stdout);
    const match = services["shop-timeline"]?.match as { container: JsonObject } | undefined;
    expect(match).toMatchObject({
      peer: { uid: 1001 },
      pod: { namespace: "shop", container: "app", labels: { app: "timeline" } },
      container: {
        Image: containerd.image,
        Path: "/program",
        Args: ["wait"],
        Config: { Env: { DB: "vault:secret/data/app#password", LD_PRELOAD: null } },
      },
    });
    const mounts = match?.container.Mounts as JsonObject[];
    expect(mounts.map(({ Type, Name, Destination }) => [Type, Name, Destination])).toEqual([
      ["empty-dir", "data", "/data"],
      ["configmap", "settings", "/etc/app"],
      ["projected", "kube-api-access", "/var/run/secrets/kubernetes.io/serviceaccount"],
    ]);
    for (const word of [NAME, "5d4f7c9b8", "hunter2"])
      expect(ran.stdout + ran.stderr).not.toContain(word);
    expect(ran.stderr).toMatch(/Config\.Env leaves PASSWORD and PATH open|PATH and PASSWORD open/);
  });

  test("gets a token by what was suggested, and so does the next pod of its controller, and no other", async () => {
    const services = await suggested(`shop/${NAME}`);
    expect(await explained(`shop/${NAME}`, services)).toMatchObject({
      answer: "granted",
      service: "shop-timeline",
    });
    expect(await explained(`shop/${NAME}/app`, services)).toMatchObject({ answer: "granted" });
    expect(await explained(`containerd://${ids.app}`, services)).toMatchObject({
      answer: "granted",
    });
    expect(await explained(ids.sandbox ?? "", services)).toMatchObject({ answer: "granted" });

    const other = async (name: string, options: object, namespace = "shop") => {
      const pod = await containerd.pod(
        { ...LABELS, "pod-template-hash": "7c9b85d4f" },
        { name, namespace },
      );
      await containerd.container(pod, containerd.usual(pod, { env: ENVIRONMENT, ...options }));
      return await explained(`${namespace}/${name}`, services);
    };
    expect(await other("app-7c9b85d4f-k4v2x", {})).toMatchObject({ answer: "granted" });
    const missing = async (explanation: Promise<Explanation>) =>
      (await explanation).services[0]?.missing.map(({ path }) => path);
    expect(await missing(other("a", {}, "billing"))).toEqual(["pod.namespace"]);
    expect(await missing(other("b", { name: "debugger" }))).toEqual(["pod.container"]);
    expect(await missing(other("c", { args: ["/program", "wait", "x"] }))).toEqual([
      "container.Args",
    ]);
    expect(await missing(other("d", { uid: 1002 }))).toEqual(["peer.uid"]);
    const preloaded = { env: { ...ENVIRONMENT, LD_PRELOAD: "/data/a.so" } };
    expect(await missing(other("e", preloaded))).toEqual(["container.Config.Env.LD_PRELOAD"]);
  });

  test("with several containers is not guessed: which they are", async () => {
    const ran = await authproxy(["explain", "shop/two", "--config", configured()]);
    expect(ran).toMatchObject({ status: 64, stdout: "" });
    expect(ran.stderr).toContain("several containers that run: logger and web");
    const named = await explained("shop/two/web", {});
    expect(named.identity).toMatchObject({ container: { Id: ids.web }, pod: { container: "web" } });
  });

  test("is explained for people, with what it would need", async () => {
    const services = { app: serviceOf({ pod: { namespace: "shop", container: "other" } }) };
    const words = ["explain", `shop/${NAME}`, "--config", configured(services)];
    const ran = await authproxy(words);
    expect(ran.status).toBe(77);
    expect(ran.stdout).toMatch(/pod\.namespace +"shop"/);
    expect(ran.stdout).toContain('pod.container: wanted "other", seen "app"');
    expect(ran.stdout).not.toContain("hunter2");
  });

  test("of another node is said to be elsewhere, and which command lists what is here", async () => {
    await expect(pidOf("shop/elsewhere", engine)).rejects.toMatchObject({
      message: expect.stringContaining("the pod shop/elsewhere is not on this node"),
      hint: expect.stringContaining("`authproxy check --running` lists the pods that are here"),
    });
  });

  test("asked of Docker: how to name the engine of the node", async () => {
    await expect(pidOf(`shop/${NAME}`, "/var/run/docker.sock")).rejects.toMatchObject({
      message: expect.stringContaining("the engine has no container shop/"),
      hint: expect.stringContaining('"engine": { "cri": "/run/containerd/containerd.sock" }'),
    });
  });

  test("is listed by check --running, with its service, or what would refuse it", async () => {
    const services = {
      timeline: serviceOf({
        pod: { namespace: "shop", container: "app", labels: { app: "timeline" } },
      }),
      web: serviceOf({ pod: { namespace: "shop", container: "web" } }),
    };
    const report = await judgeRunning(services, engine);
    const { running, refused, unknown } = report;
    expect(running).toContainEqual({
      id: ids.app,
      name: `shop/${NAME}/app`,
      services: ["timeline"],
    });
    expect(running).toContainEqual({ id: ids.web, name: "shop/two/web", services: ["web"] });
    expect(running).toContainEqual({ id: ids.logger, name: "shop/two/logger", services: [] });
    expect(unknown).toEqual([]);
    // The volume is writable from inside, and the loader would run what is there.
    expect(refused.map(({ name, check }) => [name, check])).toEqual([["shop/e/app", "readonly"]]);
    expect(runningLines(report).join("\n")).toMatch(/shop\/two\/logger +\w{12} +no service/);
  });

  test("has no setting that the list of settings forgets", async () => {
    const container = await (await engineAt(engine)).inspect(ids.app ?? "");
    const keysOf = (path: string, members: JsonObject) =>
      Object.keys(members).map((key) => `${path}.${key}`);
    const { Config, HostConfig, pod, ...others } = container as unknown as Record<
      string,
      JsonObject
    >;
    const listed = new Set(POD_SETTINGS.map(({ path }) => path));
    const paths = [
      ...keysOf("container", others),
      ...keysOf("container.Config", Config ?? {}),
      ...keysOf("container.HostConfig", HostConfig ?? {}),
      ...keysOf("pod", pod ?? {}),
    ];
    expect(paths.length).toBeGreaterThan(15);
    expect(paths.filter((path) => !listed.has(path))).toEqual([]);
  });
});

describe("check on a node", () => {
  test("compares digests with the node's images, and says who creates pods", async () => {
    const services = {
      good: serviceOf({ pod: { namespace: "shop" }, container: { Image: containerd.image } }),
      manifest: serviceOf({ pod: { namespace: "a" }, container: { Image: containerd.manifest } }),
      labels: serviceOf({ pod: { namespace: "b", container: "c", labels: { app: "d" } } }),
    };
    const ran = await authproxy(["check", "--json", "--config", configured(services)]);
    expect(ran).toMatchObject({ status: 0, stderr: "" });
    const { good, manifest, labels } = JSON.parse(ran.stdout).services;
    expect(good.warnings.join("\n")).not.toMatch(/digest|engine has no image/);
    expect(manifest.warnings.join("\n")).toContain(
      `uses that of the configuration: write ${containerd.image}`,
    );
    expect(labels.who).toContain("whoever may create pods in namespace b can be this service");
    expect(labels.warnings.join("\n")).toContain(
      "no image is pinned: pod.labels and pod.container",
    );
  });
});

describe("doctor on a node", () => {
  const user = { uid: 0, gid: 0, groups: [0] };
  const socket = "/run/authproxy/authproxy.sock";
  const doctor = (of: EngineAddress) => checkEngine({ socket, engine: of } as Config, user);

  const linesOf = (findings: Finding[], check: string) =>
    findings
      .filter((finding) => finding.check === check)
      .map(({ status, detail, advice }) => `${status}: ${detail}: ${advice}`)
      .join("\n");

  test("says which engine it is, by which CRI and cgroup driver, and that its pods can be seen", async () => {
    const findings = await doctor(engine);
    const version = await containerd.version();
    expect(linesOf(findings, "engine")).toMatch(
      new RegExp(
        `^ok: ${engine.cri}: containerd ${RegExp.escape(version)}, by CRI runtime\\.v1, with the cgroup driver cgroupfs`,
      ),
    );
    expect(linesOf(findings, "engine")).toContain("NetworkReady is not true");
    expect(linesOf(findings, "containers")).toMatch(
      /^ok: shop\/.*process, cgroup and image can be seen/,
    );
    expect(findings.map(({ check }) => check)).toContain("kubelet");
  });

  test("finds the handler of the RuntimeClass, and what is wrong with its runtime", async () => {
    expect(linesOf(await doctor(engine), "runtime")).toMatch(
      /^failed: there is no .*authproxy-runc/,
    );
    const node = new KubernetesNode(containerd.socket);
    expect((await node.status()).handlers).toContainEqual({ name: "authproxy", program: handler });
    expect((await node.pods()).map((pod) => pod.handler)).not.toContain("authproxy");
  });

  test("finds that it is not in the node's pid namespace", async () => {
    const program = join(import.meta.dirname, "../cli/authproxy.ts");
    const words = ["doctor", "--json", "--config", configured()];
    const inside = ["--pid", "--fork", "--mount-proc", process.execPath, program, ...words];
    const child = spawn("unshare", inside, { env: { PATH: process.env.PATH } });
    const findings: Finding[] = JSON.parse(await text(child.stdout));
    expect(linesOf(findings, "containers")).toMatch(
      /^failed: shop\/.*the engine calls its process \d+, and \/proc here has no such process: .*hostPID: true/,
    );
  });

  test("says what is wrong with a socket that is no CRI's", async () => {
    const missing = linesOf(await doctor({ cri: "/nowhere/containerd.sock" }), "engine");
    expect(missing).toMatch(/^failed: ENOENT.*"engine" in the configuration/);
    const ofDocker = linesOf(await doctor({ cri: "/var/run/docker.sock" }), "engine");
    expect(ofDocker).toMatch(/^failed: the engine at \/var\/run\/docker\.sock: /);
  });

  /** Docker's own containerd runs without the plugin. */
  const withoutCri = [
    "/var/run/docker/containerd/containerd.sock",
    "/run/containerd/containerd.sock",
  ];
  const dockers = withoutCri.find((path) => existsSync(path)) ?? "";
  test.runIf(dockers)("names disabled_plugins where a containerd does not offer CRI", async () => {
    expect(linesOf(await doctor({ cri: dockers }), "engine")).toMatch(
      /^failed: .*it has no runtime\.v1.*disabled_plugins/,
    );
  });

  test("knows a kubelet by its name, and a node without one", () => {
    const proc = mkdtempSync(join(scratch, "proc-"));
    const process = (pid: number, name: string) => {
      execFileSync("mkdir", [join(proc, `${pid}`)]);
      writeFileSync(join(proc, `${pid}`, "comm"), `${name}\n`);
    };
    process(1, "systemd");
    process(2, "kubelet-helper");
    expect(checkKubelet(proc)).toMatchObject([{ status: "warning" }]);
    process(3, "kubelet");
    expect(checkKubelet(proc)).toMatchObject([{ status: "ok", detail: "process 3 (kubelet)" }]);
  });
});

test("the node's engine is asked for what an image declares, and for an image that is gone", async () => {
  const node = new KubernetesNode(containerd.socket);
  expect(await node.imageEnv(containerd.image)).toEqual(["PATH=/bin"]);
  expect(await node.imageEnv(`sha256:${"0".repeat(64)}`)).toEqual([]);
});

function serviceOf(match: JsonObject): Service {
  return { match, token: { create: "auth/token/create/app" } };
}
