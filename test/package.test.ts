// Question: is the archive what was audited, and does it run where nothing else is?
import { execFileSync, spawnSync } from "node:child_process";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { erase, makeArchive } from "../scripts/package.ts";
import { rebuild } from "../scripts/rebuild.ts";

const root = join(import.meta.dirname, "..");
const directory = mkdtempSync(join(tmpdir(), "authproxy-package-test-"));
chmodSync(directory, 0o755); // another user works below
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const archive = await makeArchive(directory);
execFileSync("tar", ["-xzf", archive.file, "-C", directory]);
const unpacked = join(directory, readdirSync(directory).find((name) => !/gz$/.test(name)) ?? "");
const files = readdirSync(unpacked, { recursive: true, encoding: "utf8" });

/** With nothing on the PATH but the system's own. */
function run(program: string, ...words: string[]): string {
  const env = { PATH: "/usr/bin:/bin" };
  return execFileSync(program, words, { env, encoding: "utf8", cwd: "/" });
}

test("another user gets the same bytes, in another folder, with all built again", () => {
  const clone = join(directory, "clone");
  rebuild(clone);
  execFileSync("chown", ["--recursive", "54321:54321", clone]);
  const user = ["--reuid", "54321", "--regid", "54321", "--clear-groups"];
  const other = 'umask 077; exec "$0" --disable-warning=ExperimentalWarning scripts/package.ts';
  const env = { TZ: "Asia/Tokyo", LANG: "C", TMPDIR: clone, PATH: "/usr/bin:/bin" };
  const words = [...user, "sh", "-ec", other, process.execPath];
  const said = execFileSync("setpriv", words, { cwd: clone, env, encoding: "utf8" });
  expect(said).toContain(`sha256 ${archive.sha256}\n`);
});

test("what runs is what was read: types became white space, nothing moved", () => {
  const modules = files.filter((file) => /^(server|cli)\/.*\.js$/.test(file));
  expect(modules).toContain("server/main.js");
  for (const file of modules) {
    const source = readFileSync(join(root, file.replace(/js$/, "ts")), "utf8").split("\n");
    const lines = readFileSync(join(unpacked, file), "utf8").split("\n");
    expect(lines.length).toBe(source.length);
    for (const [index, line] of lines.entries()) {
      const read = (source[index] ?? "").replace(/\.ts(?=["`])/g, ".js");
      // Each character is the source's, or a blank, or ends what a type had continued.
      const same = [...line].every((c, column) => c === read[column] || /[\s;]/.test(c));
      expect(same, `${file}:${index + 1}`).toBe(true);
    }
  }
  expect(erase('import { a } from "./a.ts";\nconst b: number = a;')).toBe(
    'import { a } from "./a.js";\nconst b         = a;',
  );
});

test("each file is in SHA256SUMS, and as it says", () => {
  const listed = run("sh", "-ec", `cd "${unpacked}"; sha256sum --check --strict SHA256SUMS`);
  const names = listed
    .trim()
    .split("\n")
    .map((line) => line.replace(/: OK$/, ""));
  const present = run("find", unpacked, "-type", "f", "-printf", "%P\n").trim().split("\n");
  expect([...names, "SHA256SUMS"].sort()).toEqual(present.sort());
});

test("everything in it can be read by all and written by root only, and has a licence", () => {
  const listing = execFileSync("tar", ["-tvzf", archive.file], { encoding: "utf8" });
  for (const line of listing.trim().split("\n"))
    expect(line).toMatch(/^([-d]r[w-][x-]r-[x-]r-[x-]|-rwx--x--x) 0\/0 /);
  for (const file of files.filter((file) => /^node_modules\/(@[^/]+\/)?[^/@]+$/.test(file)))
    expect(files).toContain(`licenses/${basename(file)}`);
  expect(files).toContain("licenses/node");
});

test("the C library in peercred has its licence, and can be another: by the lines that say so", () => {
  const about = readFileSync(join(unpacked, "licenses/peercred/README"), "utf8");
  const [, name] = /of the package\n(\S+) \d/.exec(about) ?? [];
  expect(readFileSync(join(unpacked, `licenses/peercred/${name}`), "utf8")).toContain("LGPL-2.1");
  const lesser = readFileSync(join(unpacked, "licenses/peercred/LGPL-2.1"), "utf8");
  expect(lesser).toContain("GNU LESSER GENERAL PUBLIC LICENSE");
  const copy = join(directory, "relinked");
  run("cp", "--archive", unpacked, copy);
  rmSync(join(copy, "dist/peercred"));
  const [, lines = ""] = about.split("\n\n");
  run("sh", "-ec", `cd "${copy}"; ${lines}`);
  const ready = run("sh", "-ec", `: | "${copy}/dist/peercred" "${copy}/socket"`);
  expect(ready).toMatch(/^ready /);
  run("sh", "-ec", `cd "${copy}"; sha256sum --check --quiet --strict SHA256SUMS`);
});

test("server and command run from it alone", () => {
  const place = join(directory, "etc");
  mkdirSync(place);
  const file = join(place, "authproxy.json");
  const match = { container: { Config: { Labels: { app: "app" } } } };
  const config = {
    vault: { address: "https://vault.example:8200", login: { token_file: "/nowhere" } },
    services: { app: { match, token: { create: "auth/token/create/app" } } },
  };
  writeFileSync(file, JSON.stringify(config), { mode: 0o600 });
  const node = join(unpacked, "bin/node");
  expect(run(node, join(unpacked, "server/main.js"), "--check", "--config", file)).toBe("");
  symlinkSync(join(unpacked, "bin/authproxy"), join(directory, "command"));
  const said = run(join(directory, "command"), "check", "--config", file);
  expect(said).toContain("the server takes it");
  const doctor = spawnSync(join(directory, "command"), ["doctor", "--config", file]);
  expect(`${doctor.stdout}`).toMatch(/^ok +kernel: .*SO_PEERPIDFD$/m);
  expect(`${doctor.stdout}`).toMatch(/^ok +configuration: .*: the server takes it; services: 1$/m);
});
