// Question: what did the server decide, and why? Output: JSON lines on stdout. Guaranteed: when
// `record` returns, the line has left this process; no token comes here (invariant 8).

process.stdout.on("error", () => {}); // its reader has gone: each write's callback says so

/** Throws when the line cannot be written in time: no line, no token (invariant 9). */
export async function record(event: string, fields: object): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const fail = () => reject(new Error("audit", { cause: "nobody reads the audit stream" }));
  const cut = (_: string, v: unknown) => (typeof v === "string" ? v.slice(0, 512) : v);
  const line = JSON.stringify({ time: new Date().toISOString(), event, ...fields }, cut);
  const timer = setTimeout(fail, 1000);
  // Nothing piles up in memory.
  if (process.stdout.writableNeedDrain) fail();
  else process.stdout.write(`${line}\n`, (error) => (error ? fail() : resolve()));
  return promise.finally(() => clearTimeout(timer));
}

/** For events that wait for nobody: refusals, revocations, trouble with Vault. */
export const note = (event: string, fields: object) => record(event, fields).catch(() => {});
