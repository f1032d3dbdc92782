// Question: which attack met which end? Input: what each test saw, once it has seen it.
// Output:   after each test file, its rows: number, attack, naive, minus one, defended, honest.
import { afterAll } from "vitest";

type Arm = "naive" | "minus one" | "defended" | "honest";
const arms: Arm[] = ["naive", "minus one", "defended", "honest"];
const rows: string[] = [];

afterAll(() => console.log(rows.join("\n")));

/** Writes one result of an attack down. */
export type Note = (arm: Arm, result: string) => void;

/** A row of the table, and what a test calls when it knows an arm's end. */
export function attack(number: number | string, what: string): Note {
  const found = new Map<Arm, Set<string>>(arms.map((arm) => [arm, new Set()]));
  afterAll(() => {
    const none = (arm: Arm) => (arm === "minus one" ? "no arm" : "not run");
    const cells = arms.map((arm) => [...(found.get(arm) ?? [])].join("; ") || none(arm));
    rows.push(`| ${[number, what, ...cells].join(" | ")} |`);
  });
  return (arm, result) => found.get(arm)?.add(result);
}
