// The audit stream: nobody fills it, and lines that must be written have room when others have none.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { describe, expect, test } from "vitest";

const audit = join(import.meta.dirname, "../server/audit.ts");

/** Runs this code with the functions of server/audit.ts. Its standard output is a pipe. */
function run(code: string): ChildProcess {
  const program = `import { note, noteCounted, record } from ${JSON.stringify(audit)};\n${code}`;
  const words = ["--input-type=module-typescript", "--eval", program];
  return spawn(process.execPath, words, { stdio: ["ignore", "pipe", "pipe"] });
}

/** All that it writes, once it has ended. */
async function linesOf(child: ChildProcess) {
  let text = "";
  child.stdout?.setEncoding("utf8").on("data", (chunk: string) => {
    text += chunk;
  });
  await once(child, "close");
  return text
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line));
}

describe("lines of one key", () => {
  test("are ten a second, then one with their count, of the latest", async () => {
    const lines = await linesOf(
      run(`for (let i = 0; i < 35; i++) noteCounted("key", "refused", { i });
        noteCounted("another", "refused", { i: "another" });
        setTimeout(() => noteCounted("key", "refused", { i: "later" }), 1500);`),
    );
    const seen = lines.map(({ i, count }) => (count === undefined ? i : { i, count }));
    expect(seen).toEqual([...Array(10).keys(), "another", { i: 34, count: 25 }, "later"]);
  });
});

describe("a stream that nobody reads", () => {
  const fill = `for (let i = 0; i < 10_000; i++) note("noise", { text: "x".repeat(400) });`;

  test("loses what nothing waits for, and keeps what must be written until somebody reads", async () => {
    const child = run(`${fill}
      record("granted", {}).then(() => console.error("written"), () => console.error("lost"));
      console.error("waits");`);
    const said = once(child.stderr as NodeJS.ReadableStream, "data");
    expect(`${await said}`).toBe("waits\n");
    const told = once(child.stderr as NodeJS.ReadableStream, "data");
    const lines = await linesOf(child);
    expect(`${await told}`).toBe("written\n");
    expect(lines.at(-1).event).toBe("granted");
    expect(lines.length).toBeLessThan(1000);
  });

  test("refuses at last: no token is given without a line", async () => {
    const child = run(`${fill}
      record("granted", {}).then(() => console.error("written"), ({ reason }) => console.error(reason));`);
    const [told] = await once(child.stderr as NodeJS.ReadableStream, "data");
    expect(`${told}`).toBe("audit\n");
    child.kill();
  });
});
