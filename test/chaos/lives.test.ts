// Question: what is left of very many short lives? Nothing: no token, no file, no descriptor, and no
// memory that grows with their number. CHAOS_ROUNDS (200 unless told otherwise) says how many.
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { SOCKET, TOKEN } from "../attacks/arena.ts";
import { type Server, Stage, until } from "../stage.ts";
import { create, livingTokens, shortenTokens } from "./patients.ts";
import { row } from "./table.ts";

const lives = Number(process.env.CHAOS_ROUNDS ?? 200);
const WARM_UP = 20;
const TTL_SECONDS = 10;
/** Keep-alive connections come and go; what each life left would be more. */
const DESCRIPTORS_MORE = 4;
const MEMORY_MORE_KB = 48 * 1024;

type Use = { descriptors: number; memoryKb: number };

function use(pid: number): Use {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const memoryKb = Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]);
  return { descriptors: readdirSync(`/proc/${pid}/fd`).length, memoryKb };
}

/** One container from start to end; whether it was given a token. */
async function live(stage: Stage, how: "waits" | "leaves"): Promise<boolean> {
  const { container, output } = await create(stage, ["/app/brief", SOCKET, how]);
  let said = "";
  output.on("data", (text: string) => {
    said += text;
  });
  const heard = once(output, "end");
  try {
    await container.start();
    await Promise.all([heard, container.wait()]);
  } finally {
    await container.remove({ force: true, v: true });
  }
  return said.includes(TOKEN);
}

/** Nothing of a life is under way any more. */
async function atRest(stage: Stage): Promise<void> {
  await until("each lease file is gone", () => {
    return readdirSync(join(stage.directory, "state")).length === 0;
  });
}

const parts = ["pid", "helper"] as const;
const used = (server: Server) => parts.map((part) => use(server[part]));

test(`${lives} containers that live for a moment leave no token, file, descriptor or memory`, async () => {
  const beganMs = performance.now();
  await shortenTokens(TTL_SECONDS);
  await using stage = new Stage();
  const server = await stage.server();
  let refused = 0;
  /** Every fourth does not wait for its answer. */
  const some = async (count: number): Promise<Use[]> => {
    for (let i = 1; i <= count; i++) {
      const how = i % 4 === 0 ? "leaves" : "waits";
      if (!(await live(stage, how)) && how === "waits") refused++;
    }
    await atRest(stage);
    return used(server);
  };
  await some(1); // the server has logged in
  const before = await some(WARM_UP);
  const half = await some(Math.ceil(lives / 2));
  const end = await some(Math.floor(lives / 2));
  const left = await livingTokens();
  row("many short lives", lives, left.size, refused, beganMs);
  for (const [i, part] of ["server", "helper"].entries())
    console.log(part, "before, half, end:", JSON.stringify([before[i], half[i], end[i]]));
  expect(left.size).toBe(0);
  expect(refused).toBe(0);
  for (const [i, part] of parts.entries()) {
    const [first, middle, last] = [before[i], half[i], end[i]] as [Use, Use, Use];
    expect(last.descriptors, part).toBeLessThanOrEqual(first.descriptors + DESCRIPTORS_MORE);
    expect(last.memoryKb, part).toBeLessThan(middle.memoryKb + MEMORY_MORE_KB);
  }
  expect(end[1]?.descriptors).toBe(before[1]?.descriptors); // the helper's are exact
});
