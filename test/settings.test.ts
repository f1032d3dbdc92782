// Question: is the list of what a container's starter can set complete, and does docs/policy.md say
// the same? Input: what real engines say of a container (test/fixtures/engines).
// SETTINGS=write writes the table of the document.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { describe, expect, test } from "vitest";
import { advise } from "../cli/advise.ts";
import { environmentOf } from "../cli/environment.ts";
import { pinEverything } from "../cli/pins.ts";
import { PINNED_PATHS, SETTINGS, type Setting } from "../cli/settings.ts";
import type { Config } from "../server/config.ts";
import type { Facts } from "../server/facts.ts";
import type { Json, JsonObject } from "../server/json.ts";
import { choose, mismatchesOf } from "../server/policy.ts";
import { findFlaw } from "../server/schema.ts";
import type { Capture } from "./lab/capture.ts";

const folder = join(import.meta.dirname, "fixtures/engines");
const captures = readdirSync(folder).map((name) => {
  const capture: Capture = JSON.parse(readFileSync(join(folder, name), "utf8"));
  return { name: name.replace(".json", ""), container: capture.container as Facts["container"] };
});

/** What Docker's API 1.41 to 1.51 has, and leaves out of the answer where it is empty. */
const LEFT_OUT = [
  ...["ArgsEscaped", "ExposedPorts", "Healthcheck", "MacAddress", "NetworkDisabled", "Shell"]
    .concat(["StopSignal", "StopTimeout"])
    .map((name) => `container.Config.${name}`),
  ...["Annotations", "Init", "Mounts", "StorageOpt", "Sysctls", "Tmpfs"].map(
    (name) => `container.HostConfig.${name}`,
  ),
];

test("each setting is listed once", () => {
  const paths = SETTINGS.map(({ path }) => path);
  expect(paths).toEqual([...new Set(paths)]);
});

/** The settings that are listed, and what holds them. */
const listed = new Set([
  ...SETTINGS.map(({ path }) => path),
  ...["container.Config", "container.HostConfig", "container.ImageManifestDescriptor"],
]);
const keysOf = (path: string, members: Json | undefined) =>
  Object.keys((members as JsonObject | undefined) ?? {}).map((key) => `${path}.${key}`);

test.each(captures)("none is forgotten that $name has", ({ container }) => {
  const keys = [
    ...keysOf("container", container),
    ...keysOf("container.Config", container.Config),
    ...keysOf("container.HostConfig", container.HostConfig as unknown as JsonObject),
  ];
  expect(keys.length).toBeGreaterThan(90);
  expect(keys.filter((key) => !listed.has(key))).toEqual([]);
});

test("none is forgotten that engines leave out where it is empty", () => {
  expect(LEFT_OUT.filter((path) => !listed.has(path))).toEqual([]);
});

