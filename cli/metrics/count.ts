// Question: how often did the server grant, refuse, fail? Input: lines of its audit stream
// (docs/audit.md), also as journalctl prints them. Output: families of numbers, as docs/metrics.md
// lists them. Guaranteed: a bounded number of time series, whatever a line says: reasons are those
// that docs/audit.md knows, or "internal"; services are the first hundred, or "other"; nothing that a
// container chooses becomes a label.
import type { Json, JsonObject } from "../../server/json.ts";
import { REASONS } from "../../server/refusal.ts";
import type { Family, Labels, Sample } from "./exposition.ts";

const SERVICES_MAX = 100;
const LEASES_MAX = 100_000;
const DAY_MS = 86_400_000;
const BOUNDS_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** Which series an event counts in; `by` are its labels. */
const COUNTED: Record<string, { name: string; help: string; by: ("service" | "reason")[] }> = {
  granted: { name: "granted_total", help: "Tokens granted", by: ["service"] },
  refused: {
    name: "refused_total",
    help: "Peers that were refused, or got nothing",
    by: ["service", "reason"],
  },
  unavailable: {
    name: "unavailable_total",
    help: "Peers that were told to ask again",
    by: ["service", "reason"],
  },
  retry: { name: "retries_total", help: "Tries that the server made again itself", by: ["reason"] },
  revoked: { name: "revoked_total", help: "Tokens ended", by: ["service"] },
  "renew-failed": {
    name: "renew_failures_total",
    help: "Renewals that Vault did not do; each is tried again",
    by: ["service"],
  },
  "revoke-failed": {
    name: "revoke_failures_total",
    help: "Revocations that Vault did not do; each is tried again",
    by: ["service"],
  },
  login: { name: "login_failures_total", help: "Logins to Vault that failed", by: [] },
  "set-aside": { name: "set_aside_total", help: "Files of leases not believed", by: [] },
  ready: { name: "starts_total", help: "Starts of the server", by: [] },
  reload: { name: "reloads_total", help: "New policies taken into force", by: [] },
  "reload-failed": { name: "reload_failures_total", help: "Policies not taken into force", by: [] },
};

export function startCounting() {
  const counts = new Map<string, Map<string, Sample>>(); // by event, then by labels
  const services = new Set<string>();
  const leases = new Map<string, string>(); // accessor, service
  const answers = new Map<string, number[]>(); // by answer: one for each bound, all, and their sum
  let skipped = 0;
  let lastSeconds = 0;

  /** A line that is none of the server's changes nothing. */
  function take(line: string): void {
    const begin = line.indexOf('{"time"');
    if (begin < 0) return;
    let found: JsonObject;
    try {
      found = JSON.parse(line.slice(begin));
    } catch {
      skipped++; // cut by whoever carried it
      return;
    }
    const { time, event, ms, accessor } = found;
    const counted = typeof event === "string" && Object.hasOwn(COUNTED, event) && COUNTED[event];
    if (!counted) return;
    const seconds = typeof time === "string" ? Date.parse(time) / 1000 : Number.NaN;
    if (seconds > lastSeconds) lastSeconds = seconds;
    const service = serviceOf(found.service);
    const known = { service, reason: reasonOf(found.reason) };
    const labels = Object.fromEntries(counted.by.map((key) => [key, known[key]]));
    add(counts.get(event) ?? counts.set(event, new Map()).get(event), labels);
    if (typeof ms === "number" && ms >= 0 && ms < DAY_MS) answered(event, ms / 1000);
    if (typeof accessor !== "string") return;
    if (event === "granted" && leases.size < LEASES_MAX) leases.set(accessor, service);
    if (event === "revoked") leases.delete(accessor);
  }

  function add(samples: Map<string, Sample> | undefined, labels: Labels): void {
    const key = JSON.stringify(labels);
    const sample = samples?.get(key);
    if (sample) sample.value++;
    else samples?.set(key, { labels, value: 1 });
  }

  function serviceOf(name: Json | undefined): string {
    if (typeof name !== "string") return "";
    if (services.size < SERVICES_MAX && /^[\w.:-]{1,64}$/.test(name)) services.add(name);
    return services.has(name) ? name : "other";
  }

  function answered(event: string, seconds: number): void {
    const slots = answers.get(event) ?? new Array<number>(BOUNDS_SECONDS.length + 2).fill(0);
    answers.set(event, slots);
    const values = [...BOUNDS_SECONDS.map((bound) => (seconds <= bound ? 1 : 0)), 1, seconds];
    for (const [i, value] of values.entries()) slots[i] = (slots[i] ?? 0) + value;
  }

  function families(): Family[] {
    const living = new Map<string, Sample>();
    for (const service of leases.values()) add(living, { service });
    for (const service of services)
      if (!living.has(JSON.stringify({ service })))
        living.set(service, { labels: { service }, value: 0 });
    const counted = Object.entries(COUNTED).map(([event, { name, help, by }]): Family => {
      const none = by.length === 0 ? [{ labels: {}, value: 0 }] : []; // 0 is an answer, too
      const samples = [...(counts.get(event)?.values() ?? none)];
      return { name: `authproxy_${name}`, help, type: "counter", samples };
    });
    const single = (
      name: string,
      help: string,
      type: "counter" | "gauge",
      value: number,
    ): Family => ({
      ...{ name: `authproxy_${name}`, help, type },
      samples: [{ labels: {}, value }],
    });
    return [
      ...counted,
      {
        name: "authproxy_leases",
        help: "Living tokens, of those granted in the lines that were read",
        type: "gauge",
        samples: [...living.values()],
      },
      {
        name: "authproxy_answer_seconds",
        help: "From accept to the answer",
        type: "histogram",
        samples: [...answers].flatMap(([answer, slots]) => histogram(answer, slots)),
      },
      single("broken_lines_total", "Lines of the stream that were cut", "counter", skipped),
      single("last_event_timestamp_seconds", "Time of the latest line", "gauge", lastSeconds),
    ];
  }

  return { take, families };
}

const known = new Set<string>(REASONS);

function reasonOf(reason: Json | undefined): string {
  return typeof reason === "string" && known.has(reason) ? reason : "internal";
}

function histogram(answer: string, slots: number[]): Sample[] {
  const bounds = [...BOUNDS_SECONDS.map(String), "+Inf"];
  const buckets = bounds.map((le, i) => ({
    suffix: "_bucket",
    labels: { answer, le },
    value: slots[i] ?? 0,
  }));
  const [count = 0, sum = 0] = slots.slice(-2);
  const labels = { answer };
  return [
    ...buckets,
    { suffix: "_sum", labels, value: sum },
    { suffix: "_count", labels, value: count },
  ];
}
