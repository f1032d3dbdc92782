// Question: what was asked of the command `authproxy`? Input: the words after its name. Output: the
// command, its subject and its options. Guaranteed: an option that the command does not take is
// refused, not passed over; so is a second subject.
import { parseArgs } from "node:util";
import { Failure } from "./terminal.ts";

const string = { type: "string" } as const;
const strings = { type: "string", multiple: true } as const;
const flag = { type: "boolean" } as const;

const OPTIONS = {
  help: { ...flag, short: "h" },
  config: string,
  json: flag,
  // check
  running: flag,
  // doctor
  login: flag,
  // explain
  last: flag,
  audit: strings,
  // provision and unwrap
  host: string,
  address: strings,
  "any-address": flag,
  secrets: strings,
  environment: string,
  pki: string,
  domain: string,
  "pki-ttl": string,
  deliver: string,
  "wrap-ttl": string,
  "keep-only": string,
  "service-account": string,
  audience: string,
  // whatever changes Vault
  "token-file": string,
  "dry-run": flag,
  yes: flag,
  // who
  "vault-audit": strings,
  service: string,
  container: string,
  secret: string,
  revoke: flag,
  // metrics
  out: string,
  every: string,
  // runtime
  "daemon-json": string,
  sockets: string,
  containerd: flag,
  crio: flag,
  restart: string,
} as const;

/** The options that were given, by name. */
export type Options = ReturnType<typeof parseWords>["values"];
type OptionName = keyof typeof OPTIONS;

/** The options that each command takes. */
export const OPTIONS_OF = {
  check: ["config", "json", "running"],
  doctor: ["config", "json", "login"],
  explain: ["config", "json", "last", "audit"],
  suggest: ["config", "json"],
  provision: [
    "config",
    "json",
    "host",
    "address",
    "any-address",
    "secrets",
    "environment",
    "pki",
    "domain",
    "pki-ttl",
    "deliver",
    "wrap-ttl",
    "keep-only",
    "service-account",
    "audience",
    "token-file",
    "dry-run",
    "yes",
  ],
  unwrap: ["config", "host"],
  who: [
    "config",
    "json",
    "audit",
    "vault-audit",
    "service",
    "container",
    "secret",
    "revoke",
    "token-file",
    "dry-run",
    "yes",
  ],
  metrics: ["out", "every"],
  runtime: [
    "daemon-json",
    "sockets",
    "containerd",
    "crio",
    "config",
    "address",
    "restart",
    "dry-run",
    "yes",
  ],
} satisfies Record<string, OptionName[]>;
export type CommandName = keyof typeof OPTIONS_OF;

const GENERAL_HELP = `usage: authproxy COMMAND [--config FILE] [--json]

  check                        shows what is wrong with the configuration, or who could be each
                               service
  check --running              shows which running containers the checks would refuse
  doctor                       looks at host, server, engine and Vault, and says what to correct
  explain PID|CONTAINER|POD    shows what the server sees of it, and why it would get a token or not
  explain --last [CONTAINER|POD|SERVICE|PID] [--audit FILE|-]
                               shows why it was last refused, by the audit stream
  suggest CONTAINER|POD        writes a service block for a running container
  provision --address CIDR     makes in Vault what the policy of a host needs, and nothing more
  unwrap FILE|-                opens, on that host, the wrapped secret id of its server
  who --vault-audit FILE       shows which containers and people used which secrets, and when
  metrics [FILE|-] --out FILE  counts the audit stream for Prometheus
  runtime install|uninstall    adds the runtime \`authproxy\` to Docker, or to a Kubernetes node's
                               containerd or CRI-O, or takes it out

  POD is NAMESPACE/POD or NAMESPACE/POD/CONTAINER, of this node.

  --config FILE  another configuration than /etc/authproxy/authproxy.json
  --audit FILE   the server's output, as \`journalctl -u authproxy\` prints it; - is standard input
  --json         prints for machines
  --help         after a command, shows its other options`;

