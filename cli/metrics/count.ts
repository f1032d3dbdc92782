// Question: how often did the server grant, refuse, fail? Input: lines of its audit stream
// (docs/audit.md), also as journalctl prints them. Output: families of numbers, as docs/metrics.md
// lists them. Guaranteed: a bounded number of time series, whatever a line says. Reasons are those
// of server/refusal.ts, and any other is "internal"; services are the first hundred, and any other
// is "other"; nothing that a container chooses becomes a label.
import type { AuditEvent } from "../../server/audit.ts";
import type { Json, JsonObject } from "../../server/json.ts";
import { isEnd } from "../ends.ts";
import { REASONS } from "../reasons.ts";
import type { Family, Labels, Sample } from "./exposition.ts";

const SERVICES_MAX = 100;
const LEASES_MAX = 100_000;
const DAY_MS = 86_400_000;
const BUCKET_BOUNDS_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

type CountedEvent = { name: string; help: string; labels: ("service" | "reason")[] };

/** The counter of each event of the audit stream. */
export const COUNTED_EVENTS: Record<AuditEvent, CountedEvent> = {
  granted: { name: "granted_total", help: "Tokens granted", labels: ["service"] },
  refused: {
    name: "refused_total",
    help: "Peers that were refused, or got no answer",
    labels: ["service", "reason"],
  },
  unavailable: {
    name: "unavailable_total",
    help: "Peers that were told to ask again",
    labels: ["service", "reason"],
  },
  retry: {
    name: "retries_total",
    help: "Requests that the server itself tried again",
    labels: ["reason"],
  },
  revoked: { name: "revoked_total", help: "Tokens that Vault has ended", labels: ["service"] },
  gone: {
    name: "gone_total",
    help: "Tokens that Vault knew no longer when they were to be ended",
    labels: ["service"],
  },
  expired: {
    name: "expired_total",
    help: "Tokens that Vault did not end as long as they could live",
    labels: ["service"],
  },
  "renew-failed": {
    name: "renew_failures_total",
    help: "Renewals that Vault did not do; each is tried again",
    labels: ["service"],
  },
  "revoke-failed": {
    name: "revoke_failures_total",
    help: "Revocations that Vault did not do; each is tried again",
    labels: ["service"],
  },
  login: { name: "login_failures_total", help: "Logins to Vault that failed", labels: [] },
  "set-aside": {
    name: "set_aside_total",
    help: "Files of leases that were not believed",
    labels: [],
  },
  ready: { name: "starts_total", help: "Starts of the server", labels: [] },
  reload: { name: "reloads_total", help: "New policies that came into force", labels: [] },
  "reload-failed": {
    name: "reload_failures_total",
    help: "New policies that were not accepted",
    labels: [],
  },
};

const KNOWN_REASONS = new Set<string>(REASONS);

/** How long answers took. */
class Histogram {
  /** For each bound, how many took no longer. */
  readonly #bucketCounts = BUCKET_BOUNDS_SECONDS.map(() => 0);
  #count = 0;
  #sumSeconds = 0;

  add(seconds: number): void {
    for (const [i, bound] of BUCKET_BOUNDS_SECONDS.entries())
      if (seconds <= bound) this.#bucketCounts[i] = (this.#bucketCounts[i] ?? 0) + 1;
    this.#count++;
    this.#sumSeconds += seconds;
  }

