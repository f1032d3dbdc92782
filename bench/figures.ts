// Question: what do many measured numbers say? Pure.
// Every figure is a median over the rounds of one run, with the quartiles of the rounds as its
// spread. A ratio is one round's against the same round's: what disturbs the machine for longer than
// a round disturbs both.

/** What was measured at once: how long each took, how long all together. */
export type Round = { ms: number[]; seconds: number; retries?: number };

export type Spread = { median: number; low: number; high: number; rounds: number };
export type Figure = Spread & {
  unit: string;
  /** Over all samples of all rounds. */
  p99?: number;
  samples?: number;
  /** The 1st to the 99th percentile, for the plot of a distribution. */
  curve?: number[];
};
export type Ratio = Spread & { of: string; to: string };
export type Part = {
  question: string;
  when: string;
  quick: boolean;
  figures: Record<string, Figure>;
  ratios: Record<string, Ratio>;
  notes: string[];
};

export function quantile(values: number[], part: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const place = (sorted.length - 1) * part;
  const [low, high] = [sorted[Math.floor(place)], sorted[Math.ceil(place)]];
  if (low === undefined || high === undefined) throw new Error("a quantile of nothing");
  return low + (high - low) * (place - Math.floor(place));
}

export function spread(values: number[]): Spread {
  const [median, low, high] = [0.5, 0.25, 0.75].map((part) => rounded(quantile(values, part)));
  return { median: median ?? 0, low: low ?? 0, high: high ?? 0, rounds: values.length };
}

/** Four digits say all that two noisy cores can. */
export function rounded(value: number): number {
  return Number(value.toPrecision(4));
}

export const p50 = ({ ms }: Round) => quantile(ms, 0.5);
export const p99 = ({ ms }: Round) => quantile(ms, 0.99);
export const rate = ({ ms, seconds }: Round) => ms.length / seconds;

export function latency(rounds: Round[]): Figure {
  const all = rounds.flatMap(({ ms }) => ms);
  const curve = Array.from({ length: 99 }, (_, i) => rounded(quantile(all, (i + 1) / 100)));
  const tail = { p99: rounded(quantile(all, 0.99)), samples: all.length };
  return { ...spread(rounds.map(p50)), unit: "ms", ...tail, curve };
}

export function throughput(rounds: Round[]): Figure {
  return { ...spread(rounds.map(rate)), unit: "/s" };
}

/** Round by round: each is a pair that was measured one right after the other. */
export function ratio(of: Round[], to: Round[], figure: (round: Round) => number): Spread {
  return spread(of.map((round, i) => figure(round) / figure(to[i] as Round)));
}
