// Question: which containers and people used which secrets, now and before? Input: Vault's audit log,
// which says what each token did; our servers' audit streams, which say whose it was and whether it
// lives. So one leaked secret becomes a list of containers, and one container a list of secrets.
// Guaranteed: no secret is said, as none is in either log (Vault's has hashes of them); lines that
// cannot be read are counted and said.
import { findContainer } from "../ask-engine.ts";
import { linesOf } from "../input.ts";
import { hint, type Options } from "../options.ts";
import { columns, Failure, paint, print, printable, printJson, remark } from "../terminal.ts";
import { type Access, accessIn, nameOf, type Who } from "./access.ts";
import { type Grants, note } from "./grants.ts";
import { endTokens } from "./revoke.ts";
import { concerns, count, type Selectors, type Use } from "./uses.ts";

export async function who(extra: string | undefined, options: Options): Promise<number> {
  if (extra) throw new Failure("usage", `who takes no ${extra}`, "try: --service, --container");
  const { audit = [], "vault-audit": vaultAudit = [], json, revoke } = options;
  if (vaultAudit.length === 0 && !revoke)
    throw new Failure("usage", "who: Vault's audit log is missing", "try: --vault-audit FILE");
  if ([...audit, ...vaultAudit].filter((file) => file === "-").length > 1)
    throw new Failure("usage", "who: standard input is one file", hint);
  const wanted = await selectors(options);
  const skipped = new Map<string, number>();
  const skip: Skip = (why, file) => {
    const what = `${file}: a line ${why}`;
    skipped.set(what, (skipped.get(what) ?? 0) + 1);
  };
  const grants = await readGrants(audit, skip);
  const uses = revoke ? [] : await readUses(vaultAudit, wanted, skip);
  for (const [what, times] of skipped) remark("note", `${what}; passed over, ${times} in all`);
  if (revoke) return await endTokens(grants, wanted, options);
  const rows = uses
    .sort((a, b) => order(a.secret, b.secret) || order(a.first, b.first))
    .map((use) => ({ ...use, ...(audit.length > 0 && tokenOfUse(use.who, grants)) }));
  if (json) printJson({ uses: rows, skipped: Object.fromEntries(skipped) });
  else if (rows.length > 0) print(table(rows));
  else remark("note", "nobody, in these files");
  return 0;
}

type Skip = (why: string, file: string) => void;

async function readGrants(files: string[], skip: Skip): Promise<Grants> {
  const grants: Grants = new Map();
  for await (const { line, file } of linesWithFile(files, skip))
    if (!note(grants, line)) skip("is broken", file);
  return grants;
}

async function readUses(files: string[], wanted: Selectors, skip: Skip): Promise<Use[]> {
  const uses = new Map<string, Use>();
  for await (const { line, file } of linesWithFile(files, skip)) {
    const access = line === "" ? undefined : accessOrBroken(line);
    if (access === "broken") skip("is broken", file);
    else if (access && concerns(access, wanted)) count(uses, access);
  }
  return [...uses.values()];
}

function accessOrBroken(line: string): Access | undefined | "broken" {
  try {
    return accessIn(line);
  } catch {
    return "broken"; // cut by whoever carried it, or no JSON
  }
}

async function* linesWithFile(files: string[], skip: Skip) {
  for (const file of files) for await (const line of linesOf([file], skip)) yield { line, file };
}

const order = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);

/** A container's name is the engine's to know; its id is in the logs. */
async function selectors({ service, container, secret }: Options): Promise<Selectors> {
  const id = container && !/^[0-9a-f]{4,64}$/.test(container) && (await idOf(container));
  return {
    ...(service !== undefined && { service }),
    ...(container !== undefined && { container: id || container }),
    ...(secret !== undefined && { secret: secret.replace(/^\//, "") }),
  };
}

async function idOf(name: string): Promise<string> {
  const found = await findContainer(name).catch(() => undefined);
  if (found) return found.Id;
  const advice = "name it by the first characters of its id, four at least";
  throw new Failure("noInput", `the engine knows no container ${name}`, advice);
}

type Row = Use & { token?: string };

/** Whether the container still has its token, as far as the audit streams say. */
function tokenOfUse(who: Who, grants: Grants): { token?: string } {
  if (!("container" in who)) return {};
  const grant = grants.get(who.container);
  if (!grant) return { token: "not in the audit streams" };
  return { token: grant.living.size > 0 ? "living" : `until ${short(grant.ended ?? grant.since)}` };
}

const short = (time: string) => time.slice(0, 19).replace("T", " ");

function table(rows: Row[]): string[] {
  const head = ["secret", "who", "did", "times", "first", "last", "token"];
  const cells = rows.map(({ secret, who, did, outcome, times, first, last, token = "" }) => {
    const deed = outcome === "done" ? did : paint("yellow", `${did}: ${outcome}`);
    return [
      printable(secret),
      printable(nameOf(who)),
      deed,
      `${times}`,
      short(first),
      short(last),
      token,
    ];
  });
  return columns([head.map((word) => paint("bold", word)), ...cells], "");
}
