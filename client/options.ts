// What was the client asked to do? Reads its arguments and AUTHPROXY_… variables; an argument wins
// over its variable. Pure.
//
//   --socket PATH        the server's socket                  /run/authproxy/authproxy.sock
//   --socket-owner UID   who may own it, beside root: under a user namespace root shows as another
//   --wait SECONDS       for the server and Vault, in all     60
//   --files DIR          where X_FILE=vault:… is written      /run/authproxy-secrets
//   --allow-write PATH   an API path that >>vault:PATH may write to; may be repeated
//   --keep NAME          a VAULT_… variable that the application keeps; may be repeated
//
// --allow-write is AUTHPROXY_ALLOW_WRITE, where commas separate; so with the others. Other variables
// AUTHPROXY_… are not an error: Kubernetes and links make some, for a service that is so named.

import { fail } from "./failure.ts";

export type Options = {
  readonly socket: string;
  readonly socketOwner: number;
  readonly waitMs: number;
  readonly files: string;
  readonly allowWrite: readonly string[];
  readonly keep: readonly string[];
  readonly command: readonly [string, ...string[]];
};

const NAMES = ["socket", "socket-owner", "wait", "files", "allow-write", "keep"] as const;
type Name = (typeof NAMES)[number];

export function readOptions(
  argv: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): Options {
  const given = new Map<Name, string[]>();
  let next = 0;
  for (; argv[next]?.startsWith("-"); next++) {
    const argument = argv[next] ?? "";
    if (argument === "--") {
      next++;
      break;
    }
    const [word = "", ...inline] = argument.slice(2).split("=");
    const name = NAMES.find((known) => known === word && argument.startsWith("--"));
    if (!name) return usage(`unknown option ${argument.split("=", 1)[0]}`);
    const value = inline.length > 0 ? inline.join("=") : argv[++next];
    if (!value) return usage(`--${name} needs a value`);
    given.set(name, [...(given.get(name) ?? []), value]);
  }
  const [program, ...rest] = argv.slice(next);
  if (!program) return usage("no command to run");

  const fromVariable = (name: Name): string | undefined =>
    environment[`AUTHPROXY_${name.toUpperCase().replace("-", "_")}`];
  const all = (name: Name): readonly string[] =>
    given.get(name) ?? fromVariable(name)?.split(",") ?? [];
  const one = (name: Name, otherwise: string, form: RegExp, what: string): string => {
    const value = given.get(name)?.at(-1) ?? (fromVariable(name) || otherwise);
    return form.test(value) ? value : usage(`--${name} must be ${what}, not ${value}`);
  };
  const owner = one("socket-owner", "0", /^\d{1,10}$/, "a uid");
  const wait = one("wait", "60", /^\d{1,6}(\.\d{1,3})?$/, "a number of seconds");
  return {
    socket: one("socket", "/run/authproxy/authproxy.sock", /^\//, "an absolute path"),
    socketOwner: Number(owner),
    waitMs: Number(wait) * 1000,
    files: one("files", "/run/authproxy-secrets", /^\//, "an absolute path"),
    allowWrite: all("allow-write"),
    keep: all("keep"),
    command: [program, ...rest],
  };
}

function usage(message: string): never {
  const list = NAMES.map((name) => `--${name} …`).join(", ");
  return fail("usage", message, `node authproxy.js [options] [--] command …; options: ${list}`);
}
