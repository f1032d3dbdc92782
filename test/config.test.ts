// Question: does the server accept a configuration only as config.schema.json allows it, and from a
// file that nobody else can write? Does it say in one line what is wrong?
import { execFileSync, spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { loadConfig } from "../server/config.ts";
import { LeaseFiles } from "../server/lease-files.ts";
import { findFlaw } from "../server/schema.ts";
import { readTrustedFile } from "../server/trusted-file.ts";

const main = join(import.meta.dirname, "../server/main.ts");
const trustedFile = join(import.meta.dirname, "../server/trusted-file.ts");
const cases = join(import.meta.dirname, "fixtures/config");
const usual = readFileSync(join(cases, "valid/usual.json"), "utf8");

/** The cases of a folder, named by the fact that they show. */
function casesIn(folder: string): { name: string; text: string; file: string }[] {
  const names = readdirSync(join(cases, folder)).filter((name) => name.endsWith(".json"));
  return names.map((name) => {
    const file = join(cases, folder, name);
    return { name: name.replace(".json", ""), text: readFileSync(file, "utf8"), file };
  });
}

let directory: string;
let file: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "authproxy-config-"));
  file = join(directory, "authproxy.json");
});
/** The usual configuration, with a certificate that exists. */
function usable(): string {
  const certificate = join(directory, "ca.pem");
  writeFileSync(certificate, "-----BEGIN CERTIFICATE-----", { mode: 0o644 });
  return usual.replace("/etc/authproxy/ca.pem", certificate);
}
afterEach(() => rmSync(directory, { recursive: true, force: true }));

describe("a configuration is accepted:", () => {
  test.each(casesIn("valid"))("$name", ({ text }) => {
    expect(findFlaw(text)).toBeUndefined();
  });

  test("with any white space between its words", () => {
    const spaces = fc.array(fc.constantFrom(" ", "\t", "\r", "\n")).map((all) => all.join(""));
    fc.assert(
      fc.property(spaces, (space) => {
        const text = JSON.stringify(JSON.parse(usual), null, space.slice(0, 10));
        expect(findFlaw(space + text + space)).toBeUndefined();
      }),
    );
  });
});

describe("a configuration is refused, in one line that says where:", () => {
  test.each(casesIn("invalid"))("$name", ({ text, file }) => {
    const message = findFlaw(text)?.message;
    expect(message).toContain(readFileSync(file.replace(/json$/, "txt"), "utf8").trim());
    expect(message).not.toContain("\n");
  });

  test("a text that is not JSON, and no part of it is quoted", () => {
    fc.assert(
      fc.property(fc.string({ minLength: 1 }), fc.nat(), (word, at) => {
        const secret = `<${word}>`;
        const place = at % usual.length;
        const text = `${usual.slice(0, place)}${secret}${usual.slice(place)}`;
        const flaw = findFlaw(text);
        if (flaw?.kind === "not-json")
          expect(flaw.message).toMatch(/^is not JSON( \(line \d+ column \d+\))?$/);
      }),
    );
  });

  test("an unknown key in any of its objects", () => {
    const strict = [[], ["vault"], ["vault", "login"], ["services", "app"]].concat(
      [[], ["peer"]].map((rest) => ["services", "app", "match", ...rest]),
      [["services", "app", "token"]],
    );
    const key = fc.string().filter((text) => !/^\d+$/.test(text) && text !== "$schema");
    fc.assert(
      fc.property(fc.constantFrom(...strict), key, (path, unknown) => {
        const config = JSON.parse(usual);
        const known = path.reduce((part, name) => part[name], config);
        fc.pre(!Object.hasOwn(known, unknown));
        Object.defineProperty(known, unknown, { value: null, enumerable: true });
        expect(findFlaw(JSON.stringify(config))).toBeDefined();
      }),
    );
  });
});

describe("a file is read", () => {
  test("that belongs to root or the server's user, and that nobody else can write", () => {
    writeFileSync(file, usual, { mode: 0o600 });
    expect(readTrustedFile(file)).toBe(usual);
    chmodSync(file, 0o644);
    writeFileSync(file, usable());
    expect(loadConfig(file).services).toEqual(JSON.parse(usual).services);
  });

  test.each([0o620, 0o602, 0o666])("but not with mode %o", (mode) => {
    writeFileSync(file, usual);
    chmodSync(file, mode);
    expect(() => readTrustedFile(file)).toThrow(`${file}: others can write it`);
  });

  test.runIf(process.getuid?.() === 0)("but not of another user", () => {
    writeFileSync(file, usual, { mode: 0o600 });
    chownSync(file, 65534, 0);
    expect(() => readTrustedFile(file)).toThrow(`${file}: belongs to uid 65534`);
  });
});