  samples(labels: Labels): Sample[] {
    const bucket = (le: string, value: number): Sample => {
      return { suffix: "_bucket", labels: { ...labels, le }, value };
    };
    const buckets = BUCKET_BOUNDS_SECONDS.map((bound, i) =>
      bucket(String(bound), this.#bucketCounts[i] ?? 0),
    );
    return [
      ...buckets,
      bucket("+Inf", this.#count),
      { suffix: "_sum", labels, value: this.#sumSeconds },
      { suffix: "_count", labels, value: this.#count },
    ];
  }
}

/** Counts by labels. */
class Samples {
  readonly #byLabels = new Map<string, Sample>();

  add(labels: Labels, amount = 1): void {
    const key = JSON.stringify(labels);
    const sample = this.#byLabels.get(key);
    if (sample) sample.value += amount;
    else this.#byLabels.set(key, { labels, value: amount });
  }

  all(): Sample[] {
    return [...this.#byLabels.values()];
  }
}

export class Counter {
  readonly #samplesByEvent = new Map<string, Samples>();
  readonly #services = new Set<string>();
  /** The service of each living token, by its accessor. */
  readonly #leases = new Map<string, string>();
  readonly #histogramByAnswer = new Map<string, Histogram>();
  #brokenLines = 0;
  #lastSeconds = 0;

  /** Counts a line. One that is not of the audit stream changes nothing. */
  add(line: string): void {
    const begin = line.indexOf('{"time"');
    if (begin < 0) return;
    let entry: JsonObject;
    try {
      entry = JSON.parse(line.slice(begin));
    } catch {
      this.#brokenLines++; // it was cut on its way
      return;
    }
    this.#addEntry(entry);
  }

  #addEntry({ time, event, ms, accessor, service, reason, count }: JsonObject): void {
    if (!isCounted(event)) return;
    const seconds = typeof time === "string" ? Date.parse(time) / 1000 : Number.NaN;
    if (seconds > this.#lastSeconds) this.#lastSeconds = seconds;

    const serviceLabel = this.#serviceLabel(service);
    const values = { service: serviceLabel, reason: reasonLabel(reason) };
    const keys = COUNTED_EVENTS[event].labels;
    const samples = this.#samplesByEvent.get(event) ?? new Samples();
    this.#samplesByEvent.set(event, samples);
    // A line may stand for many.
    const amount = Number.isSafeInteger(count) && Number(count) > 0 ? Number(count) : 1;
    samples.add(Object.fromEntries(keys.map((key) => [key, values[key]])), amount);

    if (typeof ms === "number" && ms >= 0 && ms < DAY_MS) this.#addAnswer(event, ms / 1000);
    if (typeof accessor !== "string") return;
    if (event === "granted" && this.#leases.size < LEASES_MAX)
      this.#leases.set(accessor, serviceLabel);
    if (isEnd(event)) this.#leases.delete(accessor);
  }

  #serviceLabel(name: Json | undefined): string {
    if (typeof name !== "string") return "";
    const isPlain = /^[\w.:-]{1,64}$/.test(name);
    if (isPlain && this.#services.size < SERVICES_MAX) this.#services.add(name);
    return this.#services.has(name) ? name : "other";
  }

  #addAnswer(event: string, seconds: number): void {
    const histogram = this.#histogramByAnswer.get(event) ?? new Histogram();
    this.#histogramByAnswer.set(event, histogram);
    histogram.add(seconds);
  }

  /** All that was counted so far. */
  families(): Family[] {
    const counters = Object.entries(COUNTED_EVENTS).map(([event, counted]): Family => {
      const { name, help, labels } = counted;
      // Of a counter without labels 0 is an answer, too.
      const zero = labels.length === 0 ? [{ labels: {}, value: 0 }] : [];
      const samples = this.#samplesByEvent.get(event)?.all() ?? zero;
      return { name: `authproxy_${name}`, help, type: "counter", samples };
    });
    const answers = [...this.#histogramByAnswer].flatMap(([answer, histogram]) =>
      histogram.samples({ answer }),
    );
    return [
      ...counters,
      {
        name: "authproxy_leases",
        help: "Living tokens, of those granted in the lines that were read",
        type: "gauge",
        samples: this.#leaseSamples(),
      },
      {
        name: "authproxy_answer_seconds",
        help: "From accept to the answer",
        type: "histogram",
        samples: answers,
      },
      {
        name: "authproxy_broken_lines_total",
        help: "Lines of the stream that were cut",
        type: "counter",
        samples: [{ labels: {}, value: this.#brokenLines }],
      },
      {
        name: "authproxy_last_event_timestamp_seconds",
        help: "Time of the latest line",
        type: "gauge",
        samples: [{ labels: {}, value: this.#lastSeconds }],
      },
    ];
  }

  /** Of each service that was seen; 0 where none of its tokens lives. */
  #leaseSamples(): Sample[] {
    const samples = new Samples();
    for (const service of this.#leases.values()) samples.add({ service });
    for (const service of this.#services) samples.add({ service }, 0);
    return samples.all();
  }
}

function isCounted(event: Json | undefined): event is AuditEvent {
  return typeof event === "string" && Object.hasOwn(COUNTED_EVENTS, event);
}

function reasonLabel(reason: Json | undefined): string {
  return typeof reason === "string" && KNOWN_REASONS.has(reason) ? reason : "internal";
}
