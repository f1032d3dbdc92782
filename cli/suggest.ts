// Question: which service block would be this running container's, and no other's? Input: what
// `observe` saw of its first process, and the environment that its image declares. Pure.
// Guaranteed: `choose` matches the block to this container. Of its environment it holds only values
// that the image declares, references and the client's own options, which are not secrets.
import { evaluate } from "../server/checks.ts";
import type { Service } from "../server/config.ts";
import type { Facts } from "../server/facts.ts";
import type { Json, JsonObject } from "../server/json.ts";
import { RELAXATION_OPENS } from "./advise.ts";
import { explainReason } from "./reasons.ts";

export type Suggestion = { services: Record<string, Service>; notes: string[] };

/** What can be suggested, or why it cannot. */
type Pinned<Value> = { value: Value; note?: never } | { value?: never; note: string };

/** The client's options, and references to secrets. */
const HARMLESS_VARIABLE = /^(AUTHPROXY_[A-Z_]+=|\w+=vault:(login|[^#]+#[^#]+(#\d+)?)$)/;
const NAME_WITH_DIGEST = /@sha256:[0-9a-f]{64}$/;
/** Compose's and the engines' own labels. */
const FOREIGN_LABEL = /^(com\.docker\.|io\.podman\.)/;
/** What the engine calls a volume that was given no name. */
const ANONYMOUS_VOLUME = /^[0-9a-f]{64}$/;

/** `imageEnv` is the environment that the image declares. The notes say what was left out, and what
 * has to be decided. */
export function suggest(facts: Facts, imageEnv: string[]): Suggestion {
  const { peer, container } = facts;
  const notes: string[] = [];

  const environment = environmentOf(facts, imageEnv);
  if (environment.note) notes.push(environment.note);
  const mounts = mountsOf(facts);
  if (mounts.note) notes.push(mounts.note);
  if (peer.label) {
    notes.push(
      `the kernel labels it ${JSON.stringify(peer.label)}: if the audit stream shows the same ` +
        '"label" at each start, match it under "peer" too',
    );
  }

  const match = matchOf(facts, environment.value, mounts.value);
  const relaxations = relaxationsOf(facts, match);
  notes.push(...relaxations.notes);

  const name = serviceName(container);
  const create = `auth/token/create/${name}`;
  notes.push(`${create} is a guess: write the token role that this service has in Vault`);
  const service = { match, token: { create }, relax: relaxations.names };
  return { services: { [name]: service }, notes };
}

/** What is undefined is not pinned. */
function matchOf(
  facts: Facts,
  environment: Json[] | undefined,
  mounts: JsonObject[] | undefined,
): JsonObject {
  const { peer, process: peerProcess, container } = facts;
  const { Path, Args } = container;

  // Given at the start, the working directory moves a relative path, and the health check runs any
  // program beside the client.
  const { WorkingDir, Healthcheck = null } = container.Config as unknown as JsonObject;
  const Config: JsonObject = { WorkingDir: WorkingDir ?? "", Healthcheck };
  const labels = labelsOf(facts);
  if (Object.keys(labels).length > 0) Config.Labels = labels;
  if (environment) Config.Env = environment;

  // A name with a digest is the same on every image store.
  const imageName = imageNameOf(container);
  const isPinnedByName = NAME_WITH_DIGEST.test(imageName);
  if (isPinnedByName) Config.Image = imageName;

  const fragment: JsonObject = { Path, Args, Config };
  if (!isPinnedByName) fragment.Image = container.Image;
  if (mounts) fragment.Mounts = mounts;

  const match: JsonObject = { peer: { uid: peer.uid }, container: fragment };
  if (!peerProcess.dumpable) match.process = { dumpable: false };
  return match;
}

/** Compose's name of the service, or the container's. */
function serviceName({ Name, Config }: Facts["container"]): string {
  const composeName = Config.Labels?.["com.docker.compose.service"];
  const name = String(composeName ?? Name).replace(/[^A-Za-z0-9_.-]/g, "");
  const isNumber = !/\D/.test(name); // a key that the server refuses
  return isNumber ? `service-${name}` : name;
}

/** The labels that were given at its start. */
function labelsOf({ container, imageLabels }: Facts): JsonObject {
  const labels = Object.entries(container.Config.Labels ?? {});
  const given = labels.filter(
    ([key, value]) => imageLabels?.labels[key] !== value && !FOREIGN_LABEL.test(key),
  );
  return Object.fromEntries(given);
}

/** The name by which it was started. */
function imageNameOf({ Config }: Facts["container"]): string {
  return String((Config as JsonObject).Image);
}

function environmentOf({ container }: Facts, imageEnv: string[]): Pinned<Json[]> {
  const { Env } = container.Config;
  if (!Env) return { value: [null] }; // any of: nothing

  const maybeSecret = Env.filter(
    (variable) => !imageEnv.includes(variable) && !HARMLESS_VARIABLE.test(variable),
  );
  // A copy, because the JSON of the engine's list hides its values.
  if (maybeSecret.length === 0) return { value: [...Env] };

  const names = maybeSecret.map((variable) => variable.split("=", 1)[0]).join(", ");
  return {
    note:
      `Config.Env is not pinned: the values of ${names} were given at the container's start, may ` +
      "be secrets, and are shown to nobody. Until it is, NODE_OPTIONS, LD_PRELOAD and the like " +
      "make this image run other code. Move them into the image or behind vault: references, or " +
      "write the whole list yourself",
  };
}

function mountsOf({ container }: Facts): Pinned<JsonObject[]> {
  const mounts = container.Mounts as JsonObject[];
  const anonymous = mounts.filter(({ Name }) => ANONYMOUS_VOLUME.test(String(Name)));
  if (anonymous.length === 0) return { value: mounts };

  const destinations = anonymous.map(({ Destination }) => Destination).join(", ");
  return {
    note:
      `Mounts is not pinned: the volume at ${destinations} has no name, so each container has ` +
      "another one. Until it is, a mount over the program runs other code. Give the volume a name",
  };
}

/** The checks that have to be relaxed for the container as it was started. Whatever else would keep
 * it from its token is a note. */
function relaxationsOf(facts: Facts, match: JsonObject): { names: string[]; notes: string[] } {
  const { Init, Runtime } = facts.container.HostConfig as unknown as JsonObject;
  // With the runtime "authproxy" the client is the first process even so (docs/runtime.md).
  const hasInit = Init === true && Runtime !== "authproxy";
  const names = hasInit ? ["init", "alone"] : [];
  const notes: string[] = [];
  for (const { name, holds } of evaluate(facts, undefined, match)) {
    if (holds || name === "once" || names.includes(name)) continue;
    if (name === "readonly") names.push(name);
    else if (name === "alone")
      notes.push("other processes run in it now, which is fine if they came after its token");
    else notes.push(`as it runs now it would be refused: ${explainReason(name).happened}`);
  }
  for (const name of names) {
    const opens = RELAXATION_OPENS[name];
    notes.push(`relax ${name}: ${opens}. Without it: ${explainReason(name).advice}`);
  }
  return { names, notes };
}
