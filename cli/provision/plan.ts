// Question: what is in Vault already, what is not as it should be, and how does it become so?
// Guaranteed: what is as it should be is not written; what was written is read again and compared.
import type { Json, JsonObject } from "../../server/json.ts";
import type { Vault } from "../administrator.ts";
import { Failure } from "../terminal.ts";
import type { VaultObject } from "./objects.ts";

/** What has to be done for one object. `changes` are lines for people: of a policy the lines that
 * go and come, of any other object its fields. */
export type Step = VaultObject & { action: "create" | "change" | "keep"; changes: string[] };

/** The steps, in the order of the objects. */
export async function planFor(objects: VaultObject[], vault: Vault): Promise<Step[]> {
  const steps: Step[] = [];
  for (const object of objects) steps.push(stepFor(object, await readCurrent(object, vault)));
  return steps;
}

/** Does the steps. Throws the Failure "unavailable" where Vault then has something else. */
export async function apply(steps: Step[], vault: Vault): Promise<void> {
  for (const { action, changes: _, ...object } of steps) {
    if (action === "keep") continue;
    await vault.write(object.path, object.fields);
    const remaining = stepFor(object, await readCurrent(object, vault));
    if (remaining.action !== "keep") {
      const message = `${object.kind} ${object.name}: Vault accepted it, but has something else`;
      throw new Failure("unavailable", message, remaining.changes.join("; "));
    }
  }
}

/** The object's fields in Vault; undefined where it is not there. */
async function readCurrent(
  { kind, name, path }: VaultObject,
  vault: Vault,
): Promise<JsonObject | undefined> {
  if (kind !== "auth method") return await vault.read(path);
  const methods = await vault.read("sys/auth");
  return methods?.[`${name}/`] as JsonObject | undefined;
}

function stepFor(object: VaultObject, current: JsonObject | undefined): Step {
  const { kind, name, fields } = object;
  const changes =
    kind === "policy"
      ? changedLines(String(current?.policy ?? ""), String(fields.policy))
      : changedFields(current, fields);
  const action = current === undefined ? "create" : changes.length === 0 ? "keep" : "change";
  if (kind === "auth method" && action === "change") {
    const message = `auth/${name} is an auth method of another type: ${changes[0]}`;
    throw new Failure("config", message, "use another path for the server's login");
  }
  return { ...object, action, changes };
}

function changedLines(current: string, wanted: string): string[] {
  if (current === wanted) return [];
  const currentLines = current.trimEnd().split("\n");
  const wantedLines = wanted.trimEnd().split("\n");
  const removed = currentLines.filter((line) => line && !wantedLines.includes(line));
  const added = wantedLines.filter((line) => !currentLines.includes(line));
  const changes = [...removed.map((line) => `- ${line}`), ...added.map((line) => `+ ${line}`)];
  return changes.length > 0 ? changes : ["the order of its lines"];
}

function changedFields(current: JsonObject | undefined, wanted: JsonObject): string[] {
  const changes: string[] = [];
  for (const [key, value] of Object.entries(wanted)) {
    const before = normalized(current?.[key]);
    const after = normalized(value);
    if (before === after) continue;
    changes.push(current ? `${key}  ${before} -> ${after}` : `${key}  ${after}`);
  }
  return changes;
}

/** Vault leaves out what is empty, orders lists, and drops the length of a single address. */
function normalized(value: Json | undefined): string {
  if (Array.isArray(value) && value.length > 0) {
    const items = value.map((item) => String(item).replace(/\/(32|128)$/, ""));
    return JSON.stringify(items.sort());
  }
  return !value || Array.isArray(value) ? "none" : JSON.stringify(value);
}
