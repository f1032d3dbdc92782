// Question: what should stand in a configuration in place of a flaw? Input: the server's own
// verdict, and the value that stands there. Pure. Nothing here is decided by the words of a
// message.
import { type ContentFlaw, configSchema, type Schema } from "../server/schema.ts";
import { nearest } from "./nearest.ts";

/** By the codes of jsonc-parser's ParseErrorCode. */
export const SYNTAX_HINTS: Record<string, string> = {
  InvalidSymbol: "put strings in double quotes; only true, false, null and numbers go without",
  InvalidNumberFormat: "write a decimal number such as 1001",
  PropertyNameExpected: "write a key in double quotes; no comma may follow the last member",
  ValueExpected: "write a value; no comma may follow the last one",
  ColonExpected: "write a colon between the key and its value",
  CommaExpected: "write a comma before this",
  CloseBraceExpected: "a closing } is missing",
  CloseBracketExpected: "a closing ] is missing",
  EndOfFileExpected: "nothing may follow the closing } of the configuration",
  InvalidCommentToken: "JSON has no comments: take it out",
  UnexpectedEndOfString: "a closing double quote is missing",
  InvalidEscapeCharacter: 'after a backslash, write one of "\\/bfnrtu',
  InvalidCharacter: "inside a string, write \\n for a newline and \\t for a tab",
};

/** The schema's, a pattern of alternatives. */
const RELAXATIONS = configSchema.$defs?.relaxation?.pattern?.match(/[a-z]+/g) ?? [];

/** Where a selector belongs that was written directly below `match`. */
const PARENTS: Record<string, string> = {
  uid: "peer",
  gid: "peer",
  groups: "peer",
  label: "peer",
  exe: "process",
  cgroup: "process",
  dumpable: "process",
  Image: "container",
  Path: "container",
  Args: "container",
  Mounts: "container",
  Config: "container",
  Labels: "container.Config",
  Env: "container.Config",
  namespace: "pod",
  name: "pod",
  labels: "pod",
  annotations: "pod",
};

/** For each key that can be missing. */
const EXAMPLES: Record<string, string> = {
  vault: '"vault": { "address": "https://…:8200", "login": { … } }',
  address: '"address": "https://vault.example:8200"',
  login: '"login": { "path": "auth/approle/login", "body": { … }, "body_files": { … } }',
  services: '"services": { "NAME": { "match": { … }, "token": { "create": "…" } } }',
  match: '"match": { "container": { "Config": { "Labels": { "app": "…" } } } }',
  container:
    '"container": { "Config": { "Labels": { "app": "…" } } }, or "Image": "sha256:…"; of a pod, ' +
    '"pod": { "namespace": "…", "container": "…" }',
  token: '"token": { "create": "auth/token/create/ROLE" }',
};

/** What to write instead, or undefined where nothing better can be said than the message does.
 * `value` is the scalar that stands there. */
export function hintFor(flaw: ContentFlaw, value: unknown): string | undefined {
  switch (flaw.kind) {
    case "unknown-key":
      return hintForKey(flaw.path, flaw.schema);
    case "missing-key": {
      const example = EXAMPLES[flaw.path.at(-1) ?? ""];
      return example && `add ${example}`;
    }
    case "shape":
      return hintForShape(definitionOf(flaw.schema), value);
  }
}

function hintForKey(path: string[], { properties = {} }: Schema): string | undefined {
  const key = path.at(-1) ?? "";
  const parent = path.at(-2);
  if (parent === "match" && Object.hasOwn(PARENTS, key)) return `it belongs below ${PARENTS[key]}`;
  if (parent === "pod" && /account|owner|node/i.test(key))
    return "it is not offered, because whoever creates a pod may choose it (docs/policy.md)";
  return didYouMean(key, Object.keys(properties));
}

function didYouMean(word: string, candidates: string[]): string | undefined {
  const candidate = nearest(word, candidates);
  return candidate && `did you mean "${candidate}"?`;
}

/** The schema's name below $defs of config.schema.json, or "". */
function definitionOf(schema: Schema): string {
  const definitions = Object.entries(configSchema.$defs ?? {});
  const [name] = definitions.find(([, definition]) => definition === schema) ?? [""];
  return name;
}

function hintForShape(definition: string, value: unknown): string | undefined {
  const string = typeof value === "string" ? value : "";
  switch (definition) {
    case "numberOrAnyOf":
      return /^\d+$/.test(string) ? `write ${string}, without quotes` : undefined;
    case "flag":
      return /^(true|false)$/.test(string) ? `write ${string}, without quotes` : undefined;
    case "nonEmptyString":
    case "stringOrAnyOf": {
      const isScalar = typeof value === "number" || typeof value === "boolean";
      return isScalar ? `write "${value}", in quotes` : undefined;
    }
    case "strings":
    case "paths":
    case "relaxations":
      return string ? `write [${JSON.stringify(string)}]` : undefined;
    case "relaxation":
      return didYouMean(string, RELAXATIONS);
    case "https":
      return (
        "write https:// and no path or user; the certificate of a private authority belongs in " +
        "ca_file"
      );
    case "path":
    case "pathOrAnyOf":
      return "write the whole path, beginning with /";
    case "digestOrAnyOf":
      return (
        "`docker image inspect --format '{{.Id}}' NAME` prints this engine's digest, and on a node " +
        "`authproxy suggest NAMESPACE/POD` does; one that is " +
        'the same on every host belongs in "Config": { "Image": "NAME@sha256:…" }'
      );
    case "engine":
      return 'write "/var/run/docker.sock" or { "cri": "/run/containerd/containerd.sock" }, without unix://';
    case "matchOfPod":
      return "`authproxy suggest NAMESPACE/POD` writes a block for a pod that runs on this node";
    case "container":
      return "`authproxy suggest CONTAINER` writes a block for a running container";
    case "peer":
    case "process":
    case "labels":
    case "fragment":
      return "take the key out if any value will do, or write what `authproxy explain` shows of it";
    default:
      return undefined;
  }
}