describe.each(captures)("what is pinned of a container of $name", ({ container }) => {
  const peer = { id: "1", pid: 7, uid: 1001, gid: 1001, groups: [1001], label: "" };
  const process = { dumpable: false };
  const identity = {
    peer,
    process,
    container,
    imageLabels: { labels: {}, areOfManifest: true },
  } as unknown as Facts;
  const { match, notes } = pinEverything(identity, container.Config.Env ?? []);
  const service = { match, token: { create: "auth/token/create/app" } };
  const document = identity as unknown as JsonObject;

  test("is a service block that the server takes, and that matches it", () => {
    const vault = { address: "https://vault:8200", login: { token_file: "/token" } };
    expect(findFlaw(JSON.stringify({ vault, services: { app: service } }))).toBeUndefined();
    expect(choose(document, [["app", service]])[0]).toBe("app");
  });

  test("is every setting, or a note says why not", () => {
    const open = PINNED_PATHS.filter((path) => !isPinned(path));
    const hasLimits = ((valueAt(document, ULIMITS) as Json[] | null) ?? []).length > 1;
    expect(open.filter((path) => path !== "container.Image")).toEqual(hasLimits ? [ULIMITS] : []);
    expect(notes.map((note) => note.split(" ")[0])).toEqual(
      hasLimits ? ["HostConfig.Ulimits"] : [],
    );
  });

  test("raises no warning of spelling beside a container of any engine", () => {
    for (const other of captures) {
      const host = { engine: "docker", container: other.container } as const;
      const config = { socket: "/run/authproxy/authproxy.sock", services: { app: service } };
      const warnings = advise(config as unknown as Config, host).app?.warnings ?? [];
      expect(warnings.filter((text) => /never hold|did you mean|not where/.test(text))).toEqual([]);
    }
  });

  const ULIMITS = "container.HostConfig.Ulimits";
  const isPinned = (path: string) => valueAt(match, path) !== undefined;
  const pinnedPaths = PINNED_PATHS.filter((path) => path !== "container.Image" && isPinned(path));
  test.each(pinnedPaths)("refuses another %s", (path) => {
    const isSeen = (value: Json) => isDeepStrictEqual(value, valueAt(document, path));
    for (const other of ["other", ["other"], { other: "other" }, 7, true].filter(
      (v) => !isSeen(v),
    )) {
      const changed = mismatchesOf(match, withValue(document, path.split("."), other));
      expect(changed.map((mismatch) => mismatch.path)).toSatisfy(([first = ""]: string[]) =>
        first.startsWith(path),
      );
    }
  });

  test("refuses another image, and another manifest of it", () => {
    const named = pinEverything(withImage(container, "app:1"), []).match;
    const digest = `sha256:${"1".repeat(64)}`;
    expect(named).toHaveProperty("container.Image", container.Image);
    const changed = withValue(document, ["container", "Image"], digest);
    expect(mismatchesOf(named, changed)).not.toEqual([]);

    const descriptor = ["container", "ImageManifestDescriptor"];
    const withManifest = withValue(document, descriptor, { digest, size: 1 });
    const pinned = pinEverything(withManifest as unknown as Facts, []).match;
    expect(mismatchesOf(pinned, withManifest)).toEqual([]);
    const other = withValue(document, descriptor, { digest: `sha256:${"2".repeat(64)}`, size: 1 });
    expect(mismatchesOf(pinned, other)).toMatchObject([{ path: `${descriptor.join(".")}.digest` }]);
  });

  function withImage(of: Facts["container"], Image: string): Facts {
    const Config = { ...of.Config, Image };
    return { ...identity, container: { ...of, Config } } as unknown as Facts;
  }
});

describe("what is pinned where it was given", () => {
  const container = captures[0]?.container as Facts["container"];
  function pinned(
    peerProcess: JsonObject,
    Config: JsonObject = {},
    HostConfig: JsonObject = {},
  ): JsonObject {
    const changed = {
      ...container,
      Config: { ...container.Config, ...Config },
      HostConfig: { ...container.HostConfig, ...HostConfig },
    };
    const facts = {
      peer: { uid: 1 },
      process: peerProcess,
      container: changed,
      imageLabels: { labels: {}, areOfManifest: true },
    };
    return pinEverything(facts as unknown as Facts, []).match;
  }

  test("a host name, if it is not the container's id", () => {
    expect(valueAt(pinned({}), "container.Config.Hostname")).toBeUndefined();
    const given = { Hostname: "db" };
    const usual = { NetworkMode: "bridge" };
    expect(valueAt(pinned({}, given, usual), "container.Config.Hostname")).toBe("db");
    for (const NetworkMode of ["host", `container:${"0".repeat(64)}`])
      expect(
        valueAt(pinned({}, given, { NetworkMode }), "container.Config.Hostname"),
      ).toBeUndefined();
  });

  test("that the client hides its memory", () => {
    expect(valueAt(pinned({ dumpable: false }), "process.dumpable")).toBe(false);
    expect(valueAt(pinned({ dumpable: true }), "process")).toBeUndefined();
  });

  test("the user as the container calls it, where users are mapped: beside Docker's own number", () => {
    expect(valueAt(pinned({ uid_inside: 1 }), "process")).toBeUndefined();
    const ofDocker = pinned({ uid_inside: 1001 }, {}, { UsernsMode: "" });
    expect(ofDocker).toMatchObject({ peer: { uid: 1 }, process: { uid_inside: 1001 } });
  });

  test.each(["private", null])(
    "the user as the container calls it, and no number of the host's, by UsernsMode %s",
    (UsernsMode) => {
      const { peer, process } = pinned({ uid_inside: 1001 }, {}, { UsernsMode });
      expect({ peer, process }).toEqual({ process: { uid_inside: 1001 } });
    },
  );

  test("the variables that the image declares, references and options, and no value beside them", () => {
    const given = ["A=image", "B=hunter2", "C=vault:secret/data/a#b", "AUTHPROXY_WAIT=5"];
    const secret = [
      "AUTHPROXY_SET_D=hunter2",
      "E=vault:secret/data/a#?hunter2",
      "NODE_PATH=hunter2",
    ];
    const { variables, withheld } = environmentOf([...given, ...secret], ["A=image", "B=image"]);
    expect(variables).toMatchObject({ A: "image", C: "vault:secret/data/a#b", LD_PRELOAD: null });
    expect(withheld).toEqual(["B", "AUTHPROXY_SET_D", "E", "NODE_PATH"]);
    for (const name of withheld) expect(variables).not.toHaveProperty([name]);
    expect(JSON.stringify(variables)).not.toContain("hunter2");
  });

  test("nothing, if there are no variables: then none may be given", () => {
    expect(valueAt(pinned({}, { Env: null }), "container.Config.Env")).toEqual([null]);
    expect(valueAt(pinned({}, { Env: [] }), "container.Config.Env")).toEqual([]);
  });
});

