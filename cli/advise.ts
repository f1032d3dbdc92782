// Question: what does a configuration that the server accepts rest on, and who could forge it?
// Input: the configuration, and what is known of this host: the kernel's security module, the
// engine's images and one of its containers. Pure. `authproxy check` prints it.
import { basename } from "node:path";
import type { Config } from "../server/config.ts";
import { INTERPRETER } from "../server/writable.ts";
import type { Host } from "./host.ts";
import {
  ANYBODY,
  alternatives,
  ENV_PATH,
  isImageDigest,
  type Selector,
  selectorsOf,
} from "./selectors.ts";
import { shown } from "./terminal.ts";
import { warningsAbout, warningsBeside } from "./warnings.ts";
import { enumerate } from "./words.ts";

/** As `authproxy check --json` prints it, for each service. */
export type Advice = {
  token: string;
  selectors: Selector[];
  relaxed: { check: string; opens: string }[];
  /** Who can be this service, in a sentence. */
  who: string;
  warnings: string[];
};

/** What each relaxation opens. */
export const RELAXATION_OPENS: Record<string, string> = {
  init: "whatever runs in the container later may ask, docker exec included, once for each start",
  alone: "another process in the container may trace the client, or take its socket or its memory",
  once: "code that breaks into the application may ask for a token again",
  readonly: "code inside may overwrite the program, restart the container, and ask as the program",
  labels: "an image that simply declares the label passes for the service",
  capabilities:
    "code inside may forge cgroups, programs and mounts, and hide other processes from alone",
  seccomp: "whoever starts the container may have an agent that overhears the token",
};

/** What stands in place of the values of Config.Env, which may be secrets. */
export const HIDDEN = "(values are not shown)";

/** What makes an image run other code than its own. */
const CODE_PATHS = [
  "container.Path",
  "container.Args",
  ENV_PATH,
  "container.Mounts",
  "container.Config.WorkingDir",
  "container.Config.Healthcheck",
];

/** The advice for each service, by its name. */
export function advise(config: Config, host: Host): Record<string, Advice> {
  const services = Object.entries(config.services);
  const advice: Record<string, Advice> = {};
  for (const [name, service] of services) {
    const { token, match, relax = [] } = service;
    const selectors = selectorsOf(match);
    const others = services.filter(([other]) => other !== name);
    advice[name] = {
      token: token.create ?? `${token.read}, shared by all`,
      selectors: selectors.map(withoutEnv),
      relaxed: relax.map((check) => ({ check, opens: RELAXATION_OPENS[check] ?? "" })),
      who: whoCanBe(selectors, relax),
      warnings: [
        ...warningsAbout(service, selectors, host),
        ...warningsBeside(service, selectors, others),
      ],
    };
  }
  return advice;
}

function withoutEnv(selector: Selector): Selector {
  return selector.path === ENV_PATH ? { ...selector, wanted: HIDDEN } : selector;
}

function whoCanBe(selectors: Selector[], relax: string[]): string {
  if (!selectors.some(isImageDigest)) {
    const kinds = new Set(selectors.map(({ path }) => kindOf(path)));
    return `${enumerate([...kinds])} only: ${ANYBODY} can be this service`;
  }

  const paths = selectors.map(({ path }) => path);
  const open = CODE_PATHS.filter((path) => !paths.includes(path));
  if (open.length === 0) {
    const onlyThis =
      "only this image with this command, environment and mounts can be this service";
    return relax.length > 0 ? `${onlyThis}, and whatever its relaxations let in` : onlyThis;
  }

  const openNames = open.map((path) => path.replace("container.", ""));
  const who = `${ANYBODY} can be this service by this image with other ${enumerate(openNames)}`;
  const interpreter = selectors.find(isInterpreter);
  if (!interpreter) return who;
  return (
    `${who}; a script that ${shown(interpreter.wanted)} runs is authenticated only by ` +
    "Image, Path, Args, Env, Mounts, WorkingDir and Healthcheck together"
  );
}

/** "uid" of peer.uid, and "labels" of any label. */
function kindOf(path: string): string {
  if (path.startsWith("container.Config.Labels.")) return "labels";
  return path.replace(/^(peer|process|container)\./, "");
}

function isInterpreter({ path, wanted }: Selector): boolean {
  if (path !== "container.Path" && path !== "process.exe") return false;
  return alternatives(wanted).some((program) => INTERPRETER.test(basename(String(program))));
}