/** Of the commands that have more options than the general help shows. */
const COMMAND_HELP: Record<string, string> = {
  provision: `usage: authproxy provision --address CIDR [--host NAME] [--dry-run | --yes]

  --address CIDR     from where the host speaks to Vault; may be repeated; or --any-address
  --host NAME        the host whose policy it is (this host)
  --secrets PATH     what a service may read, with {service} and {environment}; may be repeated
                     (secret/data/{service} and secret/data/{service}/*)
  --environment NAME the value of {environment}; also makes policies for the people who write its
                     secrets and for those who read them
  --pki MOUNT --domain NAME [--pki-ttl TIME]
                     a role for each service that issues one name, such as {service}.example.io
  --deliver FILE|-   a new secret id for the server, wrapped; \`authproxy unwrap\` opens it there
  --wrap-ttl TIME    how long it can be opened (30m)
  --keep-only ACCESSOR
                     destroys the host's other secret ids
  --service-account NAMESPACE/NAME, --audience NAME
                     of a server that logs in by Kubernetes: whose token it has, and for whom it
                     was made (authproxy/authproxy, vault)
  --token-file FILE  your own Vault token, instead of VAULT_TOKEN
  --dry-run          only shows what would be done
  --yes              does it without asking
  --config FILE, --json`,
  doctor: `usage: authproxy doctor [--login] [--config FILE] [--json]

  looks at all that the server needs, and changes nothing; run it as root; exit code 1 where something
  failed

  --login            logs in even where no server runs, which takes one use of a counted secret id`,
  unwrap: `usage: authproxy unwrap FILE|- [--host NAME] [--config FILE]

  opens what \`authproxy provision --deliver\` made for this host, and writes the secret id to the
  file that "body_files" of the configuration names`,
  who: `usage: authproxy who --vault-audit FILE… [--audit FILE…] [SELECTORS] [--json]

  --vault-audit FILE Vault's audit log (file device); may be repeated; .gz, or - for standard input
  --audit FILE       our servers' output; may be repeated; .gz, or - for standard input
  --service NAME, --container ID|NAME|POD, --secret PATH[*]
                     only these; all must hold. POD is NAMESPACE/POD[/CONTAINER], or NAMESPACE/
  --revoke           revokes the living tokens of --service or --container
  --token-file FILE  your own Vault token for that, instead of VAULT_TOKEN
  --dry-run          only shows what would be revoked
  --yes              revokes without asking
  --config FILE      for --revoke: where Vault is`,
  runtime: `usage: authproxy runtime install|uninstall [--daemon-json FILE] [--sockets DIR]
       authproxy runtime install|uninstall --containerd|--crio [--config FILE] [--address SOCKET]
                 [--restart COMMAND] [--dry-run | --yes] [--sockets DIR]
       authproxy runtime runtimeclass

  --daemon-json FILE the Docker engine's configuration (/etc/docker/daemon.json)
  --sockets DIR      where the server listens, if not in /run/authproxy
  --containerd       on a Kubernetes node: the handler of a RuntimeClass, in containerd
  --crio             the same in CRI-O
  --config FILE      /etc/containerd/config.toml, or CRI-O's directory /etc/crio/crio.conf.d
  --address SOCKET   the engine's socket, if it is not the one that its configuration names
  --restart COMMAND  how it is restarted (\`systemctl restart\` where systemd runs it)
  --dry-run          only shows what would be done
  --yes              restarts without asking

  runtimeclass prints what a cluster needs once, for \`kubectl apply -f -\``,
  metrics: `usage: authproxy metrics [FILE|-] [--out FILE.prom] [--every SECONDS]

  reads the server's output to its end, which a pipe may never have; writes the file at most once in
  --every seconds (5) and at the end; without --out prints it at the end`,
};

export const HELP_HINT = "authproxy --help shows how to use it";

export type Request = { name: CommandName; subject: string | undefined; values: Options };

/** What is asked for; or `help`, the text to print instead. Throws the Failure "usage". */
export function parse(words: string[]): { help: string } | Request {
  const { values, positionals } = parseWords(words);
  const [name = "", subject, ...surplus] = positionals;
  if (values.help) return { help: COMMAND_HELP[name] ?? GENERAL_HELP };
  if (!isCommand(name)) {
    const message = name ? `no such command: ${name}` : "no command was given";
    throw new Failure("usage", message, HELP_HINT);
  }
  if (surplus.length > 0) throw new Failure("usage", `unexpected word: ${surplus[0]}`, HELP_HINT);

  const taken: string[] = OPTIONS_OF[name];
  const foreign = Object.keys(values).find((option) => !taken.includes(option));
  if (foreign) throw new Failure("usage", `${name} takes no option --${foreign}`, HELP_HINT);
  return { name, subject, values };
}

function parseWords(words: string[]) {
  try {
    return parseArgs({ args: words, options: OPTIONS, allowPositionals: true });
  } catch (error) {
    throw new Failure("usage", (error as Error).message, HELP_HINT);
  }
}

function isCommand(name: string): name is CommandName {
  return Object.hasOwn(OPTIONS_OF, name);
}
