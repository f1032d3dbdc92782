// Question: what does a configuration that the server takes rest on, and who could forge it?
// Input: the configuration, and what is known of this host: the kernel's security module, the
// engine's images and one of its containers. Pure, and so is its text. `authproxy check` prints it.
import { basename } from "node:path";
import { isDeepStrictEqual } from "node:util";
import type { Config, Service } from "../server/config.ts";
import type { Json, JsonObject } from "../server/json.ts";
import { nearest } from "./flaws.ts";
import { columns, paint, printable, shown } from "./terminal.ts";

/** Who says it, the hardest to deceive first. */
const ranks = ["kernel", "engine", "/proc", "image"] as const;
type Rank = (typeof ranks)[number];
type Selector = { path: string; wanted: Json; rank: Rank; forgedBy: string };
export type Advice = {
  token: string;
  selectors: Selector[];
  relaxed: { check: string; opens: string }[];
  /** Who can be this service. */
  who: string;
  warnings: string[];
};

/** What the engine says of an image: its digest in this store, and the names it has elsewhere. */
export type Image = { Id: string; RepoDigests?: string[] | null };
/** What could not be learned is left out. */
export type Host = { mac?: string; store?: string; images?: Image[]; container?: JsonObject };

/** What each relaxation opens. */
export const opens: Record<string, string> = {
  init: "whatever runs in the container later may ask, docker exec included, once for each start",
  alone: "another process in the container may trace the client, or take its socket or its memory",
  once: "code that breaks into the application may ask for a token again",
  readonly: "code inside may overwrite the program, restart the container, and ask as the program",
  labels: "an image that simply declares the label passes for the service",
};

const anybody = "whoever may start containers here";
const forgers: [RegExp, Rank, string][] = [
  [/^peer\.label$/, "kernel", "the host's security policy; --security-opt may ask for another"],
  [/^peer\.pid$/, "kernel", "changes with each start"],
  [/^peer\./, "kernel", `${anybody} (-u, --group-add)`],
  [/^container\.(Config\.)?Image$/, "engine", "nobody: the digest of what the image holds"],
  [/^container\.Config\.Labels\b/, "engine", `${anybody} (-l)`],
  [/^container\.Config\.Env$/, "engine", `${anybody} (-e)`],
  [/^container\.Mounts$/, "engine", `${anybody} (-v)`],
  [/^container\.(Path|Args|Config\.(Cmd|Entrypoint))$/, "image", `the image, or ${anybody}`],
  [
    /^container\.Config\.(User|WorkingDir|Volumes|ExposedPorts)\b/,
    "image",
    "the image, or -u, -w …",
  ],
  [/^container\./, "engine", anybody],
  [/^process\.exe$/, "/proc", 'the image: it says no more than "node" does'],
  [/^process\.cgroup$/, "/proc", "who may make cgroups"],
  [/^process\.ppid$/, "/proc", "changes with each start"],
  [/^process\./, "/proc", "the process, or who starts it"],
];

const ENV = "container.Config.Env";
const HIDDEN = "(values are shown to nobody)";
const script = [
  ...["container.Path", "container.Args", ENV, "container.Mounts"],
  ...["container.Config.WorkingDir", "container.Config.Healthcheck"],
];
const interpreter =
  /^(node(js)?|deno|bun|python[\d.]*|ruby|perl|php|java|dotnet|lua|(b|d|)a?sh|busybox)$/;
/** Where the document has a list, a list is no any-of. */
const listed =
  /^(peer\.groups|process\.(cgroup|[ug]ids)|container\.(Args|Mounts|Config\.(Env|Cmd|Entrypoint)))$/;

/** By service. */
export function advise(config: Config, host: Host): Record<string, Advice> {
  const services = Object.entries(config.services);
  const advice = services.map(([name, service]): [string, Advice] => {
    const selectors = selectorsOf(service.match);
    const others = services.filter(([other]) => other !== name);
    const relaxed = (service.relax ?? []).map((check) => ({ check, opens: opens[check] ?? "" }));
    const warnings = [
      ...warningsOf(selectors, service, host),
      ...besideOthers(selectors, service, others),
    ];
    const who = whoCanBe(selectors, service.relax ?? []);
    const told = selectors.map((each) => (each.path === ENV ? { ...each, wanted: HIDDEN } : each));
    return [
      name,
      {
        token: service.token.create ?? `${service.token.read}, shared by all`,
        selectors: told,
        relaxed,
        who,
        warnings,
      },
    ];
  });
  return Object.fromEntries(advice);
}

