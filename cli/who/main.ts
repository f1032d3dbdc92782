// Question: which containers and people used which secrets, now and before? Input: Vault's audit
// log, which says what each token did; our servers' audit streams, which say whose it was and
// whether it lives. So one leaked secret becomes a list of containers, and one container a list of
// secrets.
// Guaranteed: no secret is printed, because neither log has one (Vault's has hashes of them); lines
// that cannot be read are counted and reported.
import { findContainer } from "../ask-engine.ts";
import { linesOf } from "../input.ts";
import { HELP_HINT, type Options } from "../options.ts";
import { isPodName } from "../pods.ts";
import { columns, Failure, paint, print, printable, printJson, remark } from "../terminal.ts";
import { type Access, accessIn, nameOf, type Who } from "./access.ts";
import { addLine, type Grants } from "./grants.ts";
import { revokeTokens } from "./revoke.ts";
import { addAccess, isSelected, type Selectors, type Use, type Uses } from "./uses.ts";

/** As `authproxy who --json` prints it. */
type Row = Use & { token?: string };

/** Lines that were passed over: how many, by file and reason. */
class SkippedLines {
  readonly counts = new Map<string, number>();

  /** `why` completes "a line", such as "is broken". */
  readonly add = (why: string, file: string): void => {
    const description = `${file}: a line ${why}`;
    this.counts.set(description, (this.counts.get(description) ?? 0) + 1);
  };
}

/** The command `who`. Returns the exit code; throws Failures. */
export async function who(surplus: string | undefined, options: Options): Promise<number> {
  const { audit = [], "vault-audit": vaultAudit = [], json, revoke } = options;
  requireUsable(surplus, options);
  const selectors = await selectorsIn(options);

  const skipped = new SkippedLines();
  const grants = await readGrants(audit, skipped);
  const uses = revoke ? [] : await readUses(vaultAudit, selectors, skipped);
  for (const [description, count] of skipped.counts)
    remark("note", `${description}; passed over, ${count} in all`);
  if (revoke) return await revokeTokens(grants, selectors, options);

  const rows: Row[] = uses.sort(bySecretAndTime);
  if (audit.length > 0) for (const row of rows) addTokenState(row, grants);
  if (json) printJson({ uses: rows, skipped: Object.fromEntries(skipped.counts) });
  else if (rows.length > 0) print(tableLines(rows));
  else remark("note", "these files show nobody");
  return 0;
}

function requireUsable(surplus: string | undefined, options: Options): void {
  const { audit = [], "vault-audit": vaultAudit = [], revoke } = options;
  if (surplus) {
    const hint = "try: --service, --container";
    throw new Failure("usage", `who takes no argument: ${surplus}`, hint);
  }
  if (vaultAudit.length === 0 && !revoke)
    throw new Failure("usage", "who needs Vault's audit log", "try: --vault-audit FILE");
  const standardInputs = [...audit, ...vaultAudit].filter((file) => file === "-");
  if (standardInputs.length > 1)
    throw new Failure("usage", "standard input can be only one of the files", HELP_HINT);
}

async function readGrants(files: string[], skipped: SkippedLines): Promise<Grants> {
  const grants: Grants = new Map();
  for (const file of files) {
    for await (const line of linesOf([file], skipped.add))
      if (!addLine(grants, line)) skipped.add("is broken", file);
  }
  return grants;
}

async function readUses(
  files: string[],
  selectors: Selectors,
  skipped: SkippedLines,
): Promise<Use[]> {
  const uses: Uses = new Map();
  for (const file of files) {
    for await (const line of linesOf([file], skipped.add)) {
      const access = line === "" ? undefined : accessOrBroken(line);
      if (access === "broken") skipped.add("is broken", file);
      else if (access && isSelected(access, selectors)) addAccess(uses, access);
    }
  }
  return [...uses.values()];
}

function accessOrBroken(line: string): Access | undefined | "broken" {
  try {
    return accessIn(line);
  } catch {
    return "broken"; // it was cut on its way, or is not JSON
  }
}

/** In UTF-16 order, whatever the locale. */
function bySecretAndTime(a: Use, b: Use): number {
  return compare(a.secret, b.secret) || compare(a.first, b.first);
}

function compare(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

/** The logs have a container's id, and a pod's name; for the name of another container the engine is
 * asked. */
async function selectorsIn({ service, container, secret }: Options): Promise<Selectors> {
  const selectors: Selectors = {};
  if (service !== undefined) selectors.service = service;
  if (secret !== undefined) selectors.secret = secret.replace(/^\//, "");
  if (container !== undefined) {
    const isId = /^[0-9a-f]{4,64}$/.test(container);
    if (isPodName(container)) selectors.pod = container.replace(/\/$/, "");
    else selectors.container = isId ? container : await idOf(container);
  }
  return selectors;
}

async function idOf(name: string): Promise<string> {
  const container = await findContainer(name).catch(() => undefined);
  if (container) return container.Id;
  throw new Failure(
    "noInput",
    `the engine has no container ${name}`,
    "name it by the first characters of its id, at least four",
  );
}

/** Whether the container still has its token, as far as the audit streams say. */
function addTokenState(row: Row, grants: Grants): void {
  const state = tokenState(row.who, grants);
  if (state !== undefined) row.token = state;
}

function tokenState(who: Who, grants: Grants): string | undefined {
  if (!("container" in who)) return undefined;
  const grant = grants.get(who.container);
  if (!grant) return "not in the audit streams";
  return grant.living.size > 0 ? "living" : `until ${shortTime(grant.ended ?? grant.since)}`;
}

/** Of ISO 8601, to the second. */
function shortTime(time: string): string {
  return time.slice(0, 19).replace("T", " ");
}

function tableLines(rows: Row[]): string[] {
  const titles = ["secret", "who", "did", "times", "first", "last", "token"];
  const cells = rows.map(({ secret, who, did, outcome, times, first, last, token = "" }) => [
    printable(secret),
    printable(nameOf(who)),
    outcome === "done" ? did : paint("yellow", `${did}: ${outcome}`),
    String(times),
    shortTime(first),
    shortTime(last),
    token,
  ]);
  return columns([titles.map((title) => paint("bold", title)), ...cells], "");
}
