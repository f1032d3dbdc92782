// Question: on what does the runtime wrapper play?
// Output:   an engine of this machine's dockerd with its own data, configuration and socket, that
//           knows the runtime `authproxy`; the server's stage, with a server that serves it; images
//           that hold next to nothing.
// Promise:  neither the machine's own engine nor its daemon.json is touched, and all that a Scene has
//           started ends with it: `await using scene = await Scene.open()`.
import { execFile, execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { copyFileSync, globSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { afterAll } from "vitest";
import { librariesOf } from "../../scripts/images.ts";
import type { JsonObject } from "../../server/json.ts";
import { type Engine, removeBridge, startDocker } from "../lab/engine.ts";
import { compile as compileFrom } from "../programs.ts";
import { bao, password, Stage, vaultAt } from "../stage.ts";

export const root = join(import.meta.dirname, "../..");
export const client = join(root, "dist/authproxy");
export const runtime = join(root, "dist/runtime/authproxy-runc");
export const REFERENCE = "vault:secret/data/app#password";
export { password };

const scratch = mkdtempSync(join(tmpdir(), "authproxy-runtime-"));
afterAll(() => {
  rmSync(scratch, { recursive: true, force: true });
  removeBridge(); // the last of all, when every engine has ended
});

export type Ran = { status: number; stdout: string; stderr: string };

export class Scene {
  readonly stage: Stage;
  readonly engine: Engine;

  private constructor(stage: Stage, engine: Engine) {
    this.stage = stage;
    this.engine = engine;
  }

  /** `others`: runtimes beside `authproxy`, told what that is told about this scene's server;
   * `changes` and `before` as the lab's engine takes them. */
  static async open(
    others: (own: string[]) => object = () => ({}),
    changes: object = {},
    before = "",
  ): Promise<Scene> {
    const stage = new Stage();
    const sockets = join(stage.directory, "run");
    mkdirSync(sockets, { mode: 0o755 });
    const own = [`--sockets=${sockets}`];
    const runtimes = { authproxy: { path: runtime, runtimeArgs: own }, ...others(own) };
    const tree = { path: "", versions: new Map() }; // this machine's own /usr
    const engine = await startDocker(tree, { runtimes, ...changes }, before);
    stage.defer(() => engine.stop());
    return new Scene(stage, engine);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stage[Symbol.asyncDispose]();
  }

  get sockets(): string {
    return join(this.stage.directory, "run");
  }

  /** The real server, for this engine: one service, which is whoever has its label. Containers know
   * Vault by a name, which the client's own libraries have to look up. */
  async serve(changes: JsonObject = {}, secretId?: string) {
    const match = { container: { Config: { Labels: { app: "app" } } } };
    const token = { create: "auth/token/create/app" };
    const services = { app: { match, token } };
    const named = bao.address.replace("127.0.0.1", "localhost");
    const vault = { ...vaultAt(bao.address), for_clients: { address: named, ca_file: bao.caFile } };
    const config = { engine: this.engine.socket, services, vault, ...changes };
    return await this.stage.server(config, secretId);
  }

  /** The docker command on this engine. */
  async docker(...words: string[]): Promise<Ran> {
    const argv = ["--host", `unix://${this.engine.socket}`, ...words];
    return await new Promise((resolve) => {
      const options = { encoding: "utf8", maxBuffer: 1 << 26, timeout: 50_000 } as const;
      execFile("docker", argv, options, (error, stdout, stderr) => {
        resolve({ status: error ? Number(error.code) : 0, stdout, stderr });
      });
    });
  }

  /** `docker run` of a container of the service, as its user; what differs comes first. */
  async run(...words: string[]): Promise<Ran> {
    return await this.docker("run", "--rm", ...served(words));
  }

  /** The same, in the background; its id. It goes with the engine. */
  async start(...words: string[]): Promise<string> {
    const { status, stdout, stderr } = await this.docker("run", "--detach", ...served(words));
    if (status !== 0) throw new Error(stderr);
    return stdout.trim();
  }

  /** An image of these files, and of what `arrange` makes of the directory that they are in; `says` are
   * lines of a Dockerfile, such as "ENV A=1". */
  image(files: Record<string, string>, arrange = (_: string) => {}, says: string[] = []): string {
    const directory = mkdtempSync(join(scratch, "image-"));
    for (const [path, source] of Object.entries(files)) {
      mkdirSync(dirname(join(directory, path)), { recursive: true });
      copyFileSync(source, join(directory, path));
    }
    arrange(directory);
    const name = `authproxy-runtime:${randomUUID()}`;
    const archive = `${directory}.tar`;
    const owned = ["--numeric-owner", "--owner=0", "--group=0"];
    execFileSync("tar", ["--create", ...owned, "-f", archive, "-C", directory, "."]);
    const host = ["--host", `unix://${this.engine.socket}`];
    const changes = says.flatMap((line) => ["--change", line]);
    execFileSync("docker", [...host, "import", ...changes, archive, name], { stdio: "pipe" });
    return name;
  }

  /** A shell and its commands in one static program; nothing else is in it. */
  busybox(arrange = (_: string) => {}, says: string[] = []): string {
    const fill = (directory: string) => {
      for (const command of ["sh", "cat", "env", "id", "sleep", "stat", "grep", "kill", "true"])
        symlinkSync("busybox", join(directory, "bin", command));
      arrange(directory);
    };
    return this.image({ "bin/busybox": "/usr/bin/busybox" }, fill, says);
  }
}

/** Vault listens on this machine. */
function served(words: string[]): string[] {
  const network = words.includes("--network") ? [] : ["--network", "host"];
  return ["--runtime", "authproxy", ...network, "--read-only", "--label", "app=app", ...words];
}

export const compile = (name: string) => compileFrom(name, join(import.meta.dirname, "programs"));

/** The program, dynamic, and what it needs: its path in an image, and here. */
export function compileFor(libc: "glibc" | "musl", name: string): Record<string, string> {
  const program = join(scratch, `${name}-${libc}`);
  const compiler = libc === "musl" ? "musl-gcc" : (process.env.CC ?? "cc");
  execFileSync(compiler, ["-o", program, join(import.meta.dirname, `programs/${name}.c`)]);
  const needed = libc === "musl" ? globSync("/lib/ld-musl-*.so.1") : librariesOf(program);
  if (needed.length === 0) throw new Error(`no ${libc} here: \`sh scripts/prepare.sh tests\``);
  const files = needed.map((path) => [path, path] as const);
  return { [basename(name)]: program, ...Object.fromEntries(files) };
}
