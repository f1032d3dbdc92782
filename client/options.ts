// Question: what was the client asked to do?
// Input:    its arguments and the variables AUTHPROXY_…; an argument wins over its variable. The image,
//           or whoever starts the container, chose both.
// Output:   the options, checked. This module is pure.
//
//   --socket PATH        the server's socket                  /run/authproxy/authproxy.sock
//   --socket-owner UID   who may own it besides root
//   --wait SECONDS       for the server and Vault together    60
//   --files DIR          where X_FILE and X_DIR are written   /run/authproxy-secrets
//   --file-mode MODE     of these files                       0400
//   --file-owner UID[:GID]   of these files                   the client's user
//   --stdin              all secrets as one JSON object on standard input, and nowhere else
//   --allow-write PATH   an API path that >>vault:PATH may write to; may be repeated
//   --keep NAME          a VAULT_… variable that the application keeps; may be repeated
//   --plain NAME         a variable that is no reference, whatever it looks like; may be repeated
//   --watch              stay as its parent, renew what ends, replace the files of what changes
//   --on-change ACTION   what follows a change: none, exit, or a signal such as SIGHUP   none
//   --refresh SECONDS    how often to fetch what has no end again   60
//
// The variable of --allow-write is AUTHPROXY_ALLOW_WRITE, in which commas separate the paths; the other
// options have theirs in the same way. AUTHPROXY_STDIN and AUTHPROXY_WATCH are 1 or 0. Other variables
// AUTHPROXY_… are not an error: Kubernetes and Docker's links make some for a service of that name.

import { fail } from "./failure.ts";

/** Where files of secrets are written, and who may read them. */
export type FileOptions = {
  readonly directory: string;
  readonly mode: number;
  /** Undefined: the client's user. A gid of -1 leaves the group as it is. */
  readonly owner: { readonly uid: number; readonly gid: number } | undefined;
};

export type Options = {
  readonly socket: string;
  readonly socketOwner: number;
  readonly waitMs: number;
  readonly files: FileOptions;
  readonly stdin: boolean;
  readonly allowWrite: readonly string[];
  readonly keep: readonly string[];
  readonly plain: readonly string[];
  readonly watch: boolean;
  /** "none", "exit" or a signal's name. */
  readonly onChange: string;
  readonly refreshMs: number;
  readonly command: readonly string[];
};

/** What a value must match, and the end of "--name must be …". */
type OptionForm = readonly [pattern: RegExp, description: string];

const PATH: OptionForm = [/^\//, "an absolute path"];
const SECONDS: OptionForm = [/^\d{1,6}(\.\d{1,3})?$/, "a number of seconds"];
/** Stands for 1 where it has no value. */
const FLAG: OptionForm = [/^[01]$/, "1 or 0"];
const LIST: OptionForm = [/^/, ""];

const FORMS = {
  socket: PATH,
  "socket-owner": [/^\d{1,10}$/, "a uid"],
  wait: SECONDS,
  files: PATH,
  "file-mode": [/^0?[0-7]{3}$/, "octal, such as 0440"],
  "file-owner": [/^\d{1,10}(:\d{1,10})?$/, "UID or UID:GID"],
  stdin: FLAG,
  "allow-write": LIST,
  keep: LIST,
  plain: LIST,
  watch: FLAG,
  "on-change": [
    /^(none|exit|SIG(HUP|INT|QUIT|TERM|USR1|USR2|WINCH|CONT))$/,
    "none, exit or a signal such as SIGHUP",
  ],
  refresh: SECONDS,
} as const satisfies Record<string, OptionForm>;
type OptionName = keyof typeof FORMS;

type Environment = Readonly<Record<string, string | undefined>>;

/** Reads the options, and the command after them. Throws a Failure (usage) that lists all options. */
export function readOptions(argv: readonly string[], environment: Environment): Options {
  const { values, command } = readArguments(argv);

  function list(name: OptionName): string[] {
    return values.get(name) ?? environment[variableOf(name)]?.split(",") ?? [];
  }

  function text(name: OptionName, defaultValue: string): string {
    const [pattern, description] = FORMS[name];
    const value = values.get(name)?.at(-1) ?? (environment[variableOf(name)] || defaultValue);
    if (value === defaultValue || pattern.test(value)) return value;
    return usage(`--${name} must be ${description}, not ${value}`);
  }

  return {
    socket: text("socket", "/run/authproxy/authproxy.sock"),
    socketOwner: Number(text("socket-owner", "0")),
    waitMs: Number(text("wait", "60")) * 1000,
    files: {
      directory: text("files", "/run/authproxy-secrets"),
      mode: Number.parseInt(text("file-mode", "0400"), 8),
      owner: parseOwner(text("file-owner", "")),
    },
    stdin: text("stdin", "0") === "1",
    allowWrite: list("allow-write"),
    keep: list("keep"),
    plain: list("plain"),
    watch: text("watch", "0") === "1",
    onChange: text("on-change", "none"),
    refreshMs: Math.max(1, Number(text("refresh", "60"))) * 1000,
    command,
  };
}

/** Throws a Failure (usage) with this message and the list of all options. */
export function usage(message: string): never {
  const names = `--${Object.keys(FORMS).join(", --")}`;
  return fail("usage", message, `node authproxy.js [options] [--] command …; options: ${names}`);
}

type Arguments = {
  /** By the options' names: the values in their order. */
  readonly values: ReadonlyMap<OptionName, string[]>;
  readonly command: readonly string[];
};

function readArguments(argv: readonly string[]): Arguments {
  const values = new Map<OptionName, string[]>();
  let next = 0;
  for (; argv[next]?.startsWith("-"); next++) {
    const argument = argv[next] ?? "";
    if (argument === "--") {
      next++;
      break;
    }

    const match = /^--([^=]*)(?:=(.*))?$/s.exec(argument);
    const name = match?.[1] ?? "";
    if (!isOptionName(name)) return usage(`unknown option ${argument.split("=", 1)[0]}`);

    let value = match?.[2];
    if (value === undefined && FORMS[name] === FLAG) value = "1";
    if (value === undefined) {
      next++;
      value = argv[next];
    }
    if (!value) return usage(`--${name} needs a value`);
    values.set(name, [...(values.get(name) ?? []), value]);
  }
  return { values, command: argv.slice(next) };
}

function isOptionName(name: string): name is OptionName {
  return Object.hasOwn(FORMS, name);
}

function variableOf(name: OptionName): string {
  return `AUTHPROXY_${name.toUpperCase().replace("-", "_")}`;
}

function parseOwner(text: string): FileOptions["owner"] {
  if (text === "") return undefined;
  const [uid, gid = "-1"] = text.split(":");
  return { uid: Number(uid), gid: Number(gid) };
}
