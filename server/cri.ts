// Question: what does a container engine say about a container of a pod?
import type { Container, Engine, ImageLabels } from "./engine.ts";
import { unavailable } from "./refusal.ts";

export class CriEngine implements Engine {
  readonly #socketPath: string;

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  async inspect(id: string): Promise<Container> {
    throw unavailable("engine", { path: this.#socketPath, asked: id });
  }

  /** The engine has no labels of images among those of pods. */
  async imageLabels(): Promise<ImageLabels> {
    return { labels: {}, areOfManifest: true };
  }
}
