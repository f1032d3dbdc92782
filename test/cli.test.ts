// Question: does the command `authproxy` say what is true, and no secret? Pure parts are tested as
// tables; the rest runs beside a real engine, real containers and the real server.
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import fc from "fast-check";
import { getContainerRuntimeClient } from "testcontainers";
import { afterAll, describe, expect, test } from "vitest";
import { type Advice, advise, RELAXATION_OPENS } from "../cli/advise.ts";
import { CODE_VARIABLES } from "../cli/environment.ts";
import { explain } from "../cli/explain.ts";
import { type LocatedFlaw, locateFlaws } from "../cli/flaws.ts";
import { engineKind, type Host, imageStore, securityModule } from "../cli/host.ts";
import { lastRefusal } from "../cli/last.ts";
import { observe } from "../cli/observe.ts";
import { REASONS } from "../cli/reasons.ts";
import { MANIFEST_PATH, PINNED_PATHS, shortName } from "../cli/settings.ts";
import { suggest } from "../cli/suggest.ts";
import type { Config, Service } from "../server/config.ts";
import { hideValues } from "../server/engine.ts";
import type { Facts } from "../server/facts.ts";
import { documentOf } from "../server/grant.ts";
import type { Json, JsonObject } from "../server/json.ts";
import { choose } from "../server/policy.ts";
import { findFlaw } from "../server/schema.ts";
import { NODE_COMPILE_CACHE, PATH } from "./command.ts";
import { app, bao, buildImage, type Container, image, password, Stage, vaultAt } from "./stage.ts";

const root = join(import.meta.dirname, "..");
const cases = join(import.meta.dirname, "fixtures/config");
const usual = readFileSync(join(cases, "valid/usual.json"), "utf8");
const STARTED = `started with a password of ${password.length} characters`;

type Ran = { status: number; stdout: string; stderr: string };

/** Runs the command as a person would. */
async function authproxy(words: string[], input = "", env: NodeJS.ProcessEnv = {}): Promise<Ran> {
  const argv = [join(root, "cli/authproxy.ts"), ...words];
  const child = spawn(process.execPath, argv, { env: { PATH, NODE_COMPILE_CACHE, ...env } });
  const ended = new Promise<number>((resolve) => child.on("close", resolve));
  child.stdin.on("error", () => {}).end(input); // EPIPE where it does not read
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return { status: await ended, stdout, stderr };
}

