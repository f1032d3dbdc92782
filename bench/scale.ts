// Question: what do so many hosts ask of one Vault, and what does that cost it? Pure: calls a second
// from how many hosts and containers there are and how long they live; processors from what the part
// `vault` has measured of each call. docs/scale.md has the formulas in words.
import type { Part } from "./figures.ts";

export type Fleet = {
  hosts: number;
  /** On each host. */
  containers: number;
  /** How long a container lives, in hours. */
  lifeHours: number;
  /** The period of a service's tokens, and of the server's own, in hours. */
  periodHours: number;
  /** Requests of an application's start for its secrets. */
  reads: number;
  /** A ready token for all containers of a service: `read` in place of `create`. */
  ready?: boolean;
};
export type Calls = Record<"create" | "renew" | "revoke" | "read" | "login", number>;

/** server/vault.ts renews after 0.3 to 0.4 of a life, and of a day at most. */
const RENEWED_AFTER = 0.35;

/** A second. The server's own token is looked up and renewed. */
export function callsOf(fleet: Fleet): Calls {
  const { hosts, containers, lifeHours, periodHours, reads, ready = false } = fleet;
  const all = hosts * containers;
  const starts = all / (lifeHours * 3600);
  const every = RENEWED_AFTER * Math.min(periodHours, 24) * 3600;
  return {
    create: ready ? 0 : starts,
    renew: (ready ? 0 : all / every) + (2 * hosts) / every,
    revoke: ready ? 0 : starts,
    read: starts * (reads + (ready ? 1 : 0)),
    login: 0, // only at a server's start: a periodic token is renewed for ever
  };
}

/** How many processors Vault is busy with, by the measured cost of each call. */
export function processors(calls: Calls, vault: Part): number {
  const cost = (call: string) => {
    const level =
      vault.figures[`${call}, 16 at once, processor`] ??
      vault.figures[`${call}, 1 at once, processor`];
    return (level?.median ?? 0) / 1000;
  };
  return Object.entries(calls).reduce((sum, [call, aSecond]) => sum + aSecond * cost(call), 0);
}

const usual: Fleet = { hosts: 10_000, containers: 100, lifeHours: 24, periodHours: 1, reads: 2 };
const fleets: [string, Fleet][] = [
  ["as `provision` makes roles: a period of an hour, a life of a day", usual],
  ["a life of an hour (a deployment an hour, or batch jobs)", { ...usual, lifeHours: 1 }],
  ["a period of 8 hours", { ...usual, periodHours: 8 }],
  ["a period of a day", { ...usual, periodHours: 24 }],
  ["a ready token for each service (`read`)", { ...usual, ready: true }],
  ["one host", { ...usual, hosts: 1 }],
];

/** As a table in Markdown. */
export function scaleTable(vault: Part): string {
  const rows = fleets.map(([what, fleet]) => {
    const calls = callsOf(fleet);
    const shown = [calls.create, calls.renew, calls.revoke, calls.read];
    const all = [...shown, processors(calls, vault)].map((n) => Number(n.toPrecision(2)));
    return `| ${what} | ${all.map((n) => n.toLocaleString("en")).join(" | ")} |`;
  });
  return [
    "| fleet | creates/s | renewals/s | revocations/s | reads/s | processors of Vault |",
    "|---|---|---|---|---|---|",
    ...rows,
  ].join("\n");
}
