// Question: how is a part of the report put together?
import {
  type Figure,
  latency,
  type Part,
  p50,
  type Ratio,
  type Round,
  rate,
  ratio,
  spread,
  throughput,
} from "./figures.ts";

export type Scale = { quick: boolean };

export class Report implements Part {
  readonly question: string;
  readonly quick: boolean;
  readonly when = new Date().toISOString();
  readonly figures: Record<string, Figure> = {};
  readonly ratios: Record<string, Ratio> = {};
  readonly notes: string[] = [];

  constructor(question: string, { quick }: Scale) {
    this.question = question;
    this.quick = quick;
  }

  /** How long each took, and how many came in a second. */
  add(id: string, rounds: Round[]): void {
    this.figures[`${id} p50`] = latency(rounds);
    this.figures[`${id} rate`] = throughput(rounds);
  }

  /** A figure of another unit: memory, a size, a part of a second. */
  note(id: string, unit: string, values: number[]): void {
    this.figures[id] = { ...spread(values), unit };
  }

  compare(id: string, of: [string, Round[]], to: [string, Round[]], figure = p50): void {
    this.ratios[id] = { ...ratio(of[1], to[1], figure), of: of[0], to: to[0] };
  }

  /** Of `of` over `to`, both how long and how many. */
  compareBoth(id: string, of: [string, Round[]], to: [string, Round[]]): void {
    this.compare(`${id} p50`, of, to);
    this.compare(`${id} rate`, of, to, rate);
  }
}
