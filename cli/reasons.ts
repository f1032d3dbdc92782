// Question: what does a reason of the audit stream mean for the people of the host, and what can
// they do? The compiler sees to it that each reason of the server is here; a test compares the list
// with docs/audit.md.
import { REASONS, type Reason } from "../server/refusal.ts";

type Words = { happened: string; advice: string };

const words: Record<Reason, Words> = {
  "no-pid": {
    happened: "the peer is in a pid namespace that the server cannot see",
    advice: "Run the server in the host's pid namespace (in a container: --pid host).",
  },
  exited: {
    happened: "the process that connected was gone before it could be answered",
    advice: "Look at why it ended: the log of the container, and its limit on memory.",
  },
  unreadable: {
    happened: "its groups or its security label could not be read",
    advice: "Give the container's user at most 256 groups (--group-add).",
  },
  spoke: {
    happened: "the peer sent something, and whoever sends gets nothing",
    advice: "Connect and only read: HTTP libraries and health probes cannot be clients.",
  },
  closed: {
    happened: "the peer closed its side before the answer",
    advice: "Keep the whole connection open until the answer has come, for ten seconds at least.",
  },
  "no-container": {
    happened: "the peer's cgroup names no container, two, or one of an engine that is not served",
    advice:
      "Run it in a container of this host's Docker or rootful Podman; Kubernetes and rootless " +
      "engines are not served.",
  },
  "unknown-container": {
    happened: "the engine knows no container of the id that the peer's cgroup names",
    advice:
      'Look at "engine" in the configuration: it must be the socket of the engine that runs the ' +
      "container; otherwise somebody made that cgroup up.",
  },
  engine: {
    happened: "the engine did not answer in time, or answered something else than was asked for",
    advice: 'Look at whether the engine answers (docker ps), and at "engine" in the configuration.',
  },
  starting: {
    happened: "the engine had not finished starting the container",
    advice: "Nothing, if it was served a moment later: the client asks again by itself.",
  },
  "no-match": {
    happened: "no service of the policy matches",
    advice:
      "Start the container as the nearest service wants it, or change that service's match; " +
      "`authproxy suggest` writes one for a running container.",
  },
  ambiguous: {
    happened: "more than one service matches",
    advice: "Add to one of the services a selector that the other's containers do not have.",
  },
  credentials: {
    happened: "the user or group in /proc is not the one that the kernel vouches for",
    advice: "Start the client as the user it is to be, without a set-user-ID program before it.",
  },
  traced: {
    happened: "a tracer is attached to the process",
    advice: "Detach the debugger or tracer, and start the container anew.",
  },
  "user-namespace": {
    happened: "the process is not in the server's user namespace",
    advice: "Start the container without a user namespace of its own (docker run --userns=host).",
  },
  namespace: {
    happened: "the process is not in the cgroup and namespaces of the container's first process",
    advice:
      "Let the container's first process be the client; a process that moved itself, or that " +
      "wrote another container's id into its cgroup, is served nothing.",
  },
  clock: {
    happened: "the first process started after the container did, by the engine's clock",
    advice:
      "Wait until the host's clock is set, then start the container anew; if it stays, the " +
      "engine reports a process that has ended: restart the container.",
  },
  init: {
    happened: "the process is not the container's first process",
    advice:
      "Put the client at the front of the entrypoint, and start without --init; what `docker " +
      'exec` runs gets nothing unless the service relaxes "init".',
  },
  alone: {
    happened: "other processes were in the container",
    advice:
      "Let the client be the only process until it has its token: no --init, no shell that " +
      "stays, and a health check that begins later (--health-start-period).",
  },
  once: {
    happened: "this start of the container has had its token",
    advice:
      "Restart the container if its own program asked again; if nobody meant to ask twice, look " +
      "at what runs inside.",
  },
  readonly: {
    happened: "the program can be overwritten from inside the container",
    advice:
      "Start it with --read-only, and with no writable volume or bind mount over the program or " +
      "its search paths.",
  },
  labels: {
    happened: "the image itself declares a label that the policy matches on",
    advice:
      "Match on a label of your own that is given at the container's start (-l, or `labels:` in " +
      "Compose), or pin the image: Compose writes its own labels into images that it builds.",
  },
  busy: {
    happened: "too many requests were being answered, or the server was stopping",
    advice: "Nothing, if it was served a moment later; otherwise look for who floods the socket.",
  },
  vault: {
    happened: "Vault did not answer in time, or said no",
    advice:
      "Look at the status: none or 5xx, is Vault up and unsealed; 403, may the server's own " +
      "policy update that path; 400 or 404, does the token role exist.",
  },
  "wrong-role": {
    happened:
      "the token role makes tokens that are no orphans, are a batch's, or have the server's rights",
    advice:
      "Write the role with orphan=true, token_type=service and allowed_policies=<the service's " +
      "own policies only>.",
  },
  "no-token": {
    happened: "there is no token where the service's ready one should lie",
    advice: 'Write it there, under the key that "read" names after the #.',
  },
  changed: {
    happened: "the process changed while Vault was answering",
    advice: "Let the client itself connect, and nothing exec or change user until it has answered.",
  },
  audit: {
    happened: "the audit line of the grant could not be written, so no token was sent",
    advice: "Look at who reads the server's standard output (journald, a pipe), and at the disk.",
  },
  internal: {
    happened: "the server met an error that it does not foresee",
    advice:
      "Read the detail. EACCES at a file of /proc: run the server as root, or with CAP_SYS_PTRACE, " +
      "because /proc hides the programs of other users. Otherwise it is a defect: please report it.",
  },
};

/** What a reason means; also of an audit line that an older server wrote, whose reason may be the
 * message of an error of the system. */
export function explainReason(reason: string): Words {
  const known = REASONS.find((name) => name === reason);
  return words[known ?? "internal"];
}