/** The leaves of a fragment, the hardest to forge first. */
function selectorsOf(match: JsonObject): Selector[] {
  return leavesOf(match)
    .map(({ path, value: wanted }) => {
      const [, rank = "image", by = anybody] =
        forgers.find(([pattern]) => pattern.test(path)) ?? [];
      const tag = /\.Image$/.test(path) && !isImage({ path, wanted });
      return { path, wanted, rank, forgedBy: tag ? "whoever may name images here" : by };
    })
    .sort((a, b) => ranks.indexOf(a.rank) - ranks.indexOf(b.rank));
}

function leavesOf(value: Json, path: string[] = []): { path: string; value: Json }[] {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    return [{ path: path.join("."), value }];
  return Object.entries(value).flatMap(([key, child]) => leavesOf(child, [...path, key]));
}

function whoCanBe(selectors: Selector[], relax: string[]): string {
  const paths = selectors.map(({ path }) => path);
  if (!selectors.some(isImage)) {
    const kinds = paths.map((path) => path.replace(/^container\.Config\.Labels\..*/, "labels"));
    const words = kinds.map((path) => path.replace(/^(peer|process|container)\./, ""));
    return `${list([...new Set(words)])} only: ${anybody} can be this service`;
  }
  const open = script
    .filter((part) => !paths.includes(part))
    .map((path) => path.replace("container.", ""));
  const only = "only this image with this command, environment and mounts can be this service";
  if (open.length === 0)
    return relax.length > 0 ? `${only}, and what its relaxations let in` : only;
  const who = `${anybody} can be this service by this image with other ${list(open)}`;
  const program = selectors.find(
    ({ path, wanted }) =>
      /^(container\.Path|process\.exe)$/.test(path) &&
      [wanted].flat().some((word) => interpreter.test(basename(String(word)))),
  );
  if (!program) return who;
  const by = `a script, run by ${shown(program.wanted)}, is authenticated only by`;
  return `${who}; ${by} Image, Path, Args, Env, Mounts, WorkingDir and Healthcheck together`;
}

/** A digest: a name alone can be given to another image. */
function isImage({ path, wanted }: { path: string; wanted: Json }): boolean {
  const image = /^container\.(Config\.)?Image$/.test(path);
  return image && [wanted].flat().every((name) => /sha256:[0-9a-f]{64}$/.test(String(name)));
}

