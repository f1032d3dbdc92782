// Question: does what the documents show hold? Each code block is run by a test, or says why not; what
// needs little is run here. Each link leads somewhere.
import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, existsSync, globSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { authproxy } from "./command.ts";
import {
  asShown,
  type Block,
  block,
  blocksIn,
  documents,
  proseOf,
  readDocument,
  terminal,
} from "./documents.ts";
import { base, buildImage, Stage } from "./stage.ts";

const root = join(import.meta.dirname, "..");

describe("a code block", () => {
  /** Who takes which: calls of block() and shell(), as they stand in the tests. */
  const claims = globSync("test/**/*.ts", { cwd: root, exclude: ["test/documents.ts"] }).flatMap(
    (file) => {
      const source = readFileSync(join(root, file), "utf8");
      const one = /\bblock\(\s*"([^"]+)",\s*(?:"([^"]+)"|'([^']+)')/g;
      const all = /\bshell\("([^"]+)"\)/g;
      return [
        ...[...source.matchAll(one)].map(([, document, a, b]) => ({ document, words: a ?? b })),
        ...[...source.matchAll(all)].map(([, document]) => ({ document, words: undefined })),
      ];
    },
  );
  /** Words that more than one block holds take none: block() would not. */
  function left(blocks: Block[]): string[] {
    const taken = claims.flatMap(({ document, words }) => {
      const found = blocks.filter((block) => block.document === document);
      if (words === undefined) return found.filter(({ language }) => language === "sh");
      const holding = found.filter(({ text }) => text.includes(words));
      return holding.length === 1 ? holding : [];
    });
    const others = blocks.filter((block) => !block.reason && !taken.includes(block));
    return others.map(({ document, line }) => `${document}:${line}`);
  }

  test("is run by a test, or says why not", () => {
    const all = documents.flatMap((document) => blocksIn(document));
    expect(all.length).toBeGreaterThan(50);
    expect(left(all)).toEqual([]);
  });

  test("that is new is found, fenced or indented; with a reason it may stay", () => {
    const fenced = "# A\n\n```sh\n# no title\nrm -r x\n```\n";
    const indented = "A list:\n\n- one\n\n    rm -r x\n\n      y\n\nText.\n";
    expect(left(blocksIn("docs/new.md", `${fenced}\n${indented}`))).toEqual([
      "docs/new.md:3",
      "docs/new.md:12",
    ]);
    const [one, two] = blocksIn("docs/new.md", `${fenced}\n${indented}`);
    expect([one?.text, one?.section]).toEqual(["# no title\nrm -r x\n", "A"]);
    expect(two?.text).toBe("rm -r x\n\n  y\n");
    const reason = "<!-- not run: there is no x -->\n";
    const reasoned =
      fenced.replace("```sh", `${reason}$&`) + indented.replace("    rm", `${reason}$&`);
    expect(left(blocksIn("docs/new.md", reasoned))).toEqual([]);
  });

  test("is taken by the words of one only, and of one that is there", () => {
    expect(() => block("README.md", "docker run")).toThrow("2 blocks");
    expect(() => block("README.md", "no such words")).toThrow("0 blocks");
  });
});

describe("a link", () => {
  const anchor = (heading: string) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-");
  const anchorsOf = (document: string) => {
    const lines = readDocument(document).split("\n");
    for (const { line, end } of blocksIn(document)) lines.fill("", line - 1, end);
    return lines.flatMap((line) => /^#+ (.*)$/.exec(line)?.slice(1) ?? []).map(anchor);
  };
  /** Those of a document that lead nowhere. */
  function dead(document: string, text = proseOf(document)): string[] {
    const targets = [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target = ""]) => target);
    return targets.filter((target) => {
      if (/^https?:/.test(target)) return false;
      const [path = "", heading] = target.split("#");
      const file = path ? join(dirname(document), path) : document;
      if (!existsSync(join(root, file))) return true;
      return heading !== undefined && !anchorsOf(file).includes(heading);
    });
  }

  test.each(documents)("of %s leads somewhere", (document) => {
    expect(dead(document)).toEqual([]);
  });

  test("that does not is found", () => {
    const text = "[a](b.md) [c](#d) [e](policy.md#f) [g](policy.md#relaxations) [h](../README.md)";
    expect(dead("docs/new.md", text)).toEqual(["b.md", "#d", "policy.md#f"]);
  });
});