test("an engine that cannot say which manifest runs gets a note", () => {
  const [capture] = captures;
  const container = capture?.container;
  const facts = {
    peer: {},
    process: {},
    container,
    imageLabels: { labels: {}, areOfManifest: true },
  } as unknown as Facts;
  const notesOn = (store: string) => pinEverything(facts, [], store).notes.join("\n");
  expect(notesOn("containerd")).toContain("does not say which manifest of an image index runs");
  expect(notesOn("classic")).not.toContain("manifest");
});

function valueAt(object: JsonObject, path: string): Json | undefined {
  let value: Json | undefined = object;
  for (const key of path.split(".")) value = (value as JsonObject | null | undefined)?.[key];
  return value;
}

/** A copy in which this path has another value. */
function withValue(object: JsonObject, [key = "", ...below]: string[], value: Json): JsonObject {
  const member = (object[key] ?? {}) as JsonObject;
  return { ...object, [key]: below.length === 0 ? value : withValue(member, below, value) };
}

describe("the table of docs/policy.md", () => {
  const file = join(import.meta.dirname, "../docs/policy.md");
  const engineTests = readFileSync(join(import.meta.dirname, "suggest.test.ts"), "utf8");
  const HEAD = "| setting | changes | pinned | another value lets whoever sets it | shown by |";
  const FREE_HEAD = "| setting | changes | why it is not pinned |";

  /** The test whose title names the setting. */
  function testOf({ path }: Setting): string {
    if (engineTests.includes(`["${path}",`) || engineTests.includes(`      "${path}",`))
      return "`suggest.test`";
    const isOfCli = /\.(Image|Labels|label)$/.test(path);
    return isOfCli ? "`cli.test`" : "`settings.test`";
  }
  const nameOf = ({ path }: Setting) => `\`${path.replace("container.", "")}\``;
  const rows = [
    HEAD,
    "|---|---|---|---|---|",
    ...SETTINGS.filter(({ pin }) => pin !== "never").map((setting) => {
      const { changes, pin, reason } = setting;
      const pinned = pin === "always" ? "yes" : "if given";
      return `| ${nameOf(setting)} | ${changes} | ${pinned} | ${reason} | ${testOf(setting)} |`;
    }),
  ];
  const freeRows = [
    FREE_HEAD,
    "|---|---|---|",
    ...SETTINGS.filter(({ pin }) => pin === "never").map((setting) => {
      return `| ${nameOf(setting)} | ${setting.changes} | ${setting.reason} |`;
    }),
  ];

  test.each([
    ["what is pinned", rows],
    ["what is not", freeRows],
  ])("has a row for each setting, and no other: %s", (_, wanted) => {
    const lines = readFileSync(file, "utf8").split("\n");
    const begin = lines.indexOf(wanted[0] ?? "");
    const length = lines.slice(begin).findIndex((line) => !line.startsWith("|"));
    if (process.env.SETTINGS === "write") {
      lines.splice(begin, length, ...wanted);
      writeFileSync(file, lines.join("\n"));
    } else {
      expect(lines.slice(begin, begin + length)).toEqual(wanted);
    }
  });
});
