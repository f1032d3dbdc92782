// Question: does the client run whatever the kernel runs, and does it say before it asks for a token what
//           the kernel does not run?
// Input:    a real handler of binfmt_misc, and programs of a processor that does not exist.
// Covered:  64 and 32 bits, either order of bytes, a head that is cut off, a format that is not ELF, a
//           script whose interpreter is such a program; the handler's flags, none, and one that is
//           switched off; --watch. client-suite.ts has the refusal on each Node and C library,
//           test/runtime/container.test.ts an image of another processor.
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import {
  disableEmulator,
  foreignFormat,
  foreignProgram,
  registerEmulator,
  removeEmulator,
} from "./binfmt.ts";
import { answer, expectFailure, newPlace, Playground, run } from "./client-playground.ts";
import { grant, granted, password } from "./client-vault.ts";

const isRoot = process.getuid?.() === 0;
const place = newPlace();
const environment = { X: "vault:secret/data/app#password" };

function put(name: string, content: string | Buffer, mode = 0o755): string {
  const path = join(place, name);
  writeFileSync(path, content);
  chmodSync(path, mode);
  return path;
}

const foreign = put("foreign", foreignProgram());
const programs: Record<string, string> = {
  "a program of 64 bits": foreign,
  "a program of 32 bits": put("bits-32", foreignProgram({ bits: 32 })),
  "a program with the other order of bytes": put("big", foreignProgram({ littleEndian: false })),
  "a program whose head is cut off": put("short", foreignProgram({ bytes: 32 })),
  "a file of another format": put("format", foreignFormat()),
  "a script of such an interpreter": put("script", `#!${foreign}\n`),
};

afterEach(removeEmulator);

describe.runIf(isRoot)("with a handler, the kernel runs", () => {
  test.each(Object.entries(programs))("%s, and so does the client", async (_, program) => {
    registerEmulator();
    const ended = await granted({ environment, command: [program, "last"] });
    expect(ended).toMatchObject({
      exitCode: 0,
      stdout: `emulated last ${password.length}\n`,
      stderr: "",
    });
  });
  test.each(["", "F", "P", "OCF", "POCF"])("it whatever the handler's flags: %j", async (flags) => {
    registerEmulator(flags);
    const ended = await granted({ environment, command: [foreign, "last"] });
    expect(ended).toMatchObject({
      exitCode: 0,
      stdout: `emulated last ${password.length}\n`,
      stderr: "",
    });
  });
  test("it with a stack of any size", async () => {
    registerEmulator();
    for (const size of ["256", "8192", "unlimited"]) {
      const before = ["/bin/sh", "-c", `ulimit -S -s ${size}; exec "$@"`, "sh"];
      const ended = await run({ before, command: [foreign, "last"] });
      expect([size, ended.stderr, ended.stdout]).toEqual([size, "", "emulated last 0\n"]);
    }
  });
  test("it from PATH, and under --watch", async () => {
    registerEmulator();
    const inPath = { ...environment, PATH: `/nowhere:${place}` };
    const ended = await granted({
      environment: inPath,
      options: ["--watch"],
      command: ["foreign", "last"],
    });
    expect(ended).toMatchObject({ exitCode: 0, stdout: `emulated last ${password.length}\n` });
  });
});

describe("without a handler, before a token is asked for, the client refuses", () => {
  async function refused(program: string, message: RegExp, hint: RegExp) {
    await using server = await Playground.open(answer(grant()));
    const options = ["--socket", server.socket];
    expectFailure(await run({ environment, options, command: [program] }), 126, message, hint);
    expect(server.connections).toBe(0);
  }
  test.each(Object.entries(programs))("%s", async (kind, program) => {
    const isOther = kind.includes("format");
    const message = isOther ? /neither a program nor a script/ : /built for another processor than/;
    await refused(program, message, isOther ? /add #!/ : /binfmt_misc/);
  });
  test.runIf(isRoot)("a program whose handler is switched off", async () => {
    registerEmulator();
    disableEmulator();
    await refused(foreign, /built for another processor than/, /binfmt_misc/);
  });
  test("what a shell would run, without running it", async () => {
    const ran = join(place, "ran");
    const script = put("no-mark", `touch ${ran}\n`);
    await refused(script, /neither a program nor a script/, /add #!/);
    expect((await run({ bare: true, command: ["/bin/ls", ran] })).exitCode).not.toBe(0);
  });
});
