// Question: how are numbers written so that Prometheus reads them? Pure.
// Source: Prometheus, "Exposition formats", text format 0.0.4; node_exporter's textfile collector.
// Guaranteed: each family once, HELP and TYPE before its samples; whatever stands in a label, it
// stays in its label.

export type Labels = Record<string, string>;
export type Sample = { suffix?: string; labels: Labels; value: number };
export type Family = {
  name: string;
  help: string;
  type: "counter" | "gauge" | "histogram";
  samples: Sample[];
};

export function exposition(families: Family[]): string {
  return families
    .map(({ name, help, type, samples }) => {
      const about = `# HELP ${name} ${escaped(help)}\n# TYPE ${name} ${type}\n`;
      return about + samples.map((sample) => line(name, sample)).join("");
    })
    .join("");
}

function line(name: string, { suffix = "", labels, value }: Sample): string {
  const pairs = Object.entries(labels).map(
    ([key, text]) => `${key}="${escaped(text).replaceAll('"', '\\"')}"`,
  );
  const where = pairs.length > 0 ? `{${pairs.join(",")}}` : "";
  return `${name}${suffix}${where} ${value}\n`;
}

/** A lone surrogate has no UTF-8. */
function escaped(text: string): string {
  return text.toWellFormed().replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
}
