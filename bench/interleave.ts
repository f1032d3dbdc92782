// Question: how do two things compare, on a machine that others use too?
// Guaranteed: each round measures every arm once, in the same order, A B A B; the first rounds,
// which warm compilers and connections up, count for nothing.
import { progress } from "./terminal.ts";

export type Arms<T> = Record<string, () => Promise<T>>;

export async function interleave<T, Name extends string>(
  what: string,
  arms: Record<Name, () => Promise<T>>,
  rounds: number,
  warmUp = 1,
): Promise<Record<Name, T[]>> {
  const names = Object.keys(arms) as Name[];
  const measured = Object.fromEntries(names.map((name) => [name, [] as T[]])) as Record<Name, T[]>;
  for (let round = -warmUp; round < rounds; round++) {
    for (const name of names) {
      progress(`${what}: round ${Math.max(round + 1, 0)} of ${rounds}, ${name}`);
      const result = await arms[name]();
      if (round >= 0) measured[name].push(result);
    }
  }
  return measured;
}
