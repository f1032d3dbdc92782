// Question: which plots are there, and of which figures? Pure. A plot whose part was not run is left
// out.
import type { Figure, Part } from "./figures.ts";
import { type Axis, bars, type Line, lines } from "./plot.ts";

/** The figures of a part whose name has this form, with what its group is: a number, or a name. */
function series(part: Part | undefined, form: RegExp): [string, Figure][] {
  return Object.entries(part?.figures ?? {}).flatMap(([id, figure]) => {
    const found = form.exec(id)?.[1];
    return found === undefined ? [] : [[found, figure] as [string, Figure]];
  });
}

function line(name: string, figures: [string, Figure][]): Line[] {
  const points = figures.map(([x, { median }]): [number, number] => [Number(x), median]);
  return points.length > 0 ? [{ name, points }] : [];
}

/** Each plot by the name of its file. */
export function plots(parts: Record<string, Part>): Record<string, string> {
  const { grant, promises, start, peers, growth } = parts;
  const drawn: Record<string, string> = {};
  const put = (name: string, title: string, x: Axis, y: Axis, all: Line[]) => {
    if (all.length > 0) drawn[name] = lines(title, x, y, all);
  };
  const kinds = ["create", "wrapped", "read"];
  const curve = (name: string, figure: Figure | undefined): Line[] =>
    figure?.curve ? [{ name, points: figure.curve.map((ms, i) => [ms, i + 1]) }] : [];
  put(
    "latency.svg",
    "How long a grant takes, one after the other",
    { label: "milliseconds", logarithmic: true },
    { label: "percent of them" },
    [
      ...curve("floor: inspect and create", grant?.figures["create 1 at once, floor p50"]),
      ...kinds.flatMap((kind) =>
        curve(`grant, ${kind}`, grant?.figures[`${kind} 1 at once, grant p50`]),
      ),
    ],
  );
  const rates = (kind: string, arm: string) =>
    series(grant, new RegExp(`^${kind} (\\d+) at once, ${arm} rate$`));
  put(
    "throughput.svg",
    "Grants a second, by how many are asked for at once",
    { label: "at once", logarithmic: true },
    { label: "a second" },
    [
      ...line("floor: inspect and create", rates("create", "floor")),
      ...kinds.flatMap((kind) => line(`grant, ${kind}`, rates(kind, "grant"))),
    ],
  );
  put(
    "memory.svg",
    "Memory by living leases: server and helper",
    { label: "leases" },
    { label: "MB" },
    [
      ...line("shared pages once", series(growth, /^(\d+) leases, memory \(alone\)$/)),
      ...line("Rss", series(growth, /^(\d+) leases, memory \(Rss\)$/)),
    ],
  );
  put(
    "leases.svg",
    "How long a grant takes, by living leases",
    { label: "leases", logarithmic: true },
    { label: "milliseconds" },
    line("p50", series(growth, /^(\d+) leases, p50$/)),
  );
  const row = ([name, { median, low, high }]: [string, Figure]) => ({ name, median, low, high });
  const copies = series(promises, /^1 at once, (whole|without .*) p50$/).map(row);
  if (copies.length > 0)
    drawn["promises.svg"] = bars(
      "What each promise costs: a grant of a server that breaks one",
      { label: "milliseconds" },
      copies,
    );
  const starts = series(start, /^(.*) start$/).map(row);
  const milliseconds = { label: "milliseconds, logarithmic", logarithmic: true };
  if (starts.length > 0)
    drawn["start.svg"] = bars("From the start to the application, with a secret", milliseconds, [
      ...starts.filter(({ name }) => name === "authproxy"),
      ...starts.filter(({ name }) => name !== "authproxy"),
    ]);
  const waits = series(peers, /^(.*), 1 at once, p50$/).map(row);
  if (waits.length > 0)
    drawn["peers.svg"] = bars("How long a program waits for what it asks for", milliseconds, waits);
  return drawn;
}
