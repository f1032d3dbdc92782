// Question: how does the lab speak with an engine? Input: the path of its socket.
// Output:   Docker's HTTP API, which Podman answers too, as far as the lab needs it. Paths have no
//           version, which means the newest that the engine offers. Only Node's own modules: it also
//           runs in a guest, which has no other.
import { request } from "node:http";
import type { Container } from "../../server/engine.ts";
import type { JsonObject } from "../../server/json.ts";

const DEADLINE_MS = 120_000; // an emulated machine is slow
/** The oldest version of its own API that Podman 5 answers to; 4.3 knows it. */
const PODMAN = "v4.0.0/libpod";

export type About = {
  ServerVersion: string;
  CgroupVersion?: string;
  CgroupDriver: string;
  Driver: string;
  DriverStatus: string[][];
  SecurityOptions: string[];
  Runtimes?: JsonObject;
  Architecture: string;
};

export class Api {
  readonly #socketPath: string;

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  async #call(method: string, path: string, body?: object): Promise<string> {
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const sent = request({
      socketPath: this.#socketPath,
      method,
      path: `/${path}`,
      headers: { "Content-Type": "application/json" },
      signal: AbortSignal.timeout(DEADLINE_MS),
    });
    sent.on("error", reject).on("response", (answer) => {
      let text = "";
      answer.setEncoding("utf8").on("error", reject);
      answer.on("data", (more: string) => {
        text += more;
      });
      answer.on("end", () => {
        if ((answer.statusCode ?? 500) < 400) resolve(text);
        else reject(new Error(`engine: ${method} ${path}: ${answer.statusCode}: ${text.trim()}`));
      });
    });
    sent.end(body && JSON.stringify(body));
    return await promise;
  }

  async #ask<T>(method: string, path: string, body?: object): Promise<T> {
    return JSON.parse(await this.#call(method, path, body));
  }

  about(): Promise<About> {
    return this.#ask("GET", "info");
  }

  /** The API versions that the engine offers. */
  versions(): Promise<{ ApiVersion: string; MinAPIVersion: string }> {
    return this.#ask("GET", "version");
  }

  /** Whether it answers a client that uses this API version, such as "1.41". */
  async speaks(version: string): Promise<boolean> {
    const answer = await this.#call("GET", `v${version}/info`).catch((error: Error) => error);
    if (!(answer instanceof Error)) return true;
    if (answer.message.includes("is too old")) return false;
    throw answer;
  }

  /** The answer to a pull is a stream of reports; one may say why it failed. */
  async pull(name: string): Promise<void> {
    const report = await this.#call("POST", `images/create?fromImage=${encodeURIComponent(name)}`);
    if (report.includes('"error"')) throw new Error(`engine: pull ${name}: ${report.trim()}`);
  }

  image(name: string): Promise<JsonObject> {
    return this.#ask("GET", `images/${name}/json`);
  }

  /** Creates and starts; returns what the engine then says about it. */
  async run(wanted: object): Promise<Container> {
    const { Id } = await this.#ask<{ Id: string }>("POST", "containers/create", wanted);
    await this.#call("POST", `containers/${Id}/start`);
    return await this.inspect(Id);
  }

  /** As `run`, by Podman's own API, in its own words. */
  async runByPodman(wanted: object): Promise<Container> {
    const { Id } = await this.#ask<{ Id: string }>("POST", `${PODMAN}/containers/create`, wanted);
    await this.#call("POST", `containers/${Id}/start`);
    return await this.inspect(Id);
  }

  /** Of Podman: its id. */
  async makePod(wanted: object): Promise<string> {
    return (await this.#ask<{ Id: string }>("POST", `${PODMAN}/pods/create`, wanted)).Id;
  }

  async removePod(id: string): Promise<void> {
    await this.#call("DELETE", `${PODMAN}/pods/${id}?force=1`);
  }

  inspect(id: string): Promise<Container> {
    return this.#ask("GET", `containers/${id}/json`);
  }

  /** Runs a command in a container, to its end; returns its output (with the stream's framing). */
  async exec(id: string, command: string[], user: string): Promise<string> {
    const wanted = { Cmd: command, User: user, AttachStdout: true, AttachStderr: true };
    const { Id } = await this.#ask<{ Id: string }>("POST", `containers/${id}/exec`, wanted);
    return await this.#call("POST", `exec/${Id}/start`, { Detach: false });
  }

  /** What a container has printed so far (with the stream's framing). */
  output(id: string): Promise<string> {
    return this.#call("GET", `containers/${id}/logs?stdout=1&stderr=1`);
  }

  /** Its exit code, when it has ended. */
  async wait(id: string): Promise<number> {
    return (await this.#ask<{ StatusCode: number }>("POST", `containers/${id}/wait`)).StatusCode;
  }

  /** With its volumes. It may be that another engine made it, and this one does not know it. */
  async remove(id: string): Promise<void> {
    await this.#call("DELETE", `containers/${id}?force=1&v=1`).catch((error: Error) => {
      if (!error.message.includes(": 404:")) throw error;
    });
  }

  async removeImage(name: string): Promise<void> {
    await this.#call("DELETE", `images/${name}?force=1`);
  }
}
