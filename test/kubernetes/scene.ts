// Question: on what do pods ask for their secrets?
// Output:   a cluster, a real OpenBao over TLS at an address that pods reach, and the real server
//           beside them, which asks containerd by its CRI; pods, as short as they can be written.
// Promise:  all ends with the scene: `await using scene = await Scene.open()`.
import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  client,
  type OpenBao,
  type Provisioned,
  provision,
  startOpenBao,
} from "../../scripts/openbao.ts";
import type { JsonObject } from "../../server/json.ts";
import { lookUp, type Server, Stage, vaultAt } from "../stage.ts";
import { type Cluster, type ClusterOptions, startCluster } from "./cluster.ts";

export const REFERENCE = "vault:secret/data/app#password";
export const password = `password-${randomUUID()}`;

/** What Pod Security's level `restricted` asks of a container. */
export const RESTRICTED = {
  runAsNonRoot: true,
  runAsUser: 1001,
  runAsGroup: 1001,
  allowPrivilegeEscalation: false,
  capabilities: { drop: ["ALL"] },
  seccompProfile: { type: "RuntimeDefault" },
};

/** A container of a pod: what a shell runs in it, its variables, and members that are not the usual. */
export type Part = {
  script?: string;
  env?: Record<string, string>;
  [member: string]: unknown;
};

export class Scene {
  readonly cluster: Cluster;
  readonly bao: OpenBao;
  readonly stage: Stage;
  /** A shell and its commands, and nothing of ours; unless a container names another. */
  readonly image: string;
  /** Of that image. */
  readonly digest: string;
  readonly #ids: Provisioned;

  private constructor(
    cluster: Cluster,
    bao: OpenBao,
    stage: Stage,
    { name, digest }: { name: string; digest: string },
    ids: Provisioned,
  ) {
    this.cluster = cluster;
    this.bao = bao;
    this.stage = stage;
    this.image = name;
    this.digest = digest;
    this.#ids = ids;
  }

  static async open(options: ClusterOptions = {}): Promise<Scene> {
    const cluster = await startCluster(options);
    try {
      const bao = await startOpenBao({ listen: cluster.address });
      cluster.defer(() => bao.stop());
      const ids = await provision(bao, { services: { app: { password } } });
      const stage = new Stage();
      cluster.defer(() => stage[Symbol.asyncDispose]());
      const busybox = busyboxImage();
      const image = { ...busybox, name: await cluster.import(busybox.name) };
      execFileSync("docker", ["image", "rm", busybox.name], { stdio: "pipe" });
      return new Scene(cluster, bao, stage, image, ids);
    } catch (error) {
      await cluster.stop();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.cluster.stop();
  }

  /** The real server. Its one service is the container `app` of any pod in the namespace `default`,
   * unless told otherwise. */
  async serve(changes: JsonObject = {}): Promise<Server> {
    const server = this.stage.start(this.configure(changes));
    await server.until({ event: "ready" });
    return server;
  }

  /** The path of the server's configuration. */
  configure(changes: JsonObject = {}): string {
    const match = { pod: { namespace: "default", container: "app" } };
    const usual = {
      engine: { cri: this.cluster.containerdSocket },
      socket: join(this.cluster.sockets, "authproxy.sock"),
      vault: vaultAt(this.bao.address, this.bao, this.#ids.roleId),
      services: { app: { match, token: { create: "auth/token/create/app" } } },
    };
    return this.stage.configure({ ...usual, ...changes }, this.#ids.secretId);
  }

  /** A container of an image that nobody changed; it asks for the password by a variable. */
  container(name: string, { script = 'echo "got $PASSWORD"', env, ...changes }: Part = {}) {
    const variables = Object.entries({ PASSWORD: REFERENCE, AUTHPROXY_WAIT: "60", ...env });
    return {
      name,
      image: this.image,
      imagePullPolicy: "Never",
      command: ["/bin/sh", "-c", script],
      env: variables.map(([name, value]) => ({ name, value })),
      securityContext: RESTRICTED,
      ...changes,
    };
  }

  /** A pod of the RuntimeClass, with the container `app`. */
  async run(name: string, part: Part = {}, spec: object = {}, namespace = "default") {
    await this.cluster.apply(this.pod(name, part, spec, namespace));
  }

  pod(name: string, part: Part = {}, spec: object = {}, namespace = "default") {
    return {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, namespace },
      spec: {
        runtimeClassName: "authproxy",
        restartPolicy: "Never",
        terminationGracePeriodSeconds: 1,
        containers: [this.container("app", part)],
        ...spec,
      },
    };
  }

  /** What Vault knows about the living tokens of services. */
  async tokens(): Promise<JsonObject[]> {
    const { data } = await client(this.bao).list("auth/token/accessors");
    const found = await Promise.all(
      data.keys.map((accessor: string) => lookUp(accessor, this.bao)),
    );
    return found.filter((token) => (token?.meta as JsonObject | null)?.container);
  }
}

/** Of Debian's static busybox alone: its name in this machine's Docker, and what that is. */
function busyboxImage(): { name: string; digest: string } {
  const directory = mkdtempSync(join(tmpdir(), "authproxy-busybox-"));
  try {
    mkdirSync(join(directory, "root/bin"), { recursive: true });
    cpSync("/usr/bin/busybox", join(directory, "root/bin/busybox"));
    for (const name of ["sh", "cat", "env", "id", "sleep", "grep", "kill", "ls", "true", "touch"])
      symlinkSync("busybox", join(directory, "root/bin", name));
    const archive = join(directory, "root.tar");
    const same = ["--numeric-owner", "--owner=0", "--group=0", "--mtime=@0", "--sort=name"];
    execFileSync("tar", ["--create", ...same, "-f", archive, "-C", join(directory, "root"), "."]);
    const name = `authproxy-busybox:${randomUUID()}`;
    const digest = execFileSync("docker", ["import", archive, name], { encoding: "utf8" });
    return { name, digest: digest.trim() };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