describe.runIf(process.getuid?.() === 0)("a file is read where its directory", () => {
  const read = (path: string) => {
    try {
      return readTrustedFile(path);
    } catch (error) {
      return (error as Error).message;
    }
  };
  const make = (path: string, mode: number, uid = 0) => {
    mkdirSync(path);
    chmodSync(path, mode);
    chownSync(path, uid, 0);
  };
  const trusted = "/tmp is sticky, and what is in it is ours";
  let inner: string;
  let outer: string;
  beforeEach(() => {
    outer = join(directory, "outer");
    inner = join(outer, "inner");
    file = join(inner, "file");
  });
  /** A file in DIRECTORY/outer/inner, of these modes and owners. */
  function nested(outerMode: number, innerMode: number, outerUid = 0, innerUid = 0, fileUid = 0) {
    make(outer, 0o755);
    make(inner, 0o755);
    writeFileSync(file, trusted, { mode: 0o644 });
    chownSync(file, fileUid, 0);
    chownSync(inner, innerUid, 0);
    chmodSync(inner, innerMode);
    chownSync(outer, outerUid, 0);
    chmodSync(outer, outerMode);
  }

  test.each([
    ["nobody else can write", 0o755, 0o700],
    ["is sticky, and the file is ours", 0o755, 0o1777],
    ["stands in a sticky one, and is ours", 0o1777, 0o755],
  ])("%s", (_, outerMode, innerMode) => {
    nested(outerMode, innerMode);
    expect(read(file)).toBe(trusted);
  });

  test.each([
    ["others can write", 0o755, 0o757, [0, 0, 0], "inner: others can write it (try: chmod go-w"],
    ["a group can write", 0o755, 0o775, [0, 0, 0], "inner: others can write it"],
    ["stands where others can write", 0o777, 0o755, [0, 0, 0], "outer: others can write it"],
    ["is somebody else's", 0o755, 0o755, [0, 65534, 0], "inner: belongs to uid 65534"],
    ["stands in somebody else's", 0o755, 0o755, [65534, 0, 0], "outer: belongs to uid 65534"],
    ["is sticky, but somebody else's", 0o755, 0o1777, [0, 65534, 0], "inner: belongs to uid 65534"],
    [
      "is sticky, and the file is not ours",
      0o755,
      0o1777,
      [0, 0, 65534],
      "inner: others can write",
    ],
    ["stands in a sticky one, not ours", 0o1777, 0o755, [0, 65534, 0], "outer: others can write"],
  ])("%s: it is not", (_, outerMode, innerMode, [a, b, c], message) => {
    nested(outerMode, innerMode, a, b, c);
    expect(read(file)).toContain(message);
  });

  test("is that of a link in an open one: it is not", () => {
    nested(0o777, 0o755);
    const safe = join(directory, "safe");
    writeFileSync(safe, trusted);
    const link = join(outer, "link");
    symlinkSync(safe, link);
    expect(read(link)).toContain(`${outer}: others can write it`);
    // Nor where that link is on the way of another.
    const first = join(directory, "first");
    symlinkSync(link, first);
    expect(read(first)).toContain(`${outer}: others can write it`);
  });

  test("is reached by a link into an open one: it is not", () => {
    nested(0o777, 0o755);
    const link = join(directory, "link");
    symlinkSync("outer/inner", link); // relative
    expect(read(join(link, "file"))).toContain(`${outer}: others can write it`);
  });

  test("is reached by links between safe ones, as Kubernetes makes them", () => {
    nested(0o755, 0o755);
    symlinkSync("inner", join(outer, "..data"));
    symlinkSync("..data/file", join(outer, "file"));
    expect(read(join(outer, "file"))).toBe(trusted);
  });

  test("of a link is left by .. as the kernel leaves it", () => {
    nested(0o755, 0o755);
    const other = join(directory, "other");
    mkdirSync(join(other, "deep"), { recursive: true });
    writeFileSync(join(other, "file"), "the one that is opened");
    symlinkSync(join(other, "deep"), join(outer, "link"));
    expect(read(`${outer}/link/../file`)).toBe("the one that is opened");
  });

  test("is on a link that goes round in circles: it is not", () => {
    symlinkSync("a", join(directory, "b"));
    symlinkSync("b", join(directory, "a"));
    expect(read(join(directory, "a"))).toContain("ELOOP");
  });

  test("is a volume of Kubernetes, of mode 0777 and mounted read-only", () => {
    nested(0o755, 0o777);
    execFileSync("mount", ["--bind", inner, inner]);
    try {
      expect(read(file)).toContain("inner: others can write it");
      execFileSync("mount", ["-o", "remount,bind,ro", inner]);
      expect(read(file)).toBe(trusted);
    } finally {
      execFileSync("umount", [inner]);
    }
  });

  test("is open and lies on a file system that is read-only to this process alone: it is not", () => {
    nested(0o755, 0o777);
    // As a unit of systemd with ProtectSystem=strict sees it.
    const words = ["--mount", "--propagation", "private", "sh", "-ec"];
    const script = 'mount -o remount,bind,ro / && exec "$@"';
    const program = `console.log((await import("${trustedFile}")).readTrustedFile("${file}"))`;
    const node = [process.execPath, "--input-type=module", "-e", program];
    const { stderr } = spawnSync("unshare", [...words, script, "sh", ...node], {
      encoding: "utf8",
    });
    expect(stderr).toContain("inner: others can write it");
  });

  test("is that of the state, too", () => {
    nested(0o777, 0o755);
    expect(() => new LeaseFiles(join(outer, "state"))).toThrow(`${outer}: others can write it`);
  });
});

