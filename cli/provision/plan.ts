// Question: what is in Vault already, what is not as it should be, and how does it become so?
// Guaranteed: what is as it should be is not written; what was written is read again and is so.
import type { Json, JsonObject } from "../../server/json.ts";
import type { Vault } from "../administrator.ts";
import { Failure } from "../terminal.ts";
import type { Wanted } from "./wanted.ts";

/** `changes` are lines: of a policy those that go and come, of the rest its fields. */
export type Step = Wanted & { action: "create" | "change" | "keep"; changes: string[] };

export async function planOf(vault: Vault, all: Wanted[]): Promise<Step[]> {
  const steps: Step[] = [];
  for (const one of all) steps.push(step(one, await current(vault, one)));
  return steps;
}

export async function apply(vault: Vault, steps: Step[]): Promise<void> {
  for (const { kind, name, path, fields, action } of steps) {
    if (action === "keep") continue;
    await vault.write(path, fields);
    const now = step(
      { kind, name, path, fields },
      await current(vault, { kind, name, path, fields }),
    );
    if (now.action !== "keep") {
      const message = `${kind} ${name}: Vault took it, and has something else`;
      throw new Failure("unavailable", message, now.changes.join("; "));
    }
  }
}

async function current(
  vault: Vault,
  { kind, name, path }: Wanted,
): Promise<JsonObject | undefined> {
  if (kind !== "auth method") return await vault.read(path);
  return (await vault.read("sys/auth"))?.[`${name}/`] as JsonObject | undefined;
}

function step(one: Wanted, is: JsonObject | undefined): Step {
  const { kind, name, fields } = one;
  const changes =
    kind === "policy"
      ? changedLines(String(is?.policy ?? ""), String(fields.policy))
      : changedFields(is, fields);
  const action = is === undefined ? "create" : changes.length === 0 ? "keep" : "change";
  if (kind === "auth method" && action === "change") {
    const message = `auth/${name} is of another kind: ${changes[0]}`;
    throw new Failure("config", message, "put the AppRole login at another path");
  }
  return { ...one, action, changes };
}

function changedLines(old: string, wanted: string): string[] {
  if (old === wanted) return [];
  const [before, after] = [old.trimEnd().split("\n"), wanted.trimEnd().split("\n")];
  const gone = before.filter((line) => line && !after.includes(line));
  const come = after.filter((line) => !before.includes(line));
  const all = [...gone.map((line) => `- ${line}`), ...come.map((line) => `+ ${line}`)];
  return all.length > 0 ? all : ["the order of its lines"];
}

function changedFields(is: JsonObject | undefined, fields: JsonObject): string[] {
  const all = Object.entries(fields).map(([key, value]) => [key, meant(is?.[key]), meant(value)]);
  return all
    .filter(([, old, wanted]) => old !== wanted)
    .map(([key, old, wanted]) => (is ? `${key}  ${old} -> ${wanted}` : `${key}  ${wanted}`));
}

/** Vault leaves out what is nothing, orders lists, and of a single address drops the length. */
function meant(value: Json | undefined): string {
  if (Array.isArray(value) && value.length > 0)
    return JSON.stringify(value.map((one) => String(one).replace(/\/(32|128)$/, "")).sort());
  return !value || Array.isArray(value) ? "none" : JSON.stringify(value);
}
