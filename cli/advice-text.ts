// Question: how is advice on a configuration printed for people? Pure.
import { type Advice, DATA_OPENS, HIDDEN } from "./advise.ts";
import type { Neighbour } from "./neighbours.ts";
import type { Selector } from "./selectors.ts";
import { shortName } from "./settings.ts";
import { columns, paint, printable, shown } from "./terminal.ts";

/** What `authproxy check` prints of each service, as lines. */
export function adviceLines(advice: Record<string, Advice>): string[] {
  return Object.entries(advice).flatMap(([name, service]) => ["", ...serviceLines(name, service)]);
}

/** What `authproxy check` prints of containers that could replace the socket, as lines. */
export function neighbourLines(neighbours: Neighbour[]): string[] {
  if (neighbours.length === 0) return [];
  const rows = neighbours.map(({ id, name, how }) => [printable(name), id.slice(0, 12), how]);
  const explanation = "their code could take the socket's place, and give others its own secrets";
  return ["", `${paint("bold", "neighbours")}  ${explanation}`, ...columns(rows)];
}

function serviceLines(name: string, advice: Advice): string[] {
  const selectorRows = advice.selectors
    .filter((selector) => !isAbsent(selector))
    .map(({ rank, path, wanted, forgedBy }) => {
      const value = wanted === HIDDEN ? HIDDEN : shown(wanted);
      return [rank, printable(path), paint("dim", forgedBy), value];
    });
  const absent = advice.selectors.filter(isAbsent).map(({ path }) => printable(shortName(path)));
  const relaxedRows = advice.relaxed.map(({ check, opens }) => {
    return [paint("yellow", "relaxed"), check, opens];
  });
  const dataRows = advice.data.map((mount) => ["data", printable(mount), DATA_OPENS]);
  const warnings = advice.warnings.map((warning) => {
    return `  ${paint("yellow", "warning:")} ${printable(warning)}`;
  });
  return [
    `${paint("bold", printable(name))}  ${paint("dim", printable(advice.token))}`,
    ...columns([...selectorRows, ...relaxedRows, ...dataRows]),
    ...(absent.length > 0 ? [`  engine  none of these may be given: ${absent.join(", ")}`] : []),
    `  ${paint("bold", "who")}  ${printable(advice.who)}`,
    ...warnings,
  ];
}

/** It must not be given. Of these a service may have dozens. */
function isAbsent({ path, rank, wanted }: Selector): boolean {
  const isNothing = wanted === null || wanted === "" || wanted === false;
  const isEmptyList = Array.isArray(wanted) && wanted.length === 0;
  return path.startsWith("container.") && rank === "engine" && (isNothing || isEmptyList);
}
