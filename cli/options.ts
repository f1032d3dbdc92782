// Question: what was asked of the command `authproxy`? Input: the words after its name. Output: the
// command, its subject and its options. Guaranteed: an option that the command does not take is
// refused, not passed over; so is a second subject.
import { parseArgs } from "node:util";
import { Failure } from "./terminal.ts";

const text = { type: "string" } as const;
const texts = { type: "string", multiple: true } as const;
const flag = { type: "boolean" } as const;
const options = {
  ...{ config: text, json: flag, help: { ...flag, short: "h" }, last: flag, audit: texts },
  ...{ host: text, address: texts, "any-address": flag, secrets: texts, environment: text },
  ...{ pki: text, domain: text, "pki-ttl": text, deliver: text, "wrap-ttl": text },
  ...{ "keep-only": text, "token-file": text, "dry-run": flag, yes: flag },
  ...{ "vault-audit": texts, service: text, container: text, secret: text, revoke: flag },
  ...{ out: text, every: text, "daemon-json": text, sockets: text },
} as const;

export type Options = ReturnType<typeof parsed>["values"];
type Option = keyof typeof options;

const administrator: Option[] = ["token-file", "yes"];
export const takes = {
  check: ["config", "json"],
  explain: ["config", "json", "last", "audit"],
  suggest: ["config", "json"],
  provision: [
    ...(["config", "json", "host", "address", "any-address", "secrets", "environment"] as const),
    ...(["pki", "domain", "pki-ttl", "deliver", "wrap-ttl", "keep-only", "dry-run"] as const),
    ...administrator,
  ],
  unwrap: ["config", "host"],
  who: [
    ...(["config", "json", "audit", "vault-audit", "service", "container", "secret"] as const),
    ...(["revoke", "dry-run"] as const),
    ...administrator,
  ],
  metrics: ["out", "every"],
  runtime: ["daemon-json", "sockets"],
} satisfies Record<string, Option[]>;
export type Name = keyof typeof takes;

const usage = `usage: authproxy COMMAND [--config FILE] [--json]

  check                        what is wrong with the configuration, or who could forge each service
  explain PID|CONTAINER        what the server sees of it, and why it would get a token or not
  explain --last [CONTAINER|SERVICE|PID] [--audit FILE|-]
                               the same of the last refusal, from the audit stream
  suggest CONTAINER            a service block for a running container
  provision --address CIDR     makes in Vault what the policy of a host needs, and nothing more
  unwrap FILE|-                on that host: the server's secret id, from its wrapping
  who --vault-audit FILE       which containers and people used which secrets, and when
  metrics [FILE|-] --out FILE  the audit stream as counters for Prometheus
  runtime install|uninstall    tells the Docker engine of the runtime \`authproxy\`, or undoes it

  --config FILE  instead of /etc/authproxy/authproxy.json
  --audit FILE   the server's output, as \`journalctl -u authproxy\` prints it; - is standard input
  --json         for machines
  --help         after a command: its other options`;

const more: Record<string, string> = {
  provision: `usage: authproxy provision --address CIDR [--host NAME] [--dry-run | --yes]

  --address CIDR     from where the host speaks to Vault; may be repeated; or --any-address
  --host NAME        whose policy it is; this host's name by default
  --secrets PATH     what a service may read, with {service} and {environment}; may be repeated
                     (secret/data/{service} and secret/data/{service}/*)
  --environment NAME for {environment}; also makes policies for the people who write and who read it
  --pki MOUNT --domain NAME [--pki-ttl TIME]
                     a role for each service that issues one name, such as {service}.example.io
  --deliver FILE|-   a new secret id for the server, wrapped: \`authproxy unwrap\` opens it there
  --wrap-ttl TIME    how long it can be opened (30m)
  --keep-only ACCESSOR
                     destroys the host's other secret ids
  --token-file FILE  your own token of Vault, instead of VAULT_TOKEN
  --dry-run, --yes   show it only; do it without asking
  --config FILE, --json`,
  unwrap: `usage: authproxy unwrap FILE|- [--host NAME] [--config FILE]

  opens what \`authproxy provision --deliver\` made for this host, and puts the secret id where
  "body_files" of the configuration wants it`,
  who: `usage: authproxy who --vault-audit FILE… [--audit FILE…] [SELECTORS] [--json]

  --vault-audit FILE Vault's audit log (file device); may be repeated; .gz, - for standard input
  --audit FILE       our servers' output; may be repeated; .gz, - for standard input
  --service NAME, --container ID|NAME, --secret PATH[*]
                     only these; all must hold
  --revoke           ends the living tokens of --service or --container
  --token-file FILE  your own token of Vault for that, instead of VAULT_TOKEN
  --dry-run, --yes   show it only; do it without asking
  --config FILE      for --revoke: where Vault is`,
  runtime: `usage: authproxy runtime install|uninstall [--daemon-json FILE] [--sockets DIR]

  --daemon-json FILE the engine's configuration (/etc/docker/daemon.json)
  --sockets DIR      where the server listens, if not in /run/authproxy`,
  metrics: `usage: authproxy metrics [FILE|-] [--out FILE.prom] [--every SECONDS]

  reads the server's output to its end, for ever from a pipe; writes the file at most once in
  --every seconds (5) and at the end; without --out prints it at the end`,
};

export const hint = "authproxy --help says how";

function parsed(words: string[]) {
  try {
    return parseArgs({ args: words, options, allowPositionals: true });
  } catch (error) {
    throw new Failure("usage", (error as Error).message, hint);
  }
}

/** Or `help`: what to print instead. */
export function parse(words: string[]): { help: string } | Asked {
  const { values, positionals } = parsed(words);
  const [name = "", subject, ...rest] = positionals;
  if (values.help) return { help: more[name] ?? usage };
  if (!isName(name)) throw new Failure("usage", name ? `no command ${name}` : "no command", hint);
  if (rest.length > 0) throw new Failure("usage", `one too many: ${rest[0]}`, hint);
  const known: string[] = takes[name];
  const foreign = Object.keys(values).find((option) => !known.includes(option));
  if (foreign) throw new Failure("usage", `${name} takes no --${foreign}`, hint);
  return { name, subject, values };
}

type Asked = { name: Name; subject: string | undefined; values: Options };

function isName(name: string): name is Name {
  return Object.hasOwn(takes, name);
}