describe("a certificate", () => {
  const read = (text: string) => {
    const certificate = join(directory, "ca.pem");
    writeFileSync(certificate, `-----BEGIN CERTIFICATE-----${text}`);
    writeFileSync(file, usual.replace("/etc/authproxy/ca.pem", certificate));
    return () => loadConfig(file);
  };

  test.each([
    ["in bytes, not in characters", "\u20ac".repeat(22_000)],
    ["with its escapes", "\n".repeat(33_000)],
    ["with escapes of control characters", "\u0001".repeat(11_000)],
  ])("is at most 64 KiB long as JSON, which is counted %s", (_, text) => {
    expect(read(text)).toThrow("ca.pem: is longer than 64 KiB, as JSON");
    expect(read(text.slice(0, text.length * 0.9))).not.toThrow();
  });
});

describe("an environment that a policy lists", () => {
  function load(Env: unknown) {
    const config = JSON.parse(usable());
    const container = { Image: `sha256:${"0".repeat(64)}`, Config: { Env } };
    config.services = { web: { match: { container }, token: { create: "x" } } };
    writeFileSync(file, JSON.stringify(config), { mode: 0o600 });
    return loadConfig(file).services;
  }

  test.each([
    { Env: ["A=1", "B=2", "A=the-secret"] },
    { Env: ["A=the-secret", "A=the-secret"] },
    { Env: ["A=the-secret", "A"] },
  ])("is refused where a name stands in it twice: $Env", ({ Env }) => {
    const problem = "services.web.match.container.Config.Env must have each variable once";
    expect(() => load(Env)).toThrow(`${file}: ${problem}, and has A twice`);
    expect(() => load(Env)).not.toThrow("the-secret");
  });

  test.each([
    { Env: ["A=1", "a=1", "AB=1", "B=A=1"] },
    { Env: [null] },
    { Env: { A: "1", B: ["1", null], C: null } },
  ])("is accepted otherwise: $Env", ({ Env }) => {
    expect(load(Env).web?.match.container).toMatchObject({ Config: { Env } });
  });

  test.each([{ Env: {} }, { Env: "A=1" }, { Env: { A: 1 } }, { Env: { A: [] } }])(
    "is refused where it is neither a list nor a value for each name: $Env",
    ({ Env }) => {
      expect(() => load(Env)).toThrow("Config.Env must be the whole list");
    },
  );
});

describe("`main.ts --check`", () => {
  function run(...words: string[]) {
    return spawnSync(process.execPath, [main, "--check", ...words], { encoding: "utf8" });
  }

  function expectOneLine(stderr: string, fragment: string): void {
    expect(stderr).toMatch(/^authproxy: error: .*\n$/);
    expect(stderr).toContain(fragment);
  }

  test("prints nothing about a valid file, and exits 0", () => {
    writeFileSync(file, usable(), { mode: 0o600 });
    expect(run("--config", file)).toMatchObject({ status: 0, stdout: "", stderr: "" });
  });

  test("names the file and the place of a flaw, and exits 1", () => {
    writeFileSync(file, usual.replace('"socket"', '"sokcet"'), { mode: 0o600 });
    const { status, stderr } = run("--config", file);
    expect(status).toBe(1);
    expectOneLine(stderr, `${file}: sokcet is not a known key`);
  });

  test("quotes no part of a text that is not JSON", () => {
    writeFileSync(file, '{ "secret": hunter2 }', { mode: 0o600 });
    const { status, stderr } = run("--config", file);
    expect(status).toBe(1);
    expectOneLine(stderr, `${file}: is not JSON`);
    expect(stderr).not.toContain("hunter2");
  });

  test.each([
    { what: "is missing", make: () => {}, fragment: "ENOENT" },
    {
      what: "is a directory",
      make: () => mkdirSync(file),
      fragment: "authproxy.json: is a directory",
    },
    {
      what: "others can write",
      make: () => {
        writeFileSync(file, usual);
        chmodSync(file, 0o666);
      },
      fragment: "others can write it (try: chmod go-w",
    },
  ])("reports a file that $what, and exits 1", ({ make, fragment }) => {
    make();
    const { status, stderr } = run("--config", file);
    expect(status).toBe(1);
    expectOneLine(stderr, fragment);
    expect(stderr).toContain(file);
  });

  test("names an unknown option, and exits 1", () => {
    const { status, stderr } = run("--confg", file);
    expect(status).toBe(1);
    expectOneLine(stderr, "--confg");
  });
});
