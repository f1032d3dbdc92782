// Question: who asks for tokens while things break? Output: real containers of one static program
// each, and what they were answered; and all tokens that Vault knows of our services.
// Guaranteed: a patient knows which token it holds, so that this can be held against Vault's word.

import { EventEmitter, once } from "node:events";
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { getContainerRuntimeClient } from "testcontainers";
import { client, type OpenBao } from "../../scripts/openbao.ts";
import type { JsonObject } from "../../server/json.ts";
import { imageWith, SOCKET, USER } from "../attacks/arena.ts";
import { compile } from "../programs.ts";
import { bao, lookUp, type Stage } from "../stage.ts";

const programs = join(import.meta.dirname, "programs");
const DEADLINE_MS = 60_000;
const { container: engine } = await getContainerRuntimeClient();

export const image = imageWith([], {
  arrange: (directory) => {
    for (const name of ["patient", "brief"])
      copyFileSync(compile(name, programs), join(directory, name));
  },
});

/** Creates a container with the socket in it, and attaches to its output; it is not started yet. */
export async function create(stage: Stage, Cmd: string[]) {
  const container = await engine.dockerode.createContainer({
    Image: image,
    Cmd,
    User: `${USER}:${USER}`,
    Labels: { app: "app" },
    Tty: true, // else the engine frames what it says
    HostConfig: {
      ReadonlyRootfs: true,
      NetworkMode: "none",
      Binds: [`${join(stage.directory, "run")}:/run/authproxy:ro`],
    },
  });
  const output = await container.attach({ stream: true, stdout: true, stderr: true });
  return { container, output: output.setEncoding("utf8") as NodeJS.ReadableStream };
}

type Answer = JsonObject & { token?: string; error?: string };

/** A container whose first process asks when it is told to, until it has an answer. */
export class Patient {
  readonly id: string;
  pid = 0;
  alive = true;
  readonly answers: Answer[] = [];
  readonly #container: Awaited<ReturnType<typeof create>>["container"];
  readonly #heard = new EventEmitter();

  private constructor({ container, output }: Awaited<ReturnType<typeof create>>) {
    this.id = container.id;
    this.#container = container;
    let rest = "";
    output.on("data", (text: string) => {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      this.answers.push(
        ...lines.filter((line) => line.startsWith("{")).map((line) => JSON.parse(line)),
      );
      this.#heard.emit("line");
    });
  }

  static async start(stage: Stage): Promise<Patient> {
    const patient = new Patient(await create(stage, ["/app/patient", SOCKET]));
    stage.defer(() => patient.die());
    const ready = once(patient.#heard, "line");
    await patient.#container.start();
    patient.pid = (await patient.#container.inspect()).State.Pid;
    await ready;
    return patient;
  }

  /** Resolves with the final answer, whatever happens to the server meanwhile. */
  async ask(): Promise<Answer> {
    const signal = AbortSignal.timeout(DEADLINE_MS);
    const before = this.answers.length;
    process.kill(this.pid, "SIGUSR1");
    while (this.answers.length === before) await once(this.#heard, "line", { signal });
    return this.answers[before] ?? {};
  }

  /** What Vault says about the token that this process got last; undefined: it has died. */
  async token(from: OpenBao = bao): Promise<JsonObject | undefined> {
    const token = this.answers.findLast((answer) => answer.token)?.token;
    return token ? await lookUpToken(token, from) : undefined;
  }

  async die(): Promise<void> {
    if (this.alive) await this.#container.remove({ force: true });
    this.alive = false;
  }
}

async function lookUpToken(token: string, from: OpenBao): Promise<JsonObject | undefined> {
  try {
    return (await client(from).write("auth/token/lookup", { token })).data;
  } catch (error) {
    if (/bad token|status 40[34]/i.test(String(error))) return undefined;
    throw error;
  }
}

/** The accessors of all living tokens that our services got, with their containers. */
export async function livingTokens(from: OpenBao = bao): Promise<Map<string, string>> {
  const { data } = await client(from).list("auth/token/accessors");
  const tokens = new Map<string, string>();
  for (const accessor of data.keys) {
    const { container } = ((await lookUp(accessor, from))?.meta ?? {}) as { container?: string };
    if (container) tokens.set(accessor, container);
  }
  return tokens;
}

/** From now on the service's tokens live this long, if nobody renews them. */
export async function shortenTokens(ttlSeconds: number, from: OpenBao = bao): Promise<void> {
  await client(from).write("auth/token/roles/app", {
    allowed_policies: ["app"],
    orphan: true,
    renewable: true,
    token_period: `${ttlSeconds}s`,
    token_type: "service",
  });
}

/** Numbers from 0 to 1, the same for the same seed. Source: Numerical Recipes' generator of 32 bits. */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}
