// What the engine says, and in which order. The real one gives Mounts in another order at each
// answer (seen: 12 of 100 differ), so only a stand-in shows each of them.
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { connectEngine } from "../server/engine.ts";

const id = "a".repeat(64);
const mounts = ["/data", "/run/authproxy"].map((Destination) => ({ Destination, RW: false }));

test.each([
  { order: "as they stand in the policy", Mounts: mounts },
  { order: "the other way round", Mounts: mounts.toReversed() },
])("mounts are sorted by destination: $order", async ({ Mounts }) => {
  const directory = mkdtempSync(join(tmpdir(), "authproxy-engine-"));
  const engine = createServer((_, answer) => {
    answer.end(JSON.stringify({ Id: id, State: { Pid: 1 }, Mounts }));
  });
  try {
    const socket = join(directory, "engine.sock");
    await new Promise<void>((resolve) => engine.listen(socket, resolve));
    expect((await connectEngine(socket).inspect(id)).Mounts).toEqual(mounts);
  } finally {
    engine.close();
    engine.closeAllConnections();
    rmSync(directory, { recursive: true });
  }
});