describe("in a clone", () => {
  const shown = [
    block("README.md", "npm run demo"),
    block("CONTRIBUTING.md", "npx vitest"),
    block("docs/reviewing.md", "npm run size"),
    block("docs/attacks.md", "vitest run test/attacks"),
    block("docs/attacks.md", "attacks.kube.ts"),
  ].join("\n");
  const lines = shown.split(/[;\n]/).map((line) => line.replace(/#.*/, "").trim());
  const path = lines.find((line) => line.startsWith("export PATH=")) ?? "";
  const commands = [...new Set(lines)].filter((line) => line && line !== path);
  const isQuick = (command: string) => /policy\.test|typecheck|lint|size/.test(command);

  test.each(commands.filter(isQuick))("%s: ends well", (command) => {
    const env = { HOME: process.env.HOME, PATH: process.env.PATH };
    execFileSync("sh", ["-euc", `${path}\n${command}`], { cwd: root, env, stdio: "pipe" });
  });

  const { scripts } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  /** What it runs: a script of package.json, or files of tests. */
  function sourcesOf(command: string): string[] {
    const [, script = ""] = /^npm (?:run )?(\w+)$/.exec(command) ?? [];
    if (script) return scripts[script] ? [scripts[script]] : [];
    const [, place = "", title = ""] =
      /npx vitest run (?:--config \S+ )?(\S+)(?: -t "(.*)")?$/.exec(command) ?? [];
    const files = globSync([place, `${place}/*.ts`], { cwd: root }).filter((f) =>
      f.endsWith(".ts"),
    );
    const sources = files.map((file) => readFileSync(join(root, file), "utf8"));
    return sources.filter((source) => source.includes(title));
  }

  test.each(commands.filter((command) => !isQuick(command)))("%s: is there", (command) => {
    expect(sourcesOf(command)).not.toEqual([]);
    const [, variable] = /^(\w+)=/.exec(command) ?? [];
    if (!variable) return;
    const files = globSync("test/**/*.ts", { cwd: root }).map((file) => join(root, file));
    const read = files
      .filter((file) => file !== import.meta.filename)
      .map((file) => readFileSync(file, "utf8"));
    expect(read.join()).toContain(`process.env.${variable}`);
  });

  test.each(["npm run nothing", "npx vitest run test/nothing.test.ts"])("%s: is not", (command) => {
    expect(sourcesOf(command)).toEqual([]);
  });
});

describe("a policy", () => {
  const services = block("docs/policy.md", '"services": {');
  const timeline = block("README.md", '"timeline": {');
  const usual = {
    vault: { address: "https://vault.example:8200", login: { token_file: "/token" } },
  };
  const checked = async (text: string) => {
    await using stage = new Stage();
    const file = join(stage.directory, "authproxy.json");
    writeFileSync(file, text, { mode: 0o600 });
    const { status, stdout, stderr } = await authproxy(["check", "--config", file]);
    return { status, said: (stdout + stderr).replaceAll(`${stage.directory}/`, "") };
  };
  const config = (members: string) => JSON.stringify(usual).replace(/}$/, `,${members}}`);

  test("is taken, and what `check` says of it is shown", async () => {
    const shown = asShown(block("docs/policy.md", "the server takes it"));
    for (const text of [services, `"services": {${timeline}}`]) {
      const { status, said } = await checked(config(text));
      expect(status).toBe(0);
      expect(said).toMatch(shown);
    }
  });

  test("with a wrong key is not", async () => {
    const wrong = services.replace('"relax"', '"relaxed"');
    expect(await checked(config(wrong))).toMatchObject({ status: 78 });
  });

  test("with a fault is answered as shown", async () => {
    const fault = timeline.replace("1001", '"1001"').replace(/^ */gm, "$&    ");
    const vault = JSON.stringify(usual).slice(1, -1);
    const head = ["{", `${vault},`, "", "", "", '"services": {']; // it stands in line 8 there
    const { status, said } = await checked([...head, fault, "}}"].join("\n"));
    expect(status).toBe(78);
    expect(said).toMatch(asShown(block("docs/policy.md", "authproxy: error: authproxy.json")));
  });

  test("is explained, and suggested, as shown", async () => {
    await using stage = new Stage();
    const file = stage.configure({ ...JSON.parse(`{${services}}`) });
    const container = await stage.container({
      labels: { app: "timline" },
      environment: { LOG_LEVEL: "debug" },
    });
    const explained = await authproxy(["explain", container.id, "--config", file]);
    expect(explained.status).toBe(77);
    expect(explained.stdout).toMatch(asShown(block("docs/policy.md", "the nearest first")));
    const [shown] = terminal(block("docs/policy.md", "authproxy suggest"));
    const [command = "", name, ...others] = shown?.words ?? [];
    expect([command, name, ...others]).toEqual(["suggest", "timeline", ">", "timeline.json"]);
    const suggested = await authproxy([command, container.id]);
    expect(suggested.stderr).toMatch(asShown(shown?.output ?? ""));
    const text = `"services": ${suggested.stdout}`;
    expect(await checked(config(text))).toMatchObject({ status: 0 });
  });

  test("is held against running containers, as shown", async () => {
    await using stage = new Stage();
    const file = stage.configure({ ...JSON.parse(`{${services}}`) });
    const words = { entrypoint: ["sleep", "600"], command: [], labels: { app: "timeline" } };
    const container = await stage.container({ ...words, writable: true });
    const [shown] = terminal(block("docs/policy.md", "authproxy check --running"));
    const ran = await authproxy([...(shown?.words ?? []), "--config", file]);
    expect(ran).toMatchObject({ status: 77, stderr: "" });
    expect(ran.stdout).toMatch(asShown(shown?.output ?? ""));
    expect(ran.stdout).toContain(container.id.slice(0, 12));
  });
});

test("a Dockerfile puts the client in front of the application", async () => {
  await using stage = new Stage();
  const lines = block("docs/client.md", "COPY authproxy.js");
  expect(lines).toContain(block("docs/migrate.md", "ENTRYPOINT"));
  writeFileSync(join(stage.directory, "Dockerfile"), `FROM ${base}\n${lines}`);
  copyFileSync(join(root, "dist/authproxy.js"), join(stage.directory, "authproxy.js"));
  const image = await buildImage("authproxy-test-lines", stage.directory, "Dockerfile", base);
  const run = (...words: string[]) =>
    spawnSync("docker", ["run", "--rm", image, ...words], { encoding: "utf8" });
  expect(run("sh", "-c", "echo begun")).toMatchObject({ status: 0, stdout: "begun\n" });
  const { status, stderr } = run();
  expect({ status, stderr }).toMatchObject({ status: 127, stderr: expect.stringMatching(/your/) });
});