function list(words: (string | undefined)[]): string {
  return words.length < 2
    ? (words[0] ?? "")
    : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

function warningsOf(selectors: Selector[], { match, relax = [] }: Service, host: Host): string[] {
  const wants = (path: string) => [selectors.find((s) => s.path === path)?.wanted ?? []].flat();
  const warnings: string[] = [];
  if (wants("peer.uid").includes(0))
    warnings.push(
      "uid 0: root in a container reads what an undumpable client hides; give it a user",
    );
  else if (!wants("process.dumpable").includes(false))
    warnings.push(
      "process.dumpable is not pinned: a user of the host with the same uid, or a container that " +
        "shares its pids, can take the token from the client; make the client's node " +
        "execute-only (chmod 0711), start it with --cap-drop ALL, and match " +
        '"process": { "dumpable": false }',
    );
  if (wants("peer.pid").length + wants("process.ppid").length > 0)
    warnings.push("a pid is another at each start: this holds by chance");
  if (host.mac && wants("peer.label").length === 0)
    warnings.push(
      `no security label is pinned, and this kernel has ${host.mac}: if the audit stream's ` +
        '"label" is not empty, match "peer": { "label": … }',
    );
  const compose = selectors.find(({ path }) => /\.Labels\.com\.docker\.compose\./.test(path));
  if (compose)
    warnings.push(
      `${compose.path} is Compose's own: Compose writes it into images that it builds, and the ` +
        "check labels refuses those; use a label of your own",
    );
  for (const check of ["init", "alone"])
    if (wants(`process.${check}`).includes(false) && !relax.includes(check))
      warnings.push(
        `process.${check}: false can never hold while the check ${check} is not relaxed`,
      );
  const pins = wants("container.Image").map(String);
  warnings.push(...pins.flatMap((pin) => wrongStore(pin, host)));
  if (host.container)
    warnings.push(...strangers(match.container ?? {}, host.container, "container"));
  return warnings;
}

/** `.Image` is the digest of the configuration in the classic store, of the manifest in containerd's. */
function wrongStore(pin: string, { images, store }: Host): string[] {
  if (!images || images.some(({ Id }) => Id === pin)) return [];
  const here = images.find(({ RepoDigests }) =>
    RepoDigests?.some((name) => name.endsWith(`@${pin}`)),
  );
  if (here)
    return [
      `Image ${pin} is the manifest's digest, and this engine's ${store} store goes by the ` +
        `configuration's: write ${here.Id}, or pin Config.Image by NAME@${pin}`,
    ];
  const other =
    store === "containerd"
      ? "classic store's (a configuration's)"
      : "containerd store's (a manifest's)";
  return [
    `Image ${pin}: this engine has no image of that digest; it is not here yet, or it is the ` +
      `${other}, which this engine's ${store} store never shows`,
  ];
}

/** Selectors that the engine's own answer about a container shows to be misspelled, or of a type that
 * can never be equal. What the engine leaves out where it is empty raises nothing. */
function strangers(wanted: Json, seen: Json, path: string): string[] {
  if (seen === null) return [];
  if (!isObject(wanted))
    return typesFit(wanted, seen) ? named(wanted, seen, path) : [neverOf(path, seen)];
  if (!isObject(seen)) return [neverOf(path, seen)];
  return Object.entries(wanted).flatMap(([key, value]) => {
    if (Object.hasOwn(seen, key)) return strangers(value, seen[key] ?? null, `${path}.${key}`);
    if (/\.(Labels|Networks)$/.test(path)) return [];
    const near = nearest(key, Object.keys(seen));
    return near ? [`${path}.${key} is not what the engine says: did you mean ${near}?`] : [];
  });
}

function isObject(value: Json): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function typesFit(wanted: Json, seen: Json): boolean {
  if (isObject(seen)) return false;
  if (Array.isArray(seen)) return Array.isArray(wanted);
  return [wanted].flat().some((any) => typeof any === typeof seen);
}

function neverOf(path: string, seen: Json): string {
  const type = Array.isArray(seen) ? "a list" : isObject(seen) ? "an object" : `a ${typeof seen}`;
  return `${path} can never hold: the engine says ${type} there`;
}

function named(wanted: Json, seen: Json, path: string): string[] {
  const slash = path === "container.Name" && String(seen).startsWith("/");
  const bare = slash && [wanted].flat().every((name) => !String(name).startsWith("/"));
  return bare ? [`${path} can never hold: the engine's names begin with "/"`] : [];
}

function besideOthers(selectors: Selector[], mine: Service, others: [string, Service][]): string[] {
  const uidsOf = (all: Selector[]) =>
    [all.find(({ path }) => path === "peer.uid")?.wanted ?? []].flat();
  const uids = uidsOf(selectors);
  const sharing = others.filter(([, { match }]) =>
    uidsOf(selectorsOf(match)).some((uid) => uids.includes(uid)),
  );
  const names = list(sharing.map(([name]) => name));
  const ambiguous = others.flatMap(([name, { match }]) => {
    if (isDeepStrictEqual(mine.match, match)) return [`it matches just what ${name} does`];
    return contains(selectors, selectorsOf(match)) ? [`what it matches, ${name} matches too`] : [];
  });
  return [
    ...(names ? [`its uid is that of ${names} too: one uid may signal and trace the other's`] : []),
    ...ambiguous.map((text) => `${text}: always refused as ambiguous`),
  ];
}

/** Whatever has all of these has all of those as well. */
function contains(narrow: Selector[], wide: Selector[]): boolean {
  return wide.every(({ path, wanted }) => {
    const mine = narrow.find((selector) => selector.path === path);
    if (!mine) return false;
    if (isDeepStrictEqual(mine.wanted, wanted)) return true;
    return !listed.test(path) && [mine.wanted].flat().every((any) => [wanted].flat().includes(any));
  });
}

export function adviceLines(advice: Record<string, Advice>): string[] {
  return Object.entries(advice).flatMap(([name, { token, selectors, relaxed, who, warnings }]) => [
    "",
    `${paint("bold", printable(name))}  ${paint("dim", printable(token))}`,
    ...columns([
      ...selectors.map(({ rank, path, wanted, forgedBy }) => [
        rank,
        printable(path),
        paint("dim", forgedBy),
        wanted === HIDDEN ? HIDDEN : shown(wanted),
      ]),
      ...relaxed.map(({ check, opens }) => [paint("yellow", "relaxed"), check, opens]),
    ]),
    `  ${paint("bold", "who")}  ${printable(who)}`,
    ...warnings.map((text) => `  ${paint("yellow", "warning:")} ${printable(text)}`),
  ]);
}
