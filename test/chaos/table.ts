// Question: which fault cost what? Output: after each test file one row a fault: what broke, how
// often, tokens that lived longer than allowed, grants or tokens that were lost, how long it took.
import { afterAll } from "vitest";

const rows: string[] = [];
afterAll(() => console.log(rows.join("\n")));

export function row(
  fault: string,
  rounds: number,
  leaked: number,
  lost: number,
  beganMs: number,
): void {
  const seconds = Math.round((performance.now() - beganMs) / 1000);
  rows.push(`| ${fault} | ${rounds} | ${leaked} | ${lost} | ${seconds} s |`);
}
