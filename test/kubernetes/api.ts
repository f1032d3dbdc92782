// Question: how does a test ask the API server?
// Input:    its address, its certificate, a bearer token. Output: the objects of Kubernetes, as JSON.
import { readFileSync } from "node:fs";
import { Agent, request } from "node:https";
import { text } from "node:stream/consumers";
import type { JsonObject } from "../../server/json.ts";

export type Manifest = {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace?: string; [key: string]: unknown };
  [key: string]: unknown;
};

const CLUSTER_WIDE = /^(Namespace|Node|RuntimeClass|Cluster\w+|ValidatingAdmission\w+)$/;

export class ApiError extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export class Api {
  readonly #port: number;
  readonly #token: string;
  readonly #caFile: string;
  #agent: Agent | undefined;

  /** The certificate need not be there yet. */
  constructor(port: number, token: string, caFile: string) {
    this.#port = port;
    this.#token = token;
    this.#caFile = caFile;
  }

  /** Whether the API server is up, with all that it makes when it starts. */
  async isReady(): Promise<boolean> {
    return await this.ask("GET", "/readyz").then(
      () => true,
      () => false,
    );
  }

  async create(manifest: Manifest): Promise<JsonObject> {
    return await this.ask("POST", collectionOf(manifest), manifest);
  }

  async get(manifest: Manifest): Promise<JsonObject> {
    return await this.ask("GET", pathOf(manifest));
  }

  async remove(manifest: Manifest, graceSeconds?: number): Promise<void> {
    const options = graceSeconds === undefined ? {} : { gracePeriodSeconds: graceSeconds };
    await this.ask("DELETE", pathOf(manifest), options);
  }

  /** Throws an ApiError with the API server's own words. */
  async ask(method: string, path: string, body?: object): Promise<JsonObject> {
    this.#agent ??= new Agent({ ca: readFileSync(this.#caFile), keepAlive: true });
    const content = body ? JSON.stringify(body) : "";
    const headers = {
      Authorization: `Bearer ${this.#token}`,
      "Content-Type": "application/json",
      // Node sends a DELETE's body without it, which then begins the next request.
      "Content-Length": Buffer.byteLength(content),
    };
    const { promise, resolve, reject } = Promise.withResolvers<JsonObject>();
    const options = { method, headers, agent: this.#agent, timeout: 30_000 };
    const asked = request(`https://127.0.0.1:${this.#port}${path}`, options, async (response) => {
      try {
        const answer = await text(response);
        const status = response.statusCode ?? 0;
        const found = answer.startsWith("{") ? JSON.parse(answer) : { message: answer };
        if (status < 300) resolve(found);
        else reject(new ApiError(status, `${method} ${path}: ${found.message}`));
      } catch (error) {
        reject(error);
      }
    });
    asked.on("timeout", () => asked.destroy(new Error(`${method} ${path}: no answer`)));
    asked.on("error", reject);
    asked.end(content);
    return await promise;
  }

  close(): void {
    this.#agent?.destroy();
  }
}

export function pathOf(manifest: Manifest): string {
  return `${collectionOf(manifest)}/${manifest.metadata.name}`;
}

function collectionOf({ apiVersion, kind, metadata }: Manifest): string {
  const group = apiVersion === "v1" ? "/api/v1" : `/apis/${apiVersion}`;
  const { namespace = "default" } = metadata;
  const scope = CLUSTER_WIDE.test(kind) ? "" : `/namespaces/${namespace}`;
  const name = kind.toLowerCase();
  const plural = name.replace(/y$/, "ie").replace(/s$/, "se");
  return `${group}${scope}/${plural}s`;
}