const scratch = mkdtempSync(join(tmpdir(), "authproxy-cli-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

function fileOf(content: string): string {
  const file = join(scratch, `${randomUUID()}.json`);
  writeFileSync(file, content, { mode: 0o600 });
  return file;
}

describe("the flaws of a configuration", () => {
  const texts = (folder: string) =>
    readdirSync(join(cases, folder))
      .filter((name) => name.endsWith(".json"))
      .map((name) => ({ name, content: readFileSync(join(cases, folder, name), "utf8") }));

  test.each(texts("valid"))("there is none where the server accepts it: $name", ({ content }) => {
    expect(locateFlaws(content)).toEqual([]);
  });

  test.each(texts("invalid"))("the first has a place in the text: $name", ({ content }) => {
    const [first] = locateFlaws(content);
    const line = content.split("\n")[(first?.line ?? 0) - 1] ?? "no such line";
    expect(first?.column).toBeLessThanOrEqual(line.length + 1);
    const flaw = findFlaw(content);
    const isAboutContent = flaw?.kind !== "not-json" && flaw?.kind !== "spelling";
    if (isAboutContent) expect(first?.message).toBe(flaw?.message);
  });

  const swap = (from: string, to: string) => usual.replace(from, to);
  const below = (key: string) => swap('"peer": {', `"${key}": 1, "peer": {`);
  test.each<[string, string, string, Partial<LocatedFlaw>]>([
    [
      "an unknown key, with the nearest known one",
      swap('"socket"', '"sokcet"'),
      '"sokcet"',
      { instead: 'did you mean "socket"?' },
    ],
    ["a known key in the wrong place", below("uid"), '"uid"', { instead: "it belongs below peer" }],
    [
      "a label in the wrong place",
      below("Labels"),
      '"Labels"',
      { instead: "it belongs below container.Config" },
    ],
    [
      "a key that every object has",
      below("constructor"),
      '"constructor"',
      { message: expect.stringContaining("is not a known key") },
    ],
    [
      "a number in quotes",
      swap("1001", '"1001"'),
      '"1001"',
      { instead: "write 1001, without quotes" },
    ],
    [
      "a flag in quotes",
      usual.replace('"socket"', '"allow_no_pidfd": "true", "socket"'),
      '"true"',
      { instead: "write true, without quotes" },
    ],
    [
      "a number where a string belongs",
      swap('"app": "app"', '"app": 7'),
      "7",
      { instead: 'write "7", in quotes' },
    ],
    [
      "a single check where a list belongs",
      usual.replace(/"token": \{/, '"relax": "once", "token": {'),
      '"once"',
      { instead: 'write ["once"]' },
    ],
    [
      "a relaxation that does not exist",
      usual.replace(/"token": \{/, '"relax": ["onec"], "token": {'),
      '"onec"',
      { instead: 'did you mean "once"?' },
    ],
    [
      "a missing key, at the key of its object",
      swap('"address"', '"adress"').replace(/"adress": "[^"]*",/, ""),
      '"vault"',
      { instead: 'add "address": "https://vault.example:8200"' },
    ],
    [
      "a duplicate key, with its first place",
      swap('"socket"', '"engine": "/a",\n  "socket"').replace(/}\s*$/, ',"engine": "/b" }'),
      '"engine": "/b"',
      { message: 'the key "engine" is there twice', first: { line: 2, column: 3 } },
    ],
    [
      "an escape that is not needed",
      swap('"socket"', '"s\\u006fcket"'),
      '"s\\u006fcket"',
      { message: "unusual spelling of a string", instead: 'write "socket"' },
    ],
    [
      "a comma after the last member",
      usual.replace(/}\s*$/, ", }"),
      "}",
      {
        message: "is not JSON",
        instead: "write a key in double quotes; no comma may follow the last member",
      },
    ],
    [
      "a comment",
      swap("{", "{ // here"),
      "// here",
      { message: "is not JSON", instead: "JSON has no comments: take it out" },
    ],
  ])("%s: has its place, and a hint what to write", (_, content, token, wanted) => {
    const found = locateFlaws(content).find(({ line, column }) => {
      const lines = content.split("\n");
      return lines[line - 1]?.slice(column - 1).startsWith(token);
    });
    expect(found).toMatchObject(wanted);
  });

  test("carets point at the place, also in a line of a thousand characters", () => {
    const long = JSON.stringify({ ...JSON.parse(usual), sokcet: "/x" });
    for (const content of [swap('"socket"', '"sokcet"'), long]) {
      const [line = "", carets = ""] = locateFlaws(content)[0]?.source ?? [];
      expect(line.length).toBeLessThan(110);
      expect(line.slice(carets.indexOf("^"), carets.lastIndexOf("^") + 1)).toBe('"sokcet"');
    }
  });

  test("all unknown keys are reported at once", () => {
    const content = swap('"socket"', '"sokcet"').replace('"login"', '"logni": 1, "login"');
    expect(locateFlaws(content).map(({ message }) => message.split(" ")[0])).toEqual([
      "sokcet",
      "vault.logni",
    ]);
  });

  test("only the wrong value is shown, and none of a text that is not JSON", () => {
    const secret = "hunter2-hunter2";
    const inside = [
      swap('"login": {', `"login": { "secret_id": "${secret}",`),
      swap('"vault": {', `"vault": { "token": "${secret}",`),
      swap('"vault": {', `"vault": { "\\u0061": "${secret}",`),
      swap('"https://', `"https://user:${secret}@`),
      JSON.stringify({ ...JSON.parse(usual), sokcet: secret }),
      swap('"body": {', `"body": { "password": "\\u0061${secret}",`),
      swap('"body": {', `"body": { "password": "a", "password": "${secret}",`),
      swap('"vault"', `"password": ${secret}, "vault"`),
      swap('"vault"', `"password": "${secret}" "vault"`),
      swap('"vault"', `"password": "${secret}": "vault"`),
      swap('"vault"', `// ${secret}\n "vault"`),
      swap('"vault"', `"${secret}, "vault"`),
    ];
    for (const content of inside) {
      const found = locateFlaws(content);
      expect(content).toContain(secret);
      expect(found.length, content).toBeGreaterThan(0);
      expect(JSON.stringify(found)).not.toContain(secret);
    }
  });

  test("there is one exactly where the server refuses the text", () => {
    fc.assert(
      fc.property(fc.string(), fc.nat(), fc.nat(20), (word, at, gone) => {
        const place = at % usual.length;
        const content = usual.slice(0, place) + word + usual.slice(place + gone);
        expect(locateFlaws(content).length > 0).toBe(findFlaw(content) !== undefined);
      }),
    );
  });
});

describe("what `check` says of a service", () => {
  const digest = `sha256:${"0".repeat(64)}`;
  const service = (match: JsonObject, relax: string[] = []): Service => ({
    match,
    token: app.token,
    relax,
  });
  const labelled = (labels: JsonObject, more: JsonObject = {}): JsonObject => ({
    container: { Config: { Labels: labels } },
    ...more,
  });
  const pinned = (more: JsonObject = {}): JsonObject => ({ container: { Image: digest, ...more } });
  /** Each setting that has to be pinned, by a value that could be any; and changes to that. */
  function whole(changes: Record<string, Json> = {}): JsonObject {
    const match: JsonObject = {};
    const values = { ...Object.fromEntries(PINNED_PATHS.map((path) => [path, null])), ...changes };
    for (const [path, value] of Object.entries({ ...values, "container.Image": digest })) {
      if (value === undefined) continue;
      const keys = path.split(".");
      const last = keys.pop() ?? "";
      let parent = match;
      for (const key of keys) {
        parent[key] ??= {};
        parent = parent[key] as JsonObject;
      }
      parent[last] = value;
    }
    return match;
  }
  const noCode = Object.fromEntries(CODE_VARIABLES.map((name) => [name, null]));
  const without = (variables: JsonObject, name: string) =>
    Object.fromEntries(Object.entries(variables).filter(([key]) => key !== name));
  const docker: Host = { engine: "docker", store: "classic" };
  const socket = "/run/authproxy/authproxy.sock";

  function adviceOn(services: Record<string, Service>, host: Host = docker): Advice {
    const all = advise({ vault: {}, socket, services } as unknown as Config, host);
    return all[Object.keys(services)[0] ?? ""] as Advice;
  }

  test("ranks its selectors: kernel, engine, /proc, image", () => {
    const match = {
      container: { Path: "node", Image: digest },
      process: { exe: "/usr/bin/node" },
      peer: { uid: 1 },
    };
    expect(adviceOn({ a: service(match) }).selectors.map(({ rank, path }) => [rank, path])).toEqual(
      [
        ["kernel", "peer.uid"],
        ["engine", "container.Image"],
        ["/proc", "process.exe"],
        ["image", "container.Path"],
      ],
    );
  });

  test.each<[string, JsonObject, string]>([
    [
      "labels and a uid",
      labelled({ app: "a", stage: "b" }, { peer: { uid: 1 } }),
      "uid and labels only: whoever may start containers here can be this service",
    ],
    [
      "an image",
      pinned(),
      "whoever may start containers here can be this service by this image with other Path, Args, " +
        `Config.Env, Mounts, Config.WorkingDir, Config.Healthcheck and ${PINNED_PATHS.length - 7} more settings`,
    ],
    [
      "a label and an image's name without a digest",
      { container: { Config: { Image: "app:1.2", Labels: { app: "a" } } } },
      "Config.Image and labels only: whoever may start containers here can be this service",
    ],
    [
      "a name with a digest, and a script's interpreter",
      { container: { Path: "/usr/bin/python3.12", Config: { Image: `app@${digest}` } } },
      "whoever may start containers here can be this service by this image with other Args, " +
        "Config.Env, Mounts, Config.WorkingDir, Config.Healthcheck, Mounts of HostConfig and " +
        `${PINNED_PATHS.length - 8} ` +
        'more settings; a script that "/usr/bin/python3.12" runs is authenticated only by all of ' +
        "these together",
    ],
    [
      "an image and every setting",
      whole(),
      "only this image with this command, environment and mounts can be this service",
    ],
    [
      "every variable that loads code",
      whole({ "container.Config.Env": { ...noCode, MODE: "a" } }),
      "only this image with this command and mounts can be this service, with any variable that " +
        "Config.Env does not name",
    ],
    [
      "some variables, and that there is no other",
      whole({ "container.Config.Env": { MODE: "a", "*": null } }),
      "only this image with this command, environment and mounts can be this service",
    ],
    [
      "all but one variable that loads code",
      whole({ "container.Config.Env": without(noCode, "NODE_OPTIONS") }),
      "whoever may start containers here can be this service by this image with other Config.Env",
    ],
    [
      "a part of its tmpfs, to which others can be added",
      whole({ "container.HostConfig.Tmpfs": { "/tmp": "" } }),
      "whoever may start containers here can be this service by this image with other Tmpfs",
    ],
    [
      "its tmpfs, whole",
      whole({ "container.HostConfig.Tmpfs": [{ "/tmp": "" }] }),
      "only this image with this command, environment and mounts can be this service",
    ],
    [
      "a volume, a directory of the host, and the server's socket",
      whole({
        "container.Mounts": [
          { Type: "volume", Name: "data", Source: "/var/lib/docker/volumes/data/_data" },
          { Type: "bind", Source: "/srv/data" },
          { Type: "bind", Source: "/run/authproxy" },
          { Type: "tmpfs", Source: "" },
        ],
      }),
      "only this image with this command, environment and mounts can be this service, and whoever " +
        "writes to volume data, and whoever writes to /srv/data",
    ],
    [
      "a pod",
      { ...whole(), pod: { namespace: "a", container: "b" } },
      "whoever may create pods in namespace a can be this service by this image with another " +
        "seccomp profile, hook or exec probe: of a pod these are the creator's word",
    ],
  ])("says who can be it by %s", (_, match, who) => {
    expect(adviceOn({ a: service(match) }).who).toBe(who);
  });

  test.each(PINNED_PATHS)("does not say `only` where %s is open", (path) => {
    const match = whole({ [path]: undefined as unknown as Json });
    if (path === "container.Image") delete (match.container as JsonObject).Image;
    const { who, open } = adviceOn({ a: service(match) });
    expect(open).toEqual([path]);
    expect(who).not.toMatch(/^only/);
    if (path !== "container.Image") expect(who).toContain(`with other ${shortName(path)}`);
  });

  test("says `only` of Docker alone, and of its platform where the image store has several", () => {
    const whoOn = (host: Host) => adviceOn({ a: service(whole()) }, host).who;
    expect(whoOn({ engine: "podman", store: "classic" })).not.toContain("only");
    expect(whoOn({})).toMatch(/^on Docker only this image/);
    const containerd: Host = { engine: "docker", store: "containerd" };
    expect(whoOn(containerd)).toContain("with other ImageManifestDescriptor.digest");
    const pinnedManifest = whole({ [MANIFEST_PATH]: digest });
    expect(adviceOn({ a: service(pinnedManifest) }, containerd).who).toMatch(/^only/);
  });

  test("says that relaxations let others in, even where everything is pinned", () => {
    expect(adviceOn({ a: service(whole(), ["readonly"]) }).who).toMatch(
      /^only this image .* can be this service, and whatever its relaxations let in$/,
    );
  });

  test("says that what is written to a declared data mount must not be run", () => {
    const data = ["/prometheus"];
    const { who, warnings, ...advice } = adviceOn({ a: { ...service(whole()), data } });
    expect(who).toMatch(
      /^only this image .*, and whatever runs what is written to "\/prometheus"$/,
    );
    expect(advice.data).toEqual(data);
    expect(warnings.join("\n")).not.toContain("runs what its arguments name");
    const interpreted = { ...service(whole({ "container.Path": "/usr/bin/python3" })), data };
    expect(adviceOn({ a: interpreted }).warnings.join("\n")).toContain(
      "/usr/bin/python3 runs what its arguments name, on /prometheus too",
    );
  });

  test("does not take an image's name for a digest", () => {
    const forgedBy = (Image: string) =>
      adviceOn({ a: service({ container: { Config: { Image } } }) }).selectors[0]?.forgedBy;
    expect(forgedBy("app:1.2")).toBe("whoever may name images here");
    expect(forgedBy(`app@${digest}`)).toMatch(/^nobody/);
  });

  test("says what each relaxation opens", () => {
    const names = Object.keys(RELAXATION_OPENS);
    const { relaxed } = adviceOn({ a: service(pinned(), names) });
    expect(relaxed.map(({ check }) => check)).toEqual(names);
    for (const { opens } of relaxed) expect(opens).toMatch(/\w+ \w+/);
  });

  test("says of each relaxation what docs/policy.md says", () => {
    const page = readFileSync(join(root, "docs/policy.md"), "utf8");
    const table = page.slice(page.indexOf("| check | relaxed, it opens |"));
    const rows = [...table.matchAll(/^\| `(\w+)` \| ([^|]+) \|$/gm)];
    const documented = rows.map(([, check, opens = ""]) => [check, opens.replaceAll("`", "")]);
    expect(documented).toEqual(Object.entries(RELAXATION_OPENS));
  });

  const images = [{ Id: digest, RepoDigests: [`app@sha256:${"1".repeat(64)}`] }];
  const store = "classic";
  const container: JsonObject = {
    Image: "",
    Name: "/a",
    Args: [],
    State: { Pid: 1 },
    Config: { User: "", Labels: {}, Env: null },
    HostConfig: { ReadonlyRootfs: true },
  };
  const ofImage = (Image: string) => ({ container: { Image } });
  const withConfig = (Config: JsonObject) => pinned({ Config });
  // The warning, a service that has it, and one that does not.
  test.each<
    [
      string,
      { match: JsonObject; relax?: string[] },
      { match: JsonObject; relax?: string[] },
      Host?,
    ]
  >([
    [
      "uid 0",
      { match: labelled({ app: "a" }, { peer: { uid: [1, 0] } }) },
      { match: labelled({ app: "a" }, { peer: { uid: [1, 2] } }) },
    ],
    [
      "a pid",
      { match: labelled({ app: "a" }, { peer: { pid: 7 } }) },
      { match: labelled({ app: "a" }, { peer: { gid: 7 } }) },
    ],
    [
      "no security label is pinned, and this kernel has selinux",
      { match: pinned() },
      { match: { ...pinned(), peer: { label: "a" } } },
      { mac: "selinux" },
    ],
    [
      "is Compose's own",
      { match: labelled({ "com.docker.compose.service": "a" }) },
      { match: labelled({ "com.example.service": "a" }) },
    ],
    [
      "process.init: false can never hold",
      { match: { ...pinned(), process: { init: false } } },
      { match: { ...pinned(), process: { init: false } }, relax: ["init"] },
    ],
    [
      "process.alone: false can never hold",
      { match: { ...pinned(), process: { alone: false } } },
      { match: { ...pinned(), process: { alone: true } } },
    ],
    [
      `is the digest of a manifest, and this engine's classic store uses that of the configuration: write ${digest}`,
      { match: ofImage(`sha256:${"1".repeat(64)}`) },
      { match: ofImage(digest) },
      { images, store },
    ],
    [
      "this engine has no image with that digest",
      { match: ofImage(`sha256:${"2".repeat(64)}`) },
      { match: ofImage(digest) },
      { images, store },
    ],
    [
      "container.Config.User can never hold: the engine says a string there",
      { match: withConfig({ User: 1001 }) },
      { match: withConfig({ User: "1001" }) },
      { container },
    ],
    [
      "container.Args can never hold: the engine says a list there",
      { match: pinned({ Args: "a.js" }) },
      { match: pinned({ Args: ["a.js"] }) },
      { container },
    ],
    [
      "container.State can never hold: the engine says an object there",
      { match: pinned({ State: ["running"] }) },
      { match: pinned({ State: { Pid: [1] } }) },
      { container },
    ],
    [
      "container.HostConfig.ReadOnlyRootfs is not a name that the engine uses: did you mean ReadonlyRootfs?",
      { match: pinned({ HostConfig: { ReadOnlyRootfs: true } }) },
      { match: pinned({ HostConfig: { ReadonlyRootfs: true, Sysctls: { a: "b" } } }) },
      { container },
    ],
    [
      "container.HostConfig.Tmpfs can never hold: the engine says an object there",
      { match: pinned({ HostConfig: { Tmpfs: [] } }) },
      { match: pinned({ HostConfig: { Tmpfs: [{ "/tmp": "" }], CapDrop: null } }) },
      { container: { ...container, HostConfig: { Tmpfs: { "/a": "" }, CapDrop: [] } } },
    ],
    [
      "container.Config.Env can never hold: the engine says a list there",
      { match: withConfig({ Env: "A=b" }) },
      { match: withConfig({ Env: { A: "b" } }) },
      { container: { ...container, Config: { Env: [] } } },
    ],
    [
      "container.CapAdd is not where the engine has it: write container.HostConfig.CapAdd",
      { match: pinned({ CapAdd: null }) },
      { match: pinned({ HostConfig: { CapAdd: null, Annotations: null } }) },
      { container },
    ],
    [
      `container.Name can never hold: the engine's names begin with "/"`,
      { match: pinned({ Name: "a" }) },
      { match: pinned({ Name: ["a", "/b"] }) },
      { container },
    ],
  ])("warns: %s, and not where there is no reason", (warning, warned, silent, host = {}) => {
    const warnings = ({ match, relax }: { match: JsonObject; relax?: string[] }) =>
      adviceOn({ a: service(match, relax) }, host).warnings.filter((text) =>
        text.includes(warning),
      );
    expect(warnings(warned)).toHaveLength(1);
    expect(warnings(silent)).toEqual([]);
  });

  const a = labelled({ app: "a" }, { peer: { uid: 1 } });
  test.each<[string, JsonObject, JsonObject, boolean]>([
    ["the same", a, a, true],
    ["one selector less", a, labelled({ app: "a" }), true],
    ["one selector more", a, labelled({ app: "a", b: "c" }, { peer: { uid: 1 } }), false],
    ["another label", a, labelled({ app: "b" }), false],
    ["any of two, one of them this", a, labelled({ app: ["a", "b"] }), true],
    ["one of this one's two", labelled({ app: ["a", "b"] }), labelled({ app: "a" }), false],
    ["a list of a list, longer", pinned({ Args: ["a"] }), pinned({ Args: ["a", "b"] }), false],
    ["a list of a list, equal", pinned({ Args: ["a"] }), pinned({ Args: ["a"] }), true],
  ])("beside %s: always ambiguous or not", (_, mine, others, ambiguous) => {
    const { warnings } = adviceOn({ mine: service(mine), other: service(others) });
    expect(warnings.some((warning) => /other.*always refused as ambiguous/.test(warning))).toBe(
      ambiguous,
    );
  });

  test("warns of a client whose token others of its uid can take, and of uid 0", () => {
    const warned = (uid: number, process?: JsonObject) =>
      adviceOn({
        a: service(labelled({ app: "a" }, { peer: { uid }, ...(process && { process }) })),
      }).warnings.map((warning) => warning.split(" ")[0]);
    expect(warned(1)).toEqual(["process.dumpable"]);
    expect(warned(1, { dumpable: false })).toEqual([]);
    expect(warned(0)).toEqual(["uid"]);
  });

  test("names the services that have the same uid, and no others", () => {
    const process = { dumpable: false };
    const of = (uid: number, app: string) => service(labelled({ app }, { peer: { uid }, process }));
    const { warnings } = adviceOn({ a: of(1, "a"), b: of(1, "b"), c: of(2, "c"), d: of(1, "d") });
    expect(warnings).toEqual([expect.stringContaining("its uid is also that of b and d")]);
  });
});

describe("of the host", () => {
  const sysOf = (files: Record<string, string>) => {
    const sys = mkdtempSync(join(scratch, "sys-"));
    for (const [name, content] of Object.entries(files)) {
      mkdirSync(join(sys, dirname(name)), { recursive: true });
      writeFileSync(join(sys, name), content);
    }
    return sys;
  };
  test.each<[string, Record<string, string>, string | undefined]>([
    ["none", {}, undefined],
    ["modules without labels", { "kernel/security/lsm": "capability,landlock,yama" }, undefined],
    ["SELinux", { "kernel/security/lsm": "capability,selinux,bpf" }, "selinux"],
    ["AppArmor", { "kernel/security/lsm": "capability,yama,apparmor" }, "apparmor"],
    ["SELinux, without securityfs", { "fs/selinux/enforce": "1" }, "selinux"],
    ["AppArmor, without securityfs", { "module/apparmor/parameters/enabled": "Y\n" }, "apparmor"],
    ["AppArmor, switched off", { "module/apparmor/parameters/enabled": "N\n" }, undefined],
  ])("the security module that labels is known: %s", (_, files, found) => {
    expect(securityModule(sysOf(files))).toBe(found);
  });

  test.each([
    [[{ Name: "Engine" }, { Name: "containerd" }], "docker"],
    [[{ Name: "Podman Engine" }, { Name: "Conmon" }], "podman"],
    [null, "docker"],
  ])("the engine is known: %j", (Components, kind) => {
    expect(engineKind({ Components })).toBe(kind);
  });

  test.each([
    [[["Backing Filesystem", "extfs"]], "classic"],
    [[["driver-type", "io.containerd.snapshotter.v1"]], "containerd"],
    [null, "classic"],
  ])("the kind of its image store is known: %j", (DriverStatus, kind) => {
    expect(imageStore({ DriverStatus })).toBe(kind);
  });
});

test("there is advice for each reason of docs/audit.md, and for no other", () => {
  const page = readFileSync(join(root, "docs/audit.md"), "utf8");
  const table = page.slice(page.indexOf("| reason |"));
  const documented = [...table.matchAll(/^\| `([a-z-]+)` \|/gm)].map(([, reason]) => reason);
  expect(documented.length).toBeGreaterThan(20);
  expect(REASONS.toSorted()).toEqual(documented.toSorted());
});

describe("the last refusal in an audit stream", () => {
  const id = "0123456789ab".repeat(5);
  const line = (fields: JsonObject) =>
    JSON.stringify({ time: "2026-01-01T00:00:00.000Z", event: "refused", pid: 7, ...fields });
  const lines = [
    line({ reason: "no-match", detail: { service: "app" }, pid: 8 }),
    line({ reason: "ambiguous", detail: { services: ["one", "two"] } }),
    `Jan 01 00:00:00 host authproxy[12]: ${line({ reason: "readonly", service: "db", container: id })}`,
    line({ event: "granted", service: "db", reason: "no" }),
    line({ event: "unavailable", reason: "vault", service: "web", container: "f".repeat(64) }),
    line({ reason: "cut", service: "db" }).slice(0, -5),
    "-- Boot 4 --",
    '{"time":5,"event":"refused","service":"db"}',
  ];
  test.each<[string, string[], string | undefined]>([
    ["of anything", [], "vault"],
    ["of a service that was chosen", ["db"], "readonly"],
    ["of the service that was nearest", ["app"], "no-match"],
    ["of one of two services that match", ["two"], "ambiguous"],
    ["of a container, by the beginning of its id", ["012345"], "readonly"],
    ["of a container, by another part of its id", ["123456"], undefined],
    ["of a container, by fewer than four characters", ["0"], undefined],
    ["of a pid", ["8"], "no-match"],
    ["of a name that the engine has resolved", ["timeline", id], "readonly"],
    ["of a stranger", ["stranger"], undefined],
  ])("%s", async (_, whom, reason) => {
    expect((await lastRefusal(lines, whom))?.reason).toBe(reason);
  });
});

describe("the command", () => {
  test.each<[string, string[], number, string]>([
    ["no command", [], 64, "no command was given"],
    ["an unknown command", ["chekc"], 64, "no such command: chekc"],
    ["a name that every object has", ["constructor"], 64, "no such command: constructor"],
    ["an unknown option", ["check", "--cofig", "x"], 64, "--cofig"],
    ["a second subject", ["explain", "1", "2"], 64, "unexpected word: 2"],
    ["a subject where none belongs", ["check", "x"], 64, "check takes no argument: x"],
    ["a missing pid or container", ["explain"], 64, "explain needs a pid, a container or a pod"],
    ["a missing container", ["suggest"], 64, "suggest needs a container"],
    ["a file that does not exist", ["check", "--config", "/nowhere"], 66, "ENOENT"],
    ["a container that does not exist", ["suggest", "no-such-container"], 66, "has no container"],
    ["a stream that does not exist", ["explain", "--last", "--audit", "/nowhere"], 66, "ENOENT"],
    ["a stream without a refusal", ["explain", "--last", "x"], 66, "no refusal of x"],
  ])("reports %s in one line, with its exit code", async (_, words, status, message) => {
    const ran = await authproxy(words);
    expect(ran).toMatchObject({ status, stdout: "" });
    expect(ran.stderr).toMatch(/^authproxy: error: .*\n(authproxy: hint: .*\n)?$/);
    expect(ran.stderr).toContain(message);
  });

  test("prints its usage, and exits 0", async () => {
    const { status, stdout } = await authproxy(["--help"]);
    expect(status).toBe(0);
    for (const name of ["check", "explain", "suggest"]) expect(stdout).toContain(`\n  ${name} `);
  });

  test("shows where a configuration is wrong, and what to write, and exits 78", async () => {
    const file = fileOf(usual.replace('"socket"', '"sokcet"'));
    const { status, stdout, stderr } = await authproxy(["check", "--config", file]);
    expect({ status, stdout }).toEqual({ status: 78, stdout: "" });
    expect(stderr.split("\n")).toEqual([
      expect.stringMatching(`^authproxy: error: ${file}:2:3: sokcet is not a known key`),
      `  2 |   "sokcet": ${"·".repeat('"/run/authproxy/authproxy.sock"'.length)},`,
      "    |   ^^^^^^^^",
      'authproxy: hint: did you mean "socket"?',
      "",
    ]);
  });

  test("prints the same flaws as JSON", async () => {
    const file = fileOf(usual.replace('"socket"', '"sokcet"'));
    const { status, stdout, stderr } = await authproxy(["check", "--json", "--config", file]);
    expect({ status, stderr }).toEqual({ status: 78, stderr: "" });
    expect(JSON.parse(stdout)).toMatchObject({ file, flaws: [{ line: 2, column: 3 }] });
  });

  test("does not read a configuration that others can write", async () => {
    const file = fileOf(usual);
    chmodSync(file, 0o606);
    const { status, stderr } = await authproxy(["check", "--config", file]);
    expect(status).toBe(78);
    expect(stderr).toContain("others can write it (try: chmod go-w");
  });

  test("says who can be a service, in colour where that is wanted, without values of Env", async () => {
    const config = JSON.parse(usual.replace("/etc/authproxy/ca.pem", bao.caFile));
    config.services.app.match.container.Config.Env = ["PASSWORD=hunter2"];
    const words = ["check", "--config", fileOf(JSON.stringify(config))];
    const plain = await authproxy(words, "", { NO_COLOR: "1" });
    expect(plain.status).toBe(0);
    expect(plain.stdout).toContain("can be this service");
    expect(plain.stdout).not.toMatch(/\x1b|hunter2/);
    expect((await authproxy([...words, "--json"])).stdout).not.toContain("hunter2");
    expect((await authproxy(words, "", { FORCE_COLOR: "1" })).stdout).toContain("\x1b[1mapp\x1b[");
  });

  test("checks without an engine too, and says what it leaves out", async () => {
    const usable = JSON.parse(usual.replace("/etc/authproxy/ca.pem", bao.caFile));
    const config = { ...usable, engine: "/nowhere.sock" };
    const { status, stdout, stderr } = await authproxy([
      ...["check", "--config", fileOf(JSON.stringify(config))],
    ]);
    expect(status).toBe(0);
    expect(stdout).toContain("can be this service");
    expect(stderr).toContain("are not checked against the engine");
  });
});

describe("a running container", () => {
  const secret = randomUUID();
  async function factsOf(container: Container): Promise<Facts> {
    const { facts } = await observe((await container.inspect()).State.Pid);
    if (!facts) throw new Error("it cannot be inspected");
    return facts;
  }
  const idle = { entrypoint: ["sleep", "600"], command: [] };

  test("whose image was removed is explained so, and suggested a service all the same", async () => {
    await using stage = new Stage();
    const config = stage.configure();
    const context = mkdtempSync(join(scratch, "image-"));
    writeFileSync(join(context, "Dockerfile"), `ARG BASE\nFROM \${BASE}\nENV GONE=cli\n`);
    const gone = await buildImage("authproxy-test-gone-cli", context, "Dockerfile", image);
    const container = await stage.container({ ...idle, image: gone });
    await container.stop();
    const { Image } = await container.inspect();
    const { container: engine } = await getContainerRuntimeClient();
    await engine.dockerode.getImage(Image).remove({ force: true });
    await container.restart();

    const explained = await authproxy(["explain", container.id, "--config", config]);
    expect(explained.status).toBe(77);
    expect(explained.stdout).toContain("refused: image-gone");
    expect(explained.stdout).toContain("the engine no longer has the container's image");
    expect(explained.stdout).not.toMatch(/made up|forge/);
    const running = await authproxy(["check", "--running", "--config", config]);
    expect(running.stdout).toContain(
      "\nimage-gone  the engine no longer has the container's image",
    );
    const suggested = await authproxy(["suggest", container.id]);
    expect(suggested.status).toBe(0);
    const [service] = Object.values<Service>(JSON.parse(suggested.stdout));
    expect(service?.match).toMatchObject({ container: { Image } });
    expect(suggested.stderr).toContain("the engine no longer has the container's image");
    expect(suggested.stderr).toMatch(/Config\.Env leaves .*GONE.* open/);
  });

  test("is suggested a service by which it gets a token, and another container does not", async () => {
    await using stage = new Stage();
    stage.configure(); // makes the directory that containers mount
    const container = await stage.container(); // its client waits for the socket
    const { status, stdout, stderr } = await authproxy(["suggest", container.id]);
    expect(status).toBe(0);
    const [[name, service] = []] = Object.entries<Service>(JSON.parse(stdout));
    expect(service?.match).toMatchObject({
      peer: { uid: 1001 },
      container: {
        Image: (await container.inspect()).Image,
        Path: "node",
        Args: expect.arrayContaining(["/authproxy/authproxy.js"]),
        Config: {
          Labels: { app: "app" },
          Env: { PATH: expect.any(String), "*": null },
        },
        Mounts: [{ Destination: "/run/authproxy", RW: false }],
      },
    });
    expect(service?.relax).toEqual([]);
    expect(stderr).toMatch(/^authproxy: note: auth\/token\/create\/\S+ is a guess.*\n$/);
    const services = { [name ?? ""]: { ...service, token: app.token } } as Record<string, Service>;
    const server = await stage.server({ services } as unknown as JsonObject);
    await container.says(STARTED);
    await server.until({ event: "granted", container: container.id, service: name ?? "" });
    const others = { environment: { NODE_OPTIONS: "--no-warnings" } };
    const other = await stage.container(others);
    await server.until({ event: "refused", container: other.id, reason: "no-match" });
    const config = join(stage.directory, "authproxy.json");
    const last = await authproxy(["explain", "--last", other.id], server.stdout);
    expect(last.status).toBe(0);
    expect(last.stdout).toContain("container.Config.Env.* differs (values are not shown)");
    expect(last.stdout).toContain("`authproxy suggest` writes one");
    const checked = await authproxy(["check", "--config", config]);
    expect(checked.status).toBe(0);
    expect(checked.stdout).toContain(
      "only this image with this command, environment and mounts can be",
    );
    expect(checked.stdout).not.toContain("never hold");
  });

  test("is suggested no value of its environment that was given at its start, and a note says so", async () => {
    await using stage = new Stage();
    stage.configure();
    const container = await stage.container({ ...idle, environment: { PASSWORD: secret } });
    const { stdout, stderr } = await authproxy(["suggest", container.id]);
    expect(stdout + stderr).not.toContain(secret);
    const [service] = Object.values<Service>(JSON.parse(stdout));
    const env = ["container", "Config", "Env"];
    expect(service?.match).toHaveProperty([...env, "AUTHPROXY_WAIT"], "30");
    expect(service?.match).toHaveProperty([...env, "LD_PRELOAD"], null);
    expect(service?.match).not.toHaveProperty([...env, "PASSWORD"]);
    expect(stderr).toContain("Config.Env leaves PASSWORD open: the values were given");
  });

  test("is suggested no label that its image declares", async () => {
    await using stage = new Stage();
    stage.configure();
    const facts = await factsOf(await stage.container(idle));
    const declared = { ...facts, imageLabels: { labels: { app: "app" }, areOfManifest: true } };
    const labels = (of: Facts) => JSON.stringify(Object.values(suggest(of, []).services)[0]?.match);
    expect(labels(facts)).toContain('"app":"app"');
    expect(labels(declared)).not.toContain('"app":"app"');
  });

  test("is suggested the relaxations that it needs, with what each opens", async () => {
    await using stage = new Stage();
    stage.configure();
    const facts = await factsOf(await stage.container({ ...idle, writable: true }));
    const relaxations = (of: Facts) => Object.values(suggest(of, []).services)[0]?.relax;
    expect(relaxations(facts)).toEqual(["readonly"]);
    expect(suggest(facts, []).notes.join("\n")).toContain(
      "relax readonly: code inside may overwrite",
    );
    const { HostConfig, Config, Mounts } = facts.container;
    const changed = (changes: JsonObject) =>
      ({ ...facts, container: { ...facts.container, ...changes } }) as Facts;
    const readOnly = { ...HostConfig, ReadonlyRootfs: true };
    const withInit = changed({ HostConfig: { ...readOnly, Init: true } });
    expect(relaxations(withInit)).toEqual(["init", "alone"]);
    const pinned = { ...Config, Image: `app@sha256:${"0".repeat(64)}`, Env: null };
    const byName = changed({ Config: pinned as unknown as JsonObject });
    expect(Object.values(suggest(byName, []).services)[0]?.match.container).toMatchObject({
      Config: { Image: pinned.Image, Env: [null] },
    });
    for (const each of [facts, withInit, byName])
      expect(choose(documentOf(each), Object.entries(suggest(each, []).services))[0]).toBe(
        String(facts.container.Name).slice(1),
      );
    const unnamed = { Type: "volume", Name: "0".repeat(64), Destination: "/data", RW: true };
    const onVolume = (Path: string) =>
      suggest(changed({ HostConfig: readOnly, Path, Args: ["/data/x"], Mounts: [unnamed] }), []);
    expect(Object.values(onVolume("prometheus").services)[0]).toMatchObject({
      data: ["/data"],
      relax: [],
    });
    expect(onVolume("prometheus").notes.join("\n")).toContain(
      "data /data: the command may name it",
    );
    const interpreted = Object.values(onVolume("python3").services)[0];
    expect(interpreted).toMatchObject({ relax: ["readonly"] });
    expect(interpreted).not.toHaveProperty("data");
    const anonymous = suggest(changed({ Mounts: [...Mounts, unnamed] }), []);
    expect(Object.values(anonymous.services)[0]?.match.container).not.toHaveProperty("Mounts");
    expect(anonymous.notes.join("\n")).toContain("the volume at /data has no name");
  });

  test("is explained with its identity, each check, each service and the answer", async () => {
    await using stage = new Stage();
    const other = { match: { container: { Config: { Labels: { app: "b" }, User: "0" } } } };
    const services = { other: { ...other, token: app.token }, app };
    const config = stage.configure({ services });
    const right = await stage.container({ ...idle, environment: { PASSWORD: secret } });
    const { stdout, status } = await authproxy(["explain", right.id, "--config", config]);
    expect(status).toBe(0);
    expect(stdout).not.toContain(secret);
    expect(stdout).toMatch(/peer\.uid +1001\n/);
    expect(stdout).toMatch(/container\.Config\.Env +\[.*"PASSWORD=…"/);
    expect(stdout).toMatch(/holds +readonly\n/);
    expect(stdout).toMatch(/\? +once +only the server knows\n/);
    expect(stdout).toMatch(
      /matches +app\n +differs +other +container\.Config\.Labels\.app: wanted "b", seen "app", and 1 more\n/,
    );
    expect(stdout).toContain('granted: it would get a token as "app", once');
    const machine = await authproxy(["explain", right.id, "--json", "--config", config]);
    expect(machine.stdout).not.toContain(secret);
    expect(JSON.parse(machine.stdout)).toMatchObject({
      answer: "granted",
      service: "app",
      identity: { container: { Id: right.id } },
    });
  });

  test("is explained with the reason for which it would be refused", async () => {
    await using stage = new Stage();
    const config = stage.configure();
    const words = ["--config", config];
    const writable = await stage.container({ ...idle, writable: true });
    const readonly = await authproxy(["explain", writable.id, ...words]);
    expect(readonly.status).toBe(77);
    expect(readonly.stdout).toMatch(/fails +readonly +\{"part":"root","mount":"\/"\}\n/);
    expect(readonly.stdout).toContain("Start it with --read-only");
    const stranger = await stage.container({ ...idle, labels: { app: "stranger" } });
    const unmatched = await authproxy(["explain", stranger.id.slice(0, 12), ...words]);
    expect(unmatched.status).toBe(77);
    expect(unmatched.stdout).toContain(
      'container.Config.Labels.app: wanted "app", seen "stranger"',
    );
    await stranger.kill();
    const dead = await authproxy(["explain", stranger.id, ...words]);
    expect(dead).toMatchObject({ status: 66, stdout: "" });
    expect(dead.stderr).toContain(`explain --last ${stranger.id.slice(0, 12)}`);
  });

  test("is explained for a process that is not its first, and a process of the host without one", async () => {
    await using stage = new Stage();
    const container = await stage.container(idle);
    const { container: engine } = await getContainerRuntimeClient();
    const command = { Cmd: ["sleep", "600"] };
    const later = await engine.dockerode.getContainer(container.id).exec(command);
    await later.start({ Detach: true });
    const { Pid: pid } = await later.inspect();
    const explanation = explain(await observe(pid), { app });
    expect(explanation).toMatchObject({ answer: "refused", reason: "init", service: "app" });
    expect(explain(await observe(process.pid), { app })).toMatchObject({
      answer: "refused",
      reason: "no-container",
      services: [],
    });
    expect(explain(await observe(4_194_305), { app })).toMatchObject({ reason: "exited" });
  });

  test("is explained without the value of a search path that is in a volume", async () => {
    await using stage = new Stage();
    stage.configure();
    const facts = await factsOf(await stage.container(idle));
    const { container } = facts;
    const Env = hideValues(["JAVA_OPTIONS=-cp /data -Dpassword=hunter2"]);
    const mount = { Destination: "/data", RW: true };
    const changed = { Config: { ...container.Config, Env }, Mounts: [mount] };
    const seen = {
      facts: { ...facts, container: { ...container, ...changed } as Facts["container"] },
    };
    const explanation = explain(seen, { app });
    expect(explanation.checks.find(({ name }) => name === "readonly")).toMatchObject({
      holds: false,
      detail: { part: "JAVA_OPTIONS", mount: "/data" },
    });
    expect(JSON.stringify(explanation)).not.toContain("hunter2");
  });
});

test("a refusal is explained from the audit stream after its container is gone", async () => {
  const stage = new Stage();
  const server = await stage.server({ vault: vaultAt(bao.address) });
  const container = await stage.container({ image, labels: { app: "stranger" } });
  await container.ended;
  await server.until({ event: "refused", container: container.id });
  const journal = server.stdout.replaceAll(/^/gm, "Jan 01 00:00:00 host authproxy[7]: ");
  const named = (await container.inspect()).Name.slice(1);
  const file = fileOf(journal);
  const byName = await authproxy(["explain", "--last", named, "--audit", file]);
  expect(byName.stdout).toContain('wanted "app", seen "stranger"');
  await stage[Symbol.asyncDispose](); // the container and the server are gone
  for (const words of [[], ["app"], [container.id.slice(0, 12)]]) {
    const { status, stdout } = await authproxy(["explain", "--last", ...words], journal);
    expect(status).toBe(0);
    expect(stdout).toContain("refused: no-match");
  }
  const machine = await authproxy(["explain", "--last", "--json", "--audit", "-"], journal);
  expect(JSON.parse(machine.stdout)).toMatchObject({ container: container.id, reason: "no-match" });
});
