// Question: what does a process see that asks without a pause while the server comes and goes?
// Usage: host-knocks.ts FILE. Until SIGTERM; then the counts of each answer, or error, are in FILE
// as JSON. In no container, it is refused each time.
import { writeFileSync } from "node:fs";
import { connect } from "node:net";

const seen: Record<string, number> = {};
process.on("SIGTERM", () => {
  writeFileSync(process.argv[2] ?? "", JSON.stringify(seen));
  process.exit(0);
});

async function knock(): Promise<string> {
  try {
    const lines = await connect("/run/authproxy/authproxy.sock").setEncoding("utf8").toArray();
    return JSON.parse(lines.join("") || '{"error":"no line"}').error;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}

for (;;) {
  const outcome = await knock();
  seen[outcome] = (seen[outcome] ?? 0) + 1;
}
