// Question: what is shown of the results? Pure: a page in Markdown, ratios and goals first.
import type { Figure, Part, Ratio } from "./figures.ts";
import { heldGoals } from "./goals.ts";
import type { Machine } from "./machine.ts";

export type Results = { machine: Machine; parts: Record<string, Part> };

const ratioRow = ([id, { median, low, high, rounds }]: [string, Ratio]) =>
  `| ${id} | ${median} | ${low} to ${high} | ${rounds} |`;
const figureRow = ([id, { median, low, high, rounds, unit, p99 }]: [string, Figure]) =>
  `| ${id} | ${median} ${unit} | ${low} to ${high} | ${p99 ?? ""} | ${rounds} |`;

function section([name, part]: [string, Part]): string[] {
  const ratios = Object.entries(part.ratios);
  return [
    `## ${name}: ${part.question}`,
    "",
    ...(part.quick ? ["**A quick run: too few rounds to believe.**", ""] : []),
    `Measured ${part.when.slice(0, 10)}.`,
    "",
    ...(ratios.length > 0
      ? [
          "| ratio | median | quartiles | rounds |",
          "|---|---|---|---|",
          ...ratios.map(ratioRow),
          "",
        ]
      : []),
    "| figure | median | quartiles | p99 of all | rounds |",
    "|---|---|---|---|---|",
    ...Object.entries(part.figures).map(figureRow),
    "",
    ...part.notes.map((note) => `- ${note}`),
    "",
  ];
}

export function page({ machine, parts }: Results, plots: string[]): string {
  const goals = heldGoals(parts).map(
    ({ what, goal, measured, held }) =>
      `| ${what} | ${goal} | ${measured} | ${held ? "yes" : "**no**"} |`,
  );
  return [
    "# Measured",
    "",
    "Written by `npm run bench`. What a part compares was measured in turn, round by round (A B A B), in one run;",
    "a ratio is the median of the rounds' own ratios, a figure the median of the rounds. Nothing is compared",
    "across runs.",
    "",
    "| machine | |",
    "|---|---|",
    ...Object.entries(machine).map(([key, value]) => `| ${key} | ${value} |`),
    "",
    ...(goals.length > 0
      ? ["| goal | | measured | held |", "|---|---|---|---|", ...goals, ""]
      : []),
    ...plots.flatMap((name) => [`![${name.replace(".svg", "")}](${name})`, ""]),
    ...Object.entries(parts).flatMap(section),
  ]
    .join("\n")
    .trimEnd()
    .concat("\n");
}
