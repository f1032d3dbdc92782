// Question: which figures are to hold, and do they? Pure.
import type { Part, Spread } from "./figures.ts";

type Goal = {
  what: string;
  part: string;
  figure: string;
  atMost?: number;
  atLeast?: number;
  /** Over this figure: a difference. */
  less?: string;
};
export type Held = { what: string; goal: string; measured: string; held: boolean };

const goals: Goal[] = [
  {
    what: "grant p50 over the floor",
    part: "grant",
    figure: "create 1 at once p50",
    atMost: 1.5,
  },
  {
    what: "the same, from inside a container (SPIRE, another run: 2.0 to 2.4 ms, from its cache)",
    part: "grant",
    figure: "create 1 at once p50",
    atMost: 2,
  },
  {
    what: "grant p50 over the floor, each after 100 ms of rest, as containers start",
    part: "grant",
    figure: "create, each after 100 ms of rest p50",
    atMost: 1.5,
  },
  {
    what: "grants a second at 16 at once over the floor's",
    part: "grant",
    figure: "create 16 at once rate",
    atLeast: 0.5,
  },
  {
    what: "grant p50 with 10,000 leases over with few",
    part: "growth",
    figure: "10000 leases over few, p50",
    atMost: 1.2,
  },
  {
    what: "grant p50 with 1,000 services over with 1",
    part: "growth",
    figure: "1000 services over 1, p50",
    atMost: 1.1,
  },
  {
    what: "start over the smallest Node program that does an https GET and execve",
    part: "start",
    figure: "authproxy over smallest, start",
    atMost: 1.15,
  },
  {
    what: "server and helper idle, MB",
    part: "peers",
    figure: "authproxy, memory idle (alone)",
    atMost: 50,
  },
  {
    what: "the same after 10,000 grants to processes that ended, MB",
    part: "peers",
    figure: "authproxy, memory after 10000 grants (alone)",
    atMost: 80,
  },
  {
    what: "growth from 10,000 to 20,000 grants, MB",
    part: "peers",
    figure: "authproxy, memory after 20000 grants (alone)",
    less: "authproxy, memory after 10000 grants (alone)",
    atMost: 5,
  },
  {
    what: "1,000 leases more, by the slope to 10,000, MB",
    part: "growth",
    figure: "1000 leases more, memory (alone)",
    atMost: 5,
  },
  ...["loops", "held", "slow", "forks", "swarm"].map((how) => ({
    what: `p99 of the honest beside four that flood (${how}), ms`,
    part: "isolation",
    figure: `${how}, four, p99`,
    atMost: 1000,
  })),
  {
    what: "p99 of the honest beside a container of 400 processes that always ask, ms",
    part: "isolation",
    figure: "swarm, one, p99",
    atMost: 500,
  },
];

/** Those whose figures were measured in full. */
export function heldGoals(parts: Record<string, Part>): Held[] {
  return goals.flatMap(({ what, part, figure, less, atMost, atLeast }) => {
    const found = (id: string): Spread | undefined =>
      parts[part]?.ratios[id] ?? parts[part]?.figures[id];
    const [measured, base] = [found(figure), less === undefined ? { median: 0 } : found(less)];
    if (!measured || !base) return [];
    const value = Number((measured.median - base.median).toPrecision(4));
    const held = value <= (atMost ?? Infinity) && value >= (atLeast ?? -Infinity);
    const goal = atMost === undefined ? `at least ${atLeast}` : `at most ${atMost}`;
    const range = less === undefined ? ` (${measured.low} to ${measured.high})` : "";
    return [{ what, goal, measured: `${value}${range}`, held }];
  });
}
