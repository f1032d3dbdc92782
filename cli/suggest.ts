// Question: which service block would be this running container's, and no other's? Input: what
// `observe` saw of its first process, and the environment that its image declares. Pure.
// Guaranteed: `choose` matches the block to this container; no value of its environment is in it
// that the image does not declare, but references and the client's own options, which are no
// secrets.
import { evaluate } from "../server/checks.ts";
import type { Service } from "../server/config.ts";
import type { Facts } from "../server/facts.ts";
import type { Json, JsonObject } from "../server/json.ts";
import { opens } from "./advise.ts";
import { explainReason } from "./reasons.ts";

export type Suggestion = { services: Record<string, Service>; notes: string[] };

const harmless = /^(AUTHPROXY_[A-Z_]+=|\w+=vault:(login|[^#]+#[^#]+(#\d+)?)$)/;
const pinnedName = /@sha256:[0-9a-f]{64}$/;
const foreign = /^(com\.docker\.|io\.podman\.)/; // Compose's and the engines' own labels
const anonymous = /^[0-9a-f]{64}$/; // the name of a volume that was given none

export function suggest(facts: Facts, imageEnv: string[]): Suggestion {
  const { peer, process, container } = facts;
  const notes: string[] = [];
  const Labels = labelsOf(facts);
  // Set at the start, the one moves a relative path, the other runs what it likes beside the client.
  const { WorkingDir, Healthcheck = null } = container.Config as unknown as JsonObject;
  const Config: JsonObject = { WorkingDir: WorkingDir ?? "", Healthcheck };
  if (Object.keys(Labels).length > 0) Config.Labels = Labels;
  const Image = imageOf(container);
  if (!Image) Config.Image = startedBy(container);
  const Env = environmentOf(facts, imageEnv, notes);
  if (Env) Config.Env = Env;
  const Mounts = mountsOf(facts, notes);
  const { Path, Args } = container;
  const match: JsonObject = {
    peer: { uid: peer.uid },
    ...(process.dumpable ? {} : { process: { dumpable: false } }),
    container: { ...(Image ? { Image } : {}), Path, Args, Config, ...(Mounts ? { Mounts } : {}) },
  };
  if (peer.label)
    notes.push(
      `the kernel labels it ${JSON.stringify(peer.label)}: where the audit stream shows the same ` +
        '"label" at each start, match it under "peer" too',
    );
  const relax = relaxationsOf(facts, match, notes);
  const name = nameOf(container);
  const create = `auth/token/create/${name}`;
  notes.push(`${create} is a guess: name the token role that this service has in Vault`);
  return { services: { [name]: { match, token: { create }, relax } }, notes };
}

function nameOf({ Name, Config }: Facts["container"]): string {
  const service = Config.Labels?.["com.docker.compose.service"];
  const name = String(service ?? Name).replace(/[^A-Za-z0-9_.-]/g, "");
  return /\D/.test(name) ? name : `service-${name}`;
}

/** The labels that were given at its start. */
function labelsOf({ container, imageLabels }: Facts): JsonObject {
  const labels = Object.entries(container.Config.Labels ?? {});
  return Object.fromEntries(
    labels.filter(([key, value]) => imageLabels[key] !== value && !foreign.test(key)),
  );
}

/** Undefined where the name it was started by says more: that is the same on every image store. */
function imageOf(container: Facts["container"]): string | undefined {
  return pinnedName.test(startedBy(container)) ? undefined : container.Image;
}

function startedBy({ Config }: Facts["container"]): string {
  return String((Config as JsonObject).Image);
}

function environmentOf(
  { container }: Facts,
  imageEnv: string[],
  notes: string[],
): Json[] | undefined {
  const { Env } = container.Config;
  if (!Env) return [null]; // any of: nothing
  const secret = Env.filter((text) => !imageEnv.includes(text) && !harmless.test(text));
  if (secret.length === 0) return Env;
  const names = secret.map((text) => text.split("=", 1)[0]).join(", ");
  notes.push(
    `Config.Env is not pinned: the values of ${names} were given at the container's start, may be ` +
      "secrets, and are shown to nobody. Until it is, NODE_OPTIONS, LD_PRELOAD and the like make " +
      "this image run other code. Move them into the image or behind vault: references, or write " +
      "the whole list yourself",
  );
  return undefined;
}

function mountsOf({ container }: Facts, notes: string[]): JsonObject[] | undefined {
  const mounts = container.Mounts as JsonObject[];
  const unnamed = mounts.filter(({ Name }) => anonymous.test(String(Name)));
  if (unnamed.length === 0) return mounts;
  const places = unnamed.map(({ Destination }) => Destination).join(", ");
  notes.push(
    `Mounts is not pinned: the volume at ${places} has no name, so it is another for each ` +
      "container. Until it is, a mount over the program runs other code. Give the volume a name",
  );
  return undefined;
}

/** What the container needs as it was started; what else would keep it from its token is a note. */
function relaxationsOf(facts: Facts, match: JsonObject, notes: string[]): string[] {
  const { Init, Runtime } = facts.container.HostConfig as unknown as JsonObject;
  const needed = Init === true && Runtime !== "authproxy" ? ["init", "alone"] : [];
  for (const { name, holds } of evaluate(facts, false, match)) {
    if (holds || name === "once" || needed.includes(name)) continue;
    if (name === "readonly") needed.push(name);
    else if (name === "alone")
      notes.push("other processes run in it now: fine, if they came after its token");
    else notes.push(`as it runs now it would be refused: ${explainReason(name).happened}`);
  }
  for (const name of needed)
    notes.push(`relax ${name}: ${opens[name]}. Without it: ${explainReason(name).advice}`);
  return needed;
}
