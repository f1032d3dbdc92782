// Question: how is advice on a configuration printed for people? Pure.
import { type Advice, HIDDEN } from "./advise.ts";
import { columns, paint, printable, shown } from "./terminal.ts";

/** What `authproxy check` prints of each service, as lines. */
export function adviceLines(advice: Record<string, Advice>): string[] {
  return Object.entries(advice).flatMap(([name, service]) => ["", ...serviceLines(name, service)]);
}

function serviceLines(name: string, advice: Advice): string[] {
  const selectorRows = advice.selectors.map(({ rank, path, wanted, forgedBy }) => {
    const value = wanted === HIDDEN ? HIDDEN : shown(wanted);
    return [rank, printable(path), paint("dim", forgedBy), value];
  });
  const relaxedRows = advice.relaxed.map(({ check, opens }) => {
    return [paint("yellow", "relaxed"), check, opens];
  });
  const warnings = advice.warnings.map((warning) => {
    return `  ${paint("yellow", "warning:")} ${printable(warning)}`;
  });
  return [
    `${paint("bold", printable(name))}  ${paint("dim", printable(advice.token))}`,
    ...columns([...selectorRows, ...relaxedRows]),
    `  ${paint("bold", "who")}  ${printable(advice.who)}`,
    ...warnings,
  ];
}
