// Question: how are numbers written so that Prometheus reads them? Pure.
// Source: Prometheus, "Exposition formats", text format 0.0.4; node_exporter's textfile collector.
// Guaranteed: each family once, HELP and TYPE before its samples; whatever a label's value holds,
// it does not end the label.

export type Labels = Record<string, string>;
export type Sample = { suffix?: string; labels: Labels; value: number };
export type Family = {
  name: string;
  help: string;
  type: "counter" | "gauge" | "histogram";
  samples: Sample[];
};

/** The text of a whole file. */
export function exposition(families: Family[]): string {
  return families.map(familyText).join("");
}

function familyText({ name, help, type, samples }: Family): string {
  const head = `# HELP ${name} ${escapeHelp(help)}\n# TYPE ${name} ${type}\n`;
  return head + samples.map((sample) => sampleLine(name, sample)).join("");
}

function sampleLine(name: string, { suffix = "", labels, value }: Sample): string {
  const pairs = Object.entries(labels).map(([key, text]) => `${key}="${escapeLabel(text)}"`);
  const labelText = pairs.length > 0 ? `{${pairs.join(",")}}` : "";
  return `${name}${suffix}${labelText} ${value}\n`;
}

function escapeLabel(text: string): string {
  return escapeHelp(text).replaceAll('"', '\\"');
}

function escapeHelp(text: string): string {
  const wellFormed = text.toWellFormed(); // a lone surrogate has no UTF-8
  return wellFormed.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
}
