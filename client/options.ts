// What was the client asked to do? Reads its arguments and AUTHPROXY_… variables; an argument wins
// over its variable. Pure.
//
//   --socket PATH        the server's socket                  /run/authproxy/authproxy.sock
//   --socket-owner UID   who may own it, beside root: under a user namespace root shows as another
//   --wait SECONDS       for the server and Vault, in all     60
//   --files DIR          where X_FILE and X_DIR are written   /run/authproxy-secrets
//   --file-mode MODE     of these files                       0400
//   --file-owner UID[:GID]   of these files                   who runs the client
//   --stdin              all secrets as one JSON object on standard input, and nowhere else
//   --allow-write PATH   an API path that >>vault:PATH may write to; may be repeated
//   --keep NAME          a VAULT_… variable that the application keeps; may be repeated
//   --watch              stay as its parent, renew what ends, replace the files of what changes
//   --on-change ACTION   then: none, exit, or a signal as SIGHUP   none
//   --refresh SECONDS    between two looks at what has no end  60
//
// --allow-write is AUTHPROXY_ALLOW_WRITE, where commas separate; so with the others; AUTHPROXY_WATCH
// is 1 or 0. Other variables AUTHPROXY_… are not an error: Kubernetes and links make some, for a
// service that is so named.

import type { Place } from "./deliver.ts";
import { fail } from "./failure.ts";

export type Options = Place & {
  readonly socket: string;
  readonly socketOwner: number;
  readonly waitMs: number;
  readonly stdin: boolean;
  readonly allowWrite: readonly string[];
  readonly keep: readonly string[];
  readonly watch: boolean;
  readonly onChange: string;
  readonly refreshMs: number;
  readonly command: readonly string[];
};

/** The form of a value, and what it is in words. */
const PATH = [/^\//, "an absolute path"] as const;
const SECONDS = [/^\d{1,6}(\.\d{1,3})?$/, "a number of seconds"] as const;
const FLAG = [/^[01]$/, "1 or 0"] as const;
const LIST = [/^/, ""] as const;
const FORMS = {
  socket: PATH,
  "socket-owner": [/^\d{1,10}$/, "a uid"],
  wait: SECONDS,
  files: PATH,
  "file-mode": [/^0?[0-7]{3}$/, "octal, as 0440"],
  "file-owner": [/^\d{1,10}(:\d{1,10})?$/, "UID or UID:GID"],
  stdin: FLAG,
  "allow-write": LIST,
  keep: LIST,
  watch: FLAG,
  "on-change": [
    /^(none|exit|SIG(HUP|INT|QUIT|TERM|USR1|USR2|WINCH|CONT))$/,
    "none, exit or a signal as SIGHUP",
  ],
  refresh: SECONDS,
} as const;
type Name = keyof typeof FORMS;

export function readOptions(
  argv: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): Options {
  const given = new Map<string, string[]>();
  let next = 0;
  for (; argv[next]?.startsWith("-"); next++) {
    const argument = argv[next] ?? "";
    if (argument === "--") {
      next++;
      break;
    }
    const [, name = "", inline] = /^--([^=]*)(?:=(.*))?$/s.exec(argument) ?? [];
    if (!isName(name)) return usage(`unknown option ${argument.split("=", 1)[0]}`);
    const value = inline ?? (isFlag(name) ? "1" : argv[++next]);
    if (!value) return usage(`--${name} needs a value`);
    given.set(name, [...(given.get(name) ?? []), value]);
  }

  const fromVariable = (name: Name) =>
    environment[`AUTHPROXY_${name.toUpperCase().replace("-", "_")}`];
  const all = (name: Name) => given.get(name) ?? fromVariable(name)?.split(",") ?? [];
  const number = (name: Name, otherwise: string) => Number(one(name, otherwise));
  const one = (name: Name, otherwise: string): string => {
    const value = given.get(name)?.at(-1) ?? (fromVariable(name) || otherwise);
    const [form, what] = FORMS[name];
    return value === otherwise || form.test(value)
      ? value
      : usage(`--${name} must be ${what}, not ${value}`);
  };
  const [uid, gid] = one("file-owner", "").split(":");
  return {
    socket: one("socket", "/run/authproxy/authproxy.sock"),
    socketOwner: number("socket-owner", "0"),
    waitMs: number("wait", "60") * 1000,
    files: one("files", "/run/authproxy-secrets"),
    fileMode: Number.parseInt(one("file-mode", "0400"), 8),
    fileOwner: uid ? [Number(uid), Number(gid ?? -1)] : undefined,
    stdin: one("stdin", "0") === "1",
    allowWrite: all("allow-write"),
    keep: all("keep"),
    watch: one("watch", "0") === "1",
    onChange: one("on-change", "none"),
    refreshMs: Math.max(1, number("refresh", "60")) * 1000,
    command: argv.slice(next),
  };
}

function isName(name: string): name is Name {
  return Object.hasOwn(FORMS, name);
}

function isFlag(name: Name): boolean {
  return FORMS[name] === FLAG;
}

export function usage(message: string): never {
  const list = Object.keys(FORMS).map((name) => `--${name}`);
  return fail(
    "usage",
    message,
    `node authproxy.js [options] [--] command …; options: ${list.join(", ")}`,
  );
}
